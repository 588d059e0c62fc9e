package pop3

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Error is a -ERR of the server.
type Error struct {
	Command string // the verb it answers
	Code    string // its response code without brackets, as "IN-USE" or "SYS/TEMP"; often empty
	Text    string // the rest of the line
}

// Error implements error.
func (e *Error) Error() string {
	if e.Code != "" {
		return fmt.Sprintf("pop3: %s: [%s] %s", e.Command, e.Code, e.Text)
	}
	return fmt.Sprintf("pop3: %s: %s", e.Command, e.Text)
}

// Temporary reports whether the server said that a later try may succeed.
func (e *Error) Temporary() bool {
	return e.Code == "IN-USE" || e.Code == "LOGIN-DELAY" || strings.HasPrefix(e.Code, "SYS/TEMP")
}

// Errors of a Client that are no answer of the server.
var (
	ErrProtocol = errors.New("pop3: the server does not speak POP3")
	ErrNoTLS    = errors.New("pop3: the server offers no TLS")
	ErrNeedTLS  = errors.New("pop3: credentials are not sent without TLS")
)

// TLSPolicy says what a Client does about STLS.
type TLSPolicy uint8

// The policies. Without TLS no credentials are sent, unless ClientOptions.InsecureAuth.
const (
	TLSRequired      TLSPolicy = iota // STLS, or ErrNoTLS
	TLSOpportunistic                  // STLS where it is offered
	TLSNever
)

// ClientOptions configure a Client. A nil *ClientOptions means defaults.
type ClientOptions struct {
	TLSPolicy TLSPolicy
	// TLS is used for STLS and DialTLS. An empty ServerName is filled in. Nil verifies
	// against the system's roots.
	TLS *tls.Config
	// InsecureAuth allows credentials on a connection without TLS.
	InsecureAuth bool
	// Timeout bounds the wait for a reply, and for each piece of a message. Zero: 2 min.
	Timeout time.Duration
	// Dial makes connections. Nil: net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// maxReply bounds one line of a reply that is not part of a message. RFC 2449, 4 allows 512
// octets; servers put more into listings and SASL challenges.
const maxReply = 12 << 10

// Client is a session with a POP3 server. It is not safe for concurrent use, except Close.
//
// Each call ends, with the connection, when its context does. After an error that is no
// *Error the session is broken and only Close makes sense.
type Client struct {
	opt    ClientOptions
	host   string
	conn   net.Conn
	r      *bufio.Reader
	w      *bufio.Writer
	secure bool
	stamp  string // of the greeting, for APOP
	caps   map[string]string
	body   *bodyReader // of the message being read
	broken error
	ended  func() error // of the context of the call under way
}

// Dial connects to "host:port" and, as the policy says, starts TLS.
func Dial(ctx context.Context, addr string, opt *ClientOptions) (*Client, error) {
	return dial(ctx, addr, opt, false)
}

// DialTLS is Dial with TLS from the first octet on (port 995).
func DialTLS(ctx context.Context, addr string, opt *ClientOptions) (*Client, error) {
	return dial(ctx, addr, opt, true)
}

func dial(ctx context.Context, addr string, opt *ClientOptions, implicit bool) (*Client, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("pop3: %w", err)
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
		return nil, fmt.Errorf("pop3: %w", err)
	}
	if implicit {
		t := tls.Client(conn, tlsConfig(opt, host))
		if err := handshakeClient(ctx, t, opt); err != nil {
			conn.Close()
			return nil, err
		}
		conn = t
	}
	return NewClient(ctx, conn, host, opt)
}

func tlsConfig(opt *ClientOptions, host string) *tls.Config {
	cfg := &tls.Config{}
	if opt.TLS != nil {
		cfg = opt.TLS.Clone()
	}
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	return cfg
}

func handshakeClient(ctx context.Context, t *tls.Conn, opt *ClientOptions) error {
	ctx, cancel := context.WithTimeout(ctx, orDefault(opt.Timeout, 2*time.Minute))
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("pop3: TLS: %w", err)
	}
	return nil
}

