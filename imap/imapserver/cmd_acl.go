package imapserver

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/xdg-go/stringprep"

	"github.com/mailblocks/mailblocks/imap"
)

// The commands of RFC 4314. The rights themselves are enforced by accessStore.

// rightsText returns rights with the virtual "c" and "d" that clients of RFC 2086 know
// (RFC 4314, 2.1.1).
func rightsText(r imap.RightSet) string {
	s := r.String()
	if r&(imap.RightCreate|imap.RightDeleteBox) != 0 {
		s += "c"
	}
	if r&(imap.RightDeleted|imap.RightExpunge) != 0 {
		s += "d"
	}
	return s
}

// lists returns where a mailbox and its list are, if the user has one of the rights of any.
func (c *conn) lists(ctx context.Context, mailbox string, any imap.RightSet) (place, imap.Rights, imap.RightSet, error) {
	p, err := c.account.place(ctx, mailbox)
	if err != nil {
		return p, nil, 0, err
	}
	rights, ok := imap.UpgradeStore[imap.Rights](p.store)
	if !ok {
		return p, nil, 0, imap.ErrNoPermission
	}
	acl, err := rights.ACL(ctx, p.name)
	if err != nil {
		if p.owner != c.identity && errors.Is(err, imap.ErrNotSelectable) {
			err = imap.ErrNoMailbox
		}
		return p, nil, 0, err
	}
	has := acl.Of(c.identity, p.owner)
	if has&any == 0 {
		return p, nil, has, denied(has)
	}
	return p, rights, has, nil
}

// identifier takes an identifier (RFC 4314, 3).
func (c *conn) identifier() string {
	id := c.dec.AString()
	name, negative := strings.CutPrefix(id, "-")
	name, err := stringprep.SASLprep.Prepare(name)
	if err != nil || name == "" || len(name) > imap.MaxName {
		c.dec.Fail("no such identifier")
	}
	if negative {
		return "-" + name
	}
	return name
}

func (c *conn) cmdSetACL(ctx context.Context) reply {
	c.dec.SP()
	mailbox := c.mailbox()
	c.dec.SP()
	id := c.identifier()
	c.dec.SP()
	letters := c.dec.AString()
	op := imap.RightsOp{Action: imap.FlagsReplace}
	if more, ok := strings.CutPrefix(letters, "+"); ok {
		op.Action, letters = imap.FlagsAdd, more
	} else if fewer, ok := strings.CutPrefix(letters, "-"); ok {
		op.Action, letters = imap.FlagsRemove, fewer
	}
	var known bool
	if op.Rights, known = imap.ParseRights(letters); !known {
		c.dec.Fail("no such right")
	}
	if !c.end() {
		return c.syntax()
	}
	return c.setRights(ctx, mailbox, id, op)
}

func (c *conn) cmdDeleteACL(ctx context.Context) reply {
	c.dec.SP()
	mailbox := c.mailbox()
	c.dec.SP()
	id := c.identifier()
	if !c.end() {
		return c.syntax()
	}
	return c.setRights(ctx, mailbox, id, imap.RightsOp{Action: imap.FlagsRemove, Rights: imap.AllRights})
}

func (c *conn) setRights(ctx context.Context, mailbox, id string, op imap.RightsOp) reply {
	if r, is := noSuchName(mailbox); is {
		return r
	}
	p, rights, _, err := c.lists(ctx, mailbox, imap.RightAdminister)
	if err != nil {
		return c.failed(err)
	}
	all := op.Action == imap.FlagsRemove && op.Rights == imap.AllRights // DELETEACL
	if (id == p.owner || id == imap.OwnerIdentifier) && !all {
		acl, err := rights.ACL(ctx, p.name)
		if err != nil {
			return c.failed(err)
		}
		// What an owner without an entry has is changed too, and la always stays.
		op = ownersOp(acl, id, op)
	}
	if err := rights.SetRights(ctx, p.name, id, op); err != nil {
		return c.failed(err)
	}
	c.server.lists.Add(1)
	if c.sel != nil && c.sel.name == mailbox {
		now, err := rightsOn(ctx, c.sel.box.mb)
		if err != nil {
			return c.failed(err)
		}
		if now != c.sel.rights { // RFC 4314, 5.1.1
			c.sel.rights = now
			c.writeFlagLists(c.sel.box.cur.Load())
		}
	}
	return ok("the list is changed")
}

