package imapserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"slices"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/mimetree"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

func (c *conn) cmdFetch(ctx context.Context) reply    { return c.fetch(ctx, false) }
func (c *conn) cmdUIDFetch(ctx context.Context) reply { return c.fetch(ctx, true) }

// fetcher is one FETCH under way.
type fetcher struct {
	c     *conn
	items []fetchItem
	cur   *index // what is known now
	// extra has what the index does not: ids and save dates.
	extra map[imap.UID]imap.Message

	// rendered has, for each item, what prepare made of the message at hand. It begins with
	// what the cache had.
	rendered [][]byte
	cached   [][]byte // rendered of all messages of a batch

	bodies    bool // an item needs the body
	digests   bool // an item needs no more than a digest
	full      bool // the digest must have the tree
	structure bool // BODY or BODYSTRUCTURE is among the items
	flags     bool // FLAGS is
	uid       bool // UID is
	modSeq    bool // MODSEQ is
	missing   bool // a message is gone
	failed    error
	binary    error // a transfer encoding that nobody knows
}

// seenBatch is how many messages get \Seen at once: a client that goes away in the middle
// of a long FETCH has not read the rest.
const seenBatch = 64

func (c *conn) fetch(ctx context.Context, uid bool) reply {
	c.dec.SP()
	spec, saved := c.numberSet()
	c.dec.SP()
	items := c.fetchItems()
	var changedSince imap.ModSeq
	vanished := false
	var partial partialRange
	if c.dec.Accept(' ') {
		c.dec.List(func() {
			switch c.dec.Word() {
			case "CHANGEDSINCE":
				c.dec.SP()
				changedSince = imap.ModSeq(c.dec.Number64())
			case "VANISHED":
				vanished = true
			case "PARTIAL": // RFC 9394, 3.3
				if !uid || partial.given() {
					c.dec.Fail("PARTIAL belongs to UID FETCH, once")
				}
				partial = c.partialRange()
			default:
				c.dec.Fail("no such modifier")
			}
		})
		if vanished && (!uid || !c.qresync || changedSince == 0) {
			c.dec.Fail("VANISHED needs UID FETCH, QRESYNC and CHANGEDSINCE")
		}
	}
	if !c.end() {
		return c.syntax()
	}
	s := c.sel
	set, there := s.numbers(spec, saved, uid)
	if !there {
		return bad("no such message")
	}
	has := func(kind itemKind) bool {
		return slices.ContainsFunc(items, func(it fetchItem) bool { return it.kind == kind })
	}
	c.enableCondstore(changedSince > 0 || has(itemModSeq))
	if uid && !has(itemUID) && !c.uidOnly {
		items = slices.Insert(items, 0, namedItem("UID"))
	}
	if changedSince > 0 && !has(itemModSeq) {
		items = append(items, namedItem("MODSEQ"))
	}
	cur, err := s.box.peek(ctx, peekAge)
	if err != nil {
		return c.failed(err)
	}
	f := &fetcher{c: c, items: items, cur: cur, structure: has(itemBody) || has(itemBodyStructure), flags: has(itemFlags), uid: uid || has(itemUID), modSeq: changedSince > 0 || has(itemModSeq)}
	if vanished {
		// "*" reaches to the last UID there was: that message may be what vanished.
		known := set
		if !saved {
			known = imap.Resolve(spec, max(s.view.state.UIDNext, 1)-1)
		}
		gone, err := c.vanished(ctx, known, changedSince, 0)
		if err != nil {
			return c.failed(err)
		}
		if len(gone) > 0 {
			c.enc.Raw("* VANISHED (EARLIER) ").Set(gone).CRLF()
		}
	}
	if has(itemEmailID) || has(itemThreadID) || has(itemSaveDate) {
		if err := f.loadExtra(ctx, set); err != nil {
			return c.failed(err)
		}
	}
	if partial.given() {
		set = partialOf(partial, s.known(set))
	}
	set, code := c.limitMessages(set)
	r := f.run(ctx, set, changedSince)
	if r.status == "OK" {
		r.code = orElse(r.code, code)
	}
	return r
}