// NewClient begins a session on a connection, plain or a *tls.Conn, which it owns from then
// on: it is closed when there is an error. The host is the server's name, for TLS.
func NewClient(ctx context.Context, conn net.Conn, host string, opt *ClientOptions) (*Client, error) {
	c := &Client{host: host}
	if opt != nil {
		c.opt = *opt
	}
	_, c.secure = conn.(*tls.Conn)
	c.use(conn)
	if err := c.begin(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *Client) use(conn net.Conn) {
	c.conn, c.r, c.w = conn, bufio.NewReaderSize(conn, 16<<10), bufio.NewWriter(conn)
}

func (c *Client) begin(ctx context.Context) error {
	defer c.watch(ctx)()
	greeting, err := c.reply("greeting")
	if err != nil {
		return err
	}
	if i := strings.IndexByte(greeting, '<'); i >= 0 {
		if j := strings.IndexByte(greeting[i:], '>'); j > 0 && strings.Contains(greeting[i:i+j], "@") {
			c.stamp = greeting[i : i+j+1]
		}
	}
	if c.secure || c.opt.TLSPolicy == TLSNever {
		return nil
	}
	if err := c.startTLS(ctx); err != nil {
		var refused *Error
		if c.opt.TLSPolicy == TLSOpportunistic && errors.As(err, &refused) {
			return nil
		}
		if errors.As(err, &refused) {
			return fmt.Errorf("%w: %s", ErrNoTLS, refused.Text)
		}
		return err
	}
	return nil
}

func (c *Client) startTLS(ctx context.Context) error {
	if _, err := c.command("STLS"); err != nil {
		return err
	}
	if c.r.Buffered() > 0 {
		// What came before TLS is nobody's who can be trusted.
		return c.fail(fmt.Errorf("%w: octets behind the reply to STLS", ErrProtocol))
	}
	t := tls.Client(c.conn, tlsConfig(&c.opt, c.host))
	if err := handshakeClient(ctx, t, &c.opt); err != nil {
		return c.fail(err)
	}
	c.secure = true
	c.use(t)
	return nil
}

// TLS reports whether the connection is one of TLS.
func (c *Client) TLS() bool { return c.secure }

// watch ends what the connection waits for when ctx ends. The function it returns stops that.
func (c *Client) watch(ctx context.Context) func() {
	c.ended = ctx.Err
	c.extend()
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// extend gives the next wait its full time, unless the call's context has ended.
func (c *Client) extend() {
	_ = c.conn.SetDeadline(time.Now().Add(orDefault(c.opt.Timeout, 2*time.Minute)))
	if c.ended() != nil {
		_ = c.conn.SetDeadline(time.Unix(1, 0))
	}
}

// fail notes that the session is broken, and by what: by the end of the context, rather than
// by the time-out that came of it.
func (c *Client) fail(err error) error {
	if c.ended != nil && c.ended() != nil {
		err = fmt.Errorf("pop3: %w", c.ended())
	}
	if c.broken == nil {
		c.broken = err
	}
	return err
}

// ready is asked before each command: the message read before must be at its end.
func (c *Client) ready() error {
	if c.broken != nil {
		return fmt.Errorf("pop3: the session is broken: %w", c.broken)
	}
	if c.body != nil {
		if err := c.body.Close(); err != nil {
			return err
		}
	}
	return nil
}

// write queues a command. Arguments that would be another line are refused.
func (c *Client) write(words ...string) error {
	line := strings.Join(words, " ")
	if strings.ContainsAny(line, "\r\n\x00") {
		return fmt.Errorf("pop3: line end in an argument of %s", words[0])
	}
	if _, err := c.w.WriteString(line + "\r\n"); err != nil {
		return c.fail(err)
	}
	return nil
}

func (c *Client) command(words ...string) (string, error) {
	if err := c.write(words...); err != nil {
		return "", err
	}
	if err := c.w.Flush(); err != nil {
		return "", c.fail(err)
	}
	return c.reply(words[0])
}

// reply reads a status line.
func (c *Client) reply(verb string) (string, error) {
	line, err := c.line()
	if err != nil {
		return "", err
	}
	status, text, _ := strings.Cut(line, " ")
	switch status {
	case "+OK":
		return text, nil
	case "-ERR":
		e := &Error{Command: verb, Text: text}
		if code, rest, ok := strings.Cut(text, "]"); ok && strings.HasPrefix(code, "[") {
			e.Code, e.Text = strings.ToUpper(code[1:]), strings.TrimSpace(rest)
		}
		return "", e
	}
	return "", c.fail(fmt.Errorf("%w: %.60q", ErrProtocol, line))
}

// line reads a line of a reply without its end.
func (c *Client) line() (string, error) {
	var b []byte
	for {
		part, err := c.r.ReadSlice('\n')
		b = append(b, part...)
		if len(b) > maxReply {
			return "", c.fail(fmt.Errorf("%w: a line of more than %d octets", ErrProtocol, maxReply))
		}
		if err == nil {
			return strings.TrimRight(string(b), "\r\n"), nil
		}
		if err != bufio.ErrBufferFull {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return "", c.fail(fmt.Errorf("pop3: %w", err))
		}
	}
}

// listing reads the lines of a multi-line reply, each without its end.
func (c *Client) listing(each func(line string) error) error {
	var failed error
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		if line == "." {
			return failed
		}
		if failed == nil {
			failed = each(strings.TrimPrefix(line, "."))
		}
		c.extend()
	}
}

// Capabilities asks what the server can do now (RFC 2449, 5): arguments by tag, both upper
// case for the tag. A server without CAPA has none.
func (c *Client) Capabilities(ctx context.Context) (map[string]string, error) {
	if c.caps != nil {
		return c.caps, nil
	}
	if err := c.ready(); err != nil {
		return nil, err
	}
	defer c.watch(ctx)()
	caps := make(map[string]string)
	_, err := c.command("CAPA")
	var refused *Error
	if errors.As(err, &refused) {
		return caps, nil
	}
	if err == nil {
		err = c.listing(func(line string) error {
			tag, args, _ := strings.Cut(line, " ")
			caps[strings.ToUpper(tag)] = args
			return nil
		})
	}
	if err != nil {
		return nil, err
	}
	c.caps = caps
	return caps, nil
}

// Stat returns how many messages the maildrop has, and their octets.
func (c *Client) Stat(ctx context.Context) (n int, size int64, err error) {
	text, err := c.simple(ctx, "STAT")
	if err != nil {
		return 0, 0, err
	}
	f := strings.Fields(text)
	if len(f) < 2 {
		return 0, 0, c.fail(fmt.Errorf("%w: STAT: %.60q", ErrProtocol, text))
	}
	n, err1 := strconv.Atoi(f[0])
	size, err2 := strconv.ParseInt(f[1], 10, 64)
	if err1 != nil || err2 != nil || n < 0 || size < 0 {
		return 0, 0, c.fail(fmt.Errorf("%w: STAT: %.60q", ErrProtocol, text))
	}
	return n, size, nil
}

// Entry is a message as LIST and UIDL tell it.
type Entry struct {
	Number int
	Size   int64
	UID    string // empty where the server knows no UIDL
}

// List returns the messages with their sizes and, where the server has UIDL, their UIDs.
func (c *Client) List(ctx context.Context) ([]Entry, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	defer c.watch(ctx)()
	var list []Entry
	at := make(map[int]int)
	each := func(verb string, take func(n int, value string) error) error {
		if _, err := c.command(verb); err != nil {
			return err
		}
		return c.listing(func(line string) error {
			num, value, _ := strings.Cut(line, " ")
			n, err := strconv.Atoi(num)
			if err != nil || n < 1 {
				return c.fail(fmt.Errorf("%w: %s: %.60q", ErrProtocol, verb, line))
			}
			return take(n, strings.TrimSpace(value))
		})
	}
	err := each("LIST", func(n int, value string) error {
		value, _, _ = strings.Cut(value, " ")
		size, err := strconv.ParseInt(value, 10, 64)
		if _, twice := at[n]; err != nil || size < 0 || twice {
			return c.fail(fmt.Errorf("%w: LIST: %d %.60q", ErrProtocol, n, value))
		}
		at[n] = len(list)
		list = append(list, Entry{Number: n, Size: size})
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = each("UIDL", func(n int, value string) error {
		if i, ok := at[n]; ok {
			list[i].UID = value
		}
		return nil
	})
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		return nil, err
	}
	return list, nil
}

// Delete marks a message; it is deleted when Quit succeeds.
func (c *Client) Delete(ctx context.Context, n int) error {
	_, err := c.simple(ctx, "DELE", strconv.Itoa(n))
	return err
}

// Reset takes all marks back.
func (c *Client) Reset(ctx context.Context) error {
	_, err := c.simple(ctx, "RSET")
	return err
}

// Noop does nothing: it shows whether the server is still there.
func (c *Client) Noop(ctx context.Context) error {
	_, err := c.simple(ctx, "NOOP")
	return err
}

// Quit ends the session, which deletes what was marked, and closes the connection. After an
// error some of it may be left.
func (c *Client) Quit(ctx context.Context) error {
	_, err := c.simple(ctx, "QUIT")
	_ = c.Close() // the server closes, too
	return err
}

func (c *Client) simple(ctx context.Context, words ...string) (string, error) {
	if err := c.ready(); err != nil {
		return "", err
	}
	defer c.watch(ctx)()
	return c.command(words...)
}

// Close closes the connection. Nothing is deleted, unless Quit came before. It may be called
// while another method runs, which then fails.
func (c *Client) Close() error { return c.conn.Close() }
