package smtp

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/emersion/go-sasl"
)

// TLSPolicy says what a Client on a plain connection does about STARTTLS.
type TLSPolicy uint8

const (
	// TLSOpportunistic uses STARTTLS if the server offers it. A handshake that fails is an
	// error; it is up to the caller to try again with TLSNever.
	TLSOpportunistic TLSPolicy = iota
	// TLSRequired ends the session if there is no TLS.
	TLSRequired
	// TLSNever does not use STARTTLS.
	TLSNever
)

// ClientOptions configure a Client. Nil or the zero value works.
type ClientOptions struct {
	// Hello is the name to give for this host. Empty means os.Hostname.
	Hello string

	// LMTP speaks LMTP (RFC 2033).
	LMTP bool

	// TLSPolicy rules STARTTLS; TLS is the configuration used for it and for DialTLS. An empty
	// ServerName is filled in with the host dialled. Nil verifies against the system's roots.
	TLSPolicy TLSPolicy
	TLS       *tls.Config

	// Auth is run once the session stands. Nil means none. It is refused on a plain
	// connection unless InsecureAuth is set.
	Auth         sasl.Client
	InsecureAuth bool

	// Chunking sends messages with BDAT when the server offers CHUNKING. Messages with
	// BodyBinary are always sent so.
	Chunking bool

	// NoPipelining waits for each reply even where the server offers PIPELINING.
	NoPipelining bool

	// Dial makes connections; nil means net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Timeouts, each for one wait; a context may end it earlier. Zero means those of
	// RFC 5321, 4.5.3.2: connection 30 s and TLS handshake 30 s (ours), greeting, MAIL and
	// RCPT and all else 5 min, DATA 2 min, each block of a message 3 min, its end 10 min.
	ConnectTimeout, HandshakeTimeout               time.Duration
	GreetingTimeout, CommandTimeout                time.Duration
	DataTimeout, DataBlockTimeout, DataDoneTimeout time.Duration

	// Log, if not nil, is told each command as sent, and each reply as received, without
	// CRLF. Credentials and messages are left out.
	Log func(sent bool, line string)
}

// Phase says how far a connection came.
type Phase string

const (
	PhaseConnect  Phase = "connect"  // no connection
	PhaseGreeting Phase = "greeting" // no 220
	PhaseHello    Phase = "hello"    // EHLO and HELO failed
	PhaseTLS      Phase = "tls"      // STARTTLS or the handshake failed, or was required and not offered
	PhaseAuth     Phase = "auth"     // AUTH failed
	PhaseSession  Phase = "session"  // the session broke later: 421, timeout, nonsense
)

// ConnError says that the connection can not be used (any more): the trouble is with the
// host, not with the message or a recipient. errors.As finds the *Reply in it, if there is one.
type ConnError struct {
	Phase Phase
	Host  string // as dialled
	Err   error
}

// Error implements error.
func (e *ConnError) Error() string {
	return "smtp: " + string(e.Phase) + " " + e.Host + ": " + e.Err.Error()
}

// Unwrap returns e.Err.
func (e *ConnError) Unwrap() error { return e.Err }

// ExtensionError says that the message needs an extension (RFC 5321, 2.2) that the server
// does not offer. Nothing of the message was sent and the session goes on.
type ExtensionError struct {
	Extension string // its EHLO keyword, such as "SMTPUTF8"
}

// Error implements error.
func (e *ExtensionError) Error() string { return "smtp: server does not offer " + e.Extension }

// Reply formats e as the reply a gateway gives for it.
func (e *ExtensionError) Reply() *Reply {
	r := &Reply{Code: 550, Enhanced: EnhancedCode{5, 6, 3}, Text: "conversion required but not supported: next host lacks " + e.Extension, Cause: e}
	switch e.Extension {
	case "SMTPUTF8":
		r.Code, r.Enhanced = 553, EnhancedCode{5, 6, 7}
	case "REQUIRETLS":
		r.Enhanced = EnhancedCode{5, 7, 30}
	}
	return r
}

var (
	// ErrClientClosed is returned by methods of a Client behind Quit, Close or a ConnError.
	ErrClientClosed = errors.New("smtp: client closed")

	// ErrMailMax says that the server takes no more messages on this connection (MAILMAX of RFC
	// 9422). It comes in a ConnError; a new connection serves.
	ErrMailMax = errors.New("smtp: as many messages sent as the server takes on one connection")

	// ErrNoTLS says that TLSRequired met a server without STARTTLS.
	ErrNoTLS = errors.New("smtp: server does not offer STARTTLS")

	errInjectedReply = errors.New("smtp: data in the clear behind the reply to STARTTLS")
)

