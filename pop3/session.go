package pop3

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailblocks/mailblocks/internal/lineio"
	"github.com/mailblocks/mailblocks/internal/netserve"
)

// maxCommand bounds a command with its CRLF (RFC 2449, 4), maxAuthLine a line of a SASL
// exchange: tokens are long.
const (
	maxCommand  = 255
	maxAuthLine = 12 << 10
)

// handshakeTimeout bounds a TLS handshake.
const handshakeTimeout = 30 * time.Second

var lastSession atomic.Uint64

// A session is one connection. Its goroutine owns all of it.
type session struct {
	server  *Server
	conn    *netserve.Conn
	tls     *tls.ConnectionState // nil: plain
	implied bool                 // TLS from the start
	r       *bufio.Reader
	out     io.Writer
	w       *bufio.Writer // nil while it waits
	log     *slog.Logger

	user         string // of a USER that waits for its PASS
	stamp        string // of the greeting, for APOP
	utf8         bool   // UTF8 was said
	identity     string
	drop         Maildrop // nil before login
	messages     []Message
	deleted      []bool
	errors       int
	authFailures int
	quit         bool
}

func newSession(s *Server, c *netserve.Conn, implied bool) *session {
	return &session{server: s, conn: c, implied: implied, log: s.logger().With(
		slog.Uint64("session", lastSession.Add(1)), slog.String("remote", c.RemoteAddr().String()))}
}

// A reply is what a command is answered with: one line, and perhaps a multi-line body.
type reply struct {
	ok     bool
	text   string // may begin with a response code in brackets
	body   func(w io.Writer) error
	silent bool // all was said already
	hangUp bool // the session ends after the reply
}

func okf(format string, args ...any) reply {
	return reply{ok: true, text: fmt.Sprintf(format, args...)}
}
func errText(text string) reply { return reply{text: text} }

var errHungUp = errors.New("hung up")

func (s *session) run(ctx context.Context) {
	var cause error
	defer func() {
		if v := recover(); v != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "panic", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			s.say(reply{text: "[SYS/TEMP] internal error"})
			_ = s.flush()
		}
		s.closeDrop(ctx)
		s.log.LogAttrs(ctx, slog.LevelDebug, "session ended", slog.Any("err", cause))
	}()
	var conn net.Conn = s.conn
	if s.implied {
		c, err := s.handshake(ctx)
		if err != nil {
			s.log.LogAttrs(ctx, slog.LevelInfo, "tls handshake failed", slog.Any("err", err))
			return
		}
		conn = c
	}
	s.use(conn)
	greeting := "POP3 server ready"
	if s.server.Secret != nil {
		s.stamp = "<" + rand.Text() + "@pop3>"
		greeting += " " + s.stamp
	}
	s.say(okf("%s", greeting))
	for !s.quit && cause == nil {
		cause = s.step(ctx)
	}
	_ = s.flush()
}

// closeDrop lets go of the maildrop, once.
func (s *session) closeDrop(ctx context.Context) {
	if s.drop == nil {
		return
	}
	if err := s.drop.Close(); err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "maildrop not closed", slog.Any("err", err))
	}
	s.drop = nil
}

// use makes conn what the session reads and writes.
func (s *session) use(conn net.Conn) {
	s.r = bufio.NewReaderSize(conn, 2<<10)
	s.out = deadlineWriter{conn, orDefault(s.server.WriteTimeout, time.Minute)}
	s.acquire()
}

// writers are lent to sessions that have something to say: one that waits for a command
// holds none.
var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 32<<10) }}

func (s *session) acquire() {
	if s.w == nil {
		s.w = writers.Get().(*bufio.Writer)
		s.w.Reset(s.out)
	}
}

// flush sends what was said and gives the writer back.
func (s *session) flush() error {
	if s.w == nil {
		return nil
	}
	err := s.w.Flush()
	s.w.Reset(nil)
	writers.Put(s.w)
	s.w = nil
	return err
}

// A deadlineWriter gives each write its own time: a slow reader that reads is no dead one.
type deadlineWriter struct {
	net.Conn
	timeout time.Duration
}

