// Package milter is a check that asks a mail filter by the Milter protocol, version 6 at the most, as Sendmail and Postfix do.
// A message is shown to the filter as a whole when it is there. What the filter wants refused is refused; the changes that
// it asks for are told to the embedder, and not made here.
package milter

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/emersion/go-milter"

	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/internal/daemon"
)

// ErrHeader is the trouble of a message whose header is too large to be shown to a filter.
var ErrHeader = errors.New("milter: the header is over 1 MiB")

// Client asks one filter. It is safe for concurrent use.
type Client struct {
	// Filter is the check's name. Empty means "milter".
	Filter string

	// Addr is where the filter listens: "host:port" or "unix:/path".
	Addr string

	// Changes is told what the filter would have changed in a message that it lets pass: new fields, other recipients and so
	// on. Nil means nobody is.
	Changes func(ctx context.Context, e *spam.Envelope, changes []milter.ModifyAction)
}

var _ spam.Check = (*Client)(nil)

// Name returns the Filter's.
func (c *Client) Name() string {
	if c.Filter == "" {
		return "milter"
	}
	return c.Filter
}

// Stage returns [spam.Data].
func (c *Client) Stage() spam.Stage { return spam.Data }

// Check shows the message to the filter. Its verdict is an action without a score: reject, defer, or junk for a message to be
// quarantined or discarded.
func (c *Client) Check(ctx context.Context, e *spam.Envelope, m *spam.Message) (spam.Verdict, error) {
	v := spam.Verdict{Unsure: true, Probability: 0.5}
	body, err := m.Open()
	if err != nil {
		return v, err
	}
	if e == nil {
		e = new(spam.Envelope)
	}
	act, changes, err := c.ask(ctx, e, body)
	if err != nil {
		return v, err
	}
	text := ""
	switch act.Code {
	case milter.ActReject:
		v.Action = spam.Reject
	case milter.ActTempFail:
		v.Action = spam.Defer
	case milter.ActDiscard: // no mail is lost on a filter's word
		v.Action, text = spam.Junk, "discard"
	case milter.ActReplyCode:
		v.Action = spam.Reject
		if act.SMTPCode/100 == 4 {
			v.Action = spam.Defer
		}
		text = daemon.Text(act.SMTPText)
		v.Reply = ascii(text)
	default:
		for _, change := range changes {
			if change.Code == milter.ActQuarantine {
				v.Action, text = spam.Junk, daemon.Text(change.Reason)
			}
		}
		if c.Changes != nil && len(changes) > 0 {
			c.Changes(ctx, e, changes)
		}
	}
	if v.Action != spam.Accept {
		v.Unsure = false
		v.Reasons = []spam.Reason{{Name: c.Name(), Text: text}}
	}
	return v, nil
}

func ascii(s string) string {
	return strings.Map(func(r rune) rune {
		if r > '~' {
			return '?'
		}
		return r
	}, s)
}

// dialer connects under a context and bounds what the filter may say.
type dialer struct {
	ctx     context.Context
	release func()
}

// What a filter may say about one message is bounded in octets, a replaced body included, and in reads.
const (
	maxSaid  = 64 << 20
	maxReads = 100_000
)

var errTalkative = errors.New("milter: the filter says too much")

type bounded struct {
	net.Conn
	said, reads int
}

func (b *bounded) Read(p []byte) (n int, err error) {
	if b.reads++; b.said > maxSaid || b.reads > maxReads {
		return 0, errTalkative
	}
	n, err = b.Conn.Read(p)
	b.said += n
	return n, err
}

func (d *dialer) Dial(_, addr string) (net.Conn, error) {
	conn, release, err := daemon.Dial(d.ctx, addr)
	if err != nil {
		return nil, err
	}
	d.release = release
	return &bounded{Conn: conn}, nil
}

func (c *Client) ask(ctx context.Context, e *spam.Envelope, body io.Reader) (*milter.Action, []milter.ModifyAction, error) {
	d := &dialer{ctx: ctx, release: func() {}}
	defer func() { d.release() }()
	s, err := milter.NewClientWithOptions("", c.Addr, milter.ClientOptions{
		Dialer: d,
		// Of what filters of version 2 may know.
		ActionMask: milter.OptAddHeader | milter.OptChangeHeader | milter.OptChangeBody | milter.OptAddRcpt | milter.OptRemoveRcpt | milter.OptQuarantine,
	}).Session()
	if err != nil {
		return nil, nil, daemon.Trouble(ctx, c.Name(), err)
	}
	defer s.Close()
	act, changes, err := show(s, e, body)
	switch {
	case errors.Is(err, ErrHeader), errors.Is(err, errMessage):
		return nil, nil, err
	case err != nil:
		return nil, nil, daemon.Trouble(ctx, c.Name(), err)
	}
	return act, changes, nil
}

