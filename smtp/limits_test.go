package smtp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/dialog"
	"github.com/mailblocks/mailblocks/smtp"
)

// pipes is a listener whose connections live inside a synctest bubble.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "pipe"} }

func (p *pipes) dial() net.Conn {
	a, b := net.Pipe()
	p.conns <- a
	return b
}

// bubble runs f with a server in a bubble of its own time.
func bubble(t *testing.T, s *smtp.Server, f func(t *testing.T, l *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		f(t, l)
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-done, smtp.ErrServerClosed)
	})
}

func play(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	p := &dialog.Player{Conn: conn, Timeout: 24 * time.Hour}
	require.NoError(t, p.Play("dialogue", text))
}

const opening = "S~ 220 .*\nC: EHLO c.test\nS* 250-.*\nS~ 250 .*\n"

func TestTimeouts(t *testing.T) {
	cases := map[string]string{
		"greeted":        "S~ 220 .*\n",
		"idle":           opening,
		"in transaction": opening + "C: MAIL FROM:<a@b.test>\nS~ 250 .*\n",
		"half a command": opening + "C! NOO\n",
		"in DATA":        opening + "C: MAIL FROM:<a@b.test>\nC: RCPT TO:<c@d.test>\nC: DATA\nS~ 250 .*\nS~ 250 .*\nS~ 354 .*\nC: half\n",
		"in BDAT":        opening + "C: MAIL FROM:<a@b.test>\nC: RCPT TO:<c@d.test>\nC! BDAT 5\\r\\nab\nS~ 250 .*\nS~ 250 .*\n",
		"between chunks": opening + "C: MAIL FROM:<a@b.test>\nC: RCPT TO:<c@d.test>\nC! BDAT 2\\r\\n\\r\\n\nS~ 250 .*\nS~ 250 .*\nS~ 250 .*\n",
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			h := &testHandler{}
			bubble(t, newServerWith(t, h), func(t *testing.T, l *pipes) {
				conn := l.dial()
				begin := time.Now()
				play(t, conn, text+"S: 421 4.4.2 timeout, closing connection\nS.\n")
				took := time.Since(begin)
				assert.True(t, took >= 3*time.Minute && took <= 10*time.Minute+5*time.Second, "%v", took)
				synctest.Wait()
				assert.Equal(t, "close smtp: timeout", h.taken()[len(h.taken())-1])
				assert.NotContains(t, strings.Join(h.taken(), "\n"), "<nil>")
			})
		})
	}
}

// A message that trickles in is cut off, whatever tricks are played with single timeouts.
func TestSlowMessage(t *testing.T) {
	cases := map[string]struct {
		every time.Duration
		line  string
	}{
		"an octet a second":         {time.Second, "x"},
		"a block before each limit": {2 * time.Minute, strings.Repeat("x", 70000) + "\r\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			bubble(t, newServerWith(t, &testHandler{}), func(t *testing.T, l *pipes) {
				conn := l.dial()
				play(t, conn, opening+"C: MAIL FROM:<a@b.test>\nC: RCPT TO:<c@d.test>\nC: DATA\nS~ 250 .*\nS~ 250 .*\nS~ 354 .*\n")
				gone := make(chan struct{})
				go func() {
					defer close(gone)
					for {
						if _, err := io.WriteString(conn, c.line); err != nil {
							return
						}
						<-time.After(c.every)
					}
				}()
				begin := time.Now()
				play(t, conn, "S: 421 4.4.2 timeout, closing connection\nS.\n")
				assert.LessOrEqual(t, time.Since(begin), 15*time.Minute)
				conn.Close()
				<-gone
			})
		})
	}
}

// A peer that does not read its replies does not hold us for ever.
func TestWriteTimeout(t *testing.T) {
	h := &testHandler{}
	bubble(t, newServerWith(t, h), func(t *testing.T, l *pipes) {
		conn := l.dial() // a pipe without a buffer: the greeting can not be written
		<-time.After(10 * time.Minute)
		synctest.Wait()
		assert.NotEmpty(t, h.taken())
		conn.Close()
	})
}

