package mbox

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

// An update is a change of a whole mailbox: what it will hold, in order, from what it holds.
type update struct {
	items   []item
	base    base
	holder  bool // X-IMAPbase must be written
	next    imap.UID
	modSeq  imap.ModSeq // of what changes
	gone    []imap.UID
	anew    bool // the index must be written anew: another UIDVALIDITY
	scanned bool // from the file, not from the view
}

// An item is a message: one that is there, with its place in the file as it is now, or one to come.
type item struct {
	e, was *entry // was: as the view has it; nil: new to the view
	dirty  bool   // its fields must be written
	in     *incoming
	sep    string // of an incoming one
}

// plan returns an update that changes nothing yet.
func (f *folder) plan() *update {
	u := &update{base: f.base, next: f.next, modSeq: f.nextModSeq(), items: make([]item, 0, len(f.msgs)+1)}
	if f.pseudo != nil {
		u.items = append(u.items, item{e: f.pseudo, was: f.pseudo})
	}
	for _, e := range f.msgs {
		u.items = append(u.items, item{e: e, was: e})
	}
	return u
}

// change puts another version of the i'th message in its place, and returns it.
func (u *update) change(i int) *entry {
	e := *u.items[i].e
	u.items[i].e, u.items[i].dirty = &e, true
	return &e
}

// pseudoText is the message that holds X-IMAP while there is no other.
const pseudoText = "Date: %s\nFrom: Mail System Internal Data <MAILER-DAEMON@%s>\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nMessage-ID: <%d@%s>\n"

const pseudoBody = "This text is part of the internal format of your mail folder, and is not\r\na real message.  It is created automatically by the mail system software.\r\n" +
	"If deleted, important folder data will be lost, and it will be re-created\r\nwith the data reset to initial values.\r\n"

func (f *folder) pseudoItem() (item, error) {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	now := f.opts.now()
	in, err := receive(bytes.NewReader([]byte("\r\n"+pseudoBody)), f.opts.Dialect)
	if err != nil {
		return item{}, err
	}
	in.header = fmt.Appendf(nil, pseudoText, now.Format(time.RFC1123Z), host, now.Unix(), host)
	sep, err := formatSeparator("", now, f.opts.Location, Dovecot)
	return item{e: &entry{system: imap.Seen}, in: in, sep: sep}, err
}

// apply makes the file what u says, durably, then the view and the index. When it fails before
// it is durable, nothing has changed.
func (f *folder) apply(l *Lock, u *update) error {
	before, err := l.size()
	if err != nil {
		return err
	}
	u.base.last = u.next - 1
	if len(u.items) == 0 && before > 0 {
		it, err := f.pseudoItem()
		if err != nil {
			return err
		}
		defer it.in.text.Close()
		u.base.pseudo = true
		u.items = append(u.items, it)
	}
	if len(u.items) == 0 {
		u.base.pseudo = false
	} else if first := &u.items[0]; first.e.uid != 0 {
		u.base.pseudo = false
		if u.holder || !u.scanned && (len(f.msgs) == 0 || f.msgs[0].uid != first.e.uid) {
			first.dirty = true
		}
	} else if u.holder {
		first.dirty = true
	}
	for i := range u.items {
		u.items[i].e = clonePlace(u.items[i].e)
	}
	if err := f.rewrite(l, u, before); err != nil {
		f.valid = false
		return err
	}
	st, err := f.mark(l)
	if err != nil {
		f.valid = false
		return err
	}
	f.take(u, st)
	return nil
}

// clonePlace returns a copy whose place may be changed.
func clonePlace(e *entry) *entry { c := *e; return &c }

// status returns what the header of an item shall say.
func (f *folder) status(u *update, i int) *status {
	e := u.items[i].e
	s := &status{flags: e.system, old: !e.recent, keywords: f.index.keywords(e.words), uid: e.uid, length: -1, body: e.bodyOnly}
	if i == 0 {
		s.base = &u.base
	}
	if f.opts.Dialect.counted() {
		s.length = e.bodyLen
	}
	return s
}

// rewrite writes a journal of what changes in the file, and does it. The places of u's items
// become those in the new file.
func (f *folder) rewrite(l *Lock, u *update, before int64) (err error) {
	j, err := newJournal(l)
	if err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			j.drop()
		}
	}()
	var at int64
	for _, it := range u.items {
		if it.in == nil {
			if sc := (&scanner{r: l.f, size: before, loc: f.opts.Location}); it.e.off > 0 {
				if at, err = sc.first(); err != nil { // text before it stays
					return err
				}
			}
			break
		}
	}
	out := &tailWriter{j: j}
	begin := func() error {
		if j.tail >= 0 {
			return nil
		}
		j.tail = at
		var last [1]byte
		if at > 0 {
			if _, err := l.f.ReadAt(last[:], at-1); err != nil {
				return err
			}
		}
		out.last = last[0]
		return nil
	}
	for i := range u.items {
		it := &u.items[i]
		e, old := it.e, it.e.place
		var header []byte
		if it.in == nil {
			if it.dirty {
				raw := make([]byte, old.header)
				if _, err := l.f.ReadAt(raw, old.headerAt()); err != nil {
					return err
				}
				header = rewriteHeader(raw, f.status(u, i))
				if j.tail < 0 && old.off == at && len(header) == len(raw) && len(raw) > 0 {
					j.patch(old.headerAt(), raw, header)
					header = nil
				}
			}
			if j.tail < 0 && old.off == at && header == nil {
				at += old.total
				continue
			}
		}
		if err := begin(); err != nil {
			return err
		}
		if at > 0 && out.last != '\n' { // the file's last line had no end
			if _, err := out.Write([]byte{'\n'}); err != nil {
				return err
			}
			at++
			if i > 0 {
				u.items[i-1].e.total++
			}
		}
		e.off = at
		if it.in != nil {
			err = f.putIncoming(out, u, i)
		} else {
			err = putOld(out, l.f, e, old, header)
		}
		if err != nil {
			return err
		}
		at += e.total
		l.Touch()
	}
	if j.tail < 0 && at < before {
		j.tail = at
	}
	done = true
	return j.commit(before, at)
}

