package imapserver

import (
	"context"
	"errors"

	"github.com/mailblocks/mailblocks/imap"
)

func (c *conn) cmdReplace(ctx context.Context) reply    { return c.replace(ctx, false) }
func (c *conn) cmdUIDReplace(ctx context.Context) reply { return c.replace(ctx, true) }

// replace is REPLACE (RFC 8508): an APPEND, and then the old message goes. A crash between
// leaves both; when the old one can not be removed, the new one is taken back.
func (c *conn) replace(ctx context.Context, uid bool) reply {
	c.dec.SP()
	n := c.dec.Number()
	if n == 0 {
		c.dec.Fail("numbers are not zero")
	}
	c.dec.SP()
	name := c.mailbox()
	if !c.dec.OK() {
		return c.syntax()
	}
	msg, spooled, refused := c.appendMessage(ctx)
	defer spooled.close()
	if refused != nil {
		return *refused
	}
	if !c.end() {
		return c.syntax()
	}
	if r, is := noSuchName(name); is {
		return r
	}
	s := c.sel
	if s.readOnly {
		return no("NOPERM", "mailbox is read-only")
	}
	set, there := s.numbers(imap.SetSpec{{First: n, Last: n}}, false, uid)
	if !there {
		return bad("no such message")
	}
	cur, err := s.box.refresh(ctx)
	if err != nil {
		return c.failed(err)
	}
	if len(set) == 0 {
		return no("", "no such message")
	}
	if _, e := cur.find(set.Max()); e == nil {
		return no("EXPUNGEISSUED", "the message no longer exists")
	}
	const want = imap.RightDeleted | imap.RightExpunge // before anything is stored that must be taken back
	switch has, err := rightsOn(ctx, s.box.mb); {
	case err != nil:
		return c.failed(err)
	case has&want != want:
		return c.failed(imap.ErrNoPermission)
	}
	mb, err := c.account.store.Open(ctx, name)
	if err != nil {
		return c.appendFailed(err)
	}
	defer mb.Close()
	done, err := mb.Append(ctx, []imap.NewMessage{*msg})
	if err != nil {
		return c.appendFailed(err)
	}
	if err := s.box.mb.Expunge(ctx, set, false); err != nil {
		var added imap.UIDSet
		for _, uid := range done.UIDs {
			added.Add(uid)
		}
		return c.failed(errors.Join(err, mb.Expunge(ctx, added, false)))
	}
	c.didAppend(name, done.UIDs)
	c.enc.Raw("* OK [").Raw(appendUID(done)).Raw("] the replacement is there").CRLF()
	r := ok("replaced")
	if c.qresync { // as of UID EXPUNGE (RFC 8508, 4.5)
		if cur, err = s.box.refresh(ctx); err != nil {
			return c.failed(err)
		}
		r.code = highestModSeq(cur)
	}
	return r
}