// Client is a connection to a server, on which any number of messages are sent one after
// the other. It is not safe for concurrent use, except for Close.
type Client struct {
	conn net.Conn
	host string
	opt  ClientOptions
	br   *bufio.Reader
	bw   *bufio.Writer

	phase    Phase
	greeting *Reply
	ext      map[string]string
	tls      *tls.ConnectionState
	broken   error       // why the connection is of no more use
	mails    int         // MAIL commands sent
	inTx     bool        // a transaction may be open: RSET comes before the next
	cut      atomic.Bool // the context of the method that runs has ended
}

// Dial connects to addr, "host:port" or "unix:/path", and brings the session up: greeting,
// EHLO (or HELO), STARTTLS as the policy says, AUTH. Errors are *ConnError.
func Dial(ctx context.Context, addr string, opt *ClientOptions) (*Client, error) {
	conn, host, err := dial(ctx, addr, opt)
	if err != nil {
		return nil, err
	}
	return NewClient(ctx, conn, host, opt)
}

// DialTLS is Dial with implicit TLS (RFC 8314, 3.3).
func DialTLS(ctx context.Context, addr string, opt *ClientOptions) (*Client, error) {
	conn, host, err := dial(ctx, addr, opt)
	if err != nil {
		return nil, err
	}
	c := newClient(conn, host, opt)
	if err := c.run(ctx, func() error { return c.handshake(ctx) }); err != nil {
		return nil, err
	}
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func dial(ctx context.Context, addr string, opt *ClientOptions) (net.Conn, string, error) {
	var o ClientOptions
	if opt != nil {
		o = *opt
	}
	network, host := "tcp", addr
	if rest, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr, host = "unix", rest, "localhost"
	} else if h, _, err := net.SplitHostPort(addr); err == nil {
		host = h
	}
	d := o.Dial
	if d == nil {
		d = (&net.Dialer{}).DialContext
	}
	ctx, cancel := context.WithTimeout(ctx, orDefault(o.ConnectTimeout, 30*time.Second))
	defer cancel()
	conn, err := d(ctx, network, addr)
	if err != nil {
		return nil, "", &ConnError{Phase: PhaseConnect, Host: host, Err: err}
	}
	return conn, host, nil
}

