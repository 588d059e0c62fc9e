package imapclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// TLSPolicy says what a Client on a plain connection does about STARTTLS.
type TLSPolicy uint8

// The policies. Without TLS no credentials are sent, unless ClientOptions.InsecureAuth.
const (
	TLSRequired      TLSPolicy = iota // STARTTLS, or ErrNoTLS
	TLSOpportunistic                  // STARTTLS where it is offered
	TLSNever
)

// ClientOptions configure a Client. A nil *ClientOptions means defaults.
type ClientOptions struct {
	TLSPolicy TLSPolicy
	// TLS is used for STARTTLS and DialTLS. An empty ServerName is filled in with the host.
	// Nil verifies against the system's roots.
	TLS *tls.Config
	// InsecureAuth allows credentials on a connection without TLS.
	InsecureAuth bool
	// Dial makes connections. Nil: net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Handler is told what the server says unasked.
	Handler Handler

	// Timeout bounds the wait for the next octets of the server while a command is under
	// way, and for the server to take what is written. Zero: 5 min.
	Timeout time.Duration
	// IdleRestart is how often Idle begins anew, since servers end a session that says
	// nothing for 30 minutes (RFC 2177). Zero: 28 min.
	IdleRestart time.Duration

	// MaxResponse bounds one response without the bodies in it, MaxResult the responses
	// that a method other than Fetch gathers before it returns. In octets. Zero: 16 MiB,
	// and 128 MiB.
	MaxResponse, MaxResult int
	// SpoolDir is where Fetch puts bodies aside that nobody reads yet. Empty: os.TempDir.
	SpoolDir string

	// Log, if not nil, is told the tag and the name of each command that is sent, and each
	// status response that comes. It may be called concurrently.
	Log func(sent bool, line string)
}

// Handler has functions that are called with what the server says unasked: while the client
// idles (RFC 2177), because it was asked to NOTIFY (RFC 5465), or beside the answer to a
// command. Each may be nil. One goroutine calls them, in the order of the responses; it is the
// one that reads from the server, so they must return soon and wait for no method of the Client.
type Handler struct {
	Exists  func(messages uint32)               // how many messages the mailbox has now
	Recent  func(messages uint32)               // how many of them are recent (IMAP4rev1)
	Expunge func(seq imap.SeqNum)               // those behind it move up by one
	Vanish  func(gone imap.UIDSet)              // as Expunge, once QRESYNC or UIDONLY is enabled
	Fetch   func(m *Message)                    // flags of a message changed; with NOTIFY, a new message. It has no bodies
	Flags   func(flags []imap.Flag)             // the flags in use in the mailbox
	Status  func(s *Status)                     // OK, NO, BAD without a tag: ALERTs among others
	Mailbox func(s *MailboxStatus)              // counts of a mailbox that is not selected
	List    func(l *Listing)                    // a mailbox came, went, or was renamed
	Entries func(mailbox string, keys []string) // annotations that changed (RFC 5464, 4.4.2)
	Results func(u *SearchUpdate)               // what became of a search's results (RFC 5267)
	Closed  func(err error)                     // the connection ended, once. The error wraps ErrClosed
}

// State is how far a session has come (RFC 9051, 3).
type State uint8

// The states.
const (
	NotAuthenticated State = iota
	Authenticated
	InMailbox // a mailbox is selected
	LoggedOut
)

// Client is a session with an IMAP server. It is safe for concurrent use: commands of several
// goroutines are pipelined in the order they come, except where RFC 9051, 5.5 has one wait
// for another.
//
// When the context of a call ends before the server has answered, the call returns at once and
// the answer is passed over when it comes: the session goes on. Only where that can not be (in
// the midst of a literal, of an authentication, of a TLS handshake, of a line that the network
// does not take within a second) the connection is closed, and the error wraps ErrClosed, too.
// An *Error leaves the session as it was.
type Client struct {
	opt  ClientOptions
	host string

	greeting *Status
	ended    chan struct{} // closed when the connection is closed and reading has ended

	// sending is held by the one command that writes; an alone one keeps it to its end.
	sending chan struct{}
	enc     *wire.Encoder
	out     *outgoing
	tagNum  int

	// Of the reading goroutine.
	br  *bufio.Reader
	dec *wire.Decoder

	mu       sync.Mutex
	conn     net.Conn // with TLS, when there is some
	flate    *deflater
	secure   bool
	caps     map[string]bool // nil: not known
	enabled  map[string]bool
	state    State
	selected *Selected
	pending  []*command
	settled  chan struct{} // closed and made anew whenever a command ends
	cause    error         // why the connection is closed
}