func (d deadlineWriter) Write(p []byte) (int, error) {
	if err := d.SetWriteDeadline(time.Now().Add(d.timeout)); err != nil {
		return 0, err
	}
	return d.Conn.Write(p)
}

// step reads one command and answers it.
func (s *session) step(ctx context.Context) error {
	line, err := s.readLine(maxCommand)
	switch {
	case err == nil:
	case errors.Is(err, lineio.ErrTooLong):
		s.log.LogAttrs(ctx, slog.LevelInfo, "command line too long", slog.Int("limit", maxCommand))
		if err := lineio.Skip(s.r, err, 64<<10); err != nil {
			s.say(reply{text: "line too long"})
			return err
		}
		return s.fault("line too long")
	case errors.Is(err, lineio.ErrBareLF): // taken, as every server does: nothing hangs on it here
	case s.conn.Draining():
		s.say(errText("[SYS/TEMP] server is shutting down"))
		return ErrServerClosed
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.log.LogAttrs(ctx, slog.LevelInfo, "idle for too long")
		return err // RFC 1939, 3: closed without a word, nothing is deleted
	default:
		return err
	}
	verb, args, _ := strings.Cut(string(line), " ")
	verb = strings.ToUpper(verb)
	start := time.Now()
	r, known := s.dispatch(ctx, verb, args)
	if !known {
		s.trace(ctx, "", false, start)
		return s.fault(r.text)
	}
	if err := s.answer(r); err != nil {
		return err
	}
	s.trace(ctx, verb, r.ok, start)
	if r.hangUp {
		return errHungUp
	}
	return nil
}

// fault answers what was no command, and hangs up on a peer that sends nothing else.
func (s *session) fault(text string) error {
	if s.errors++; s.errors >= orDefault(s.server.MaxErrors, 10) {
		s.say(errText("too many errors, goodbye"))
		s.log.Info("too many errors")
		return errHungUp
	}
	s.say(errText(text))
	return nil
}

func (s *session) trace(ctx context.Context, verb string, ok bool, start time.Time) {
	if t := s.server.Trace; t != nil && t.CommandDone != nil {
		t.CommandDone(ctx, verb, ok, time.Since(start))
	}
}

// readLine waits for a line. What was said before leaves first, unless another whole line is
// here already: a pipelining client gets its replies in few writes (RFC 2449, 6.6).
func (s *session) readLine(limit int) ([]byte, error) {
	if buffered, _ := s.r.Peek(s.r.Buffered()); bytes.IndexByte(buffered, '\n') < 0 {
		if err := s.flush(); err != nil {
			return nil, err
		}
	}
	defer s.acquire()
	if !s.conn.Idle(time.Now().Add(orDefault(s.server.IdleTimeout, 10*time.Minute))) {
		return nil, ErrServerClosed
	}
	line, err := lineio.Read(s.r, nil, limit)
	s.conn.Busy()
	return line, err
}

func (s *session) say(r reply) { _ = s.answer(r) }

func (s *session) answer(r reply) error {
	if r.silent || s.out == nil {
		return nil
	}
	s.acquire()
	status := "-ERR"
	if r.ok {
		status = "+OK"
	}
	_, _ = s.w.WriteString(status)
	if r.text != "" {
		_ = s.w.WriteByte(' ')
		_, _ = s.w.WriteString(r.text)
	}
	_, err := s.w.WriteString("\r\n")
	if err == nil && r.body != nil {
		err = r.body(s.w)
	}
	return err
}

func (s *session) remote() netip.AddrPort { return netserve.RemoteAddr(s.conn.Conn) }

func (s *session) handshake(ctx context.Context) (net.Conn, error) {
	c := tls.Server(s.conn, s.server.TLSConfig)
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	_ = s.conn.SetDeadline(time.Now().Add(handshakeTimeout))
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	_ = s.conn.SetDeadline(time.Time{})
	state := c.ConnectionState()
	s.tls = &state
	return c, nil
}