// beginFetch begins the response about a message. After ENABLE UIDONLY its UID alone names it
// (RFC 9586, 3).
func (c *conn) beginFetch(num int, uid imap.UID) {
	if c.uidOnly {
		c.enc.Raw("* ").Num(uint64(uid)).Raw(" UIDFETCH (")
		return
	}
	c.enc.Raw("* ").Num(uint64(num)).Raw(" FETCH (")
}

// fetchNew tells of messages that came what the client asked to be told of such.
func (c *conn) fetchNew(ctx context.Context, cur *index, set imap.UIDSet, items []fetchItem) error {
	has := func(kinds ...itemKind) bool {
		return slices.ContainsFunc(items, func(it fetchItem) bool { return slices.Contains(kinds, it.kind) })
	}
	f := &fetcher{c: c, items: items, cur: cur, structure: has(itemBody, itemBodyStructure), flags: has(itemFlags), uid: has(itemUID), modSeq: has(itemModSeq)}
	if has(itemEmailID, itemThreadID, itemSaveDate) && len(set) > 0 {
		if err := f.loadExtra(ctx, set); err != nil {
			return err
		}
	}
	if r := f.run(ctx, set, 0); r.fatal {
		return r.cause
	}
	return nil
}

// run fetches the messages of set.
func (f *fetcher) run(ctx context.Context, set imap.UIDSet, changedSince imap.ModSeq) reply {
	c, s := f.c, f.c.sel
	setsSeen := false
	for i := range f.items {
		it := &f.items[i]
		setsSeen = setsSeen || it.seen && !s.readOnly
		structured := len(it.number) > 0 || it.kind == itemBody || it.kind == itemBodyStructure || it.kind == itemBinary ||
			it.kind == itemBinarySize || it.kind == itemPreview
		f.full = f.full || structured
		f.digests = f.digests || structured || it.kind == itemEnvelope || it.kept
		f.bodies = f.bodies || f.digests || it.kind == itemSection
	}
	type target struct {
		pos int
		e   *entry
	}
	var batch []target
	var told imap.UIDSet
	view := s.view
	flush := func() error {
		var unseen imap.UIDSet
		if setsSeen {
			for _, t := range batch {
				if now, _ := s.current(f.cur, t.e); now.system()&imap.Seen == 0 {
					unseen.Add(t.e.uid)
				}
			}
		}
		if len(unseen) > 0 {
			op := imap.FlagOp{Action: imap.FlagsAdd, Flags: imap.NewFlags(imap.FlagSeen)}
			_, err := s.box.mb.SetFlags(ctx, unseen, op, 0)
			switch {
			case notAllowed(err): // reading is, all the same
				unseen = nil
			case err != nil:
				return err
			default:
				if f.cur, err = s.box.refresh(ctx); err != nil {
					return err
				}
			}
		}
		if f.flags || len(unseen) > 0 {
			c.tellKeywords(f.cur)
		}
		var known digests
		if f.digests {
			entries := make([]*entry, len(batch))
			for i, t := range batch {
				entries[i] = t.e
			}
			known = f.lookAhead(ctx, entries)
		}
		for i, t := range batch {
			if f.digests {
				f.rendered = f.cached[i*len(f.items) : (i+1)*len(f.items)]
			}
			withFlags := len(unseen) > 0 && unseen.Contains(t.e.uid)
			now := t.e
			if f.cur != view {
				_, now = f.cur.find(t.e.uid)
			}
			news := now != nil && now.modSeq != t.e.modSeq && (f.flags || withFlags)
			// News come with their mod-sequence: they are not told again.
			if err := f.one(ctx, t.pos+1, t.e, known[t.e.uid], withFlags || news && c.condstore); err != nil {
				return err
			}
			if news {
				told.Add(t.e.uid)
			}
		}
		batch = batch[:0]
		return ctx.Err()
	}
	for pos, e := range view.within(set) {
		if changedSince > 0 {
			if now, _ := s.current(f.cur, e); now.modSeq <= changedSince {
				continue
			}
		}
		if batch = append(batch, target{pos, e}); len(batch) >= seenBatch {
			if err := flush(); err != nil {
				return f.end(err)
			}
		}
	}
	err := flush()
	s.told(f.cur, told)
	return f.end(err)
}

