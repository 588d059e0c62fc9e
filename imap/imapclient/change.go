package imapclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/bodybuf"
)

// checkFlags returns an error for flags that no command can carry.
func checkFlags(flags imap.Flags) error {
	for f := range flags.All() {
		if !f.Valid() {
			return fmt.Errorf("%w: flag %q", ErrArgument, f)
		}
	}
	return nil
}

// StoreOptions are the optional parts of Store.
type StoreOptions struct {
	// Silent asks not to be told the new flags.
	Silent bool
	// UnchangedSince leaves messages alone that have changed since (RFC 7162, 3.1.3).
	UnchangedSince imap.ModSeq
}

// StoreResult is what Store came to.
type StoreResult struct {
	Messages []*Message // with their flags or mod-sequences, as the server tells them
	// The messages that had changed since UnchangedSince, in one of these.
	Conflict    imap.UIDSet
	ConflictSeq imap.SeqSet
}

// Store changes flags of messages. Where some had changed since UnchangedSince there may be
// both a result and an *Error.
func (c *Client) Store(ctx context.Context, set Set, op imap.FlagOp, opts *StoreOptions) (*StoreResult, error) {
	if opts == nil {
		opts = new(StoreOptions)
	}
	if err := errors.Join(set.check(), checkFlags(op.Flags)); err != nil {
		return nil, err
	}
	if opts.UnchangedSince > 0 {
		if err := c.need(ctx, "CONDSTORE", "QRESYNC"); err != nil {
			return nil, err
		}
	}
	res := new(StoreResult)
	cmd := set.command("STORE")
	cmd.keepsSeq = set.seq
	cmd.take = func(r any) bool {
		m, ok := r.(*Message)
		if ok = ok && set.covers(m); ok {
			res.Messages = append(res.Messages, m)
		}
		return ok
	}
	_, err := c.run(ctx, cmd, func(w *writer) {
		w.sp().raw(set.text).sp()
		if opts.UnchangedSince > 0 {
			w.raw("(UNCHANGEDSINCE " + modValue(opts.UnchangedSince) + ") ")
		}
		w.raw([]string{"+FLAGS", "-FLAGS", "FLAGS"}[op.Action])
		if opts.Silent {
			w.raw(".SILENT")
		}
		w.sp().flags(op.Flags)
	})
	var refused *Error
	if err != nil && (!errors.As(err, &refused) || refused.Code != "MODIFIED") {
		return nil, err
	}
	if s := cmd.status; s.Code == "MODIFIED" {
		spec, perr := imap.ParseSetSpec(s.Arg)
		if perr != nil {
			return nil, fmt.Errorf("%w: MODIFIED %.60q", ErrProtocol, s.Arg)
		}
		if set.seq {
			res.ConflictSeq = imap.Resolve[imap.SeqNum](spec, 0)
		} else {
			res.Conflict = imap.Resolve[imap.UID](spec, 0)
		}
	}
	return res, err
}

// Expunge removes the messages that have \Deleted for good. Which they were Handler is told.
func (c *Client) Expunge(ctx context.Context) error { return c.simple(ctx, "EXPUNGE") }

// ExpungeUIDs removes those messages of the set that have \Deleted (UIDPLUS, RFC 4315).
func (c *Client) ExpungeUIDs(ctx context.Context, set Set) error {
	if err := set.check(); err != nil {
		return err
	}
	if set.seq {
		return fmt.Errorf("%w: sequence numbers for UID EXPUNGE", ErrArgument)
	}
	if err := c.need(ctx, "UIDPLUS"); err != nil {
		return err
	}
	_, err := c.run(ctx, &command{name: "UID EXPUNGE"}, func(w *writer) { w.sp().raw(set.text) })
	return err
}

// Copy copies messages into another mailbox. Where they came to is told by servers with
// UIDPLUS, if any was copied.
func (c *Client) Copy(ctx context.Context, set Set, mailbox string) (imap.Copied, error) {
	return c.copyOrMove(ctx, "COPY", set, mailbox)
}

