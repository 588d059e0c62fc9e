package imapclient

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// SearchOptions say what a search is to return (RFC 9051, 6.4.4; RFC 5267; RFC 6203; RFC 9394).
// Nothing set means All.
type SearchOptions struct {
	Min, Max, Count, All bool
	Partial              Partial // only a window of the results
	Relevancy            bool    // how well each matches; with Fuzzy criteria only
	// Save keeps the result for Saved (RFC 5182). Alone, nothing is returned.
	Save bool
	// Update has the server tell Handler.Results what becomes of the results (RFC 5267),
	// until CancelUpdate is called with SearchResult.Tag.
	Update bool
}

func (o *SearchOptions) words() (words []string) {
	for _, w := range []struct {
		on   bool
		word string
	}{
		{o.Min, "MIN"}, {o.Max, "MAX"}, {o.Count, "COUNT"}, {o.All, "ALL"}, {o.Partial != Partial{}, "PARTIAL " + o.Partial.String()},
		{o.Relevancy, "RELEVANCY"}, {o.Save, "SAVE"}, {o.Update, "UPDATE"},
	} {
		if w.on {
			words = append(words, w.word)
		}
	}
	if words == nil {
		words = []string{"ALL"}
	}
	return words
}

// simple reports whether a server without ESEARCH can be made to answer.
func (o *SearchOptions) simple() bool {
	return o.Partial == Partial{} && !o.Relevancy && !o.Save && !o.Update
}

// SearchResult is what a search returns: what was not asked for is zero.
type SearchResult[T ~uint32] struct {
	Min, Max T
	Count    uint32
	All      imap.NumSet[T]
	// Order has the results of Sort in their order: All, or Partial where that was asked for.
	Order     []T
	Partial   imap.NumSet[T] // those in the window
	Relevancy []int          // 1 to 100, in the order of All, Partial or Order
	// ModSeq is the highest of those found, when a criterion asks for mod-sequences
	// (RFC 7162, 3.1.5).
	ModSeq imap.ModSeq
	// Tag names the search for updates.
	Tag string
	// Update tells whether the server does send updates.
	Update bool
}

// Search looks for messages in the mailbox that is selected, by UID. A nil SearchOptions means
// All. A server without ESEARCH (RFC 4731) is made to do as well as it can.
func (c *Client) Search(ctx context.Context, q Criteria, opts *SearchOptions) (*SearchResult[imap.UID], error) {
	return search[imap.UID](ctx, c, &command{name: "UID SEARCH", seq: q.usesSeqs()}, q, opts, nil)
}

// SearchSeqs is Search by sequence number.
func (c *Client) SearchSeqs(ctx context.Context, q Criteria, opts *SearchOptions) (*SearchResult[imap.SeqNum], error) {
	return search[imap.SeqNum](ctx, c, &command{name: "SEARCH", seq: true, keepsSeq: true}, q, opts, nil)
}

// A SortKey is what to sort by (RFC 5256; RFC 5957; RFC 6203).
type SortKey string

// The keys.
const (
	SortArrival     SortKey = "ARRIVAL"
	SortCc          SortKey = "CC"
	SortDate        SortKey = "DATE"
	SortFrom        SortKey = "FROM"
	SortSize        SortKey = "SIZE"
	SortSubject     SortKey = "SUBJECT"
	SortTo          SortKey = "TO"
	SortDisplayFrom SortKey = "DISPLAYFROM"
	SortDisplayTo   SortKey = "DISPLAYTO"
	SortRelevancy   SortKey = "RELEVANCY"
)

// Reverse returns the key for the other direction.
func (k SortKey) Reverse() SortKey { return "REVERSE " + k }

// Sort looks for messages and returns their UIDs in an order (RFC 5256): that of the first
// key, then the next, and last of the mailbox. Options need ESORT (RFC 5267).
func (c *Client) Sort(ctx context.Context, keys []SortKey, q Criteria, opts *SearchOptions) (*SearchResult[imap.UID], error) {
	return sorted[imap.UID](ctx, c, &command{name: "UID SORT", seq: q.usesSeqs()}, keys, q, opts)
}

// SortSeqs is Sort by sequence number.
func (c *Client) SortSeqs(ctx context.Context, keys []SortKey, q Criteria, opts *SearchOptions) (*SearchResult[imap.SeqNum], error) {
	return sorted[imap.SeqNum](ctx, c, &command{name: "SORT", seq: true, keepsSeq: true}, keys, q, opts)
}

