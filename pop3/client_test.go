package pop3_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/pop3"
)

func (h *harness) connect(opt pop3.ClientOptions) *pop3.Client {
	h.Helper()
	if opt.TLS == nil {
		opt.TLS = h.client
	}
	c, err := pop3.Dial(h.Context(), h.addr, &opt)
	require.NoError(h, err)
	h.Cleanup(func() { c.Close() })
	return c
}

func read(t *testing.T, r io.ReadCloser, err error) string {
	t.Helper()
	require.NoError(t, err)
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	return string(b)
}

func TestClient(t *testing.T) {
	long := "Subject: long\r\n\r\n" + strings.Repeat("x", 1<<20) + "\r\n.\r\n..\r\n"
	h := start(t, nil, "Subject: one\r\n\r\nline 1\r\n.line 2\r\n", long, "Subject: three\r\n\r\n")
	ctx := t.Context()
	c := h.connect(pop3.ClientOptions{})
	assert.True(t, c.TLS())
	caps, err := c.Capabilities(ctx)
	require.NoError(t, err)
	assert.Equal(t, "PLAIN LOGIN", caps["SASL"])
	var refused *pop3.Error
	require.ErrorAs(t, c.Login(ctx, "alice", "wrong"), &refused)
	assert.Equal(t, pop3.Error{Command: "PASS", Code: "AUTH", Text: "wrong user or password"}, *refused)
	assert.False(t, refused.Temporary())
	require.NoError(t, c.Login(ctx, "alice", "wonder land"))

	n, size, err := c.Stat(ctx)
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	list, err := c.List(ctx)
	require.NoError(t, err)
	require.Len(t, list, 3)
	assert.Equal(t, pop3.Entry{Number: 2, Size: int64(len(long)), UID: "uid-2"}, list[1])
	assert.Equal(t, size, list[0].Size+list[1].Size+list[2].Size)

	r, err := c.Retrieve(ctx, 1)
	assert.Equal(t, "Subject: one\r\n\r\nline 1\r\n.line 2\r\n", read(t, r, err))
	r, err = c.Retrieve(ctx, 2)
	require.NoError(t, err)
	require.NoError(t, iotest.TestReader(r, []byte(long)))
	r, err = c.Retrieve(ctx, 2)
	require.NoError(t, err)
	_, err = io.ReadFull(r, make([]byte, 100))
	require.NoError(t, err) // and the rest is never read
	r, err = c.Top(ctx, 1, 1)
	assert.Equal(t, "Subject: one\r\n\r\nline 1\r\n", read(t, r, err))
	_, err = c.Retrieve(ctx, 9)
	require.ErrorAs(t, err, &refused)

	require.NoError(t, c.Noop(ctx))
	require.NoError(t, c.Delete(ctx, 1))
	require.NoError(t, c.Reset(ctx))
	require.NoError(t, c.Delete(ctx, 3))
	require.NoError(t, c.Quit(ctx))
	assert.Len(t, h.mail.left(), 2)
	assert.Error(t, c.Noop(ctx))
}

func TestClientFetch(t *testing.T) {
	var texts []string
	var numbers []int
	for i := range 200 {
		texts = append(texts, fmt.Sprintf("Subject: %d\r\n\r\n%s", i, strings.Repeat(".line\r\n", i%40*100)))
		numbers = append(numbers, i+1)
	}
	h := start(t, nil, texts...)
	c := h.connect(pop3.ClientOptions{})
	require.NoError(t, c.Login(t.Context(), "alice", "wonder land"))
	var got []string
	err := c.Fetch(t.Context(), append(numbers, 999), func(n int, r io.Reader, err error) error {
		if n == 999 {
			var refused *pop3.Error
			assert.ErrorAs(t, err, &refused)
			return nil
		}
		b := make([]byte, len(texts[n-1]))
		if n%2 == 0 {
			_, err = io.ReadFull(r, b)
			got = append(got, string(b))
			return err
		}
		var all strings.Builder
		_, err = io.Copy(&all, r)
		got = append(got, all.String())
		return err
	})
	require.NoError(t, err)
	assert.Equal(t, texts, got)

	stop := errors.New("stop")
	seen := 0
	err = c.Fetch(t.Context(), numbers, func(n int, _ io.Reader, _ error) error {
		if seen++; n == 5 {
			return stop
		}
		return nil
	})
	assert.ErrorIs(t, err, stop)
	assert.Equal(t, 5, seen)
	require.NoError(t, c.Noop(t.Context()), "the session goes on")
}