// show goes through a message's life until the filter has decided.
func show(s *milter.ClientSession, e *spam.Envelope, body io.Reader) (act *milter.Action, changes []milter.ModifyAction, err error) {
	family, addr := milter.FamilyUnknown, ""
	if ip := e.Remote.Unmap(); ip.IsValid() {
		family, addr = milter.FamilyInet, ip.String()
		if ip.Is6() {
			family = milter.FamilyInet6
		}
	}
	name := e.RemoteName
	if name == "" {
		name = "[" + addr + "]"
	}
	clean := func(s string) string { return strings.ReplaceAll(daemon.Clean(s), "\x00", "") }
	steps := []func() (*milter.Action, error){
		func() (*milter.Action, error) { return s.Conn(clean(name), family, 0, addr) },
		func() (*milter.Action, error) { return s.Helo(clean(e.Hello)) },
		func() (*milter.Action, error) {
			if e.Identity != "" {
				if err := s.Macros(milter.CodeMail, "{auth_authen}", clean(e.Identity)); err != nil {
					return nil, err
				}
			}
			return s.Mail(clean(e.Sender), nil)
		},
	}
	for _, r := range e.Recipients {
		steps = append(steps, func() (*milter.Action, error) { return s.Rcpt(clean(r), nil) })
	}
	r := bufio.NewReader(body)
	steps = append(steps, func() (*milter.Action, error) { return header(s, r) }, func() (*milter.Action, error) { return text(s, r) })
	for _, step := range steps {
		act, err = step()
		if err != nil || act.Code != milter.ActContinue && act.Code != milter.ActSkip {
			return act, nil, err
		}
	}
	changes, act, err = s.End()
	return act, changes, err
}

const maxHeader = 1 << 20

var errMessage = errors.New("milter: read message")

// header shows the fields, folds and all, with LF for CRLF as filters expect it. A line that is no field ends them.
func header(s *milter.ClientSession, r *bufio.Reader) (*milter.Action, error) {
	var field []byte
	size := 0
	flush := func() (*milter.Action, error) {
		name, value, ok := bytes.Cut(field, []byte(":"))
		field = nil
		if !ok {
			return &milter.Action{Code: milter.ActContinue}, nil
		}
		value = bytes.ReplaceAll(bytes.TrimPrefix(value, []byte(" ")), []byte("\x00"), nil)
		return s.HeaderField(string(bytes.TrimRight(name, " \t")), string(value))
	}
	for {
		next, err := r.Peek(1)
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("%w: %w", errMessage, err)
		}
		fold := len(next) == 1 && (next[0] == ' ' || next[0] == '\t')
		if len(field) > 0 && !fold {
			if act, err := flush(); err != nil || act.Code != milter.ActContinue {
				return act, err
			}
		}
		if len(next) == 0 {
			break
		}
		line, err := readLine(r, maxHeader-size)
		if err != nil {
			return nil, err
		}
		size += len(line) + 2
		if len(line) == 0 {
			break
		}
		if fold && len(field) > 0 {
			field = append(field, '\n')
		}
		field = append(field, line...)
	}
	return s.HeaderEnd()
}

// readLine reads a line without its end.
func readLine(r *bufio.Reader, limit int) (line []byte, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if line = append(line, part...); len(line) > limit {
			return nil, ErrHeader
		}
		switch err {
		case bufio.ErrBufferFull:
		case nil, io.EOF:
			return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), nil
		default:
			return nil, fmt.Errorf("%w: %w", errMessage, err)
		}
	}
}

// text shows the body.
func text(s *milter.ClientSession, r io.Reader) (*milter.Action, error) {
	chunk := make([]byte, milter.MaxBodyChunk)
	for {
		n, err := io.ReadFull(r, chunk)
		if n > 0 {
			if act, err := s.BodyChunk(chunk[:n]); err != nil || act.Code != milter.ActContinue {
				return act, err
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return &milter.Action{Code: milter.ActContinue}, nil
		default:
			return nil, fmt.Errorf("%w: %w", errMessage, err)
		}
	}
}