// Move moves messages into another mailbox (RFC 6851). A server without MOVE is made to copy
// them, and then to expunge the originals; that needs UIDs, and UIDPLUS.
func (c *Client) Move(ctx context.Context, set Set, mailbox string) (imap.Copied, error) {
	err := c.need(ctx, "MOVE")
	if err == nil {
		return c.copyOrMove(ctx, "MOVE", set, mailbox)
	}
	if !errors.Is(err, ErrNoCapability) || set.seq || c.need(ctx, "UIDPLUS") != nil {
		return imap.Copied{}, err
	}
	copied, err := c.copyOrMove(ctx, "COPY", set, mailbox)
	if err != nil {
		return copied, err
	}
	deleted := imap.FlagOp{Action: imap.FlagsAdd, Flags: imap.NewFlags(imap.FlagDeleted)}
	if _, err := c.Store(ctx, set, deleted, &StoreOptions{Silent: true}); err != nil {
		return copied, err
	}
	return copied, c.ExpungeUIDs(ctx, set)
}

func (c *Client) copyOrMove(ctx context.Context, name string, set Set, mailbox string) (imap.Copied, error) {
	if err := set.check(); err != nil {
		return imap.Copied{}, err
	}
	cmd := set.command(name)
	var code *Status
	cmd.take = func(r any) bool { // MOVE tells it before the end
		s, ok := r.(*Status)
		if ok = ok && s.Code == "COPYUID"; ok {
			code = s
		}
		return ok
	}
	s, err := c.run(ctx, cmd, func(w *writer) { w.sp().raw(set.text).sp().mailbox(mailbox) })
	if err != nil {
		return imap.Copied{}, err
	}
	if code != nil {
		s = code
	}
	return s.copied()
}

// AppendMessage is a message to append.
type AppendMessage struct {
	Flags        imap.Flags
	InternalDate time.Time // zero: now

	Body io.Reader // lines end in CRLF; read until io.EOF
	Size int64     // octets in Body. Zero: not known, and Body is spooled to find out

	// Binary sends a literal8, in which a body part may be binary (RFC 3516).
	Binary bool
	// UTF8 says that the header has UTF-8 in it (RFC 6855, 4); UTF8=ACCEPT must be enabled.
	UTF8 bool

	// Catenate, in place of Body, has the server put the message together (RFC 4469).
	Catenate []CatenatePart
}

// CatenatePart is a piece of a message: an IMAP URL of something the server has, or octets.
type CatenatePart struct {
	URL  string
	Body io.Reader
	Size int64 // of Body, as in AppendMessage
}

// Append stores messages in a mailbox, more than one all or none (MULTIAPPEND, RFC 3502).
// Under which UIDs is told by servers with UIDPLUS. A Body that fails, or is shorter than it said,
// closes the connection once a part of it was sent, as does a context that ends then.
func (c *Client) Append(ctx context.Context, mailbox string, msgs ...AppendMessage) (imap.AppendResult, error) {
	if len(msgs) > 1 {
		if err := c.need(ctx, "MULTIAPPEND"); err != nil {
			return imap.AppendResult{}, err
		}
	}
	return c.appendAs(ctx, &command{name: "APPEND"}, "", mailbox, msgs)
}

// Replace stores a message and expunges the one that it replaces, in one step (RFC 8508).
func (c *Client) Replace(ctx context.Context, uid imap.UID, mailbox string, m AppendMessage) (imap.AppendResult, error) {
	if err := c.need(ctx, "REPLACE"); err != nil {
		return imap.AppendResult{}, err
	}
	return c.appendAs(ctx, &command{name: "UID REPLACE"}, fmt.Sprintf(" %d", uid), mailbox, []AppendMessage{m})
}

