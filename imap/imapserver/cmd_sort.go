package imapserver

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

func (c *conn) cmdSort(ctx context.Context) reply    { return c.sort(ctx, false) }
func (c *conn) cmdUIDSort(ctx context.Context) reply { return c.sort(ctx, true) }

// A hit is a message that SORT or THREAD found, with what it is to be put in order by.
type hit struct {
	pos     int // in the view: ties go by it
	uid     imap.UID
	size    int64
	arrival time.Time
	score   uint8      // relevancy
	facts   *sortFacts // nil when nothing in the header counts
}

// sent is the date to sort by (RFC 5256, 2.2).
func (h *hit) sent() time.Time {
	if h.facts.date.IsZero() {
		return h.arrival
	}
	return h.facts.date
}

// number is how the client calls the message.
func (h *hit) number(uid bool) uint32 {
	if uid {
		return uint32(h.uid)
	}
	return uint32(h.pos + 1)
}

// sortKey is one criterion of a SORT.
type sortKey struct {
	header  bool // it looks at the header
	compare func(a, b *hit) int
	name    string // of the criterion, which is turned round when reverse
	reverse bool
	ranks   []uint32 // by position, when they are known
}

func textKey(text func(*sortFacts) string) sortKey {
	return sortKey{header: true, compare: func(a, b *hit) int { return strings.Compare(text(a.facts), text(b.facts)) }}
}

// sortKeys are the criteria of RFC 5256, BASE.6.4.SORT and RFC 5957, 4.
var sortKeys = map[string]sortKey{
	"ARRIVAL":     {compare: func(a, b *hit) int { return a.arrival.Compare(b.arrival) }},
	"SIZE":        {compare: func(a, b *hit) int { return cmp.Compare(a.size, b.size) }},
	"DATE":        {header: true, compare: func(a, b *hit) int { return a.sent().Compare(b.sent()) }},
	"SUBJECT":     textKey(func(f *sortFacts) string { return f.subject }),
	"FROM":        textKey(func(f *sortFacts) string { return f.from }),
	"TO":          textKey(func(f *sortFacts) string { return f.to }),
	"CC":          textKey(func(f *sortFacts) string { return f.cc }),
	"DISPLAYFROM": textKey(func(f *sortFacts) string { return f.displayFrom }),
	"RELEVANCY":   {compare: func(a, b *hit) int { return cmp.Compare(b.score, a.score) }},
	"DISPLAYTO":   textKey(func(f *sortFacts) string { return f.displayTo }),
}

// maxSortKeys bounds the criteria of one SORT: more than there are say nothing.
const maxSortKeys = 30

// sortProgram takes a list of criteria.
func (c *conn) sortProgram() (keys []sortKey, relevancy bool) {
	c.dec.List(func() {
		name := c.dec.Word()
		reverse := name == "REVERSE"
		if reverse {
			c.dec.SP()
			name = c.dec.Word()
		}
		key, is := sortKeys[name]
		if !is || len(keys) >= maxSortKeys {
			c.dec.Fail("no such sort criterion")
			return
		}
		key.name, key.reverse = name, reverse
		if compare := key.compare; reverse {
			key.compare = func(a, b *hit) int { return compare(b, a) }
		}
		keys = append(keys, key)
		relevancy = relevancy || name == "RELEVANCY"
	})
	if c.dec.OK() && len(keys) == 0 {
		c.dec.Fail("expected sort criteria")
	}
	return keys, relevancy
}

// sort is SORT (RFC 5256) and, with RETURN, extended SORT (RFC 5267, 3; RFC 9394).
func (c *conn) sort(ctx context.Context, uid bool) reply {
	ret := c.searchReturn()
	keys, relevancy := c.sortProgram()
	c.dec.SP()
	charset := c.dec.AString()
	c.dec.SP()
	needs := ret
	needs.relevancy = ret.relevancy || relevancy
	query, p, refused := c.searchProgram(charset, needs)
	if refused != nil {
		return *refused
	}
	header := slices.ContainsFunc(keys, func(k sortKey) bool { return k.header })
	by, known := keys, false
	if header && !ret.update { // later messages are compared with those found now
		by, known = c.ranked(keys)
	}
	f, err := c.findHits(ctx, query, p, uid, header && !known)
	if err != nil {
		c.forgetSaved(ret)
		return c.failed(err)
	}
	if header && !known {
		c.keepRanks(keys, f.order)
	}
	if slices.ContainsFunc(by, func(k sortKey) bool { return k.ranks == nil }) {
		slices.SortFunc(f.order, func(a, b hit) int { return compareHits(by, &a, &b) })
	} else {
		f.order = sortRanked(f.order, by)
	}
	if ret.save {
		c.sel.saved = f.savedInOrder(ret)
	}
	if ret.given {
		c.writeExtendedSort(f, ret, p, uid)
		if ret.update {
			c.keepContext(searchContext{uid: uid, query: query, keys: keys, header: header, items: ret.items}, p, f)
		}
		return ok("sorted")
	}
	c.enc.Raw("* SORT")
	for i := range f.order {
		c.enc.SP().Num(uint64(f.order[i].number(uid)))
	}
	if p.modSeq && f.modSeq > 0 { // RFC 7162, 3.1.6
		c.enc.Raw(" (MODSEQ ").Num(uint64(f.modSeq)).Raw(")")
	}
	c.enc.CRLF()
	return ok("sorted")
}

