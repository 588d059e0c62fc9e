package netserve

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// serve starts s with an echo session that is idle between lines and returns its address
// and the channel on which Serve's error comes. "wait" makes the session busy until release.
func serve(t *testing.T, s *Server, release <-chan struct{}) (string, <-chan error) {
	s.Logger = slog.New(slog.DiscardHandler)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		done <- s.Serve(ln, func(_ context.Context, c *Conn) {
			r := bufio.NewReader(c)
			for {
				if !c.Idle(time.Time{}) {
					_, _ = io.WriteString(c, "bye\n")
					return
				}
				line, err := r.ReadString('\n')
				c.Busy()
				if errors.Is(err, os.ErrDeadlineExceeded) && c.Draining() {
					_, _ = io.WriteString(c, "bye\n")
					return
				}
				if err != nil {
					return
				}
				if line == "wait\n" {
					_, _ = io.WriteString(c, "waiting\n")
					<-release
				}
				_, _ = io.WriteString(c, line)
			}
		})
	}()
	t.Cleanup(func() { s.Close() })
	return ln.Addr().String(), done
}

type client struct {
	net.Conn
	*bufio.Reader
}

func (c client) Read(p []byte) (int, error) { return c.Reader.Read(p) }

func (c client) line(t *testing.T) string {
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	s, err := c.ReadString('\n')
	if err != nil {
		require.ErrorIs(t, err, io.EOF)
	}
	return s
}

func dial(t *testing.T, addr string) client {
	c, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return client{c, bufio.NewReader(c)}
}

func (c client) say(t *testing.T, s string) {
	_, err := io.WriteString(c.Conn, s)
	require.NoError(t, err)
}

func TestShutdownEndsIdleAndWaitsForBusy(t *testing.T) {
	s, release := &Server{}, make(chan struct{})
	addr, served := serve(t, s, release)
	idle, busy := dial(t, addr), dial(t, addr)
	idle.say(t, "a\n")
	require.Equal(t, "a\n", idle.line(t))
	busy.say(t, "wait\n")
	require.Equal(t, "waiting\n", busy.line(t))

	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	assert.Equal(t, "bye\n", idle.line(t), "an idle session ends at once")
	assert.ErrorIs(t, <-served, ErrServerClosed)
	select {
	case <-down:
		t.Fatal("Shutdown did not wait for the busy session")
	default:
	}
	close(release)
	assert.Equal(t, "wait\n", busy.line(t), "a busy session finishes what it does")
	assert.Equal(t, "bye\n", busy.line(t))
	assert.NoError(t, <-down)
	assert.Zero(t, s.Len())
}

func TestShutdownCutsWhenItsContextEnds(t *testing.T) {
	s, release := &Server{}, make(chan struct{})
	addr, _ := serve(t, s, release)
	busy := dial(t, addr)
	busy.say(t, "wait\n")
	require.Equal(t, "waiting\n", busy.line(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(ctx) }()
	assert.Equal(t, "", busy.line(t), "the connection is cut")
	close(release)
	assert.ErrorIs(t, <-down, context.Canceled)
}

func TestLimits(t *testing.T) {
	for _, tc := range []struct {
		server *Server
		why    error
	}{
		{&Server{MaxConns: 2}, ErrTooManyConns},
		{&Server{MaxConnsPerAddr: 2}, ErrTooManyConnsAddress},
	} {
		s := tc.server
		s.Refuse = func(c net.Conn, why error) { _, _ = io.WriteString(c, why.Error()+"\n") }
		addr, _ := serve(t, s, nil)
		a, b := dial(t, addr), dial(t, addr)
		for _, c := range []client{a, b} {
			c.say(t, "x\n")
			require.Equal(t, "x\n", c.line(t))
		}
		c := dial(t, addr)
		assert.Equal(t, tc.why.Error()+"\n", c.line(t))
		assert.Equal(t, "", c.line(t), "and closed")
	}
}

func TestPlaceIsFreedAfterClose(t *testing.T) {
	s := &Server{MaxConnsPerAddr: 1}
	addr, _ := serve(t, s, nil)
	for range 20 {
		var c client
		for got := ""; got == ""; { // the place of the one before is freed by its own goroutine
			c = dial(t, addr)
			_, _ = io.WriteString(c.Conn, "x\n")
			got, _ = c.ReadString('\n')
		}
		c.Close()
	}
}

func TestServeAfterShutdown(t *testing.T) {
	s := &Server{}
	require.NoError(t, s.Shutdown(context.Background()))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	assert.ErrorIs(t, s.Serve(ln, nil), ErrServerClosed)
}

func TestAddrKey(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
	} {
		assert.Equal(t, want, addrKey(&net.TCPAddr{IP: net.ParseIP(in)}).String())
	}
}