// Dial connects to "host:port" and, as the policy says, starts TLS.
func Dial(ctx context.Context, addr string, opt *ClientOptions) (*Client, error) {
	return dial(ctx, addr, opt, false)
}

// DialTLS is Dial with TLS from the first octet on (port 993; RFC 8314, 3.2).
func DialTLS(ctx context.Context, addr string, opt *ClientOptions) (*Client, error) {
	return dial(ctx, addr, opt, true)
}

func dial(ctx context.Context, addr string, opt *ClientOptions, implicit bool) (*Client, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("imapclient: %w", err)
	}
	if opt == nil {
		opt = new(ClientOptions)
	}
	connect := opt.Dial
	if connect == nil {
		connect = (&net.Dialer{Timeout: 30 * time.Second}).DialContext
	}
	conn, err := connect(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("imapclient: %w", err)
	}
	if implicit {
		t := tls.Client(conn, opt.tlsConfig(host))
		if err := handshake(ctx, t, opt); err != nil {
			conn.Close()
			return nil, err
		}
		conn = t
	}
	return NewClient(ctx, conn, host, opt)
}

func (o *ClientOptions) tlsConfig(host string) *tls.Config {
	cfg := &tls.Config{}
	if o.TLS != nil {
		cfg = o.TLS.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	return cfg
}

func (o *ClientOptions) timeout() time.Duration { return orDefault(o.Timeout, 5*time.Minute) }

func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

func handshake(ctx context.Context, t *tls.Conn, opt *ClientOptions) error {
	ctx, cancel := context.WithTimeout(ctx, opt.timeout())
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("imapclient: TLS: %w", err)
	}
	return nil
}

// NewClient begins a session on a connection, plain or a *tls.Conn, which it owns from then
// on: it is closed when there is an error. The host is the server's name, for TLS. A greeting
// of PREAUTH on a plain connection is ErrNoTLS where TLS is required: it can not be had any
// more, and the mail could be anybody's (RFC 9051, 11.3).
func NewClient(ctx context.Context, conn net.Conn, host string, opt *ClientOptions) (*Client, error) {
	c := &Client{
		host: host, conn: conn,
		ended: make(chan struct{}), settled: make(chan struct{}), sending: make(chan struct{}, 1),
		enabled: make(map[string]bool),
	}
	if opt != nil {
		c.opt = *opt
	}
	_, c.secure = conn.(*tls.Conn)
	c.out = &outgoing{c: c}
	c.enc = wire.NewEncoder(c.out)
	maxResponse := orDefault(c.opt.MaxResponse, 16<<20)
	c.dec = &wire.Decoder{MaxLine: maxResponse, MaxCommand: maxResponse, MaxLiteral: maxResponse, Responses: true}
	c.reads(incoming{c})
	greeting := c.newGreeting()
	go c.read()
	if err := c.begin(ctx, greeting); err != nil {
		c.fail(err)
		return nil, err
	}
	return c, nil
}

// reads makes r what responses come from.
func (c *Client) reads(r interface{ Read([]byte) (int, error) }) {
	c.br = bufio.NewReaderSize(r, 32<<10)
	c.dec.Reset(c.br)
}

// begin takes the greeting and brings up TLS.
func (c *Client) begin(ctx context.Context, greeting *command) error {
	if err := c.wait(ctx, greeting); err != nil {
		return err
	}
	c.greeting = greeting.status
	if c.greeting.Kind == "PREAUTH" {
		c.mu.Lock()
		c.state = Authenticated
		c.mu.Unlock()
	}
	if c.TLS() || c.opt.TLSPolicy == TLSNever {
		return nil
	}
	if c.greeting.Kind == "PREAUTH" {
		if c.opt.TLSPolicy == TLSRequired {
			return fmt.Errorf("%w: it greets with PREAUTH", ErrNoTLS)
		}
		return nil
	}
	offered, err := c.Has(ctx, "STARTTLS")
	if err != nil {
		return err
	}
	if !offered && c.opt.TLSPolicy == TLSOpportunistic {
		return nil
	}
	// Where it is required it is tried even if not offered: nothing is lost by that.
	err = c.startTLS(ctx)
	var refused *Error
	if errors.As(err, &refused) && refused.Kind != "BYE" {
		if c.opt.TLSPolicy == TLSOpportunistic {
			return nil
		}
		return fmt.Errorf("%w: %s", ErrNoTLS, refused.Text)
	}
	return err
}