// hit returns what SORT and THREAD need of the message.
func (m *candidate) hit(c *conn, header bool) hit {
	h := hit{pos: m.num - 1, uid: m.uid, size: int64(m.entry.size), arrival: m.entry.internalDate(), score: m.relevancy()}
	if header {
		h.facts = m.facts(c)
	}
	return h
}

// findHits is a search that fills order, in the order of the mailbox.
func (c *conn) findHits(ctx context.Context, query criterion, p *searchParser, uid, header bool) (*found, error) {
	var order []hit
	f, err := c.runSearch(ctx, query, p, uid, func(m *candidate) {
		order = append(order, m.hit(c, header))
	})
	if err != nil {
		return nil, err
	}
	f.order = order
	return f, nil
}

// savedInOrder is saved for a SORT, where the first and the last are those of its order.
func (f *found) savedInOrder(ret searchReturn) (set imap.UIDSet) {
	if ret.all || ret.count || !ret.min && !ret.max && !ret.partial.given() {
		return f.uids
	}
	n := len(f.order)
	if n == 0 {
		return nil
	}
	if ret.partial.given() {
		start, end := ret.partial.bounds(int64(n))
		for _, h := range f.order[start:end] {
			set.Add(h.uid)
		}
	}
	if ret.min {
		set.Add(f.order[0].uid)
	}
	if ret.max {
		set.Add(f.order[n-1].uid)
	}
	return set
}

// writeExtendedSort writes the ESEARCH response of a SORT.
func (c *conn) writeExtendedSort(f *found, ret searchReturn, p *searchParser, uid bool) {
	if ret.save && !ret.min && !ret.max && !ret.count && !ret.all && !ret.partial.given() {
		return
	}
	c.beginESearch(&ret, uid)
	n := len(f.order)
	if ret.partial.given() {
		c.enc.Raw(" PARTIAL (").Raw(ret.partial.String()).SP()
		if start, end := ret.partial.bounds(int64(n)); start < end {
			c.writeOrder(f.order[start:end], uid)
		} else {
			c.enc.Raw("NIL")
		}
		c.enc.Raw(")")
	}
	if n > 0 {
		if ret.min {
			c.enc.Raw(" MIN ").Num(uint64(f.order[0].number(uid)))
		}
		if ret.max {
			c.enc.Raw(" MAX ").Num(uint64(f.order[n-1].number(uid)))
		}
		if ret.all {
			c.enc.Raw(" ALL ")
			c.writeOrder(f.order, uid)
		}
	}
	if ret.count {
		c.enc.Raw(" COUNT ").Num(uint64(n))
	}
	if ret.relevancy {
		scores := make([]uint8, n)
		for i := range f.order {
			scores[i] = f.order[i].score
		}
		c.writeRelevancy(ret, scores)
	}
	if p.modSeq && n > 0 {
		c.enc.Raw(fmt.Sprintf(" MODSEQ %d", f.modSeq))
	}
	c.enc.CRLF()
}

// writeOrder writes numbers in the order of hits, runs that rise by one as ranges
// (RFC 5267, 3.2).
func (c *conn) writeOrder(hits []hit, uid bool) {
	for i := 0; i < len(hits); {
		j := i
		for j+1 < len(hits) && hits[j+1].number(uid) == hits[j].number(uid)+1 {
			j++
		}
		if i > 0 {
			c.enc.Byte(',')
		}
		c.enc.Num(uint64(hits[i].number(uid)))
		if j > i {
			c.enc.Byte(':').Num(uint64(hits[j].number(uid)))
		}
		i = j + 1
	}
}
