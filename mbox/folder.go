package mbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

// A folder is one mbox file as this process knows it, shared by all handles on it. Its truth is
// on disk: the file and the index. refresh brings the view up to that.
type folder struct {
	path  string // with symbolic links resolved
	root  string // of the store: where UIDVALIDITYs come from
	inbox bool   // made again when it is missing
	opts  *Options

	mu      sync.Mutex // guards all below; held while the file is locked
	refs    int        // under registry.mu
	index   index
	id      string // of the mailbox; empty: not known yet
	file    stamp  // the state of the file that the view is of
	valid   bool   // the view is of that state
	base    base
	pseudo  *entry   // the first message, which is none; nil: there is no such thing
	msgs    []*entry // the view, by ascending UID and place
	slab    []entry  // where entries that are read are kept, many at once
	gone    []goneEntry
	highest imap.ModSeq
	next    imap.UID
	count   counts

	watchMu  sync.Mutex
	watchers map[*func()]struct{}
}

type counts struct {
	unseen, deleted uint32
	size            int64
}

func (c *counts) add(e *entry, n int) {
	if e.system&imap.Seen == 0 {
		c.unseen += uint32(n)
	}
	if e.system&imap.Deleted != 0 {
		c.deleted += uint32(n)
	}
	c.size += int64(n) * e.size
}

// registry holds the folders that are open in this process, by their path.
var registry = struct {
	mu      sync.Mutex
	folders map[string]*folder
}{folders: make(map[string]*folder)}

// openFolder returns the folder of the file at path; closeFolder must follow.
func openFolder(root, path string, inbox bool, opts *Options) (*folder, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) && inbox {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		f.Close()
		real, err = filepath.EvalSymlinks(path)
		if err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if info, err := os.Stat(real); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fs.ErrNotExist
	}
	registry.mu.Lock()
	defer registry.mu.Unlock()
	key := real
	if opts.apart {
		key = fmt.Sprintf("%p %s", opts, real)
	}
	f := registry.folders[key]
	if f == nil {
		f = &folder{path: real, root: root, inbox: inbox, opts: opts, next: 1, watchers: make(map[*func()]struct{})}
		f.index = index{path: sidecar(real, indexSuffix), numbers: make(map[string]uint32)}
		registry.folders[key] = f
	}
	f.refs++
	return f, nil
}

func closeFolder(f *folder) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	if f.refs--; f.refs == 0 {
		unregister(f)
	}
}

// unregister has the next one who opens the path get another folder. registry.mu is held.
func unregister(f *folder) {
	for key, g := range registry.folders {
		if g == f {
			delete(registry.folders, key)
		}
	}
}

// refresh brings the view up to what is on disk. f.mu is held.
func (f *folder) refresh(ctx context.Context) error {
	info, err := os.Stat(f.path)
	if err == nil && f.valid && stampOf(info) == f.file && f.index.current() {
		return nil
	}
	return f.locked(ctx, func(*Lock) error { return nil })
}

// locked runs do with the file locked and the view up to date. f.mu is held.
func (f *folder) locked(ctx context.Context, do func(l *Lock) error) error {
	o := LockOptions{Wait: f.opts.LockWait, NoDotLock: f.opts.NoDotLock, exists: !f.inbox || f.id != "", disk: f.opts.disk}
	l, err := LockFile(ctx, f.path, &o)
	if errors.Is(err, fs.ErrNotExist) {
		if !f.inbox || f.id == "" {
			return imap.ErrNoMailbox
		}
		o.exists = false
		l, err = LockFile(ctx, f.path, &o)
	}
	if errors.Is(err, ErrLocked) {
		err = fmt.Errorf("%w: %w", imap.ErrInUse, err)
	}
	if err != nil {
		return err
	}
	before := f.highest
	err = f.sync(ctx, l)
	if err == nil {
		err = do(l)
	}
	if err != nil && len(f.index.buf) > 0 { // numbers that nobody else knows
		f.index.clear()
	}
	if uerr := l.Unlock(); err == nil && !errors.Is(uerr, fs.ErrNotExist) {
		err = uerr
	}
	if f.highest != before {
		f.wake()
	}
	return err
}