func TestClientAuth(t *testing.T) {
	h := start(t, nil, "a\r\n")
	for _, mech := range []sasl.Client{sasl.NewPlainClient("", "alice", "wonder land"), sasl.NewLoginClient("alice", "wonder land")} {
		c := h.connect(pop3.ClientOptions{})
		require.NoError(t, c.Auth(t.Context(), mech))
		require.NoError(t, c.Quit(t.Context()))
		for h.again() {
		}
	}
	// A token too long for one command line goes in a line of its own.
	c := h.connect(pop3.ClientOptions{})
	var refused *pop3.Error
	require.ErrorAs(t, c.Auth(t.Context(), sasl.NewPlainClient("", "alice", strings.Repeat("x", 4000))), &refused)
	assert.Equal(t, "AUTH", refused.Code)
	require.NoError(t, c.Login(t.Context(), "alice", "wonder land"), "and the session stands")
}

func TestClientTLSPolicy(t *testing.T) {
	h := start(t, func(s *pop3.Server) { s.TLSConfig = nil })
	_, err := pop3.Dial(t.Context(), h.addr, &pop3.ClientOptions{})
	assert.ErrorIs(t, err, pop3.ErrNoTLS)
	c := h.connect(pop3.ClientOptions{TLSPolicy: pop3.TLSOpportunistic})
	assert.False(t, c.TLS())
	assert.ErrorIs(t, c.Login(t.Context(), "alice", "wonder land"), pop3.ErrNeedTLS)
	c = h.connect(pop3.ClientOptions{TLSPolicy: pop3.TLSNever, InsecureAuth: true})
	require.NoError(t, c.Login(t.Context(), "alice", "wonder land"))

	secure := start(t, nil)
	_, err = pop3.Dial(t.Context(), secure.addr, &pop3.ClientOptions{TLS: &tls.Config{ServerName: "other.example.org", RootCAs: secure.client.RootCAs}})
	assert.ErrorContains(t, err, "other.example.org")
}

// script answers each line it reads with the next text, then stays silent or hangs up.
func script(t *testing.T, hangUp bool, texts ...string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r := bufio.NewReader(conn)
		for i, text := range texts {
			if i > 0 {
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
			}
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
		if !hangUp {
			_, _ = io.Copy(io.Discard, r)
		}
	}()
	return ln.Addr().String()
}

