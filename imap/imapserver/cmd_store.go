package imapserver

import (
	"context"
	"fmt"

	"github.com/mailblocks/mailblocks/imap"
)

func (c *conn) cmdStore(ctx context.Context) reply    { return c.store(ctx, false) }
func (c *conn) cmdUIDStore(ctx context.Context) reply { return c.store(ctx, true) }

func (c *conn) store(ctx context.Context, uid bool) reply {
	c.dec.SP()
	spec, saved := c.numberSet()
	c.dec.SP()
	var unchangedSince imap.ModSeq
	conditional := false
	if c.dec.Accept('(') { // RFC 7162, 3.1.3
		if !c.dec.AcceptWord("UNCHANGEDSINCE") {
			c.dec.Fail("no such parameter")
		}
		c.dec.SP()
		unchangedSince = imap.ModSeq(c.dec.Number64())
		c.dec.Expect(')')
		c.dec.SP()
		conditional = true
	}
	op := imap.FlagOp{Action: imap.FlagsReplace}
	switch {
	case c.dec.Accept('+'):
		op.Action = imap.FlagsAdd
	case c.dec.Accept('-'):
		op.Action = imap.FlagsRemove
	}
	silent := false
	switch c.dec.Letters() {
	case "FLAGS":
	case "FLAGS.SILENT":
		silent = true
	default:
		c.dec.Fail("expected FLAGS")
	}
	c.dec.SP()
	op.Flags = imap.NewFlags(c.validFlags(c.storeFlags())...)
	if !c.end() {
		return c.syntax()
	}
	s := c.sel
	c.enableCondstore(conditional)
	if s.readOnly {
		return no("NOPERM", "mailbox is read-only")
	}
	set, there := s.numbers(spec, saved, uid)
	if !there {
		return bad("no such message")
	}
	set, code := c.limitMessages(set)
	var conflict imap.UIDSet
	var err error
	if conditional && unchangedSince == 0 {
		// No message has a mod-sequence of zero: all of them changed since.
		conflict = set
	} else if conflict, err = s.box.mb.SetFlags(ctx, set, op, unchangedSince); err != nil {
		return c.failed(err)
	}
	cur, err := s.box.refresh(ctx)
	if err != nil {
		return c.failed(err)
	}
	missing, modified := c.answerStore(cur, set, conflict, op, silent, uid)
	switch {
	case len(modified) > 0:
		return reply{status: "OK", code: "MODIFIED " + modified, text: "some were changed by others"}
	case missing:
		return no("EXPUNGEISSUED", "some of the messages no longer exist")
	}
	r := ok("stored")
	r.code = code
	return r
}

// storeFlags takes flags with or without parentheses.
func (c *conn) storeFlags() []imap.Flag {
	if c.dec.Peek() == '(' {
		return c.dec.FlagList()
	}
	flags := []imap.Flag{c.dec.Flag()}
	for c.dec.OK() && c.dec.Accept(' ') {
		flags = append(flags, c.dec.Flag())
	}
	return flags
}

// answerStore tells what STORE did, as the mailbox is now. It returns whether messages of
// the set are gone, and those that were left alone as MODIFIED shows them.
func (c *conn) answerStore(cur *index, set, conflict imap.UIDSet, op imap.FlagOp, silent, uid bool) (missing bool, modified string) {
	s := c.sel
	c.tellKeywords(cur)
	var nums imap.SeqSet
	view := s.view
	known := conflict // of messages left alone nothing is told here: the end of the command does
	for i, old := range view.within(set) {
		_, now := cur.find(old.uid)
		switch {
		case now == nil:
			missing = true
			continue
		case len(conflict) > 0 && conflict.Contains(old.uid):
			nums.Add(imap.SeqNum(i + 1))
			continue
		}
		// A silent STORE leaves out what the client can tell by itself.
		if !silent || !cur.flags(now).Equal(op.Apply(view.flags(old))) {
			c.writeFlags(i+1, now, cur, uid)
		} else if c.condstore && now.modSeq != old.modSeq {
			c.beginFetch(i+1, now.uid)
			if !c.uidOnly {
				c.enc.Raw("UID ").Num(uint64(now.uid)).SP()
			}
			c.enc.Raw("MODSEQ (").Num(uint64(now.modSeq)).Raw("))").CRLF()
		}
	}
	s.told(cur, set.Subtract(known))
	if uid {
		return missing, conflict.String()
	}
	return missing, nums.String()
}