func sorted[T ~uint32](ctx context.Context, c *Client, cmd *command, keys []SortKey, q Criteria, opts *SearchOptions) (*SearchResult[T], error) {
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: no key to sort by", ErrArgument)
	}
	words := make([]string, len(keys))
	for i, k := range keys {
		words[i] = string(k)
		if err := checkAtoms(strings.TrimPrefix(words[i], "REVERSE ")); err != nil {
			return nil, err
		}
	}
	if err := c.need(ctx, "SORT", "SORT=DISPLAY"); err != nil {
		return nil, err
	}
	return search[T](ctx, c, cmd, q, opts, words)
}

// search runs SEARCH, or SORT when there are keys.
func search[T ~uint32](ctx context.Context, c *Client, cmd *command, q Criteria, opts *SearchOptions, keys []string) (*SearchResult[T], error) {
	beyondASCII, err := q.check()
	if err != nil {
		return nil, err
	}
	if opts == nil {
		opts = &SearchOptions{All: true}
	}
	if err := opts.Partial.check(); err != nil {
		return nil, err
	}
	caps, err := c.capabilities(ctx)
	if err != nil {
		return nil, err
	}
	extended := caps["ESEARCH"]
	if keys != nil {
		extended = caps["ESORT"]
	}
	if !extended && !opts.simple() {
		return nil, fmt.Errorf("%w: ESEARCH or ESORT", ErrNoCapability)
	}
	res := new(SearchResult[T])
	var bad error
	cmd.take = func(r any) bool {
		switch r := r.(type) {
		case *esearch:
			if r.update != nil || r.mailbox != "" || r.tag != "" && r.tag != cmd.tag {
				return false
			}
			if bad == nil {
				bad = fill(res, r, keys != nil)
			}
		case *searchNums:
			if r.sorted != (keys != nil) {
				return false
			}
			fillPlain(res, r)
		case *Status:
			if r.Code != "NOUPDATE" {
				return false
			}
			res.Update = false
		default:
			return false
		}
		return true
	}
	res.Update = opts.Update
	_, err = c.run(ctx, cmd, func(w *writer) {
		if extended {
			w.raw(" RETURN (" + strings.Join(opts.words(), " ") + ")")
		}
		switch {
		case keys != nil:
			w.raw(" (" + strings.Join(keys, " ") + ") UTF-8 ")
		case beyondASCII && !c.utf8():
			w.raw(" CHARSET UTF-8 ")
		default:
			w.sp()
		}
		q.write(w)
	})
	if err != nil {
		return nil, err // and the rest of the answer is nobody's
	}
	res.Tag = cmd.tag
	if bad != nil {
		return nil, bad
	}
	return res, nil
}

// fill takes an ESEARCH response.
func fill[T ~uint32](res *SearchResult[T], r *esearch, ordered bool) (err error) {
	res.Min, res.Max = max(res.Min, T(r.min)), max(res.Max, T(r.max))
	res.Count = max(res.Count, r.count)
	res.ModSeq = max(res.ModSeq, r.modSeq)
	res.Relevancy = append(res.Relevancy, r.relevancy...)
	res.All = res.All.Union(imap.Resolve[T](r.all, 0))
	res.Partial = res.Partial.Union(imap.Resolve[T](r.partial, 0))
	if ordered {
		spec := r.all
		if spec == nil {
			spec = r.partial
		}
		res.Order, err = expand(res.Order, spec, maxResults)
	}
	return err
}

// fillPlain takes a SEARCH or SORT response, of which a server may send several.
func fillPlain[T ~uint32](res *SearchResult[T], r *searchNums) {
	var set imap.NumSet[T]
	if r.sorted {
		for _, n := range r.nums {
			res.Order = append(res.Order, T(n))
		}
	}
	spec := make(imap.SetSpec, len(r.nums))
	for i, n := range r.nums {
		spec[i] = imap.Range[uint32]{First: n, Last: n}
	}
	set = imap.Resolve[T](spec, 0)
	res.All = res.All.Union(set)
	if len(res.All) > 0 {
		res.Min, res.Max = res.All[0].First, res.All.Max()
	}
	res.Count = uint32(res.All.Len())
	res.ModSeq = max(res.ModSeq, r.modSeq)
}

// searchNums is a SEARCH or SORT response.
type searchNums struct {
	nums   []uint32
	modSeq imap.ModSeq
	sorted bool
}

func takeSearch(_ *Client, d *wire.Decoder) any { return takeNums(d, false) }
func takeSort(_ *Client, d *wire.Decoder) any   { return takeNums(d, true) }