func TestShutdown(t *testing.T) {
	s := newServerWith(t, &testHandler{})
	addr := start(t, s)
	idle, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	busy, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	play(t, idle, opening)
	pb := &dialog.Player{Conn: busy}
	require.NoError(t, pb.Play("busy", opening+"C: MAIL FROM:<a@b.test>\nC: RCPT TO:<c@d.test>\nC: DATA\nS~ 250 .*\nS~ 250 .*\nS~ 354 .*\n"))
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	play(t, idle, "S: 421 4.3.2 server is shutting down\nS.\n")
	select {
	case err := <-done:
		t.Fatalf("Shutdown returned %v with a message on its way", err)
	default:
	}
	require.NoError(t, pb.Play("busy", "C: x\nC: .\nS: 250 2.0.0 message accepted\nS: 421 4.3.2 server is shutting down\nS.\n"))
	require.NoError(t, <-done)
	_, err = net.Dial("tcp", addr)
	require.Error(t, err)
}

func TestShutdownCutsAtItsDeadline(t *testing.T) {
	entered := make(chan struct{})
	var h blocking
	h.enter = func(ctx context.Context) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}
	s := newServerWith(t, h)
	addr := start(t, s)
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	play(t, conn, opening+"C: MAIL FROM:<a@b.test>\n")
	<-entered
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Shutdown(ctx), context.Canceled)
}

type blocking struct {
	smtp.Base
	enter func(ctx context.Context) error
}

func (b blocking) Mail(ctx context.Context, _ *smtp.Transaction) error { return b.enter(ctx) }

func TestConnectionLimits(t *testing.T) {
	for name, c := range map[string]struct{ all, each int }{"in all": {2, 0}, "by address": {0, 2}} {
		t.Run(name, func(t *testing.T) {
			s := newServerWith(t, &testHandler{})
			s.MaxConnections, s.MaxConnectionsPerAddress = c.all, c.each
			addr := start(t, s)
			var conns []net.Conn
			for range 3 {
				conn, err := net.Dial("tcp", addr)
				require.NoError(t, err)
				defer conn.Close()
				conns = append(conns, conn)
			}
			play(t, conns[0], opening)
			play(t, conns[1], opening)
			play(t, conns[2], "S~ 421 4\\..* too many connections.*\nS.\n")
			play(t, conns[0], "C: QUIT\nS~ 221 .*\nS.\n")
		})
	}
}

// Ten thousand recipients: each is answered, none beyond the limit is kept.
func TestManyRecipients(t *testing.T) {
	s := newServerWith(t, smtp.HandlerFunc(discard))
	k := newTalker(t, start(t, s))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	k.write(t, []byte("MAIL FROM:<a@b.test>\r\n"))
	k.read(t, 1, "250")
	batch := bytes.Repeat([]byte("RCPT TO:<someone.with.a.long.name@example.org>\r\n"), 100)
	k.write(t, batch)
	k.read(t, 100, "250")
	go func() { _, _ = k.conn.Write(bytes.Repeat(batch, 99)) }() // it is sent away before it has sent all
	var codes []string
	for range 1001 {
		line, err := k.br.ReadString('\n')
		require.NoError(t, err)
		if codes = append(codes, line[:3]); line[:3] == "421" {
			break
		}
	}
	assert.Equal(t, "421", codes[len(codes)-1])
	assert.NotContains(t, codes, "250")
	_, err := k.br.ReadByte()
	require.Error(t, err)
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(1<<20))
}

func TestRefusalsAreLimited(t *testing.T) {
	k := newTalker(t, start(t, newServerWith(t, &testHandler{})))
	k.write(t, []byte("MAIL FROM:<a@b.test>\r\n"))
	k.read(t, 1, "250")
	k.write(t, bytes.Repeat([]byte("RCPT TO:<unknown@example.org>\r\n"), 100))
	k.read(t, 100, "550")
	k.read(t, 1, "421")
}