func (c *conn) cmdExpunge(ctx context.Context) reply {
	if !c.end() {
		return c.syntax()
	}
	return c.expunge(ctx, imap.AllUIDs)
}

func (c *conn) cmdUIDExpunge(ctx context.Context) reply {
	c.dec.SP()
	spec, saved := c.numberSet()
	if !c.end() {
		return c.syntax()
	}
	set, _ := c.sel.numbers(spec, saved, true)
	if c.server.MaxMessagesPerCommand > 0 { // it counts those that will go
		var deleted imap.UIDSet
		for _, e := range c.sel.view.within(set) {
			if e.system()&imap.Deleted != 0 {
				deleted.Add(e.uid)
			}
		}
		limited, code := c.limitMessages(deleted)
		if code != "" {
			r := c.expunge(ctx, limited)
			if r.status == "OK" && r.code != "" {
				c.enc.Raw("* NO [").Raw(code).Raw("] not all of them").CRLF()
			} else if r.status == "OK" {
				r.code = code
			}
			return r
		}
	}
	return c.expunge(ctx, set)
}

// expunge removes messages; the end of the command tells which.
func (c *conn) expunge(ctx context.Context, set imap.UIDSet) reply {
	s := c.sel
	if s.readOnly {
		return no("NOPERM", "mailbox is read-only")
	}
	if len(set) > 0 {
		if err := s.box.mb.Expunge(ctx, set, true); err != nil {
			return c.failed(err)
		}
	}
	r := ok("expunged")
	if c.qresync {
		cur, err := s.box.refresh(ctx)
		if err != nil {
			return c.failed(err)
		}
		r.code = highestModSeq(cur)
	}
	return r
}

// highestModSeq is the response code of RFC 7162, 3.2.4.
func highestModSeq(x *index) string { return fmt.Sprintf("HIGHESTMODSEQ %d", x.state.HighestModSeq) }

func (c *conn) cmdCopy(ctx context.Context) reply    { return c.copy(ctx, false, false) }
func (c *conn) cmdUIDCopy(ctx context.Context) reply { return c.copy(ctx, true, false) }
func (c *conn) cmdMove(ctx context.Context) reply    { return c.copy(ctx, false, true) }
func (c *conn) cmdUIDMove(ctx context.Context) reply { return c.copy(ctx, true, true) }

func (c *conn) copy(ctx context.Context, uid, move bool) reply {
	c.dec.SP()
	spec, saved := c.numberSet()
	c.dec.SP()
	dst := c.mailbox()
	if !c.end() {
		return c.syntax()
	}
	s := c.sel
	if move && s.readOnly {
		return no("NOPERM", "mailbox is read-only")
	}
	set, there := s.numbers(spec, saved, uid)
	if !there {
		return bad("no such message")
	}
	if r, is := noSuchName(dst); is {
		return r
	}
	// Messages that the client does not know of are not meant.
	known, code := c.limitMessages(s.known(set))
	if code != "" && !move { // all or nothing
		return no(fmt.Sprintf("MESSAGELIMIT %d", c.server.MaxMessagesPerCommand), "too many messages for one command")
	}
	done, err := s.box.mb.Copy(ctx, known, dst, move)
	if err != nil {
		r := c.failed(err)
		if r.code == "NONEXISTENT" {
			r.code = "TRYCREATE"
		}
		return r
	}
	r := ok("done")
	if len(done.To) > 0 {
		c.didAppend(dst, done.To)
		b := fmt.Appendf(nil, "COPYUID %d ", done.UIDValidity)
		b = appendUIDs(b, done.From)
		b = append(b, ' ')
		copied := string(appendUIDs(b, done.To))
		if move { // before the EXPUNGEs (RFC 6851, 4.3)
			c.enc.Raw("* OK [").Raw(copied).Raw("] moved").CRLF()
		} else {
			r.code = copied
		}
	}
	r.code = orElse(r.code, code)
	if move && c.qresync && len(done.To) > 0 { // RFC 6851, 4.4
		cur, err := s.box.refresh(ctx)
		if err != nil {
			return c.failed(err)
		}
		if r.code != "" {
			c.enc.Raw("* NO [").Raw(r.code).Raw("] not all of them").CRLF()
		}
		r.code = highestModSeq(cur)
	}
	if uint64(len(done.From)) < known.Len() && !uid {
		return reply{status: r.status, code: orElse(r.code, "EXPUNGEISSUED"), text: "some of the messages no longer exist"}
	}
	return r
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
