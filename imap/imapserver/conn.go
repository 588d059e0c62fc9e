package imapserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/imap/internal/wire"
	"github.com/mailblocks/mailblocks/internal/netserve"
)

// Bounds on commands. What a client may send before it has logged in is far less.
const (
	maxLine          = 64 << 10
	maxCommand       = 1 << 20
	maxLineBefore    = 24 << 10 // tokens of OAuth and Kerberos are long
	maxCommandBefore = 32 << 10
	maxLiteralBefore = 4 << 10
	// maxSkipped bounds what is read and dropped of a command that is refused.
	maxSkipped       = 16 << 20
	maxSkippedBefore = 64 << 10
)

// state is where a session is (RFC 9051, 3), as a bit.
type state uint8

const (
	notAuthenticated state = 1 << iota
	authenticated
	selectedState
	loggedOut

	anyState = notAuthenticated | authenticated | selectedState
	loggedIn = authenticated | selectedState
)

// conn is a session. One goroutine owns it; wake alone may be called from others.
type conn struct {
	server *Server
	nc     *netserve.Conn
	net    net.Conn // nc, or TLS over it
	tls    *tls.ConnectionState
	// deflated compresses what goes over net, once the client asked for it.
	deflated *deflated
	remote   netip.AddrPort
	log      *slog.Logger
	// anonymous is the log without an identity.
	anonymous *slog.Logger

	in  input
	br  *bufio.Reader // nil while idle
	dec wire.Decoder
	enc *wire.Encoder

	state    state
	loginBy  time.Time
	account  *account
	identity string
	clientID map[string]string // what the client said with ID
	sel      *selected
	notify   *notified // nil before NOTIFY
	tellAll  bool      // the command asked for changes, whatever NOTIFY says

	condstore, qresync, rev2, utf8, uidOnly bool // ENABLEd
	comparator                              *comparator

	tag                       string // of the command under way
	badCommands, failedLogins int

	mu      sync.Mutex // guards what wake looks at
	waiting bool       // for the client, and may be woken
	woken   bool
}

func newConn(s *Server, nc *netserve.Conn, remote netip.AddrPort, log *slog.Logger) *conn {
	c := &conn{server: s, nc: nc, net: nc, remote: remote, log: log, anonymous: log, state: notAuthenticated}
	c.in.c = c
	c.comparator = &comparators[0]
	c.enc = wire.NewEncoder(output{c})
	c.loginBy = time.Now().Add(orDefault(s.LoginTimeout, 3*time.Minute))
	c.dec.Continue = func() error {
		c.enc.Raw("+ go ahead\r\n")
		return c.enc.Flush()
	}
	c.dec.NoNonSync = s.LiteralMinus
	c.limits()
	return c
}

// limits sets the bounds on commands for the session's state.
func (c *conn) limits() {
	c.dec.MaxLine, c.dec.MaxCommand, c.dec.MaxLiteral = maxLine, maxCommand, maxCommand
	if c.state == notAuthenticated {
		c.dec.MaxLine, c.dec.MaxCommand, c.dec.MaxLiteral = maxLineBefore, maxCommandBefore, maxLiteralBefore
	}
}

// input reads from the client while a command is under way, with a bound on each wait. The
// octet that ended the wait for the command comes first, or what was read before it.
type input struct {
	c     *conn
	rest  []byte // came with compressed data, but is none
	first [1]byte
	has   bool
}

func (in *input) Read(p []byte) (int, error) {
	if len(in.rest) > 0 {
		n := copy(p, in.rest)
		in.rest = in.rest[n:]
		return n, nil
	}
	if in.has && len(p) > 0 {
		in.has = false
		p[0] = in.first[0]
		return 1, nil
	}
	deadline := time.Now().Add(orDefault(in.c.server.IOTimeout, 2*time.Minute))
	if in.c.state == notAuthenticated && in.c.loginBy.Before(deadline) {
		deadline = in.c.loginBy
	}
	if err := in.c.nc.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	return in.c.net.Read(p)
}

// reader is where commands come from.
func (c *conn) reader() io.Reader {
	if c.deflated != nil {
		return c.deflated.in
	}
	return &c.in
}

// output writes to the client, with a bound on each write.
type output struct{ c *conn }

func (out output) Write(p []byte) (int, error) {
	if err := out.c.nc.SetWriteDeadline(time.Now().Add(orDefault(out.c.server.IOTimeout, 2*time.Minute))); err != nil {
		return 0, err
	}
	return out.c.net.Write(p)
}

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

// What ended a wait.
type waited uint8

const (
	gotInput waited = iota
	gotWoken
	gotTimeout
	gotShutdown
)

