package imapserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
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
	r, size, err := m.octets(ctx, &u.item)
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

// messageURL names a message or a part of one, in the session's own store.
type messageURL struct {
	mailbox     string // empty: the selected one
	uidValidity uint32 // zero: any
	uid         imap.UID
	item        fetchItem // section and partial
}

var errURL = errors.New("malformed URL")

// parseMessageURL takes a relative IMAP URL (RFC 5092, 7; RFC 4469, 3):
//
//	["/"] [mailbox] [";UIDVALIDITY=" n] ["/"] ";UID=" n ["/;SECTION=" section] ["/;PARTIAL=" from ["." count]]
//
// where mailbox and section are UTF-8 with octets escaped by "%".
func parseMessageURL(ref string) (u messageURL, err error) {
	ref = strings.TrimPrefix(ref, "/")
	i := indexFold(ref, ";UID=")
	if i < 0 || strings.HasPrefix(ref, "/") || strings.Contains(ref[:i], "://") {
		return u, errURL
	}
	box, rest := strings.TrimSuffix(ref[:i], "/"), ref[i+len(";UID="):]
	if k := indexFold(box, ";UIDVALIDITY="); k >= 0 {
		if u.uidValidity, err = parseNonZero(box[k+len(";UIDVALIDITY="):]); err != nil {
			return u, err
		}
		box = strings.TrimSuffix(box[:k], "/")
	}
	if u.mailbox, err = url.PathUnescape(box); err != nil {
		return u, errURL
	}
	if equalFold(u.mailbox, imap.Inbox) {
		u.mailbox = imap.Inbox
	}
	var partial string
	if k := indexFold(rest, "/;PARTIAL="); k >= 0 {
		rest, partial = rest[:k], rest[k+len("/;PARTIAL="):]
	}
	section := ""
	if k := indexFold(rest, "/;SECTION="); k >= 0 {
		if section, err = url.PathUnescape(rest[k+len("/;SECTION="):]); err != nil {
			return u, errURL
		}
		rest = rest[:k]
	}
	n, err := parseNonZero(strings.TrimSuffix(rest, "/"))
	if err != nil {
		return u, err
	}
	u.uid = imap.UID(n)
	if partial != "" {
		if u.item.offset, u.item.count, err = parsePartial(partial); err != nil {
			return u, err
		}
		u.item.partial = true
	}
	u.item.kind = itemSection
	return u, parseSection(&u.item, section)
}

func parsePartial(s string) (offset, count int64, err error) {
	from, length, limited := strings.Cut(s, ".")
	offset, err = strconv.ParseInt(from, 10, 64)
	count = 1<<63 - 1
	if limited && err == nil {
		count, err = strconv.ParseInt(length, 10, 64)
	}
	if err != nil || offset < 0 || count <= 0 {
		return 0, 0, errURL
	}
	return offset, count, nil
}

// parseSection takes a section as it stands between brackets in FETCH.
func parseSection(it *fetchItem, section string) error {
	if strings.ContainsAny(section, "\r\n{") {
		return errURL
	}
	dec := wire.Decoder{MaxLine: maxLine, MaxCommand: maxLine}
	dec.Reset(bufio.NewReader(strings.NewReader(section + "\r\n")))
	if err := dec.Next(); err != nil {
		return err
	}
	sectionSpec(&dec, it, dec.Letters())
	dec.End()
	return dec.Err()
}

func parseNonZero(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, errURL
	}
	return uint32(n), nil
}

// indexFold is strings.Index without regard to the case of ASCII letters in s; sub is in
// upper case.
func indexFold(s, sub string) int {
	for i := 0; i+len(sub) <= len(s); i++ {
		if equalFold(s[i:i+len(sub)], sub) {
			return i
		}
	}
	return -1
}