// ownersOp is op for an identifier that means the owner.
func ownersOp(acl imap.ACL, id string, op imap.RightsOp) imap.RightsOp {
	if op.Action == imap.FlagsRemove {
		op.Rights &^= imap.OwnerAlways
		if !slices.ContainsFunc(acl, func(e imap.ACLEntry) bool { return e.Identifier == id }) {
			op = imap.RightsOp{Action: imap.FlagsReplace, Rights: imap.AllRights &^ op.Rights}
		}
		return op
	}
	op.Rights |= imap.OwnerAlways
	return op
}

func (c *conn) cmdGetACL(ctx context.Context) reply {
	c.dec.SP()
	mailbox := c.mailbox()
	if !c.end() {
		return c.syntax()
	}
	if r, is := noSuchName(mailbox); is {
		return r
	}
	p, rights, _, err := c.lists(ctx, mailbox, imap.RightAdminister)
	if err != nil {
		return c.failed(err)
	}
	acl, err := rights.ACL(ctx, p.name)
	if err != nil {
		return c.failed(err)
	}
	c.enc.Raw("* ACL ").Mailbox(mailbox)
	if !slices.ContainsFunc(acl, func(e imap.ACLEntry) bool {
		return e.Identifier == p.owner || e.Identifier == imap.OwnerIdentifier
	}) {
		c.enc.SP().AString(p.owner).SP().AString(rightsText(imap.AllRights))
	}
	for _, e := range acl {
		c.enc.SP().AString(e.Identifier).SP().AString(rightsText(e.Rights))
	}
	c.enc.CRLF()
	return ok("that is the list")
}

func (c *conn) cmdListRights(ctx context.Context) reply {
	c.dec.SP()
	mailbox := c.mailbox()
	c.dec.SP()
	raw := c.dec.AString()
	if !c.end() {
		return c.syntax()
	}
	if r, is := noSuchName(mailbox); is {
		return r
	}
	p, _, _, err := c.lists(ctx, mailbox, imap.RightAdminister)
	if err != nil {
		return c.failed(err)
	}
	required := imap.RightSet(0)
	if raw == p.owner || raw == imap.OwnerIdentifier {
		required = imap.OwnerAlways
	}
	c.enc.Raw("* LISTRIGHTS ").Mailbox(mailbox).SP().AString(raw).SP().AString(required.String())
	for _, letter := range (imap.AllRights &^ required).String() {
		c.enc.SP().Raw(string(letter))
	}
	c.enc.Raw(" c d").CRLF()
	return ok("these can be granted, each by itself")
}

func (c *conn) cmdMyRights(ctx context.Context) reply {
	c.dec.SP()
	mailbox := c.mailbox()
	if !c.end() {
		return c.syntax()
	}
	if r, is := noSuchName(mailbox); is {
		return r
	}
	if err := c.writeMyRights(ctx, mailbox); err != nil {
		return c.failed(err)
	}
	return ok("these are yours")
}

func (c *conn) writeMyRights(ctx context.Context, mailbox string) error {
	const some = imap.RightLookup | imap.RightRead | imap.RightInsert | imap.RightCreate | imap.RightDeleteBox | imap.RightAdminister
	_, _, has, err := c.lists(ctx, mailbox, some)
	if err == nil {
		c.enc.Raw("* MYRIGHTS ").Mailbox(mailbox).SP().AString(rightsText(has)).CRLF()
	}
	return err
}

// permanent reports whether the session's user may change a flag for good.
func (s *selected) permanent(f imap.Flag) bool { return s.rights&flagRight(f) != 0 }
