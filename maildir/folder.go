package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/dotlock"
)

// A message is what is known of one message of a folder. It is never changed once it is in
// a folder's view: a changed one takes its place, so that a view handed out stays as it was.
type message struct {
	entry
	*uidRecord // the same one in all states of the message
	ref        Ref
}

func (m *message) at() imap.UID { return m.entry.uid }

// A folder is one Maildir as this process knows it, shared by all handles on it. Its truth
// is on disk: the files, the UID list, the index. refresh brings the view up to that.
type folder struct {
	root string // of the tree: where UIDVALIDITYs come from
	dir  Dir
	opts *Options

	mu        sync.Mutex // guards all below; held while the dot lock is held
	refs      int        // under registry.mu
	self      pin        // its cur/
	uids      uidList
	words     keywords
	index     index
	scans     [2]scan               // of new/ and cur/
	lines     map[string]*uidRecord // the UID list's records by base, those of expunged messages too
	linesRead bool                  // all of them, since the files were last compared with them
	pending   map[imap.UID]entry    // the index's messages that are not in the view (yet)
	msgs      []*message            // the view, by ascending UID
	gone      []goneEntry           // by ascending mod-sequence
	highest   imap.ModSeq
	count     counts
	missed    map[imap.UID]int // in how many scans a message of the view was not found

	parsed *parsedCache

	queueMu sync.Mutex
	queue   []*arrival // waiting to be given UIDs

	watchMu  sync.Mutex
	watchers map[*func()]struct{}
}

type counts struct {
	unseen, deleted uint32
	size            int64
	keywords        map[string]int // messages with the keyword, by its spelling
}

func (c *counts) add(m *message, n int) {
	if m.flags.System()&imap.Seen == 0 {
		c.unseen += uint32(n)
	}
	if m.flags.System()&imap.Deleted != 0 {
		c.deleted += uint32(n)
	}
	c.size += int64(n) * m.size
	for _, w := range m.flags.Keywords() {
		if c.keywords[w] += n; c.keywords[w] == 0 {
			delete(c.keywords, w)
		}
	}
}

// registry holds the folders that are open in this process, by their path.
var registry = struct {
	mu      sync.Mutex
	folders map[string]*folder
}{folders: make(map[string]*folder)}