// end is the reply of a FETCH.
func (f *fetcher) end(err error) reply {
	switch {
	case f.c.enc.Err() != nil:
		return broken(f.c.enc.Err())
	case err != nil:
		return f.c.failed(err)
	case f.failed != nil:
		return f.c.failed(f.failed)
	case f.binary != nil:
		return reply{status: "NO", code: "UNKNOWN-CTE", text: "a part has an encoding that nobody knows", cause: f.binary}
	case f.missing:
		return no("EXPUNGEISSUED", "some of the messages no longer exist")
	}
	return ok("fetched")
}

// one writes the response for one message. Whatever can fail comes before its first octet,
// but for reading what a literal announced. Only an error of the connection is returned.
func (f *fetcher) one(ctx context.Context, num int, e *entry, d *mimetree.Digest, withFlags bool) error {
	c := f.c
	m := &message{mb: c.sel.box.mb, uid: e.uid, digest: d}
	defer m.close()
	if f.bodies {
		if err := f.prepare(ctx, m); err != nil {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, imap.ErrExpunged):
				f.missing = true
			case errors.Is(err, errUnknownEncoding):
				f.binary = err
			default:
				c.log.LogAttrs(ctx, slog.LevelError, "message cannot be read", slog.String("mailbox", c.sel.name), slog.Uint64("uid", uint64(e.uid)), slog.Any("err", err))
				f.failed = err
			}
			return nil
		}
	}
	c.beginFetch(num, e.uid)
	now, x := c.sel.current(f.cur, e)
	for i := range f.items {
		if i > 0 {
			c.enc.SP()
		}
		f.item(ctx, i, m, now, x)
	}
	if withFlags {
		f.implied(now, x)
	}
	c.enc.Raw(")").CRLF()
	return c.enc.Err()
}

// implied writes what a message that just got \Seen shows without being asked for it
// (RFC 9051, 6.4.5; RFC 7162, 3.2.4).
func (f *fetcher) implied(e *entry, x *index) {
	c := f.c
	if !f.flags {
		c.enc.SP()
		c.appendFlags(e, x)
	}
	if c.condstore && !f.uid && !c.uidOnly {
		c.enc.Raw(" UID ").Num(uint64(e.uid))
	}
	if c.condstore && !f.modSeq {
		c.enc.Raw(" MODSEQ (").Num(uint64(e.modSeq)).Raw(")")
	}
}

var errUnknownEncoding = errors.New("unknown content transfer encoding")