// The log says why a connection was ended, and never the password.
func TestLogSaysWhy(t *testing.T) {
	cases := map[string]struct{ send, want string }{
		"HTTP":       {"GET / HTTP/1.1\r\n", "HTTP"},
		"TLS":        {"\x16\x03\x01\x00\x00\x00", "TLS on a plain port"},
		"PROXY":      {"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n", "PROXY"},
		"bare LF":    {"NOOP\n", "bare LF"},
		"smuggling":  {"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nx\n.\n", "bare CR or LF"},
		"long line":  {strings.Repeat("x", 1<<20), "line too long"},
		"many":       {strings.Repeat("X\r\n", 10), "too many errors"},
		"injection":  {"EHLO x\r\nSTARTTLS\r\nMAIL FROM:<a@b.test>\r\n", "STARTTLS"},
		"recipient":  {"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<unknown@d.test>\r\n", "no such user"},
		"our fault":  {"EHLO x\r\nMAIL FROM:<broken@b.test>\r\n", "secret internals"},
		"panic":      {"EHLO x\r\nMAIL FROM:<panic@b.test>\r\n", "handler bug"},
		"wrong AUTH": {"EHLO x\r\nAUTH PLAIN AGFsaWNlAHdyb25n\r\n", "authentication failed"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var log lockedBuffer
			s := newServer(t, "auth", &testHandler{})
			s.TLS = serverTLS(t)
			s.Logger = slog.New(slog.NewTextHandler(&log, nil))
			conn, err := net.Dial("tcp", start(t, s))
			require.NoError(t, err)
			go func() { _, _ = io.WriteString(conn, c.send+"QUIT\r\n") }()
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
			require.NoError(t, s.Close())
			assert.Contains(t, log.String(), c.want)
			assert.Contains(t, log.String(), "session=")
			assert.Contains(t, log.String(), "remote=127.0.0.1:")
			assert.NotContains(t, log.String(), "AGFsaWNl")
		})
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Failures are counted by address over sessions.
func TestAuthFailuresByAddress(t *testing.T) {
	s := newServer(t, "auth", &testHandler{})
	s.MaxAuthFailuresPerAddress = 4
	addr := start(t, s)
	try := func(text string) {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		defer conn.Close()
		play(t, conn, opening+text)
	}
	wrong := "C: AUTH PLAIN AGFsaWNlAHdyb25n\nS: 535 5.7.8 authentication failed\n"
	try(wrong + wrong)
	try(wrong + wrong)
	try("C: AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=\nS: 454 4.7.0 too many failures, try again later\n")
}

// Each failure of a session is answered later than the one before.
func TestAuthFailureDelay(t *testing.T) {
	s := newServer(t, "auth", &testHandler{})
	s.AuthFailureDelay, s.MaxAuthFailures = 0, 10
	bubble(t, s, func(t *testing.T, l *pipes) {
		conn := l.dial()
		play(t, conn, opening)
		for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			begin := time.Now()
			play(t, conn, "C: AUTH PLAIN AGFsaWNlAHdyb25n\nS: 535 5.7.8 authentication failed\n")
			assert.Equal(t, want*time.Second, time.Since(begin))
		}
		waiting := l.dial()
		play(t, waiting, opening)
		for range 5 {
			play(t, waiting, "C: AUTH PLAIN AGFsaWNlAHdyb25n\nS: 535 5.7.8 authentication failed\n")
		}
		begin := time.Now()
		play(t, conn, "C: AUTH PLAIN ====\nS: 501 5.5.2 not base64\nC: AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=\nS: 235 2.7.0 authenticated\n")
		assert.Zero(t, time.Since(begin))
		// Shutdown cuts the wait short.
		done := make(chan error)
		go func() {
			_, _ = io.WriteString(waiting, "AUTH PLAIN AGFsaWNlAHdyb25n\r\n")
			synctest.Wait()
			done <- s.Shutdown(t.Context())
		}()
		play(t, waiting, "S: 535 5.7.8 authentication failed\nS: 421 4.3.2 server is shutting down\nS.\n")
		play(t, conn, "S: 421 4.3.2 server is shutting down\nS.\n")
		require.NoError(t, <-done)
		assert.Less(t, time.Since(begin), time.Second)
	})
}

