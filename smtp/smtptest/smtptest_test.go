package smtptest_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/smtptest"
)

func send(t *testing.T, addr, to, text string) (*smtp.Result, error) {
	c, err := smtp.Dial(t.Context(), addr, &smtp.ClientOptions{Hello: "client.test"})
	require.NoError(t, err)
	defer c.Quit(t.Context())
	return c.Send(t.Context(), &smtp.Envelope{From: "a@example.org", To: []smtp.Recipient{{Address: to}}}, strings.NewReader(text))
}

func TestServerKeepsMessages(t *testing.T) {
	s := smtptest.NewServer(t)
	assert.Empty(t, s.Messages())
	_, err := send(t, s.Addr, "b@example.org", "hello\r\n")
	require.NoError(t, err)
	got := s.Wait(t.Context(), t, 1)
	require.Len(t, got, 1)
	assert.Equal(t, smtptest.Message{Hello: "client.test", From: "a@example.org",
		To: []smtp.Recipient{{Address: "b@example.org"}}, Data: []byte("hello\r\n")}, got[0])
}

// A Handler of the test's own is asked first; what it reads or leaves, refuses or breaks, the
// message kept is whole or not there.
func TestServerAsksHandler(t *testing.T) {
	h := smtp.HandlerFunc(func(_ context.Context, tx *smtp.Transaction, body smtp.Body) error {
		if strings.HasPrefix(tx.Recipients[0].Address, "no") {
			return &smtp.Reply{Code: 550, Text: "no"}
		}
		_, err := io.ReadFull(body, make([]byte, 3))
		return err
	})
	s := smtptest.NewServer(t, func(s *smtp.Server) { s.Handler = h })
	res, err := send(t, s.Addr, "no@example.org", "hello\r\n")
	require.NoError(t, err)
	assert.Equal(t, 550, res.Recipients[0].Code)
	res, err = send(t, s.Addr, "yes@example.org", "hello\r\n")
	require.NoError(t, err)
	assert.True(t, res.All())
	got := s.Messages()
	require.Len(t, got, 1)
	assert.Equal(t, "hello\r\n", string(got[0].Data))
}

func TestScript(t *testing.T) {
	addr := smtptest.Script(t, nil, `
		# a server that is full
		S: 220 hi
		C~ EHLO .*
		S! 250 hi\r\n
		C: MAIL FROM:<a@example.org>
		S: 452 4.3.1 full
		C.`)
	res, err := send(t, addr, "b@example.org", "hello\r\n")
	require.NoError(t, err)
	assert.Equal(t, 452, res.Recipients[0].Code)
}