// NewClient brings a session up on a connection made by the caller, plain or a *tls.Conn;
// see Dial. The host is the server's name, for TLS and for errors. The Client owns conn, and
// has closed it if there is an error.
func NewClient(ctx context.Context, conn net.Conn, host string, opt *ClientOptions) (*Client, error) {
	c := newClient(conn, host, opt)
	if t, ok := conn.(*tls.Conn); ok {
		if err := c.run(ctx, func() error { return c.secure(ctx, t) }); err != nil {
			return nil, err
		}
	}
	if err := c.open(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func newClient(conn net.Conn, host string, opt *ClientOptions) *Client {
	c := &Client{conn: conn, host: host, phase: PhaseGreeting}
	if opt != nil {
		c.opt = *opt
	}
	o := &c.opt
	if o.Hello == "" {
		if o.Hello, _ = os.Hostname(); o.Hello == "" {
			o.Hello = "localhost"
		}
	}
	o.HandshakeTimeout = orDefault(o.HandshakeTimeout, 30*time.Second)
	o.GreetingTimeout = orDefault(o.GreetingTimeout, 5*time.Minute)
	o.CommandTimeout = orDefault(o.CommandTimeout, 5*time.Minute)
	o.DataTimeout = orDefault(o.DataTimeout, 2*time.Minute)
	o.DataBlockTimeout = orDefault(o.DataBlockTimeout, 3*time.Minute)
	o.DataDoneTimeout = orDefault(o.DataDoneTimeout, 10*time.Minute)
	c.use(conn)
	return c
}

// use begins to speak over conn.
func (c *Client) use(conn net.Conn) {
	c.conn = conn
	c.br = bufio.NewReaderSize(conn, 4096)
	c.bw = bufio.NewWriterSize(blockWriter{c}, 16<<10)
}

// open brings the session up. On an error the connection is closed.
func (c *Client) open(ctx context.Context) error {
	return c.run(ctx, func() error {
		c.phase = PhaseGreeting
		r, err := c.read(c.opt.GreetingTimeout)
		if err != nil {
			return err
		}
		c.greeting = r
		if r.Code != 220 {
			return r
		}
		if err := c.hello(); err != nil {
			return err
		}
		if c.tls == nil && c.opt.TLSPolicy != TLSNever {
			_, offered := c.ext["STARTTLS"]
			switch {
			case offered:
				if err := c.startTLS(ctx); err != nil {
					return err
				}
			case c.opt.TLSPolicy == TLSRequired:
				c.phase = PhaseTLS
				return ErrNoTLS
			}
		}
		if c.opt.Auth != nil {
			c.phase = PhaseAuth
			if err := c.auth(c.opt.Auth); err != nil {
				return err
			}
		}
		c.phase = PhaseSession
		return nil
	})
}

// run does f with the connection bound to ctx. Any error of f, except a reply that leaves
// the session standing, makes a ConnError and closes the connection; while the session is
// being brought up, any reply does.
func (c *Client) run(ctx context.Context, f func() error) error {
	if c.broken != nil {
		return c.broken
	}
	err := context.Cause(ctx)
	if err == nil && c.phase == PhaseSession && c.br.Buffered() > 0 {
		return c.fail(c.unasked())
	}
	if err == nil {
		stop := func() bool { return true }
		if ctx.Done() != nil {
			conn := c.conn // TLS on top of it passes its deadlines down
			c.cut.Store(false)
			stop = context.AfterFunc(ctx, func() {
				c.cut.Store(true)
				_ = conn.SetDeadline(time.Unix(1, 0))
			})
		}
		err = f()
		if !stop() {
			// The deadline may strike now or later: the connection is spoilt.
			if err == nil || isTimeout(err) {
				err = context.Cause(ctx)
			}
			return c.fail(err)
		}
	} else if c.phase == PhaseSession {
		return err // nothing was sent
	}
	if err == nil {
		return nil
	}
	if c.phase == PhaseSession && harmless(err) {
		return err
	}
	return c.fail(err)
}

// unasked reads what the server said without being asked: a 421, or replies meant to be
// taken for those to come.
func (c *Client) unasked() error {
	r, err := c.read(time.Second)
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: reply without a command: %w", ErrProtocol, r)
}

// harmless reports whether the session can go on behind err.
func harmless(err error) bool {
	var conn *ConnError
	if errors.As(err, &conn) || errors.Is(err, ErrProtocol) {
		return false
	}
	var r *Reply
	var x *ExtensionError
	return errors.As(err, &r) || errors.As(err, &x) || errors.Is(err, errMailbox) || errors.Is(err, errArgument)
}

// limitRead sets the time a read may take, unless the context has ended already.
func (c *Client) limitRead(d time.Duration) error {
	err := c.conn.SetReadDeadline(time.Now().Add(d))
	if c.cut.Load() {
		return os.ErrDeadlineExceeded
	}
	return err
}

// blockWriter gives each write of its Client the time for a block.
type blockWriter struct{ c *Client }

func (w blockWriter) Write(p []byte) (int, error) {
	if err := w.c.conn.SetWriteDeadline(time.Now().Add(w.c.opt.DataBlockTimeout)); err != nil {
		return 0, err
	}
	if w.c.cut.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	return w.c.conn.Write(p)
}

// fail closes the connection for good.
func (c *Client) fail(err error) error {
	var ce *ConnError
	if !errors.As(err, &ce) {
		err = &ConnError{Phase: c.phase, Host: c.host, Err: err}
	}
	c.conn.Close()
	c.broken = ErrClientClosed
	return err
}

// Greeting returns the server's greeting.
func (c *Client) Greeting() *Reply { return c.greeting }

// Extension reports whether the server offers an extension, and with which parameters. The
// keyword is in upper case.
func (c *Client) Extension(keyword string) (params string, ok bool) {
	params, ok = c.ext[keyword]
	return params, ok
}

// TLS returns the state of TLS, or nil on a plain connection.
func (c *Client) TLS() *tls.ConnectionState { return c.tls }

// MessagesLeft returns how many more messages the server takes on this connection, as far as it
// announces that (MAILMAX of RFC 9422).
func (c *Client) MessagesLeft() int { return max(0, c.limit("MAILMAX=")-c.mails) }

// Host returns the host as dialled; LocalAddr and RemoteAddr are the connection's ends.
func (c *Client) Host() string { return c.host }

// LocalAddr returns the connection's near end.
func (c *Client) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// RemoteAddr returns the connection's far end.
func (c *Client) RemoteAddr() net.Addr { return c.conn.RemoteAddr() }

// Close closes the connection without ceremony. It may be called while another method
// runs, which then fails.
func (c *Client) Close() error { return c.conn.Close() }

// Quit ends the session and closes the connection. The error is of no consequence to the
// messages sent.
func (c *Client) Quit(ctx context.Context) error {
	err := c.run(ctx, func() error {
		_, err := c.cmd(c.opt.CommandTimeout, "QUIT")
		return err
	})
	c.broken = ErrClientClosed
	c.conn.Close()
	return err
}
