package imapserver

import (
	"context"
	"fmt"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

func (c *conn) cmdSearch(ctx context.Context) reply    { return c.search(ctx, false) }
func (c *conn) cmdUIDSearch(ctx context.Context) reply { return c.search(ctx, true) }

// searchReturn is what a SEARCH is to return (RFC 4731; RFC 5182; RFC 9394).
type searchReturn struct {
	given                      bool
	min, max, count, all, save bool
	partial                    partialRange
	update                     bool        // RFC 5267, 4.3
	items                      []fetchItem // RFC 5465, 7
	relevancy                  bool        // RFC 6203, 4
	multi                      bool        // the responses say which mailbox they are about
}

// searchReturn takes RETURN and its options, if they are there.
func (c *conn) searchReturn() (ret searchReturn) {
	c.dec.SP()
	if !c.dec.AcceptWord("RETURN") {
		return ret
	}
	ret.given = true
	c.dec.SP()
	c.dec.List(func() {
		switch c.dec.Word() {
		case "MIN":
			ret.min = true
		case "MAX":
			ret.max = true
		case "COUNT":
			ret.count = true
		case "ALL":
			ret.all = true
		case "SAVE":
			ret.save = true
		case "UPDATE":
			ret.update = true
			if c.dec.AcceptWord(" (") {
				ret.items = c.watchItems()
			}
		case "RELEVANCY":
			ret.relevancy = true
		case "CONTEXT": // a hint that we need not take
		case "PARTIAL":
			if ret.partial.given() {
				c.dec.Fail("PARTIAL twice")
			}
			ret.partial = c.partialRange()
		default:
			c.dec.Fail("no such return option")
		}
	})
	if ret.all && ret.partial.given() {
		c.dec.Fail("PARTIAL and ALL exclude each other")
	}
	if !ret.min && !ret.max && !ret.count && !ret.save && !ret.partial.given() {
		ret.all = true
	}
	c.dec.SP()
	return ret
}

// searchProgram takes the keys, which end the command. The reply is set when the search
// cannot be run.
func (c *conn) searchProgram(charset string, ret searchReturn) (query criterion, p *searchParser, refused *reply) {
	p = &searchParser{c: c, charset: charset}
	p.checkCharset()
	if charset != "" && c.utf8 { // RFC 6855, 3
		c.dec.Fail("no charset after ENABLE UTF8=ACCEPT")
	}
	query = p.keys()
	if ret.relevancy && !p.fuzzyUsed {
		c.dec.Fail("RELEVANCY needs FUZZY")
	}
	var r reply
	switch {
	case !c.end():
		r = c.syntax()
	case c.uidOnly && p.numbers:
		r = uidRequired()
	case ret.update && c.tagInUse():
		r = bad("this tag has updates already")
	case p.badCharset: // RFC 9051, 7.1
		c.forgetSaved(ret)
		r = no("BADCHARSET (US-ASCII UTF-8)", "the charset is not known")
	default:
		c.enableCondstore(p.modSeq)
		return query, p, nil
	}
	return criterion{}, nil, &r
}

// forgetSaved empties $ when a search that was to be saved fails (RFC 5182, 2.1).
func (c *conn) forgetSaved(ret searchReturn) {
	if ret.save {
		c.sel.saved = nil
	}
}

func (c *conn) search(ctx context.Context, uid bool) reply {
	ret := c.searchReturn()
	charset := c.searchCharset()
	query, p, refused := c.searchProgram(charset, ret)
	if refused != nil {
		return *refused
	}
	return c.searchSelected(ctx, query, p, ret, uid)
}

// searchCharset takes CHARSET and its name, if they are there.
func (c *conn) searchCharset() (charset string) {
	if c.dec.AcceptWord("CHARSET") {
		c.dec.SP()
		charset = c.dec.AString()
		c.dec.SP()
	}
	return charset
}

// searchSelected runs a search in the mailbox that is selected.
func (c *conn) searchSelected(ctx context.Context, query criterion, p *searchParser, ret searchReturn, uid bool) reply {
	found, err := c.runSearch(ctx, query, p, uid, nil)
	if err != nil {
		c.forgetSaved(ret)
		return c.failed(err)
	}
	if ret.save {
		c.sel.saved = found.saved(ret)
	}
	c.writeFound(found, ret, p, uid)
	if ret.update {
		c.keepContext(searchContext{uid: uid, query: query, items: ret.items}, p, found)
	}
	return ok("searched")
}

// found is a search's result.
type found struct {
	nums   imap.NumSet[uint32] // sequence numbers or UIDs, as asked for
	uids   imap.UIDSet
	modSeq imap.ModSeq // the highest among them
	// order has the numbers and the UIDs in the order of a SORT.
	order     []hit
	relevancy []uint8 // of each, when the search is fuzzy
	// The mod-sequences of the first and the last.
	firstMod, lastMod imap.ModSeq
}

// saved returns what $ stands for afterwards (RFC 5182, 2.4; RFC 9394, 3.2).
func (f *found) saved(ret searchReturn) (set imap.UIDSet) {
	if ret.all || ret.count || !ret.min && !ret.max && !ret.partial.given() {
		return f.uids
	}
	if ret.partial.given() {
		set = partialOf(ret.partial, f.uids)
	}
	if len(f.uids) > 0 {
		if ret.min {
			set.Add(f.uids[0].First)
		}
		if ret.max {
			set.Add(f.uids.Max())
		}
	}
	return set
}

// runSearch asks query of each message in the view. Visit, if there is one, is called with
// each message that matches.
func (c *conn) runSearch(ctx context.Context, query criterion, p *searchParser, uid bool, visit func(*candidate)) (*found, error) {
	s := c.sel
	if err := p.lookUpFilters(ctx); err != nil {
		return nil, err
	}
	for _, bind := range p.binds {
		bind(s)
	}
	cur, err := s.box.peek(ctx, peekAge)
	if err != nil {
		return nil, err
	}
	m := &candidate{message: message{mb: s.box.mb}, box: s.box, view: s.view, full: query.cost == costBody, ctx: ctx, recent: s.recent}
	if p.extra {
		f := fetcher{c: c}
		if err := f.loadExtra(ctx, imap.AllUIDs); err != nil {
			return nil, err
		}
		m.extra = f.extra
	}
	f := new(found)
	var reading *readingSearch
	if query.cost > costIndex {
		reading = &readingSearch{query: query, cur: cur}
	}
	told := time.Now()
	for pos, e := range s.view.from(0) {
		m.reset(pos+1, e.uid)
		m.entry, m.index = s.current(cur, e)
		hit := false
		if reading != nil {
			v := reading.verdict(m, s, pos)
			hit, m.score, m.scored = v.hit, v.score, v.scored
		} else {
			hit = query.match(m)
		}
		if hit && visit != nil && m.err == nil {
			visit(m)
		}
		m.close()
		if m.err != nil {
			return nil, m.err
		}
		if pos&63 == 0 {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			c.inProgress(&told, pos, s.view.len())
		}
		if !hit {
			continue
		}
		f.uids.Add(e.uid)
		if p.fuzzyUsed {
			f.relevancy = append(f.relevancy, m.relevancy())
		}
		if uid {
			f.nums.Add(uint32(e.uid))
		} else {
			f.nums.Add(uint32(pos + 1))
		}
		if f.firstMod == 0 {
			f.firstMod = m.entry.modSeq
		}
		f.lastMod = m.entry.modSeq
		f.modSeq = max(f.modSeq, m.entry.modSeq)
	}
	return f, nil
}

// writeFound writes the SEARCH or ESEARCH response.
func (c *conn) writeFound(f *found, ret searchReturn, p *searchParser, uid bool) {
	if !ret.given && !c.rev2 {
		c.enc.Raw("* SEARCH")
		for n := range f.nums.All() {
			c.enc.SP().Num(uint64(n))
		}
		if p.modSeq && f.modSeq > 0 {
			c.enc.Raw(" (MODSEQ ").Num(uint64(f.modSeq)).Raw(")")
		}
		c.enc.CRLF()
		return
	}
	if !ret.given {
		ret.all = true
	}
	if ret.save && !ret.min && !ret.max && !ret.count && !ret.all && !ret.partial.given() {
		return
	}
	if ret.multi && len(f.nums) == 0 {
		return // RFC 7377, 2.1
	}
	c.beginESearch(&ret, uid)
	if ret.partial.given() {
		c.enc.Raw(" PARTIAL (").Raw(ret.partial.String()).SP()
		if part := partialOf(ret.partial, f.nums); len(part) > 0 {
			c.enc.Set(part)
		} else {
			c.enc.Raw("NIL")
		}
		c.enc.Raw(")")
	}
	if len(f.nums) > 0 {
		if ret.min {
			c.enc.Raw(" MIN ").Num(uint64(f.nums[0].First))
		}
		if ret.max {
			c.enc.Raw(" MAX ").Num(uint64(f.nums.Max()))
		}
		if ret.all {
			c.enc.Raw(" ALL ").Set(f.nums)
		}
	}
	if ret.count {
		c.enc.Raw(" COUNT ").Num(f.nums.Len())
	}
	if ret.relevancy {
		c.writeRelevancy(ret, f.relevancy)
	}
	if p.modSeq && len(f.nums) > 0 {
		modSeq := f.modSeq // RFC 7162, 3.1.10: of what is returned
		switch {
		case ret.all || ret.count || ret.partial.given():
		case ret.min && ret.max:
			modSeq = max(f.firstMod, f.lastMod)
		case ret.min:
			modSeq = f.firstMod
		case ret.max:
			modSeq = f.lastMod
		}
		c.enc.Raw(fmt.Sprintf(" MODSEQ %d", modSeq))
	}
	c.enc.CRLF()
}

// writeRelevancy writes the scores of the messages that are shown (RFC 6203, 4).
func (c *conn) writeRelevancy(ret searchReturn, scores []uint8) {
	if ret.partial.given() {
		start, end := ret.partial.bounds(int64(len(scores)))
		scores = scores[start:end]
	}
	c.enc.Raw(" RELEVANCY (")
	for i, score := range scores {
		if i > 0 {
			c.enc.SP()
		}
		c.enc.Num(uint64(score))
	}
	c.enc.Raw(")")
}
