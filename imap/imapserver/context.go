package imapserver

import (
	"context"
	"log/slog"
	"slices"

	"github.com/mailblocks/mailblocks/imap"
)

// searchContext is a search whose client is told how its result changes (RFC 5267, 4.3). It
// knows of the messages what the client was told.
type searchContext struct {
	tag    string
	uid    bool
	query  criterion
	keys   []sortKey   // nil: a SEARCH
	header bool        // keys look at the header
	items  []fetchItem // of new messages that match (RFC 5465, 7)

	uids  imap.UIDSet // the result
	order []hit       // of a SORT: the same in its order
}

// maxContexts bounds the contexts of a session.
const maxContexts = 16

// compareHits puts hits in the order of a SORT; those that are equal stand as in the mailbox.
func compareHits(keys []sortKey, a, b *hit) int {
	for _, k := range keys {
		if d := k.compare(a, b); d != 0 {
			return d
		}
	}
	return int(int64(a.uid) - int64(b.uid))
}

// tagInUse reports whether the command's tag names a context.
func (c *conn) tagInUse() bool {
	return slices.ContainsFunc(c.sel.contexts, func(x *searchContext) bool { return x.tag == c.tag })
}

// keepContext makes a search, which is done, a context, or says that it will not.
func (c *conn) keepContext(x searchContext, p *searchParser, f *found) {
	if len(c.sel.contexts) >= maxContexts || p.extra {
		c.enc.Raw("* NO [NOUPDATE ").String(c.tag).Raw("] will not notify").CRLF()
		return
	}
	x.tag, x.uids, x.order = c.tag, f.uids, f.order
	c.sel.contexts = append(c.sel.contexts, &x)
}

func (c *conn) cmdCancelUpdate(context.Context) reply {
	var tags []string
	for first := true; first || c.dec.OK() && !c.dec.AtEnd(); first = false {
		c.dec.SP()
		tags = append(tags, c.dec.String())
	}
	if !c.end() {
		return c.syntax()
	}
	for _, tag := range tags {
		i := slices.IndexFunc(c.sel.contexts, func(x *searchContext) bool { return x.tag == tag })
		if i < 0 {
			return bad("nothing is updated with this tag")
		}
		c.sel.contexts = slices.Delete(c.sel.contexts, i, i+1)
	}
	return ok("no further updates")
}

// contextsLose takes messages that are about to leave the view out of all results. It comes
// before the EXPUNGEs (RFC 5267, 4.3.4).
func (c *conn) contextsLose(gone imap.UIDSet) {
	for _, x := range c.sel.contexts {
		c.removeFrom(x, x.uids.Intersect(gone))
	}
}

// updateContexts looks again at messages that came or changed. It comes after EXISTS.
func (c *conn) updateContexts(ctx context.Context, touched, news imap.UIDSet) {
	s := c.sel
	s.contexts = slices.DeleteFunc(s.contexts, func(x *searchContext) bool {
		err := c.updateContext(ctx, x, touched, news)
		if err != nil {
			c.log.LogAttrs(ctx, slog.LevelWarn, "updating a search failed", slog.String("mailbox", s.name), slog.Any("err", err))
			c.enc.Raw("* NO [NOUPDATE ").String(x.tag).Raw("] no further updates").CRLF()
		}
		return err != nil
	})
}

func (c *conn) updateContext(ctx context.Context, x *searchContext, touched, news imap.UIDSet) error {
	s := c.sel
	m := &candidate{message: message{mb: s.box.mb}, box: s.box, full: x.query.cost == costBody, ctx: ctx, recent: s.recent}
	var lost, won imap.UIDSet
	var hits []hit
	for pos, e := range s.view.within(touched) {
		m.reset(pos+1, e.uid)
		m.entry, m.index = e, s.view
		matches := x.query.match(m)
		if was := x.uids.Contains(e.uid); matches && !was && m.err == nil {
			won.Add(e.uid)
			if x.keys != nil {
				hits = append(hits, m.hit(c, x.header))
			}
		} else if !matches && was {
			lost.Add(e.uid)
		}
		m.close()
		if m.err != nil {
			return m.err
		}
	}
	if fetch := won.Intersect(news); len(x.items) > 0 && len(fetch) > 0 {
		if err := c.fetchNew(ctx, s.view, fetch, x.items); err != nil {
			return err
		}
	}
	c.removeFrom(x, lost)
	c.addTo(x, won, hits)
	return nil
}

// beginUpdate begins an ESEARCH response with an update.
func (c *conn) beginUpdate(x *searchContext, item string) {
	c.enc.Raw("* ESEARCH (TAG ").String(x.tag).Raw(")")
	if x.uid {
		c.enc.Raw(" UID")
	}
	c.enc.SP().Raw(item).Raw(" (")
}

// numbersOf returns UIDs as the context's client calls them.
func (c *conn) numbersOf(x *searchContext, set imap.UIDSet) (nums imap.NumSet[uint32]) {
	for pos, e := range c.sel.view.within(set) {
		if x.uid {
			nums.Add(uint32(e.uid))
		} else {
			nums.Add(uint32(pos + 1))
		}
	}
	return nums
}

func (c *conn) removeFrom(x *searchContext, lost imap.UIDSet) {
	if len(lost) == 0 {
		return
	}
	x.uids = x.uids.Subtract(lost)
	c.beginUpdate(x, "REMOVEFROM")
	if x.keys == nil {
		c.enc.Raw("0 ").Set(c.numbersOf(x, lost))
	} else {
		removed := 0 // each pair shifts those behind it
		for i := range x.order {
			if h := &x.order[i]; lost.Contains(h.uid) {
				if removed > 0 {
					c.enc.SP()
				}
				c.enc.Num(uint64(i + 1 - removed)).SP().Num(uint64(c.numberOf(x, h.uid)))
				removed++
			}
		}
		x.order = slices.DeleteFunc(x.order, func(h hit) bool { return lost.Contains(h.uid) })
	}
	c.enc.Raw(")").CRLF()
}

func (c *conn) numberOf(x *searchContext, uid imap.UID) uint32 {
	if x.uid {
		return uint32(uid)
	}
	pos, _ := c.sel.view.find(uid)
	return uint32(pos + 1)
}

func (c *conn) addTo(x *searchContext, won imap.UIDSet, hits []hit) {
	if len(won) == 0 {
		return
	}
	x.uids = x.uids.Union(won)
	c.beginUpdate(x, "ADDTO")
	if x.keys == nil {
		c.enc.Raw("0 ").Set(c.numbersOf(x, won))
	}
	for n := range hits {
		h := &hits[n]
		i, _ := slices.BinarySearchFunc(x.order, h, func(a hit, b *hit) int { return compareHits(x.keys, &a, b) })
		x.order = slices.Insert(x.order, i, *h)
		if n > 0 {
			c.enc.SP()
		}
		c.enc.Num(uint64(i + 1)).SP().Num(uint64(c.numberOf(x, h.uid)))
	}
	c.enc.Raw(")").CRLF()
}