// wait waits for the client's next octet, until a moment. When wakeable it also ends when
// the selected mailbox's box says that something happened. While it waits, the session
// holds no buffers.
func (c *conn) wait(until time.Time, wakeable bool) (waited, error) {
	if c.br != nil && c.br.Buffered() > 0 || len(c.in.rest) > 0 {
		return gotInput, nil
	}
	if err := c.enc.Release(); err != nil {
		return 0, err
	}
	limit := until
	if c.deflated != nil {
		if c.deflated.in.Ready() {
			return gotInput, nil
		}
		c.deflated.rest()
		if c.deflated.in.Packable() { // it pays when the wait is long
			if soon := time.Now().Add(orDefault(c.server.packAfter, packAfter)); soon.Before(until) {
				limit = soon
			}
		}
	}
	if c.br != nil {
		c.dec.Release()
		readers.Put(c.br)
		c.br = nil
	}
	c.mu.Lock()
	if wakeable && c.woken {
		c.woken = false
		c.mu.Unlock()
		return gotWoken, nil
	}
	if !c.nc.Idle(limit) {
		c.mu.Unlock()
		return gotShutdown, nil
	}
	c.waiting = wakeable
	c.mu.Unlock()

	n, err := c.net.Read(c.in.first[:])

	c.mu.Lock()
	woken := c.woken
	c.waiting, c.woken = false, false
	c.mu.Unlock()
	c.nc.Busy()
	switch {
	case n == 1 && !c.took(c.in.first[0]):
		// Compressed data that says nothing yet, as the end of a flush does.
		if woken && wakeable {
			return gotWoken, nil
		}
		return c.wait(until, wakeable)
	case n == 1:
		c.br = readers.Get().(*bufio.Reader)
		c.br.Reset(c.reader())
		c.dec.Reset(c.br)
		return gotInput, nil
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return 0, err
	case c.nc.Draining():
		return gotShutdown, nil
	case woken && wakeable:
		return gotWoken, nil
	case time.Now().Before(until): // woken by a box that we just left, or time to pack
		if c.deflated != nil && !time.Now().Before(limit) {
			c.deflated.in.Pack()
		}
		return c.wait(until, wakeable)
	default:
		return gotTimeout, nil
	}
}

// took takes the octet that ended a wait, and reports whether there is something to read.
func (c *conn) took(b byte) bool {
	if c.deflated == nil {
		c.in.has = true
		return true
	}
	c.deflated.in.Put(b)
	return c.deflated.in.Ready()
}

// wake ends the session's wait, now or when it next waits. It never blocks.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.woken = true
	if c.waiting {
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// run is the session: greeting, commands, goodbye. The error says why it ended, when not
// by LOGOUT.
func (c *conn) run(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			c.log.LogAttrs(ctx, slog.LevelError, "panic", slog.Any("value", p), slog.String("stack", string(debug.Stack())))
			err = fmt.Errorf("panic: %v", p)
			c.enc.Raw("* BYE [SERVERBUG] internal error\r\n")
			_ = c.enc.Flush()
		}
	}()
	c.greet()
	for c.state != loggedOut {
		until := c.loginBy
		if c.state != notAuthenticated {
			until = time.Now().Add(orDefault(c.server.IdleTimeout, 30*time.Minute))
		}
		why, err := c.wait(until, c.notify != nil)
		for err == nil && why == gotWoken {
			if err = c.announce(ctx, true); errors.Is(err, errLost) {
				return c.bye("", "the selected mailbox is gone", err)
			}
			if err == nil {
				why, err = c.wait(until, true)
			}
		}
		if err != nil {
			return err
		}
		switch why {
		case gotShutdown:
			return c.bye("UNAVAILABLE", "server is shutting down", nil)
		case gotTimeout:
			return c.bye("", "idle for too long", os.ErrDeadlineExceeded)
		}
		if err := c.dec.Next(); err != nil {
			return err
		}
		if err := c.command(ctx); err != nil {
			return err
		}
	}
	return c.enc.Flush()
}

// bye ends the session.
func (c *conn) bye(code, text string, cause error) error {
	c.enc.Raw("* BYE ")
	if code != "" {
		c.enc.Raw("[").Raw(code).Raw("] ")
	}
	c.enc.Raw(text).CRLF()
	c.state = loggedOut
	if err := c.enc.Flush(); err != nil {
		return err
	}
	return cause
}

// close releases what the session holds.
func (c *conn) close() {
	c.endNotify()
	c.deselect()
	if c.account != nil {
		c.server.leave(c.account)
		c.account = nil
	}
	if c.br != nil {
		readers.Put(c.br)
		c.br = nil
	}
	if c.deflated != nil {
		c.deflated.rest()
	}
	if c.net != net.Conn(c.nc) {
		_ = c.nc.SetWriteDeadline(time.Now().Add(5 * time.Second))
		_ = c.net.Close() // TLS says goodbye
	}
}

// handshakeTimeout bounds a TLS handshake.
const handshakeTimeout = 30 * time.Second

// startTLS makes the connection one of TLS.
func (c *conn) startTLS(ctx context.Context) error {
	t := tls.Server(c.nc, c.server.TLSConfig)
	return c.handshake(ctx, t)
}

func (c *conn) handshake(ctx context.Context, t *tls.Conn) error {
	_ = c.nc.SetDeadline(time.Now().Add(handshakeTimeout))
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	_ = c.nc.SetDeadline(time.Time{})
	if t != c.nc.Conn {
		c.net = t
	}
	st := t.ConnectionState()
	c.tls = &st
	return nil
}