// Greeting returns the server's greeting.
func (c *Client) Greeting() *Status { return c.greeting }

// TLS reports whether the connection is one of TLS.
func (c *Client) TLS() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.secure
}

// State tells how far the session has come.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return LoggedOut
	}
	return c.state
}

// Selected returns the name of the mailbox that is selected and how many messages it has now,
// as far as the server has told.
func (c *Client) Selected() (mailbox string, messages uint32, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.selected == nil {
		return "", 0, false
	}
	return c.selected.Mailbox, c.selected.Messages, true
}

// Capabilities returns what the server can do now, in upper case and ascending order. It asks
// where it has not been told since the session began, got TLS, or logged in.
func (c *Client) Capabilities(ctx context.Context) ([]string, error) {
	caps, err := c.capabilities(ctx)
	return slices.Sorted(maps.Keys(caps)), err
}

// Has reports whether the server has a capability, such as "MOVE" or "AUTH=PLAIN".
func (c *Client) Has(ctx context.Context, capability string) (bool, error) {
	caps, err := c.capabilities(ctx)
	return caps[strings.ToUpper(capability)], err
}

func (c *Client) capabilities(ctx context.Context) (map[string]bool, error) {
	c.mu.Lock()
	caps := c.caps
	c.mu.Unlock()
	if caps != nil {
		return caps, nil
	}
	// The response is taken where all of its kind are: see data.
	if err := c.simple(ctx, "CAPABILITY"); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.caps == nil {
		return nil, fmt.Errorf("%w: CAPABILITY without capabilities", ErrProtocol)
	}
	return c.caps, nil
}

// need returns ErrNoCapability when the server has none of the capabilities named.
func (c *Client) need(ctx context.Context, oneOf ...string) error {
	caps, err := c.capabilities(ctx)
	if err != nil {
		return err
	}
	for _, name := range oneOf {
		if caps[name] {
			return nil
		}
	}
	return fmt.Errorf("%w: %s", ErrNoCapability, oneOf[0])
}

// setCaps takes a list of capabilities.
func (c *Client) setCaps(words []string) {
	caps := make(map[string]bool, len(words))
	for _, w := range words {
		caps[strings.ToUpper(w)] = true
	}
	// What IMAP4rev2 has in itself need not be named (RFC 9051, E).
	if caps["IMAP4REV2"] {
		for _, name := range rev2Capabilities {
			caps[name] = true
		}
	}
	c.mu.Lock()
	c.caps = caps
	c.mu.Unlock()
}

var rev2Capabilities = []string{
	"BINARY", "ENABLE", "ESEARCH", "IDLE", "LIST-EXTENDED", "LIST-STATUS", "LITERAL-", "MOVE", "NAMESPACE",
	"SASL-IR", "SEARCHRES", "SPECIAL-USE", "STATUS=SIZE", "UIDPLUS", "UNSELECT",
}

func (c *Client) forgetCaps() {
	c.mu.Lock()
	c.caps = nil
	c.mu.Unlock()
}

// Enabled reports whether an extension is enabled (RFC 5161).
func (c *Client) Enabled(capability string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enabled[strings.ToUpper(capability)]
}

// utf8 reports whether both sides write mailbox names in UTF-8.
func (c *Client) utf8() bool { return c.Enabled("UTF8=ACCEPT") || c.Enabled("IMAP4REV2") }

// Close closes the connection without ceremony. Methods that run fail. It may be called more
// than once.
func (c *Client) Close() error {
	c.fail(ErrClosed)
	return nil
}

// fail closes the connection for good and ends every command with err. It does nothing when
// that was done before.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.cause != nil {
		c.mu.Unlock()
		return
	}
	if !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	c.cause = err
	left := c.pending
	c.pending = nil
	c.settle()
	conn := c.conn
	c.mu.Unlock()
	conn.Close()
	for _, cmd := range left {
		cmd.end(nil, err)
	}
}

// broken returns why the connection is closed, nil while it is open.
func (c *Client) broken() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// settle wakes those that wait for commands to end. The lock is held.
func (c *Client) settle() {
	close(c.settled)
	c.settled = make(chan struct{})
}