// around is a middleware that acts before and after each phase, and can replace results.
type around struct {
	smtp.Pass
	note func(string)
}

func (a around) wrap(phase string, f func() error) error {
	a.note("before " + phase)
	err := f()
	a.note("after " + phase)
	return err
}

func (a around) Connect(ctx context.Context, s *smtp.Session) error {
	return a.wrap("connect", func() error { return a.Pass.Connect(ctx, s) })
}

func (a around) Hello(ctx context.Context, s *smtp.Session, name string) error {
	return a.wrap("hello", func() error { return a.Pass.Hello(ctx, s, name) })
}

func (a around) Auth(ctx context.Context, s *smtp.Session, mech string) (srv sasl.Server, err error) {
	err = a.wrap("auth", func() error { srv, err = a.Pass.Auth(ctx, s, mech); return err })
	return aroundSASL{srv, a}, err
}

type aroundSASL struct {
	sasl.Server
	a around
}

func (s aroundSASL) Next(r []byte) (c []byte, done bool, err error) {
	err = s.a.wrap("sasl", func() error { c, done, err = s.Server.Next(r); return err })
	return c, done, err
}

func (a around) Verify(ctx context.Context, s *smtp.Session, arg string) (r *smtp.Reply, err error) {
	err = a.wrap("verify", func() error { r, err = a.Pass.Verify(ctx, s, arg); return err })
	return r, err
}

func (a around) Mail(ctx context.Context, tx *smtp.Transaction) error {
	return a.wrap("mail", func() error { return a.Pass.Mail(ctx, tx) })
}

func (a around) Rcpt(ctx context.Context, tx *smtp.Transaction, r *smtp.Recipient) error {
	err := a.wrap("rcpt", func() error { return a.Pass.Rcpt(ctx, tx, r) })
	if err != nil {
		return &smtp.Reply{Code: 450, Enhanced: smtp.EnhancedCode{4, 7, 1}, Text: "greylisted", Cause: err}
	}
	return nil
}

func (a around) Data(ctx context.Context, tx *smtp.Transaction, body smtp.Body) (r *smtp.Reply, err error) {
	err = a.wrap("data", func() error {
		r, err = a.Pass.Data(ctx, tx, io.MultiReader(strings.NewReader("X-Added: yes\r\n"), body))
		return err
	})
	return &smtp.Reply{Code: 250, Text: "replaced"}, err
}

func (a around) Reset(ctx context.Context, tx *smtp.Transaction, cause error) {
	_ = a.wrap("reset", func() error { a.Pass.Reset(ctx, tx, cause); return nil })
}

func (a around) Close(ctx context.Context, s *smtp.Session, cause error) {
	_ = a.wrap("close", func() error { a.Pass.Close(ctx, s, cause); return nil })
}