func (c *Client) appendAs(ctx context.Context, cmd *command, before, mailbox string, msgs []AppendMessage) (imap.AppendResult, error) {
	var none imap.AppendResult
	if len(msgs) == 0 {
		return none, fmt.Errorf("%w: nothing to append", ErrArgument)
	}
	// Sizes are found out before anything is sent.
	for i := range msgs {
		m := &msgs[i]
		if err := c.checkAppend(ctx, m); err != nil {
			return none, err
		}
		done, err := measure(c.opt.SpoolDir, &m.Body, &m.Size)
		defer done()
		if err != nil {
			return none, err
		}
		for j := range m.Catenate {
			p := &m.Catenate[j]
			done, err := measure(c.opt.SpoolDir, &p.Body, &p.Size)
			defer done()
			if err != nil {
				return none, err
			}
		}
	}
	var code *Status
	cmd.take = func(r any) bool { // REPLACE tells it before the end
		s, ok := r.(*Status)
		if ok = ok && s.Code == "APPENDUID"; ok {
			code = s
		}
		return ok
	}
	s, err := c.run(ctx, cmd, func(w *writer) {
		w.raw(before).sp().mailbox(mailbox)
		for i := range msgs {
			msgs[i].write(w)
		}
	})
	if err != nil {
		return none, err
	}
	if code != nil {
		s = code
	}
	return s.appended()
}

func (c *Client) checkAppend(ctx context.Context, m *AppendMessage) error {
	if err := checkFlags(m.Flags); err != nil {
		return err
	}
	if (m.Body == nil) == (m.Catenate == nil) {
		return fmt.Errorf("%w: either Body or Catenate", ErrArgument)
	}
	for _, p := range m.Catenate {
		if (p.URL == "") == (p.Body == nil) {
			return fmt.Errorf("%w: either URL or Body", ErrArgument)
		}
		if err := clean(p.URL); err != nil {
			return err
		}
	}
	if m.Catenate != nil {
		return c.need(ctx, "CATENATE")
	}
	if m.UTF8 && !c.Enabled("UTF8=ACCEPT") {
		return fmt.Errorf("%w: UTF8=ACCEPT is not enabled", ErrNoCapability)
	}
	if m.Binary {
		return c.need(ctx, "BINARY")
	}
	return nil
}

// measure reads a body whose size is not known into a buffer, which done frees.
func measure(dir string, body *io.Reader, size *int64) (done func(), err error) {
	if *body == nil || *size > 0 {
		return func() {}, nil
	}
	buf := &bodybuf.Buffer{Dir: dir}
	done = func() { buf.Close() }
	if _, err := io.Copy(buf, *body); err != nil {
		return done, fmt.Errorf("imapclient: reading what to append: %w", err)
	}
	*body, *size = buf.Reader(), buf.Size()
	return done, nil
}

func (m *AppendMessage) write(w *writer) {
	if m.Flags.Len() > 0 {
		w.sp().flags(m.Flags)
	}
	if !m.InternalDate.IsZero() {
		w.raw(m.InternalDate.Format(` "_2-Jan-2006 15:04:05 -0700"`))
	}
	switch {
	case m.Catenate != nil:
		w.raw(" CATENATE (")
		for i, p := range m.Catenate {
			if i > 0 {
				w.sp()
			}
			if p.URL != "" {
				w.raw("URL ").str(p.URL)
			} else {
				w.raw("TEXT ").literal(p.Body, p.Size, false)
			}
		}
		w.raw(")")
	case m.UTF8:
		w.raw(" UTF8 (").literal(m.Body, m.Size, true).raw(")")
	default:
		w.sp().literal(m.Body, m.Size, m.Binary)
	}
}

// URLError returns the URL that the server could not use (BADURL, RFC 4469).
func (e *Error) URLError() (url string, ok bool) {
	if e.Code != "BADURL" {
		return "", false
	}
	return strings.Trim(e.Arg, `"`), true
}