// The index's records.

func (f *folder) reset() {
	f.valid, f.base, f.pseudo, f.msgs, f.gone, f.count = false, base{}, nil, nil, nil, counts{}
}

func (f *folder) takeEntry(e entry) {
	if len(f.slab) == cap(f.slab) {
		f.slab = make([]entry, 0, 256)
	}
	f.slab = append(f.slab, e)
	kept := &f.slab[len(f.slab)-1]
	if e.uid == 0 {
		f.pseudo = kept
		return
	}
	f.count.add(kept, 1)
	f.highest = max(f.highest, e.modSeq)
	i, there := f.find(e.uid)
	switch {
	case there:
		f.count.add(f.msgs[i], -1)
		f.msgs[i] = kept
	case i == len(f.msgs):
		f.msgs = append(f.msgs, kept)
	default:
		f.msgs = slices.Insert(f.msgs, i, kept)
	}
}

func (f *folder) takeGone(g goneEntry) {
	f.highest = max(f.highest, g.modSeq)
	if i, there := f.find(g.uid); there {
		f.count.add(f.msgs[i], -1)
		f.msgs = slices.Delete(f.msgs, i, i+1)
	}
	f.addGone(g)
}

func (f *folder) takeBase(b base) {
	f.base = b
	if !b.pseudo {
		f.pseudo = nil
	}
}

func (f *folder) takeStamp(st stamp, next imap.UID, highest imap.ModSeq) {
	f.file, f.valid = st, true
	f.next, f.highest = max(f.next, next), max(f.highest, highest)
}

// sync takes in what other processes of ours wrote, and then what others did to the file. The
// file is locked.
func (f *folder) sync(ctx context.Context, l *Lock) error {
	if err := f.index.refresh(f); err != nil {
		return err
	}
	if f.index.read > 0 {
		if f.id != "" && f.id != f.index.id {
			return imap.ErrNoMailbox // deleted, and another one made in its place
		}
		f.id = f.index.id
		f.highest = max(f.highest, f.index.floor)
	}
	info, err := l.f.Stat()
	if err != nil {
		return err
	}
	if f.index.read > 0 && f.valid && stampOf(info) == f.index.stamp {
		return nil
	}
	return f.rescan(ctx, l, info)
}

// rescan reads the file and makes the view of it. What came without a UID gets one, in the file.
func (f *folder) rescan(ctx context.Context, l *Lock, info os.FileInfo) error {
	lost := f.index.read == 0
	sc := &scanner{r: l.f, size: info.Size(), dialect: f.opts.Dialect, loc: f.opts.Location}
	var list []found
	for m, err := range sc.all {
		if err != nil {
			return err
		}
		if len(list)%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			l.Touch()
		}
		list = append(list, m)
	}
	if len(list) == 0 && info.Size() > 0 {
		return ErrNotMbox
	}
	u := update{base: f.base, next: f.next, modSeq: f.nextModSeq()}
	known := f.msgs
	if len(list) > 0 && list[0].base != nil {
		u.base = *list[0].base
		if !lost && u.base.validity != f.index.validity { // somebody numbered it anew
			known, lost = nil, true
			u.anew = true
		}
	} else {
		u.base.last, u.base.pseudo = 0, false
		u.holder = true
	}
	if u.base.validity == 0 {
		if u.base.validity = f.index.validity; u.base.validity == 0 {
			v, err := nextUIDValidity(ctx, f.root, f.opts.now())
			if err != nil {
				return err
			}
			u.base.validity = v
		}
	}
	if lost {
		u.next = 1
	}
	u.next = max(u.next, u.base.last+1)
	if u.base.pseudo {
		m := list[0]
		list = list[1:]
		u.items = append(u.items, item{e: &entry{place: m.place}})
	}
	var last imap.UID
	broken := false
	at := 0 // in known
	for i := range list {
		m := &list[i]
		e := &entry{place: m.place, uid: m.uid, modSeq: u.modSeq, system: m.flags, recent: !m.old, words: f.index.set(sorted(m.known(&u.base))), date: m.date.Unix(), size: m.size}
		for at < len(known) && known[at].uid < m.uid {
			at++
		}
		var was *entry
		if at < len(known) && known[at].uid == m.uid && known[at].size == m.size {
			was = known[at]
		}
		fresh := m.uid <= u.base.last && (lost || m.uid >= f.next)
		if broken = broken || m.uid <= last || was == nil && !fresh; broken {
			was, e.uid = nil, u.next
			u.next++
		}
		if was != nil {
			e.date, e.saved = was.date, was.saved
			if e.system == was.system && e.words == was.words {
				e.modSeq = was.modSeq
			}
		} else if !lost {
			e.saved = f.opts.now().Unix()
		}
		last = e.uid
		u.items = append(u.items, item{e: e, was: was, dirty: broken})
	}
	for _, e := range known {
		if i, ok := slices.BinarySearchFunc(u.items, e.uid, func(it item, uid imap.UID) int { return cmpUID(it.e.uid, uid) }); !ok || u.items[i].was == nil {
			u.gone = append(u.gone, e.uid)
		}
	}
	u.holder = u.holder || u.base.last+1 < u.next
	u.scanned = true
	return f.apply(l, &u)
}