func TestMiddlewareAroundEveryPhase(t *testing.T) {
	var mu sync.Mutex
	var notes []string
	layer := func(name string) smtp.Middleware {
		return func(next smtp.Handler) smtp.Handler {
			return around{smtp.Pass{Handler: next}, func(s string) {
				mu.Lock()
				defer mu.Unlock()
				notes = append(notes, name+" "+s)
			}}
		}
	}
	h := &testHandler{}
	s := newServer(t, "auth", h)
	s.Handler = smtp.Chain(h, layer("outer"), layer("inner"))
	addr := start(t, s)
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	play(t, conn, opening+`
C: AUTH PLAIN AGFsaWNlAHdvbmRlcmxhbmQ=
S: 235 2.7.0 authenticated
C: VRFY alice
S: 250 2.1.5 Alice <alice@example.org>
C: MAIL FROM:<a@b.test>
S: 250 2.1.0 sender ok
C: RCPT TO:<unknown@d.test>
S: 450 4.7.1 greylisted
C: RCPT TO:<c@d.test>
S: 250 2.1.5 recipient ok
C: DATA
S~ 354 .*
C: x
C: .
S: 250 2.0.0 replaced
C: QUIT
S~ 221 .*
S.
`)
	require.NoError(t, s.Close())
	assert.Equal(t, "X-Added: yes\r\nX-Added: yes\r\nx\r\n", h.last)
	var want []string
	for _, phase := range []string{"connect", "hello", "auth", "sasl", "verify", "mail", "rcpt", "rcpt", "data", "reset", "close"} {
		want = append(want, "outer before "+phase, "inner before "+phase, "inner after "+phase, "outer after "+phase)
	}
	assert.Equal(t, want, notes)
}

// Reset comes once for each transaction, Close once for each session, however they end.
func TestResetAndCloseOnce(t *testing.T) {
	cases := map[string]struct{ send, want string }{
		"QUIT":             {"EHLO x\r\nQUIT\r\n", "close <nil>"},
		"no QUIT":          {"EHLO x\r\n", "close EOF"},
		"gone in MAIL":     {"EHLO x\r\nMAIL FROM:<a@b.test>\r\n", "reset a@b.test EOF|close EOF"},
		"QUIT in MAIL":     {"EHLO x\r\nMAIL FROM:<a@b.test>\r\nQUIT\r\n", "reset a@b.test <nil>|close <nil>"},
		"MAIL refused":     {"EHLO x\r\nMAIL FROM:<unknown@b.test>\r\nQUIT\r\n", "reset unknown@b.test 550 5.1.1 no such user|close <nil>"},
		"RSET":             {"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRSET\r\nRSET\r\nQUIT\r\n", "reset a@b.test smtp: transaction given up by the client|close <nil>"},
		"gone in DATA":     {"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nx\r\n", "reset a@b.test unexpected EOF|close unexpected EOF"},
		"gone in BDAT":     {"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 9\r\nx\r\n", "reset a@b.test unexpected EOF|close unexpected EOF"},
		"RSET in BDAT":     {"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nBDAT 2\r\n\r\nRSET\r\nQUIT\r\n", "reset a@b.test smtp: transaction given up by the client|close <nil>"},
		"panic in MAIL":    {"EHLO x\r\nMAIL FROM:<panic@b.test>\r\nQUIT\r\n", "reset panic@b.test smtp: panic in a handler: handler bug|close smtp: panic in a handler: handler bug"},
		"message accepted": {"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n", "reset a@b.test <nil>|close <nil>"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := &testHandler{}
			s := newServer(t, "full", h)
			conn, err := net.Dial("tcp", start(t, s))
			require.NoError(t, err)
			_, err = io.WriteString(conn, c.send)
			require.NoError(t, err)
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			_, _ = io.Copy(io.Discard, conn)
			require.NoError(t, s.Shutdown(t.Context()))
			var ends []string
			for _, call := range h.taken() {
				if strings.HasPrefix(call, "reset") || strings.HasPrefix(call, "close") {
					ends = append(ends, call)
				}
			}
			assert.Equal(t, c.want, strings.Join(ends, "|"))
		})
	}
}

// keeps keeps what it must not, to see that it does no harm.
type keeps struct {
	smtp.Base
	body     smtp.Body
	contexts []context.Context
	derived  []context.Context
	session  context.Context
}

func (k *keeps) Connect(ctx context.Context, _ *smtp.Session) error {
	k.session = ctx
	return nil
}

