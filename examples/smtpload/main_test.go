package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/smtptest"
)

func TestLoad(t *testing.T) {
	for _, mode := range []string{"lockstep", "pipelined", "bdat", "stream", "bdat-stream"} {
		t.Run(mode, func(t *testing.T) {
			s := smtptest.NewServer(t)
			var out bytes.Buffer
			require.NoError(t, run(t.Context(), []string{"-addr", s.Addr, "-messages", "25", "-connections", "3",
				"-per-connection", "4", "-rcpts", "2", "-size", "1000", "-mode", mode, "-idle", "20"}, &out))
			assert.Contains(t, out.String(), "20 idle connections\n")
			assert.Contains(t, out.String(), "accepted 25 messages of 1000 octets")
			got := s.Messages()
			require.Len(t, got, 25)
			assert.Len(t, got[0].Data, 1000)
			assert.Len(t, got[0].To, 2)
		})
	}
	require.Error(t, run(t.Context(), []string{"-mode", "nonsense"}, &bytes.Buffer{}))
}

func TestLoadCountsRefusals(t *testing.T) {
	s := smtptest.NewServer(t, func(s *smtp.Server) { s.Handler = smtp.Base{} })
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-addr", s.Addr, "-messages", "3", "-connections", "1"}, &out))
	assert.Contains(t, out.String(), "accepted 0 messages")
	assert.Contains(t, out.String(), "refused 3")
}