func sorted(words []string) []string {
	return imap.MakeFlags(0, slices.Clone(words)).Keywords()
}

func cmpUID(a, b imap.UID) int { return int(int64(a) - int64(b)) }

// flags returns the flags of a message.
func (f *folder) flags(e *entry) imap.Flags {
	return imap.MakeFlags(e.system, f.index.keywords(e.words))
}

// find returns where uid is, or would be, in the view.
func (f *folder) find(uid imap.UID) (int, bool) {
	if n := len(f.msgs); n == 0 || f.msgs[n-1].uid < uid {
		return n, false
	}
	return slices.BinarySearchFunc(f.msgs, uid, func(e *entry, uid imap.UID) int { return cmpUID(e.uid, uid) })
}

// maxGone bounds the expunges that a mailbox remembers.
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

// nextModSeq returns a mod-sequence greater than all given out, also than any that a power cut
// took back: it is at least the time in microseconds.
func (f *folder) nextModSeq() imap.ModSeq {
	return max(f.highest+1, imap.ModSeq(max(0, f.opts.now().UnixMicro())))
}

func (f *folder) wake() {
	f.watchMu.Lock()
	defer f.watchMu.Unlock()
	for w := range f.watchers {
		(*w)()
	}
}

func (f *folder) errorf(doing string, err error) error {
	return fmt.Errorf("mbox: %s %s: %w", doing, f.path, err)
}

// mark gives the file a time that it never had, so that the next change shows, however soon it
// comes: the clock of a file system ticks only every few milliseconds. The file is locked.
func (f *folder) mark(l *Lock) (stamp, error) {
	info, err := l.f.Stat()
	if err != nil {
		return stamp{}, err
	}
	at := time.Now()
	if !at.After(info.ModTime()) {
		at = info.ModTime().Add(1)
	}
	if err := os.Chtimes(l.path, time.Time{}, at); err != nil {
		return stamp{}, err
	}
	if info, err = l.f.Stat(); err != nil {
		return stamp{}, err
	}
	return stampOf(info), nil
}

// words returns the number of a set of keywords of flags, which the base knows or learns.
func (u *update) words(f *folder, flags imap.Flags) (uint32, error) {
	var words []string
	for _, w := range flags.Keywords() {
		spelled, ok := u.base.spelling(w)
		if !ok {
			if len(u.base.keywords) >= maxKeywords {
				return 0, imap.ErrLimit
			}
			u.base.keywords = append(slices.Clone(u.base.keywords), w)
			u.holder, spelled = true, w
		}
		words = append(words, spelled)
	}
	return f.index.set(sorted(words)), nil
}

// maxKeywords bounds the keywords that a mailbox can ever have had: they stand in one line.
const maxKeywords = 500

func (b *base) sameKeywords(c *base) bool {
	return strings.Join(b.keywords, " ") == strings.Join(c.keywords, " ")
}
