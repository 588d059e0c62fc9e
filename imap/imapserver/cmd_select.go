package imapserver

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// mailbox takes a mailbox name from the command: UTF-8 after ENABLE IMAP4rev2 or UTF8=ACCEPT, modified
// UTF-7 before. A name that can not be is returned as an empty one.
func (c *conn) mailbox() string { return c.decodeName(c.dec.AString()) }

func (c *conn) decodeName(raw string) string {
	name := raw
	if !c.enc.UTF8 {
		decoded, err := wire.DecodeUTF7(raw)
		switch {
		case err == nil:
			name = decoded
		case utf8.ValidString(raw) && !isASCII(raw): // a client that is ahead of its time
		default:
			return ""
		}
	}
	return foldInbox(name)
}

// foldInbox spells the Inbox as stores know it (RFC 9051, 5.1), also above other names:
// nobody means another "inbox" by "Inbox/Lists".
func foldInbox(name string) string {
	n := len(imap.Inbox)
	if len(name) >= n && equalFold(name[:n], imap.Inbox) && (len(name) == n || name[n] == '/') {
		return imap.Inbox + name[n:]
	}
	return name
}

// noSuchName is the reply for names that decodeName or imap.CheckName refuse.
func noSuchName(name string) (reply, bool) {
	if imap.CheckName(name) != nil {
		return no("CANNOT", "no mailbox can have this name"), true
	}
	return reply{}, false
}

func (c *conn) cmdSelect(ctx context.Context) reply  { return c.selectMailbox(ctx, false) }
func (c *conn) cmdExamine(ctx context.Context) reply { return c.selectMailbox(ctx, true) }

// qresyncParams are what a client knows of a mailbox (RFC 7162, 3.2.5).
type qresyncParams struct {
	given       bool
	uidValidity uint32
	modSeq      imap.ModSeq
	known       imap.SetSpec
	matchNums   imap.SetSpec // sequence match data
	matchUIDs   imap.SetSpec
}

func (c *conn) selectMailbox(ctx context.Context, readOnly bool) reply {
	c.dec.SP()
	name := c.mailbox()
	condstore := false
	var q qresyncParams
	if c.dec.Accept(' ') {
		c.dec.List(func() {
			switch param := c.dec.Word(); param {
			case "CONDSTORE":
				condstore = true
			case "QRESYNC":
				c.qresyncParams(&q)
			default:
				c.dec.Fail("no such parameter")
			}
		})
	}
	if !c.end() {
		return c.syntax()
	}
	if q.given && !c.qresync {
		return bad("QRESYNC is not enabled")
	}
	if c.uidOnly && len(q.matchNums) > 0 {
		return uidRequired()
	}
	c.condstore = c.condstore || condstore
	if c.sel != nil {
		c.deselect()
		c.enc.Raw("* OK [CLOSED] another mailbox is selected").CRLF()
	}
	if r, is := noSuchName(name); is {
		return r
	}
	b, x, err := c.account.open(ctx, name)
	if err != nil {
		return c.failed(err)
	}
	rights, err := rightsOn(ctx, b.mb)
	if err != nil {
		c.account.release(b)
		return c.failed(err)
	}
	readOnly = readOnly || x.state.ReadOnly || rights&changeRights == 0
	c.sel = &selected{box: b, name: name, view: x, readOnly: readOnly, rights: rights, synced: x.state.HighestModSeq, keywords: len(x.state.Keywords), keyResets: b.keyResets.Load()}
	c.state = selectedState
	c.listenSelected()
	if err := c.claimRecent(ctx); err != nil {
		c.deselect()
		return c.failed(err)
	}
	c.describe(x)
	c.describeURLMech(ctx)
	if q.given && q.uidValidity == x.state.UIDValidity {
		if err := c.resynchronise(ctx, &q); err != nil {
			c.deselect()
			return c.failed(err)
		}
	}
	if c.sel.readOnly {
		return reply{status: "OK", code: "READ-ONLY", text: "selected"}
	}
	return reply{status: "OK", code: "READ-WRITE", text: "selected"}
}

// describe writes what SELECT tells of a mailbox.
func (c *conn) describe(x *index) {
	s := c.sel
	c.enc.Raw("* ").Num(uint64(x.len())).Raw(" EXISTS").CRLF()
	if !c.rev2 {
		s.recentTold = s.recentCount()
		c.enc.Raw("* ").Num(uint64(s.recentTold)).Raw(" RECENT").CRLF()
		if x.state.Unseen > 0 && !c.uidOnly {
			for i, e := range x.from(0) {
				if e.system()&imap.Seen == 0 {
					c.enc.Raw("* OK [UNSEEN ").Num(uint64(i + 1)).Raw("] the first unseen message").CRLF()
					break
				}
			}
		}
	}
	c.writeFlagLists(x)
	c.enc.Raw("* OK [UIDVALIDITY ").Num(uint64(x.state.UIDValidity)).Raw("] UIDs are valid").CRLF()
	c.enc.Raw("* OK [UIDNEXT ").Num(uint64(x.state.UIDNext)).Raw("] the next UID, at least").CRLF()
	c.enc.Raw("* OK [HIGHESTMODSEQ ").Num(uint64(x.state.HighestModSeq)).Raw("] the last change").CRLF()
	if isObjectID(x.state.ID) {
		c.enc.Raw("* OK [MAILBOXID (").Raw(x.state.ID).Raw(")] its id").CRLF()
	}
	if c.rev2 {
		c.enc.Raw(`* LIST () "/" `).Mailbox(s.name).CRLF()
	}
}