// A hostile or broken server ends in an error, not in a hang or a lie.
func TestClientAgainstHostileServers(t *testing.T) {
	plain := &pop3.ClientOptions{TLSPolicy: pop3.TLSNever, InsecureAuth: true, Timeout: 300 * time.Millisecond}
	for name, texts := range map[string][]string{
		"no greeting":       {""},
		"not POP3":          {"220 mx.example.org ESMTP\r\n"},
		"endless line":      {"+OK " + strings.Repeat("x", 1<<20)},
		"refused":           {"-ERR [SYS/TEMP] come back\r\n"},
		"silent after USER": {"+OK\r\n", ""},
		"nonsense":          {"+OK\r\n", "+OK\r\n", "HTTP/1.1 200 OK\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := pop3.Dial(t.Context(), script(t, false, texts...), plain)
			if err == nil {
				err = c.Login(t.Context(), "alice", "x")
			}
			assert.Error(t, err)
		})
	}
	login := []string{"+OK\r\n", "+OK\r\n", "+OK\r\n"}
	for name, tc := range map[string]struct {
		reply string
		do    func(c *pop3.Client) error
	}{
		"STAT without numbers": {"+OK many\r\n", func(c *pop3.Client) error { _, _, err := c.Stat(context.Background()); return err }},
		"STAT negative":        {"+OK -1 5\r\n", func(c *pop3.Client) error { _, _, err := c.Stat(context.Background()); return err }},
		"LIST of rubbish":      {"+OK\r\nx y\r\n.\r\n", func(c *pop3.Client) error { _, err := c.List(context.Background()); return err }},
		"LIST twice":           {"+OK\r\n1 2\r\n1 2\r\n.\r\n", func(c *pop3.Client) error { _, err := c.List(context.Background()); return err }},
		"LIST without end":     {"+OK\r\n1 2\r\n", func(c *pop3.Client) error { _, err := c.List(context.Background()); return err }},
		"message cut off": {"+OK\r\nSubject: x\r\n", func(c *pop3.Client) error {
			r, err := c.Retrieve(context.Background(), 1)
			if err == nil {
				_, err = io.ReadAll(r)
			}
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := pop3.Dial(t.Context(), script(t, true, append(login, tc.reply)...), plain)
			require.NoError(t, err)
			defer c.Close()
			require.NoError(t, c.Login(t.Context(), "alice", "x"))
			assert.Error(t, tc.do(c))
		})
	}
	t.Run("injection behind STLS", func(t *testing.T) {
		_, err := pop3.Dial(t.Context(), script(t, false, "+OK\r\n", "+OK\r\n+OK injected\r\n"), &pop3.ClientOptions{Timeout: time.Second})
		assert.ErrorIs(t, err, pop3.ErrProtocol)
	})
	t.Run("context", func(t *testing.T) {
		c, err := pop3.Dial(t.Context(), script(t, false, append(login, "")...), &pop3.ClientOptions{TLSPolicy: pop3.TLSNever, InsecureAuth: true})
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.Login(t.Context(), "alice", "x"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		assert.Error(t, c.Noop(ctx))
		assert.ErrorIs(t, c.Noop(t.Context()), context.DeadlineExceeded, "the session is broken")
	})
	t.Run("injection by argument", func(t *testing.T) {
		c, err := pop3.Dial(t.Context(), script(t, false, "+OK\r\n"), plain)
		require.NoError(t, err)
		defer c.Close()
		assert.ErrorContains(t, c.Login(t.Context(), "alice\r\nDELE 1", "x"), "line end")
	})
}

// Only CRLF ends a line: a dot after a bare LF is text, wherever the pieces are cut.
func TestClientUnstuffing(t *testing.T) {
	body := "a\r\n..b\r\n...\r\nbare\n.\nLF\n..x\r\r\n..y\rz\r\n"
	want := "a\r\n.b\r\n..\r\nbare\n.\nLF\n..x\r\r\n.y\rz\r\n"
	c, err := pop3.Dial(t.Context(), script(t, false, "+OK\r\n", "+OK\r\n", "+OK\r\n", "+OK\r\n"+body+".\r\n", "+OK\r\n"), &pop3.ClientOptions{TLSPolicy: pop3.TLSNever, InsecureAuth: true})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Login(t.Context(), "alice", "x"))
	r, err := c.Retrieve(t.Context(), 1)
	assert.Equal(t, want, read(t, r, err))
	require.NoError(t, c.Noop(t.Context()))
}

// FuzzClient feeds a client any octets for replies.
func FuzzClient(f *testing.F) {
	f.Add("+OK\r\n+OK\r\n+OK 2 200\r\n+OK\r\n1 100\r\n.\r\n+OK\r\n1 u\r\n.\r\n+OK\r\nbody\r\n..\r\n.\r\n")
	f.Fuzz(func(t *testing.T, input string) {
		a, b := net.Pipe()
		go func() {
			go func() { _, _ = io.Copy(io.Discard, a) }()
			_, _ = io.WriteString(a, "+OK\r\n"+input)
			a.Close()
		}()
		defer b.Close()
		c, err := pop3.NewClient(t.Context(), b, "x", &pop3.ClientOptions{TLSPolicy: pop3.TLSNever, InsecureAuth: true, Timeout: time.Second})
		if err != nil {
			return
		}
		ctx := t.Context()
		if c.Login(ctx, "a", "b") != nil {
			return
		}
		_, _, _ = c.Stat(ctx)
		list, err := c.List(ctx)
		for _, e := range list {
			if err == nil && (e.Number < 1 || e.Size < 0) {
				t.Errorf("%+v", e)
			}
		}
		if r, err := c.Retrieve(ctx, 1); err == nil {
			_, _ = io.Copy(io.Discard, r)
		}
		_ = c.Fetch(ctx, []int{1, 2, 3}, func(_ int, r io.Reader, err error) error {
			if err == nil {
				_, _ = io.Copy(io.Discard, r)
			}
			return nil
		})
	})
}