func (k *keeps) Data(ctx context.Context, tx *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	if k.body != nil {
		if _, err := k.body.Read(make([]byte, 1)); !errors.Is(err, smtp.ErrBodyClosed) {
			return nil, fmt.Errorf("old body: %v", err)
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	k.body = body
	k.contexts = append(k.contexts, ctx)
	derived, cancel := context.WithCancel(ctx)
	_ = cancel // ends with its parent
	k.derived = append(k.derived, derived)
	_, err := io.Copy(io.Discard, body)
	return nil, err
}

func (k *keeps) Reset(ctx context.Context, tx *smtp.Transaction, _ error) {
	if ctx.Err() != nil {
		panic("context ended before Reset")
	}
}

func TestContexts(t *testing.T) {
	h := &keeps{}
	s := newServerWith(t, h)
	k := newTalker(t, start(t, s))
	for range 40 {
		k.pipelined(t)
	}
	k.write(t, []byte("NOOP\r\n"))
	k.read(t, 1, "250")
	require.Len(t, h.contexts, 40)
	for i, ctx := range h.contexts {
		<-ctx.Done()
		<-h.derived[i].Done()
		require.ErrorIs(t, ctx.Err(), context.Canceled)
	}
	require.NoError(t, h.session.Err())
	k.write(t, []byte("QUIT\r\n"))
	k.read(t, 1, "221")
	<-h.session.Done()
}

// One message takes two writes of the server when pipelined.
func TestPipelinedWrites(t *testing.T) {
	s := newServerWith(t, smtp.HandlerFunc(discard))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	play(t, conn, opening)
	for range 3 {
		_, err = conn.Write(cmdBatch)
		require.NoError(t, err)
		// Loopback keeps a write together, so one read gets what one write sent.
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		require.NoError(t, err)
		assert.Equal(t, 3, bytes.Count(buf[:n], []byte("\r\n")))
		_, err = conn.Write(dotted4K)
		require.NoError(t, err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		assert.Equal(t, "250 2.0.0 message accepted\r\n", line)
	}
}

func TestReceived(t *testing.T) {
	var got string
	s := newServer(t, "submission", smtp.HandlerFunc(func(_ context.Context, tx *smtp.Transaction, body smtp.Body) error {
		got = tx.Received(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC), "Q1")
		return nil
	}))
	c, err := smtp.Dial(t.Context(), start(t, s), &smtp.ClientOptions{Hello: "client.test", TLS: clientTLS(t), Auth: sasl.NewPlainClient("", "alice", "wonderland")})
	require.NoError(t, err)
	_, err = c.Send(t.Context(), &smtp.Envelope{To: to("b@example.org")}, strings.NewReader("x"))
	require.NoError(t, err)
	assert.Equal(t, "Received: from client.test ([127.0.0.1])\r\n\t(using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256)\r\n"+
		"\tby mx.example.org with ESMTPSA id Q1\r\n\tfor <b@example.org>; Thu, 01 Jan 2026 12:00:00 +0000\r\n", got)
	_, err = c.Send(t.Context(), &smtp.Envelope{Params: smtp.MailParams{UTF8: true}, To: to("b@example.org", "c@example.org")}, strings.NewReader("x"))
	require.NoError(t, err)
	assert.Contains(t, got, "with UTF8SMTPSA id Q1; Thu")
}

func TestGreetDelay(t *testing.T) {
	h := &testHandler{}
	s := newServerWith(t, h)
	s.GreetDelay = 5 * time.Second
	bubble(t, s, func(t *testing.T, l *pipes) {
		begin := time.Now()
		patient := l.dial()
		play(t, patient, opening+"C: QUIT\nS~ 221 .*\nS.\n")
		assert.Equal(t, 5*time.Second, time.Since(begin))
		early := l.dial()
		play(t, early, "C: EHLO x\nS: 554 5.5.1 wait for the greeting\nS.\n")
		assert.Equal(t, 5*time.Second, time.Since(begin))
		gone := l.dial()
		gone.Close()
		synctest.Wait()
		assert.Equal(t, []string{"close <nil>"}, h.taken(), "those that were not greeted were not given to the handler")
	})
}
