package imapclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
	"github.com/mailblocks/mailblocks/internal/lineio"
)

// incoming is what is read from: the connection as it is now. Each read has its time.
type incoming struct{ c *Client }

// Read implements io.Reader.
func (in incoming) Read(p []byte) (int, error) {
	in.c.mu.Lock()
	in.c.setReadDeadline()
	conn := in.c.conn
	in.c.mu.Unlock()
	return conn.Read(p)
}

// newGreeting enters the wait for the greeting as if it were a command.
func (c *Client) newGreeting() *command {
	cmd := &command{name: "greeting", done: make(chan struct{})}
	cmd.take = func(r any) bool {
		s, ok := r.(*Status)
		if ok {
			cmd.status = s
		}
		return ok
	}
	c.pending = append(c.pending, cmd)
	return cmd
}

// read is the reading goroutine. It ends with the connection.
func (c *Client) read() {
	err := c.response()
	for err == nil {
		err = c.response()
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, wire.ErrTooLong) || errors.Is(err, wire.ErrLiteralTooBig) || errors.Is(err, lineio.ErrTooLong) {
		err = fmt.Errorf("%w: %w", ErrTooMuch, err)
	}
	var syntax *wire.SyntaxError
	if errors.As(err, &syntax) {
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	c.fail(err)
	close(c.ended)
	if h := c.opt.Handler.Closed; h != nil {
		h(c.broken())
	}
}

// response reads one response and gives it to whom it belongs. An error ends the connection.
func (c *Client) response() error {
	d := c.dec
	if err := d.Next(); err != nil {
		return err
	}
	switch {
	case d.Accept('+'):
		d.Accept(' ')
		return c.continuation(d.Rest())
	case d.Accept('*'):
		d.SP()
		return c.untagged()
	}
	tag := d.Tag()
	d.SP()
	kind := d.Word()
	status := takeStatus(d, kind)
	if err := d.Err(); err != nil {
		return err
	}
	return c.completed(tag, status)
}

// continuation gives the go-ahead to the command that waits for one: the last one written,
// which holds the lock.
func (c *Client) continuation(text string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.pending); n > 0 && c.pending[n-1].cont != nil {
		select {
		case c.pending[n-1].cont <- text:
			return nil
		default:
		}
	}
	return fmt.Errorf("%w: a continuation request that nobody waits for", ErrProtocol)
}

// completed ends the command that a tagged response answers.
func (c *Client) completed(tag string, status *Status) error {
	if status.Kind != "OK" && status.Kind != "NO" && status.Kind != "BAD" {
		return fmt.Errorf("%w: tagged response %.60q", ErrProtocol, status.Line)
	}
	c.log(tag + " " + status.Line)
	c.mu.Lock()
	var cmd *command
	for i, p := range c.pending {
		if p.tag == tag && tag != "" {
			cmd = p
			c.pending = append(c.pending[:i:i], c.pending[i+1:]...)
			break
		}
	}
	c.mu.Unlock()
	if cmd == nil {
		return fmt.Errorf("%w: answer to a command that is not under way: %.60q", ErrProtocol, tag)
	}
	c.noteCode(status)
	if cmd.renews && status.Kind == "OK" && status.Code != "CAPABILITY" {
		c.forgetCaps()
	}
	if cmd.upgrade != nil && status.Kind == "OK" {
		if err := cmd.upgrade(); err != nil {
			c.fail(err)
			cmd.end(nil, c.broken())
			return err
		}
	}
	cmd.end(status, nil)
	c.mu.Lock()
	c.settle()
	c.mu.Unlock()
	return nil
}

func (c *Client) log(line string) {
	if c.opt.Log != nil {
		c.opt.Log(false, line)
	}
}

// untagged reads a response that has no tag.
func (c *Client) untagged() error {
	d := c.dec
	if b := d.Peek(); b >= '0' && b <= '9' {
		n := d.Number()
		d.SP()
		return c.numbered(n, d.Word())
	}
	switch kind := d.Word(); kind {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		s := takeStatus(d, kind)
		if err := d.Err(); err != nil {
			return err
		}
		c.log("* " + s.Line)
		return c.statusResponse(s)
	default:
		return c.data(kind)
	}
}

// statusResponse takes a status response without a tag.
func (c *Client) statusResponse(s *Status) error {
	c.noteCode(s)
	c.mu.Lock()
	if len(c.pending) > 0 && c.pending[0].name == "greeting" {
		greeting := c.pending[0]
		c.pending = c.pending[1:]
		c.setReadDeadline()
		c.mu.Unlock()
		greeting.end(s, nil)
		if s.Kind != "OK" && s.Kind != "PREAUTH" {
			return &Error{Command: "greeting", Status: *s}
		}
		return nil
	}
	leaving := c.state == LoggedOut
	c.mu.Unlock()
	if s.Kind == "BYE" && !leaving {
		return &Error{Command: "BYE", Status: *s}
	}
	if !c.dispatch(s) && s.Kind != "BYE" {
		if h := c.opt.Handler.Status; h != nil {
			h(s)
		}
	}
	return nil
}