func (c *conn) qresyncParams(q *qresyncParams) {
	c.dec.SP()
	c.dec.Expect('(')
	q.given = true
	q.uidValidity = c.dec.Number()
	c.dec.SP()
	q.modSeq = imap.ModSeq(c.dec.Number64())
	if c.dec.Accept(' ') {
		if c.dec.IsSet() {
			q.known = c.dec.Set()
			if c.dec.Accept(' ') {
				c.matchData(q)
			}
		} else {
			c.matchData(q)
		}
	}
	c.dec.Expect(')')
	if q.uidValidity == 0 || q.modSeq == 0 {
		c.dec.Fail("UIDVALIDITY and mod-sequence are not zero")
	}
}

func (c *conn) matchData(q *qresyncParams) {
	c.dec.Expect('(')
	q.matchNums = c.dec.Set()
	c.dec.SP()
	q.matchUIDs = c.dec.Set()
	c.dec.Expect(')')
}

// resynchronise tells a client what happened since it last looked.
func (c *conn) resynchronise(ctx context.Context, q *qresyncParams) error {
	x := c.sel.view
	known := imap.AllUIDs
	if len(q.known) > 0 {
		known = imap.Resolve(q.known, max(x.state.UIDNext, 1)-1)
	}
	vanished, err := c.vanished(ctx, known, q.modSeq, c.matched(q))
	if err != nil {
		return err
	}
	if len(vanished) > 0 {
		c.enc.Raw("* VANISHED (EARLIER) ").Set(vanished).CRLF()
	}
	for i, e := range x.within(known) {
		if e.modSeq > q.modSeq {
			c.writeFlags(i+1, e, x, true)
		}
	}
	return nil
}

// matched returns the largest UID up to which client and server have the same messages at
// the same numbers, by the client's samples (RFC 7162, 3.2.5.2).
func (c *conn) matched(q *qresyncParams) (upTo imap.UID) {
	nums := imap.Resolve[imap.SeqNum](q.matchNums, 0)
	uids := imap.Resolve[imap.UID](q.matchUIDs, 0)
	if nums.Len() != uids.Len() || nums.Len() > 1<<20 {
		return 0
	}
	want := make([]imap.UID, 0, uids.Len())
	for uid := range uids.All() {
		want = append(want, uid)
	}
	i := 0
	for num := range nums.All() {
		if int(num) > c.sel.view.len() || c.sel.view.at(int(num)-1).uid != want[i] {
			break
		}
		upTo = want[i]
		i++
	}
	return upTo
}

// vanished returns the UIDs of known that were expunged after since. When the store does
// not know any more, it is every UID that is not there and lies above what the client is
// sure of.
func (c *conn) vanished(ctx context.Context, known imap.UIDSet, since imap.ModSeq, sureTo imap.UID) (imap.UIDSet, error) {
	x := c.sel.view
	d, err := c.sel.box.mb.Changes(ctx, since)
	switch {
	case errors.Is(err, imap.ErrTooOld):
		if x.state.UIDNext <= sureTo+1 {
			return nil, nil
		}
		all := imap.UIDSet{{First: sureTo + 1, Last: x.state.UIDNext - 1}}
		return all.Intersect(known).Subtract(x.allUIDs()), nil
	case err != nil:
		return nil, err
	}
	gone := d.Gone.Intersect(known)
	// What is gone by now but not from this version of the index is told later.
	if len(gone) > 0 {
		var there imap.UIDSet
		for _, e := range x.within(gone) {
			there.Add(e.uid)
		}
		gone = gone.Subtract(there)
	}
	return gone, nil
}

func (c *conn) cmdClose(ctx context.Context) reply {
	if !c.end() {
		return c.syntax()
	}
	s := c.sel
	if !s.readOnly {
		if err := s.box.mb.Expunge(ctx, imap.AllUIDs, true); err != nil && !errors.Is(err, imap.ErrNoMailbox) && !notAllowed(err) {
			return c.failed(err)
		}
		s.box.dirty.Store(true)
		s.box.wake()
	}
	c.deselect()
	return ok("closed")
}

func (c *conn) cmdUnselect(context.Context) reply {
	if !c.end() {
		return c.syntax()
	}
	c.deselect()
	return ok("closed")
}

func (c *conn) cmdCheck(context.Context) reply {
	if !c.end() {
		return c.syntax()
	}
	return ok("all is on disk")
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// equalFold compares without regard to the case of ASCII letters alone.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if 'A' <= x && x <= 'Z' {
			x += 'a' - 'A'
		}
		if 'A' <= y && y <= 'Z' {
			y += 'a' - 'A'
		}
		if x != y {
			return false
		}
	}
	return true
}
