package imapserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
)

// maxCatenated bounds the parts of one message.
const maxCatenated = 1000

// catenate takes the parts of a message and adds them to s (RFC 4469).
func (c *conn) catenate(ctx context.Context, s *spool) (refused *reply) {
	c.dec.SP()
	c.dec.Expect('(')
	for n := 0; c.dec.OK() && (n == 0 || !c.dec.Accept(')')); n++ {
		if n > 0 {
			c.dec.SP()
		}
		switch {
		case n >= maxCatenated:
			c.dec.Fail("too many parts")
		case c.dec.AcceptWord("TEXT"):
			c.dec.SP()
			refused = c.spoolLiteral(s)
		case c.dec.AcceptWord("UTF8"):
			refused = c.spoolUTF8(s)
		case c.dec.AcceptWord("URL"):
			c.dec.SP()
			if ref := c.dec.AString(); c.dec.OK() {
				refused = c.spoolURL(ctx, s, ref)
			}
		default:
			c.dec.Fail("expected TEXT or URL")
		}
		if refused != nil {
			return refused
		}
	}
	return nil
}

// spoolURL adds to s what a URL names.
func (c *conn) spoolURL(ctx context.Context, s *spool, ref string) *reply {
	badURL := func(err error) *reply {
		return &reply{status: "NO", code: "BADURL " + shownURL(ref), text: "nothing is there", cause: err}
	}
	if isAbsoluteURL(ref) {
		o, err := c.openURL(ctx, ref, true)
		if err != nil {
			return badURL(err)
		}
		defer o.close()
		return c.spoolOctets(ctx, s, &o.message, &o.item, badURL)
	}
	u, err := parseMessageURL(ref)
	if err != nil {
		return badURL(err)
	}
	if u.mailbox == "" {
		if c.sel == nil {
			return badURL(errors.New("no mailbox is selected"))
		}
		u.mailbox = c.sel.name
	}
	if imap.CheckName(u.mailbox) != nil {
		return badURL(imap.ErrBadName)
	}
	mb, err := c.account.store.Open(ctx, u.mailbox)
	if err != nil {
		return badURL(err)
	}
	defer mb.Close()
	if u.uidValidity != 0 {
		st, err := mb.State(ctx)
		if err == nil && st.UIDValidity != u.uidValidity {
			err = errors.New("another UIDVALIDITY")
		}
		if err != nil {
			return badURL(err)
		}
	}
	m := &message{mb: mb, uid: u.uid}
	defer m.close()
	return c.spoolOctets(ctx, s, m, &u.item, badURL)
}

// spoolOctets adds to s what a section shows.
func (c *conn) spoolOctets(ctx context.Context, s *spool, m *message, it *fetchItem, badURL func(error) *reply) *reply {
	r, size, err := m.octets(ctx, it)
	if err != nil {
		return badURL(err)
	}
	if refused := c.tooBig(s, size); refused != nil {
		return refused
	}
	if err := s.fill(r); err != nil {
		return noRoom(err)
	}
	return nil
}

// octets returns what BODY[...] shows.
func (m *message) octets(ctx context.Context, it *fetchItem) (io.Reader, int64, error) {
	if len(it.fields) > 0 {
		b, err := m.headerFields(ctx, it)
		if err == nil && b == nil {
			err = errNoPart
		}
		return bytes.NewReader(b), int64(len(b)), err
	}
	start, end, there, err := m.section(ctx, it)
	switch {
	case err != nil:
		return nil, 0, err
	case !there:
		return nil, 0, errNoPart
	}
	if it.partial {
		start = min(start+min(it.offset, end-start), end)
		end = start + min(it.count, end-start)
	}
	return m.reader(start, end), end - start, nil
}

var errNoPart = errors.New("no such part")

// shownURL is a URL as a response code may have it (RFC 4469, 5: url-resp-text).
func shownURL(ref string) string {
	var b strings.Builder
	for i := range len(ref) {
		if c := ref[i]; c < ' ' || c > '~' || c == ']' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	if b.Len() == 0 {
		return "%20"
	}
	return b.String()
}