// noteCode keeps what response codes tell of the session.
func (c *Client) noteCode(s *Status) {
	if s.Code == "CAPABILITY" && s.Kind != "BAD" && s.Kind != "NO" {
		c.setCaps(strings.Fields(s.Arg))
	}
	// RFC 7162, 3.2.11: the mailbox selected before is closed, what follows is of the next.
	if s.Code == "CLOSED" {
		c.deselect()
	}
}

func (c *Client) deselect() {
	c.mu.Lock()
	c.selected = nil
	if c.state == InMailbox {
		c.state = Authenticated
	}
	c.mu.Unlock()
}

// dispatch gives a response to the first command on its way that takes it.
func (c *Client) dispatch(r any) bool {
	c.mu.Lock()
	pending := c.pending
	c.mu.Unlock()
	for _, cmd := range pending {
		if cmd.take != nil && cmd.take(r) {
			cmd.octets += c.dec.Size() + 64
			if cmd.fetch != nil {
				cmd.octets = cmd.fetch.waiting()
			}
			if cmd.octets > orDefault(c.opt.MaxResult, 128<<20) {
				c.fail(fmt.Errorf("%w: responses to %s", ErrTooMuch, cmd.name))
			}
			return true
		}
	}
	return false
}

// numbered takes a response that begins with a number.
func (c *Client) numbered(n uint32, kind string) error {
	d := c.dec
	h := &c.opt.Handler
	if kind == "EXISTS" || kind == "RECENT" || kind == "EXPUNGE" {
		d.End()
	}
	if err := d.Err(); err != nil {
		return err
	}
	switch kind {
	case "EXISTS":
		r := exists(n)
		if c.dispatch(r) {
			return nil
		}
		c.count(func(messages uint32) uint32 { return n })
		if h.Exists != nil {
			h.Exists(n)
		}
	case "RECENT":
		if !c.dispatch(recent(n)) && h.Recent != nil {
			h.Recent(n)
		}
	case "EXPUNGE":
		if n == 0 {
			return fmt.Errorf("%w: EXPUNGE of number 0", ErrProtocol)
		}
		c.count(func(messages uint32) uint32 { return max(messages, 1) - 1 })
		if !c.dispatch(expunged(n)) && h.Expunge != nil {
			h.Expunge(imap.SeqNum(n))
		}
	case "FETCH":
		return c.fetchResponse(imap.SeqNum(n), false)
	case "UIDFETCH": // RFC 9586, 3.2
		return c.fetchResponse(imap.SeqNum(n), true)
	default:
		return d.Finish(math.MaxInt64)
	}
	return nil
}

type (
	exists   uint32
	recent   uint32
	expunged imap.SeqNum
)

// count changes the number of messages that the selected mailbox is known to have.
func (c *Client) count(change func(uint32) uint32) {
	c.mu.Lock()
	if c.selected != nil {
		c.selected.Messages = change(c.selected.Messages)
	}
	c.mu.Unlock()
}

// data takes an untagged response that begins with a word. One that nobody knows is passed
// over.
func (c *Client) data(kind string) error {
	d := c.dec
	if err := d.Err(); err != nil {
		return err
	}
	parse, ok := parsers[kind]
	if !ok {
		return d.Finish(math.MaxInt64)
	}
	r := parse(c, d)
	d.End()
	if err := d.Err(); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	if !c.dispatch(r) {
		c.unasked(r)
	}
	return d.Err()
}

// unasked takes what no command asked for.
func (c *Client) unasked(r any) {
	h := &c.opt.Handler
	switch r := r.(type) {
	case flagList:
		if h.Flags != nil {
			h.Flags(r)
		}
	case *MailboxStatus:
		if h.Mailbox != nil {
			h.Mailbox(r)
		}
	case *Listing:
		if h.List != nil {
			h.List(r)
		}
	case *metadataResponse:
		if h.Entries != nil && len(r.keys) > 0 {
			h.Entries(r.mailbox, r.keys)
		}
	case *vanished:
		if !r.earlier {
			c.count(func(n uint32) uint32 { return n - uint32(min(uint64(n), r.uids.Len())) })
		}
		if h.Vanish != nil {
			h.Vanish(r.uids)
		}
	case *esearch:
		if h.Results != nil && r.update != nil {
			h.Results(r.update)
		}
	}
}

// startTLS runs STARTTLS (RFC 9051, 6.2.1). The handshake is made where responses are read,
// so that nothing in the clear can be taken for one behind it.
func (c *Client) startTLS(ctx context.Context) error {
	cmd := &command{name: "STARTTLS", alone: true}
	cmd.upgrade = func() error {
		if c.br.Buffered() > 0 {
			return fmt.Errorf("%w: octets behind the answer to STARTTLS", ErrProtocol)
		}
		c.mu.Lock()
		plain := c.conn
		_ = plain.SetReadDeadline(noDeadline)
		_ = plain.SetWriteDeadline(noDeadline)
		c.mu.Unlock()
		t := tls.Client(plain, c.opt.tlsConfig(c.host))
		if err := handshake(ctx, t, &c.opt); err != nil {
			return err
		}
		c.mu.Lock()
		c.conn, c.secure, c.caps = t, true, nil
		c.mu.Unlock()
		c.reads(incoming{c})
		return nil
	}
	_, err := c.run(ctx, cmd, nil)
	return err
}
