package imapserver

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// selected is a session's view of its mailbox: the version of the index that makes its
// sequence numbers. What the box knows more, the session is told when it may be.
type selected struct {
	box        *box
	name       string // as it was selected
	view       *index
	readOnly   bool
	rights     imap.RightSet // of the user, as last looked up
	recent     imap.UIDSet   // \Recent in this session; some may not be in the view yet
	recentTold int
	synced     imap.ModSeq // the client was told of all changes up to it
	withheld   bool        // of expunges it was not told, and of later changes it was
	keywords   int         // how many of the mailbox's keywords the client was told
	saved      imap.UIDSet // the result that $ stands for (RFC 5182)

	own imap.UIDSet // messages that the session put here: NOTIFY does not fetch them

	keyResets uint64 // as the client was told

	contexts []*searchContext
	touched  imap.UIDSet // messages that contexts were not told of: set by told
}

// peekAge is how long a session relies on the store's hints alone.
const peekAge = 2 * time.Second

// sync tells the session what happened in its mailbox, as far as mode allows.
func (c *conn) sync(ctx context.Context, mode syncMode) error {
	var cur *index
	var err error
	if mode == syncFresh {
		cur, err = c.sel.box.refresh(ctx)
	} else {
		cur, err = c.sel.box.peek(ctx, peekAge)
	}
	if err != nil {
		return err
	}
	c.tellKeyReset()
	return c.tell(ctx, cur, mode != syncNoExpunge)
}

// change is a message in the view that is another one now.
type change struct {
	pos int
	now *entry
}

// tell brings the session's view up to cur and writes the responses that say so. Without
// expunges, messages that are gone stay in the view until another time.
func (c *conn) tell(ctx context.Context, cur *index, expunges bool) error {
	s := c.sel
	if cur == s.view && len(s.touched) == 0 {
		return nil
	}
	events := c.selectedEvents()
	expunges = expunges && events&eventMessageExpunge != 0
	c.tellKeywords(cur)
	var gone []int // positions
	var goneUIDs imap.UIDSet
	var changed []change
	var news imap.UIDSet
	withheld := false
	touched := s.touched
	s.touched = nil
	var next builder
	merge(s.view, cur, func(_ int, chunk []entry) {
		next.share(chunk)
	}, func(pos int, old, now *entry) {
		switch {
		case now == nil:
			if !expunges {
				next.push(old)
				withheld = true
				return
			}
			gone = append(gone, pos)
			goneUIDs.Add(old.uid)
			return
		case old == nil && events&eventMessageNew == 0:
			return
		case old == nil:
			news.Add(now.uid)
			touched.Add(now.uid)
		case events&eventFlagChange == 0:
			next.push(old)
			return
		case now.modSeq != old.modSeq && (c.condstore || !now.sameFlags(old)):
			changed = append(changed, change{pos - len(gone), now})
			touched.Add(now.uid)
		}
		next.push(now)
	})
	if len(s.saved) > 0 {
		s.saved = s.saved.Subtract(goneUIDs)
	}
	c.contextsLose(goneUIDs)
	if s.view = cur; !expunges || events != messageEvents {
		s.view = next.done()
		s.view.state, s.view.sets = cur.state, cur.sets
	}

	switch {
	case withheld && c.qresync:
		// What comes may have later mod-sequences, from which the client must not conclude that
		// it knows of all before (RFC 7162, 6).
		s.withheld = true
		c.writeSynced()
	case expunges && events == messageEvents:
		s.synced = cur.state.HighestModSeq
	}
	switch {
	case len(gone) > 0 && (c.qresync || c.uidOnly):
		c.enc.Raw("* VANISHED ").Set(goneUIDs).CRLF()
	default:
		for i, pos := range gone {
			c.enc.Raw("* ").Num(uint64(pos - i + 1)).Raw(" EXPUNGE").CRLF()
		}
	}
	s.recent = s.recent.Subtract(goneUIDs)
	if len(news) > 0 {
		c.enc.Raw("* ").Num(uint64(s.view.len())).Raw(" EXISTS").CRLF()
		if err := c.claimRecent(ctx); err != nil {
			return err
		}
	}
	if n := s.recentCount(); !c.rev2 && n != s.recentTold {
		c.enc.Raw("* ").Num(uint64(n)).Raw(" RECENT").CRLF()
		s.recentTold = n
	}
	for _, ch := range changed {
		c.writeFlags(ch.pos+1, ch.now, cur, c.notify != nil)
	}
	if len(s.contexts) > 0 {
		c.updateContexts(ctx, touched, news)
	}
	if s.withheld && !withheld {
		s.withheld = false
		c.writeSynced()
	}
	if c.notify != nil && len(news) > 0 && len(c.notify.spec.items) > 0 {
		fetch := news.Subtract(s.own)
		s.own = s.own.Subtract(news)
		return c.fetchNew(ctx, cur, fetch, c.notify.spec.items)
	}
	return nil
}

// writeSynced tells up to which mod-sequence the client knows of all changes.
func (c *conn) writeSynced() {
	c.enc.Raw("* OK [HIGHESTMODSEQ ").Num(uint64(c.sel.synced)).Raw("] all before is told").CRLF()
}

// enableCondstore enables CONDSTORE, if it is on that a command asked for it. In a selected
// mailbox it is then told up to where the client knows it (RFC 7162, 3.1).
func (c *conn) enableCondstore(on bool) {
	if !on || c.condstore {
		return
	}
	c.condstore = true
	if c.sel != nil {
		c.writeSynced()
	}
}