func takeNums(d *wire.Decoder, sorted bool) *searchNums {
	r := &searchNums{sorted: sorted}
	for d.Accept(' ') {
		switch b := d.Peek(); {
		case b == '(':
			d.Expect('(')
			if d.Word() != "MODSEQ" {
				d.Fail("expected MODSEQ")
			}
			d.SP()
			r.modSeq = imap.ModSeq(d.Number64())
			d.Expect(')')
		case b >= '1' && b <= '9':
			r.nums = append(r.nums, d.Number())
		case d.AtEnd():
		default:
			d.Fail("expected a number")
		}
	}
	return r
}

// esearch is an ESEARCH response (RFC 9051, 7.3.4).
type esearch struct {
	tag, mailbox string
	uidValidity  uint32
	uid          bool
	min, max     uint32
	count        uint32
	all, partial imap.SetSpec
	modSeq       imap.ModSeq
	relevancy    []int
	update       *SearchUpdate
}

// SearchUpdate is what became of the results of a search with Update (RFC 5267, 4.3). Changes
// are to be applied in their order.
type SearchUpdate struct {
	Tag     string // SearchResult.Tag
	UID     bool   // numbers are UIDs
	Changes []SearchChange
}

// SearchChange adds or removes results. Position counts from 1 in a sorted result, where Nums
// stand in their order; zero means that the position is not told.
type SearchChange struct {
	Remove   bool
	Position uint32
	Nums     []uint32
}

func takeESearch(c *Client, d *wire.Decoder) *esearch {
	r := new(esearch)
	var changes []SearchChange
	most := maxChanges
	for d.OK() && d.Accept(' ') {
		if d.Peek() == '(' {
			d.List(func() {
				switch name := d.Word(); name {
				case "TAG":
					d.SP()
					r.tag = d.AString()
				case "MAILBOX":
					d.SP()
					r.mailbox = takeName(c, d)
				case "UIDVALIDITY":
					d.SP()
					r.uidValidity = d.Number()
				default:
					d.Fail("unknown correlator %s", name)
				}
			})
			continue
		}
		name := d.Word()
		if name == "UID" {
			r.uid = true
			continue
		}
		d.SP()
		switch name {
		case "MIN":
			r.min = d.Number()
		case "MAX":
			r.max = d.Number()
		case "COUNT":
			r.count = d.Number()
		case "ALL":
			r.all = d.Set()
		case "MODSEQ":
			r.modSeq = imap.ModSeq(d.Number64())
		case "RELEVANCY":
			d.List(func() { r.relevancy = append(r.relevancy, int(d.Number())) })
		case "PARTIAL":
			d.Expect('(')
			d.While(func(b byte) bool { return b == '-' || b == ':' || b >= '0' && b <= '9' })
			d.SP()
			if !d.AcceptWord("NIL") {
				r.partial = d.Set()
			}
			d.Expect(')')
		case "ADDTO", "REMOVEFROM":
			d.Expect('(')
			for n := 0; d.OK() && !d.Accept(')'); n++ {
				if n > 0 {
					d.SP()
				}
				ch := SearchChange{Remove: name == "REMOVEFROM", Position: d.Number()}
				d.SP()
				var err error
				if ch.Nums, err = expand(ch.Nums, d.Set(), most); err != nil {
					d.Fail("%v", err)
				}
				most -= len(ch.Nums)
				changes = append(changes, ch)
			}
		default:
			skipValue(d)
		}
	}
	if changes != nil {
		r.update = &SearchUpdate{Tag: r.tag, UID: r.uid, Changes: changes}
	}
	return r
}

// CancelUpdate ends the updates of searches (RFC 5267, 4.3.5).
func (c *Client) CancelUpdate(ctx context.Context, tags ...string) error {
	if len(tags) == 0 {
		return nil
	}
	if err := c.need(ctx, "CONTEXT=SEARCH", "CONTEXT=SORT"); err != nil {
		return err
	}
	_, err := c.run(ctx, &command{name: "CANCELUPDATE"}, func(w *writer) {
		for _, tag := range tags {
			w.sp().str(tag)
		}
	})
	return err
}

// A Source names mailboxes by what they are (RFC 5465, 6; RFC 7377, 2.2).
type Source struct {
	Kind      SourceKind
	Mailboxes []string // for Subtree, SubtreeOne and Named
}

// SourceKind is how a Source names mailboxes.
type SourceKind string