// A tailWriter knows the last octet written.
type tailWriter struct {
	j    *journal
	last byte
}

func (t *tailWriter) Write(p []byte) (int, error) {
	if len(p) > 0 {
		t.last = p[len(p)-1]
	}
	return t.j.Write(p)
}

// putOld copies a message that is there, with another header unless that is nil.
func putOld(w io.Writer, r io.ReaderAt, e *entry, old place, header []byte) error {
	if header == nil {
		_, err := io.Copy(w, io.NewSectionReader(r, old.off, old.total))
		return err
	}
	e.header = int32(len(header))
	e.total += int64(e.header) - int64(old.header)
	sep := make([]byte, old.sep)
	if _, err := r.ReadAt(sep, old.off); err != nil && err != io.EOF {
		return err
	}
	if !bytes.HasSuffix(sep, []byte{'\n'}) {
		sep = append(sep, '\n')
		e.sep++
		e.total++
	}
	if _, err := w.Write(sep); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	_, err := io.Copy(w, io.NewSectionReader(r, old.bodyAt(), old.off+old.total-old.bodyAt()))
	return err
}

func (f *folder) putIncoming(w io.Writer, u *update, i int) error {
	it := &u.items[i]
	e := it.e
	e.bodyOnly, e.bodyLen = it.in.body, it.in.length
	head := slices.Concat(it.in.header, f.status(u, i).block(padding))
	e.sep, e.header = int32(len(it.sep)), int32(len(head))
	e.total = int64(e.sep) + int64(e.header) + e.bodyLen + 1
	if _, err := io.WriteString(w, it.sep); err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	if err := it.in.writeBody(w, f.opts.Dialect); err != nil {
		return err
	}
	_, err := w.Write([]byte{'\n'})
	return err
}

// take makes the view and the index what u says. The file is so already: a failure of the index
// costs a scan.
func (f *folder) take(u *update, st stamp) {
	x := &f.index
	var changed []*entry
	visible := len(u.gone) > 0 || u.anew
	f.pseudo, f.msgs, f.count = nil, make([]*entry, 0, len(u.items)), counts{}
	for _, it := range u.items {
		e := it.e
		if it.was != nil && *it.was == *e {
			e = it.was
		} else {
			changed = append(changed, e)
		}
		if e.uid == 0 {
			f.pseudo = e
			continue
		}
		visible = visible || e.modSeq == u.modSeq
		f.msgs = append(f.msgs, e)
		f.count.add(e, 1)
	}
	if visible {
		f.highest = u.modSeq
	}
	if u.anew {
		f.gone = nil
	}
	from := len(f.gone)
	for _, uid := range u.gone {
		f.addGone(goneEntry{uid, u.modSeq})
	}
	newBase := !f.base.sameKeywords(&u.base) || f.base.pseudo != u.base.pseudo || f.base.last != u.base.last
	f.base, f.next, f.file, f.valid = u.base, u.next, st, true
	whole := x.read == 0 || u.anew || x.records > 1000+4*(len(f.msgs)+len(f.gone)) || len(changed) > 64+len(f.msgs)/2 || from > len(f.gone)
	var err error
	if whole {
		err = f.writeIndex(u.anew)
	} else {
		if newBase {
			x.putBase(&f.base)
		}
		for _, g := range f.gone[from:] {
			x.putGone(g)
		}
		for _, e := range changed {
			x.putEntry(e)
		}
		x.putStamp(st, f.next, f.highest)
		err = x.flush()
	}
	if err != nil {
		f.opts.logger().Warn("mbox index not written", "file", f.path, "err", err)
		f.valid = false
	}
}

// writeIndex replaces the index by what the view holds.
func (f *folder) writeIndex(anew bool) error {
	floor := f.forgotten()
	if f.index.read == 0 || anew {
		// What went away before now is not known.
		f.highest = max(f.highest, f.nextModSeq())
		floor = f.highest
	}
	sets := slices.Clone(f.index.sets)
	id := f.id
	err := f.index.write(id, f.base.validity, floor, len(f.msgs) == 0 && f.pseudo == nil, func(cut func() error) error {
		for _, words := range sets[min(1, len(sets)):] { // they keep their numbers
			f.index.set(strings.Fields(words))
		}
		f.index.putBase(&f.base)
		if f.pseudo != nil {
			f.index.putEntry(f.pseudo)
		}
		for _, e := range f.msgs {
			f.index.putEntry(e)
			if len(f.index.buf) > 256<<10 {
				if err := cut(); err != nil {
					return err
				}
			}
		}
		for _, g := range f.gone {
			f.index.putGone(g)
		}
		f.index.putStamp(f.file, f.next, f.highest)
		return cut()
	})
	if err == nil {
		f.id = f.index.id
	}
	return err
}