// told makes the session's view know of the messages of set what cur knows: the client
// was just told.
func (s *selected) told(cur *index, set imap.UIDSet) {
	if cur == s.view || len(set) == 0 {
		return
	}
	if len(s.contexts) > 0 {
		s.touched = s.touched.Union(set)
	}
	var next builder
	merge(s.view, cur, func(_ int, chunk []entry) {
		next.share(chunk)
	}, func(_ int, old, now *entry) {
		switch {
		case old == nil:
		case now != nil && set.Contains(now.uid):
			next.push(now)
		default:
			next.push(old)
		}
	})
	state := s.view.state
	s.view = next.done()
	s.view.state, s.view.sets = state, cur.sets
}

// recentCount counts the messages in the view that are \Recent.
func (s *selected) recentCount() (n int) {
	for range s.view.within(s.recent) {
		n++
	}
	return n
}

// claimRecent makes the messages that nobody was told of recent in this session.
func (c *conn) claimRecent(ctx context.Context) error {
	if c.rev2 {
		return nil
	}
	recent, err := imap.Recent(ctx, c.sel.box.mb, !c.sel.readOnly)
	if err != nil {
		return err
	}
	c.sel.recent = c.sel.recent.Union(recent)
	return nil
}

// tellKeywords tells of keywords that came into use: before any FETCH that has them.
func (c *conn) tellKeywords(cur *index) {
	if len(cur.state.Keywords) == c.sel.keywords {
		return
	}
	c.sel.keywords = len(cur.state.Keywords)
	c.writeFlagLists(cur)
}

// writeFlagLists writes the FLAGS response and PERMANENTFLAGS.
func (c *conn) writeFlagLists(x *index) {
	flags := []imap.Flag{imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagSeen, imap.FlagDraft}
	for _, k := range slices.Sorted(slices.Values(x.state.Keywords)) {
		if imap.Flag(k).Valid() {
			flags = append(flags, imap.Flag(k))
		}
	}
	list := func(flags []imap.Flag) {
		for i, f := range flags {
			if i > 0 {
				c.enc.SP()
			}
			c.enc.Raw(string(f))
		}
	}
	c.enc.Raw("* FLAGS (")
	list(flags)
	c.enc.Raw(")").CRLF()
	c.enc.Raw("* OK [PERMANENTFLAGS (")
	if !c.sel.readOnly {
		flags = slices.DeleteFunc(flags, func(f imap.Flag) bool { return !c.sel.permanent(f) })
		if !x.state.NoNewKeywords && c.sel.permanent("$Any") {
			flags = append(flags, `\*`)
		}
		list(flags)
	}
	c.enc.Raw(")] these are kept").CRLF()
}

// writeFlags writes a FETCH response with a message's flags as x has them. After an
// enabling command it has UID and MODSEQ too (RFC 7162, 3.2.4).
func (c *conn) writeFlags(num int, e *entry, x *index, withUID bool) {
	c.beginFetch(num, e.uid)
	if (withUID || c.condstore) && !c.uidOnly {
		c.enc.Raw("UID ").Num(uint64(e.uid)).SP()
	}
	c.appendFlags(e, x)
	if c.condstore {
		c.enc.Raw(" MODSEQ (").Num(uint64(e.modSeq)).Raw(")")
	}
	c.enc.Raw(")").CRLF()
}

func (c *conn) appendFlags(e *entry, x *index) {
	c.enc.Raw("FLAGS ")
	if !c.rev2 && len(c.sel.recent) > 0 && c.sel.recent.Contains(e.uid) {
		c.enc.Flags(x.flags(e), imap.FlagRecent)
		return
	}
	if x.sets[e.bits>>keywordShift].Len() == 0 {
		c.enc.Raw(systemText[e.system()])
		return
	}
	c.enc.Flags(x.flags(e))
}

// systemText is how system flags alone are written.
var systemText = func() (text [1 << zoneShift]string) {
	for i := range text {
		var b strings.Builder
		enc := wire.NewEncoder(&b)
		_ = enc.Flags(systemOnly[i]).Flush()
		text[i] = b.String()
	}
	return text
}()

// current returns what is known now of a message of the view, and in which version: when it
// is gone, what was known last.
func (s *selected) current(cur *index, e *entry) (*entry, *index) {
	if cur == s.view {
		return e, cur
	}
	if _, now := cur.find(e.uid); now != nil {
		return now, cur
	}
	return e, s.view
}

// deselect leaves the selected mailbox.
func (c *conn) deselect() {
	if c.sel == nil {
		return
	}
	c.sel.box.listen(c, false)
	c.account.release(c.sel.box)
	c.sel = nil
	if c.state == selectedState {
		c.state = authenticated
	}
}

// numbers turns a set as the client wrote it into the UIDs of messages in the view. Those
// that are not there are left out of UIDs; of sequence numbers it is an error.
func (s *selected) numbers(spec imap.SetSpec, saved, uid bool) (imap.UIDSet, bool) {
	switch {
	case saved:
		return s.saved, true
	case uid:
		return imap.Resolve(spec, s.view.lastUID()), true
	}
	n := imap.SeqNum(s.view.len())
	for _, r := range spec {
		if n == 0 || imap.SeqNum(r.First) > n || imap.SeqNum(r.Last) > n {
			return nil, false
		}
	}
	return s.view.uids(imap.Resolve(spec, n)), true
}

// known returns those of set that are in the view.
func (s *selected) known(set imap.UIDSet) (known imap.UIDSet) {
	for _, e := range s.view.within(set) {
		known.Add(e.uid)
	}
	return known
}

// numberSet takes a set or "$" from the command.
func (c *conn) numberSet() (spec imap.SetSpec, saved bool) {
	if c.dec.Accept('$') {
		return nil, true
	}
	return c.dec.Set(), false
}