// The kinds of sources.
const (
	SourceSelected        SourceKind = "selected"
	SourceSelectedDelayed SourceKind = "selected-delayed" // NOTIFY only: EXPUNGE waits for a command
	SourceInboxes         SourceKind = "inboxes"          // where mail is delivered to
	SourcePersonal        SourceKind = "personal"         // all of the personal namespace
	SourceSubscribed      SourceKind = "subscribed"
	SourceSubtree         SourceKind = "subtree"     // these and all below them
	SourceSubtreeOne      SourceKind = "subtree-one" // these and one level below; searches only
	SourceNamed           SourceKind = "mailboxes"
)

func (s *Source) check() error {
	switch s.Kind {
	case SourceSubtree, SourceSubtreeOne, SourceNamed:
		if len(s.Mailboxes) > 0 {
			return nil
		}
	case SourceSelected, SourceSelectedDelayed, SourceInboxes, SourcePersonal, SourceSubscribed:
		if len(s.Mailboxes) == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: source %q of %d mailboxes", ErrArgument, s.Kind, len(s.Mailboxes))
}

func (s *Source) write(w *writer) {
	w.raw(string(s.Kind))
	if len(s.Mailboxes) > 0 {
		w.sp().list(s.Mailboxes, func(name string) { w.mailbox(name) })
	}
}

// MailboxResult is what a search found in one mailbox.
type MailboxResult struct {
	Mailbox     string
	UIDValidity uint32
	SearchResult[imap.UID]
}

// SearchMailboxes searches several mailboxes at once (RFC 7377) and returns the result of each
// in which something was found.
func (c *Client) SearchMailboxes(ctx context.Context, in []Source, q Criteria, opts *SearchOptions) ([]*MailboxResult, error) {
	if err := c.need(ctx, "MULTISEARCH"); err != nil {
		return nil, err
	}
	if opts == nil {
		opts = &SearchOptions{All: true}
	}
	beyondASCII, err := q.check()
	err = errors.Join(err, opts.Partial.check())
	if len(in) == 0 || opts.Update || q.usesSeqs() {
		err = errors.Join(err, fmt.Errorf("%w: a search of mailboxes needs some, by UID and without updates", ErrArgument))
	}
	for i := range in {
		err = errors.Join(err, in[i].check())
	}
	if err != nil {
		return nil, err
	}
	var list []*MailboxResult
	byName := make(map[string]*MailboxResult)
	var bad error
	cmd := &command{name: "ESEARCH"}
	cmd.take = func(r any) bool {
		e, ok := r.(*esearch)
		if !ok || e.mailbox == "" || e.tag != cmd.tag {
			return false
		}
		m := byName[e.mailbox]
		if m == nil {
			m = &MailboxResult{Mailbox: e.mailbox, UIDValidity: e.uidValidity}
			byName[e.mailbox] = m
			list = append(list, m)
		}
		if bad == nil {
			bad = fill(&m.SearchResult, e, false)
		}
		return true
	}
	_, err = c.run(ctx, cmd, func(w *writer) {
		w.raw(" IN (")
		for i := range in {
			if i > 0 {
				w.sp()
			}
			in[i].write(w)
		}
		w.raw(") RETURN (" + strings.Join(opts.words(), " ") + ") ")
		if beyondASCII && !c.utf8() {
			w.raw("CHARSET UTF-8 ")
		}
		q.write(w)
	})
	if err != nil {
		return nil, err
	}
	if bad != nil {
		return nil, bad
	}
	return list, nil
}

// UIDBatches splits the mailbox that is selected into ranges of about size messages each, the
// newest first (RFC 10022), for commands that each work on one. First and last choose some,
// counted from 1; zero means all. A server may refuse small sizes with TOOFEW.
func (c *Client) UIDBatches(ctx context.Context, size, first, last uint32) ([]imap.Range[imap.UID], error) {
	if err := c.need(ctx, "UIDBATCHES"); err != nil {
		return nil, err
	}
	b, err := one[uidBatches](ctx, c, &command{name: "UIDBATCHES"}, func(w *writer) {
		w.sp().num(uint64(size))
		if first > 0 || last > 0 {
			w.sp().num(uint64(first)).raw(":").num(uint64(last))
		}
	})
	return b, err
}

// uidBatches is a UIDBATCHES response.
type uidBatches []imap.Range[imap.UID]

func takeUIDBatches(_ *Client, d *wire.Decoder) any {
	b := uidBatches{}
	d.SP()
	skipValue(d) // the tag
	if d.Accept(' ') && !d.AtEnd() {
		for _, r := range d.Set() {
			b = append(b, imap.Range[imap.UID]{First: imap.UID(min(r.First, r.Last)), Last: imap.UID(max(r.First, r.Last))})
		}
	}
	return b
}