// openFolder returns the folder at path; closeFolder must follow.
func openFolder(root, path string, opts *Options) (*folder, error) {
	info, err := os.Stat(filepath.Join(path, "cur"))
	if err != nil {
		return nil, err
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	f := registry.folders[path]
	if f == nil || !f.self.is(info) { // one that was deleted and made again is another
		self, err := pinned(filepath.Join(path, "cur"))
		if err != nil {
			return nil, err
		}
		f = &folder{
			root:     root,
			dir:      Dir(path),
			opts:     opts,
			self:     self,
			uids:     uidList{path: filepath.Join(path, uidListFile), next: 1},
			words:    newKeywords(path),
			index:    index{path: filepath.Join(path, indexFile)},
			scans:    [2]scan{{dir: filepath.Join(path, "new")}, {dir: filepath.Join(path, "cur")}},
			watchers: make(map[*func()]struct{}),
			parsed:   newParsedCache(Dir(path)),
		}
		f.forget()
		registry.folders[path] = f
	}
	f.refs++
	return f, nil
}

func closeFolder(f *folder) {
	registry.mu.Lock()
	f.refs--
	last := f.refs == 0
	if last && registry.folders[string(f.dir)] == f {
		delete(registry.folders, string(f.dir))
	}
	registry.mu.Unlock()
	if last {
		f.parsed.close()
		f.mu.Lock()
		defer f.mu.Unlock()
		f.self.release()
		f.uids.file.release()
		f.index.file.release()
	}
}

// forget empties the view. The files it was made of are read again.
func (f *folder) forget() {
	f.lines = make(map[string]*uidRecord)
	f.pending = make(map[imap.UID]entry)
	f.missed = make(map[imap.UID]int)
	f.msgs, f.gone, f.highest = nil, nil, 0
	f.count = counts{keywords: make(map[string]int)}
	f.uids.file.release()
	f.index.file.release()
	for i := range f.scans {
		f.scans[i].stale = true
	}
}

// alive returns ErrNoMailbox when the folder was deleted or renamed. f.mu is held.
func (f *folder) alive() error {
	info, err := os.Stat(filepath.Join(string(f.dir), "cur"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !f.self.is(info) {
		return imap.ErrNoMailbox
	}
	return err
}

// lives is alive for who does not hold f.mu: the last handle may be closed meanwhile.
func (f *folder) lives() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.alive()
}

// current reports whether nothing on disk changed since the view was made of it.
func (f *folder) current() bool {
	if f.uids.file.info == nil || f.index.file.info == nil {
		return false
	}
	for i := range f.scans {
		if !f.scans[i].current() {
			return false
		}
	}
	same := func(path string, old pin) bool {
		info, err := os.Stat(path)
		return err == nil && old.is(info) && info.Size() == old.info.Size()
	}
	return same(f.uids.path, f.uids.file) && same(f.index.path, f.index.file)
}

// refresh brings the view up to what is on disk. f.mu is held.
func (f *folder) refresh(ctx context.Context) error {
	if err := f.alive(); err != nil {
		return err
	}
	if f.current() {
		return nil
	}
	return f.locked(ctx, func(l *dotlock.Lock) error { return f.sync(ctx, l) })
}

// locked runs do with the UID list's lock held. f.mu is held.
func (f *folder) locked(ctx context.Context, do func(l *dotlock.Lock) error) error {
	lock, err := lockFile(ctx, f.uids.path)
	if err != nil {
		if aerr := f.alive(); aerr != nil {
			return aerr
		}
		return err
	}
	defer lock.Unlock()
	return do(lock)
}

// sync takes in what other processes wrote, then what the folder's files show that nobody
// wrote down: new messages get UIDs, changed flags and missing files a mod-sequence. Both
// locks are held.
func (f *folder) sync(ctx context.Context, l *dotlock.Lock) error {
	before := f.highest
	if err := f.readLists(ctx); err != nil {
		return err
	}
	if err := f.readFiles(ctx, l); err != nil {
		return err
	}
	if f.highest != before {
		f.wake()
	}
	return nil
}

// readLists takes in keywords, UID list and index, and mends them.
func (f *folder) readLists(ctx context.Context) error {
	if changed, err := f.words.refresh(); err != nil {
		return err
	} else if changed {
		for i := range f.scans {
			f.scans[i].stale = true // letters may mean something else now
		}
	}
	for range 2 { // a new index sends us back to the UID list, once
		whole := len(f.msgs) == 0
		err := f.uids.refresh(func() { f.forget(); whole = true }, func(r uidRecord) { f.lines[r.base] = &r })
		switch {
		case errors.Is(err, fs.ErrNotExist):
			f.uids.file.release() // written anew from what we know
		case err != nil:
			return err
		}
		again := false
		if err = f.index.refresh(func() { again = len(f.msgs) > 0 }, f.takeEntry, f.takeGone); err != nil {
			return err
		}
		if !again {
			if whole {
				f.dropGoneLines()
				f.linesRead = true
			}
			break
		}
		f.forget()
	}
	if err := f.takeBack(); err != nil {
		return err
	}
	return f.mendLists(ctx)
}

// dropGoneLines forgets the UIDs of expunged messages: should such a file come back, it is
// a new message.
func (f *folder) dropGoneLines() {
	gone := make(map[imap.UID]struct{}, len(f.gone))
	for _, g := range f.gone {
		gone[g.uid] = struct{}{}
	}
	for base, r := range f.lines {
		if _, ok := gone[r.uid]; ok {
			delete(f.lines, base)
		}
	}
}

// mendLists writes the UID list and the index anew where they are missing or damaged, or hold
// too much of the past.
func (f *folder) mendLists(ctx context.Context) error {
	if f.uids.validity == 0 {
		if f.uids.validity = f.index.validity; f.uids.validity == 0 {
			v, err := nextUIDValidity(ctx, f.root, f.opts.now())
			if err != nil {
				return err
			}
			f.uids.validity = v
		}
	}
	for uid := range f.pending {
		f.uids.next = max(f.uids.next, uid+1)
	}
	if n := len(f.gone); n > 0 {
		for _, g := range f.gone[max(0, n-1000):] {
			f.uids.next = max(f.uids.next, g.uid+1)
		}
	}
	if f.uids.stale() {
		err := f.uids.write(func(yield func(uidRecord) bool) {
			recs := make([]uidRecord, 0, len(f.lines))
			for _, r := range f.lines {
				recs = append(recs, *r)
			}
			slices.SortFunc(recs, func(a, b uidRecord) int { return cmpUID(a.uid, b.uid) })
			for _, r := range recs {
				if !yield(r) {
					return
				}
			}
		})
		if err != nil {
			return err
		}
	}
	if f.index.read == 0 || f.index.validity != f.uids.validity {
		if f.index.validity != f.uids.validity && f.index.read != 0 {
			f.msgs, f.gone, f.pending = nil, nil, make(map[imap.UID]entry)
			f.count = counts{keywords: make(map[string]int)}
		}
		// What went away before now is not known.
		floor := f.nextModSeq()
		f.highest = floor
		return f.writeIndex(floor)
	}
	if f.highest < f.index.floor {
		f.highest = f.index.floor
	}
	return nil
}

// writeIndex replaces the index by what the view and pending hold.
func (f *folder) writeIndex(floor imap.ModSeq) error {
	return f.index.write(f.uids.validity, floor, func(yield func(entry) bool) {
		for _, m := range f.msgs {
			if !yield(m.entry) {
				return
			}
		}
		for _, e := range f.pending {
			if !yield(e) {
				return
			}
		}
	}, f.gone)
}

// takeEntry takes in what another process, or an earlier one, wrote of a message.
func (f *folder) takeEntry(e entry) {
	f.highest = max(f.highest, e.modSeq)
	if i, ok := f.find(e.uid); ok {
		m := *f.msgs[i]
		m.entry = e
		f.replace(i, &m)
		return
	}
	f.pending[e.uid] = e
}

func (f *folder) takeGone(g goneEntry) {
	f.highest = max(f.highest, g.modSeq)
	delete(f.pending, g.uid)
	if i, ok := f.find(g.uid); ok {
		f.count.add(f.msgs[i], -1)
		delete(f.lines, f.msgs[i].base)
		f.msgs = slices.Delete(f.msgs, i, i+1)
	}
	f.addGone(g)
}

// maxGone bounds the expunges that a folder remembers: a client that was away for longer is
// told what is there instead of what is gone.
const maxGone = 1 << 17

func (f *folder) addGone(g goneEntry) {
	f.gone = append(f.gone, g)
	if len(f.gone) > maxGone {
		f.gone = slices.Clone(f.gone[maxGone/2:])
	}
}

// forgotten returns the mod-sequence before which expunges are not known.
func (f *folder) forgotten() imap.ModSeq {
	if len(f.gone) >= maxGone/2 {
		return max(f.index.floor, f.gone[0].modSeq)
	}
	return f.index.floor
}

// nextModSeq returns a mod-sequence greater than all given out, also than any that a power
// cut took back: it is at least the time in microseconds.
func (f *folder) nextModSeq() imap.ModSeq {
	return max(f.highest+1, imap.ModSeq(max(0, f.opts.now().UnixMicro())))
}

func cmpUID(a, b imap.UID) int { return cmpInt(int64(a), int64(b)) }

// find returns where uid is, or would be, in the view.
func (f *folder) find(uid imap.UID) (int, bool) {
	if n := len(f.msgs); n == 0 || f.msgs[n-1].at() < uid {
		return n, false
	}
	return slices.BinarySearchFunc(f.msgs, uid, func(m *message, uid imap.UID) int {
		if m.at() == uid {
			return 0
		}
		return cmpUID(m.at(), uid)
	})
}

// replace puts m in place of the i'th message.
func (f *folder) replace(i int, m *message) {
	f.count.add(f.msgs[i], -1)
	f.count.add(m, 1)
	f.msgs[i] = m
}

// insert puts messages that are not there into the view.
func (f *folder) insert(msgs ...*message) {
	byUID := func(a, b *message) int { return cmpUID(a.at(), b.at()) }
	f.msgs = append(f.msgs, msgs...)
	if !slices.IsSortedFunc(f.msgs[max(0, len(f.msgs)-len(msgs)-1):], byUID) {
		slices.SortFunc(f.msgs, byUID)
	}
	for _, m := range msgs {
		f.count.add(m, 1)
	}
}

// remove takes the messages of the view for which gone says so out of it, and writes that down.
func (f *folder) remove(modSeq imap.ModSeq, gone func(m *message) bool) {
	f.msgs = slices.DeleteFunc(f.msgs, func(m *message) bool {
		if !gone(m) {
			return false
		}
		f.count.add(m, -1)
		delete(f.lines, m.base)
		f.putGone(m.at(), modSeq)
		return true
	})
}

// putGone writes down that a message has gone.
func (f *folder) putGone(uid imap.UID, modSeq imap.ModSeq) {
	g := goneEntry{uid, modSeq}
	delete(f.missed, uid)
	f.highest = modSeq
	f.addGone(g)
	f.index.putGone(g)
}

// flush writes the index records put since, and makes the files smaller when most of what
// they hold is past. Both locks are held. A failure costs the index, not the mailbox: it is
// written anew with the next sync.
func (f *folder) flush() {
	if err := f.index.flush(); err != nil {
		f.opts.logger().Warn("maildir index not written", "dir", string(f.dir), "err", err)
		f.index.file.release()
		return
	}
	if f.index.records > 1000+4*(len(f.msgs)+len(f.gone)) {
		if err := f.writeIndex(f.forgotten()); err != nil {
			f.opts.logger().Warn("maildir index not written", "dir", string(f.dir), "err", err)
		}
	}
	if f.uids.lines > 1000 && len(f.msgs) < f.uids.lines*3/4 {
		f.compactUIDs()
	}
}

// compactUIDs writes the UID list without the records of expunged messages, unless some are
// still looked for.
func (f *folder) compactUIDs() {
	if len(f.pending) > 0 || f.linesRead {
		return
	}
	err := f.uids.write(func(yield func(uidRecord) bool) {
		for _, m := range f.msgs {
			if !yield(*m.uidRecord) {
				return
			}
		}
	})
	if err != nil {
		f.opts.logger().Warn("maildir uid list not written", "dir", string(f.dir), "err", err)
		return
	}
	f.lines = make(map[string]*uidRecord, len(f.msgs))
	for _, m := range f.msgs {
		f.lines[m.base] = m.uidRecord
	}
}

// wake tells the watchers that something changed.
func (f *folder) wake() {
	f.watchMu.Lock()
	defer f.watchMu.Unlock()
	for w := range f.watchers {
		(*w)()
	}
}

func (f *folder) errorf(doing string, err error) error {
	return fmt.Errorf("maildir: %s %s: %w", doing, f.dir, err)
}

// date is the second that the message is said to have come in.
func (e entry) internalDate() time.Time { return time.Unix(e.date, 0) }