// prepare makes what the items need of the body: it is opened when the cache does not know
// better, and parsed as far as need be.
func (f *fetcher) prepare(ctx context.Context, m *message) error {
	if f.rendered == nil {
		f.rendered = make([][]byte, len(f.items))
	}
	for i := range f.items {
		it := &f.items[i]
		var err error
		switch it.kind {
		case itemEnvelope, itemBody, itemBodyStructure, itemPreview:
			if f.rendered[i] == nil {
				f.rendered[i], err = f.render(ctx, it, m)
			}
		case itemSection:
			switch {
			case f.rendered[i] != nil && it.cacheable():
			case it.cacheable():
				f.rendered[i], err = f.render(ctx, it, m)
			case len(it.fields) > 0:
				f.rendered[i], err = m.headerFields(ctx, it)
			default:
				_, _, _, err = m.section(ctx, it)
			}
		case itemBinary, itemBinarySize:
			if err = m.parse(ctx); err == nil {
				err = m.open(ctx)
			}
			if err == nil {
				if p := m.tree.Find(it.number); p != nil && len(it.number) > 0 && !p.IsMultipart() {
					if _, known := decodeTransfer(p.Encoding, nil); !known {
						err = errUnknownEncoding
					}
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cacheable reports whether what the item shows is kept in the cache.
func (it *fetchItem) cacheable() bool {
	switch it.kind {
	case itemEnvelope, itemBody, itemBodyStructure, itemPreview:
		return true
	}
	return it.kept && !it.partial
}

func (f *fetcher) cacheKey(it *fetchItem, uid imap.UID) cacheKey {
	key := cacheKey{box: f.c.sel.box.id, uid: uid, kind: it.kind}
	if it.kind == itemSection {
		key.label = it.label
	} else {
		key.utf8 = f.c.enc.UTF8
	}
	return key
}

// lookAhead makes cached, and finds out what the cache does not know of a batch of messages,
// all at once.
func (f *fetcher) lookAhead(ctx context.Context, batch []*entry) digests {
	f.cached = f.cached[:0]
	var need []*entry
	var at []int // where in cached the items of need[i] are
	for _, e := range batch {
		missing := false
		for i := range f.items {
			it := &f.items[i]
			var b []byte
			if it.cacheable() {
				b = f.c.server.cache.get(f.cacheKey(it, e.uid))
				missing = missing || b == nil
			} else {
				missing = missing || len(it.number) > 0 || it.kind == itemBinary || it.kind == itemBinarySize || it.kept
			}
			f.cached = append(f.cached, b)
		}
		if missing {
			need, at = append(need, e), append(at, len(f.cached)-len(f.items))
		}
	}
	if len(need) == 0 {
		return nil
	}
	return f.c.sel.box.digests(ctx, need, f.full, func(i int, m *message) {
		for k := range f.items {
			if b := &f.cached[at[i]+k]; *b == nil && f.items[k].cacheable() {
				// What fails is tried again, to be told why.
				if made, err := f.render(ctx, &f.items[k], m); err == nil && len(made) <= maxDigest {
					*b = made
				}
			}
		}
	})
}

// render makes what a cacheable item shows, and puts it into the cache.
func (f *fetcher) render(ctx context.Context, it *fetchItem, m *message) (b []byte, err error) {
	key := f.cacheKey(it, m.uid)
	switch it.kind {
	case itemEnvelope:
		if f.structure {
			if err := m.parse(ctx); err != nil { // once for both
				return nil, err
			}
		}
		if err := m.parseHeader(ctx); err != nil {
			return nil, err
		}
		b = m.header.Envelope.AppendEnvelope(nil, key.utf8)
	case itemPreview:
		text, err := m.preview(ctx)
		if err != nil {
			return nil, err
		}
		b = wire.AppendString(nil, text, key.utf8)
	case itemSection:
		if b, err = m.headerFields(ctx, it); err != nil {
			return nil, err
		}
	default:
		if err := m.parse(ctx); err != nil {
			return nil, err
		}
		b = m.tree.AppendStructure(nil, it.kind == itemBodyStructure, key.utf8)
	}
	f.c.server.cache.put(key, slices.Clone(b)) // without room to grow
	return b, nil
}

// item writes the item at position i.
func (f *fetcher) item(ctx context.Context, i int, m *message, e *entry, x *index) {
	c := f.c
	it := &f.items[i]
	switch it.kind {
	case itemFlags:
		c.appendFlags(e, x)
		return
	case itemBinary, itemBinarySize:
		f.binaryItem(it, m)
		return
	}
	c.enc.Raw(it.label).SP()
	switch it.kind {
	case itemUID:
		c.enc.Num(uint64(e.uid))
	case itemDate:
		c.enc.DateTime(e.internalDate())
	case itemSize:
		size := uint64(e.size)
		if e.size == math.MaxUint32 && m.open(ctx) == nil {
			size = uint64(m.body.Size())
		}
		c.enc.Num(size)
	case itemModSeq:
		c.enc.Raw("(").Num(uint64(e.modSeq)).Raw(")")
	case itemEnvelope, itemBody, itemBodyStructure, itemPreview:
		c.enc.Bytes(f.rendered[i])
	case itemSection:
		if b := f.rendered[i]; b != nil {
			c.enc.Raw("{").Num(uint64(len(b))).Raw("}\r\n").Bytes(b)
		} else {
			f.section(ctx, it, m)
		}
	case itemEmailID:
		if id := f.extra[e.uid].ID; isObjectID(id) {
			c.enc.Raw("(").Raw(id).Raw(")")
		} else {
			c.enc.Raw("NIL")
		}
	case itemThreadID:
		if id := f.extra[e.uid].ThreadID; isObjectID(id) {
			c.enc.Raw("(").Raw(id).Raw(")")
		} else {
			c.enc.Raw("NIL")
		}
	case itemSaveDate:
		if date := f.extra[e.uid].SaveDate; !date.IsZero() {
			c.enc.DateTime(date)
		} else {
			c.enc.Raw("NIL")
		}
	}
}

// section writes the octets of BODY[...].
func (f *fetcher) section(ctx context.Context, it *fetchItem, m *message) {
	c := f.c
	start, end, ok, err := m.section(ctx, it) // parsed before: it can not fail now
	if !ok || err != nil || len(it.fields) > 0 {
		c.enc.Raw("NIL")
		return
	}
	if it.partial {
		start = min(start+min(it.offset, end-start), end)
		end = min(start+min(it.count, end-start), end)
	}
	c.enc.Literal(m.reader(start, end), end-start, false)
}

// binaryItem writes BINARY[...] or BINARY.SIZE[...] (RFC 3516). The octets are decoded
// twice: their number comes first.
func (f *fetcher) binaryItem(it *fetchItem, m *message) {
	c := f.c
	c.enc.Raw(it.label).SP()
	start, end, ok := m.tree.Section(it.number, mimetree.Whole)
	p := m.tree.Find(it.number)
	if !ok || p == nil {
		if it.kind == itemBinarySize {
			c.enc.Raw("0")
		} else {
			c.enc.Raw("NIL")
		}
		return
	}
	encoding := p.Encoding
	if len(it.number) == 0 || p.IsMultipart() {
		encoding = ""
	}
	open := func() io.Reader {
		r, _ := decodeTransfer(encoding, m.reader(start, end))
		return r
	}
	count := new(countNUL)
	size, err := io.Copy(count, open())
	if err != nil {
		size = 0
	}
	if it.kind == itemBinarySize {
		c.enc.Num(uint64(size))
		return
	}
	r := open()
	if it.partial {
		from := min(it.offset, size)
		_, _ = io.CopyN(io.Discard, r, from)
		size = min(it.count, size-from)
	}
	c.enc.Literal(r, size, count.found)
}

// countNUL finds out whether there is a NUL: only a literal8 may have one.
type countNUL struct{ found bool }

func (n *countNUL) Write(p []byte) (int, error) {
	n.found = n.found || slices.Contains(p, 0)
	return len(p), nil
}

// loadExtra asks the store for what the index does not keep. It costs a look at the whole
// mailbox: ids and save dates are rarely asked for, and the index stays small.
func (f *fetcher) loadExtra(ctx context.Context, set imap.UIDSet) error {
	d, err := f.c.sel.box.mb.Changes(ctx, 0)
	if err != nil {
		return err
	}
	f.extra = make(map[imap.UID]imap.Message)
	for m, err := range d.Messages {
		if err != nil {
			return err
		}
		if set.Contains(m.UID) {
			f.extra[m.UID] = m
		}
	}
	return nil
}
