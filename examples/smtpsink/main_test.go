package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/smtp"
)

func TestSink(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- run(ctx, []string{"-listen", "127.0.0.1:0"}, pw) }()
	out := bufio.NewReader(pr)
	line, err := out.ReadString('\n')
	require.NoError(t, err)
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening smtp ")
	require.True(t, ok, line)

	c, err := smtp.Dial(t.Context(), addr, nil)
	require.NoError(t, err)
	res, err := c.Send(t.Context(), &smtp.Envelope{To: []smtp.Recipient{{Address: "b@example.org"}}}, strings.NewReader("hello\r\n"))
	require.NoError(t, err)
	require.True(t, res.All())
	require.NoError(t, c.Quit(t.Context()))

	cancel()
	line, err = out.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "received 1 messages, 7 octets\n", line)
	require.NoError(t, <-done)
}
