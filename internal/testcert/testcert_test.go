package testcert

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestHandshake(t *testing.T) {
	cert, pool, err := New("mx.example.org", "127.0.0.1")
	require.NoError(t, err)
	for _, name := range []string{"mx.example.org", "127.0.0.1"} {
		a, b := net.Pipe()
		server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{cert}})
		done := make(chan error, 1)
		go func() { done <- server.Handshake() }()
		assert.NoError(t, tls.Client(b, &tls.Config{RootCAs: pool, ServerName: name}).Handshake(), name)
		assert.NoError(t, <-done)
		a.Close()
		b.Close()
	}
	_, _, err = New()
	assert.Error(t, err)
}
