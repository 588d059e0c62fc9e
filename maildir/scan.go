package maildir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/dotlock"
)

// A scan tells when new/ or cur/ was last listed. What was found then is in the view.
type scan struct {
	dir   string
	stale bool // must be made again whatever the folder's time says
	mtime time.Time
	racy  bool      // the folder may have changed after the listing without showing it
	due   time.Time // when it must be made again to be sure; zero: never
}

// verifyAfter is how long changes of our own are trusted to be all there was: a foreign
// change in the very instant of ours is seen that much later.
const verifyAfter = time.Second

// retryAfter is when files that could not be read are looked at again.
const retryAfter = 10 * time.Second

// racyWindow is how long after a folder's last change a listing may have missed another
// change with the same time: a few ticks of the kernel's clock, or two seconds where the
// file system keeps whole seconds only.
func racyWindow(mtime time.Time) time.Duration {
	if mtime.Nanosecond() == 0 {
		return 2 * time.Second
	}
	return 20 * time.Millisecond
}

// current reports whether the listing still shows what is in the folder.
func (s *scan) current() bool {
	if s.stale || s.racy || !s.due.IsZero() && time.Now().After(s.due) {
		return false
	}
	info, err := os.Stat(s.dir)
	return err == nil && info.ModTime().Equal(s.mtime)
}

// list lists the folder if it must be, and returns the infos of its files by their bases.
func (s *scan) list(expected int) (files map[string]string, err error) {
	if s.current() {
		return nil, nil
	}
	start := time.Now()
	info, err := os.Stat(s.dir)
	if err != nil {
		return nil, err
	}
	files = make(map[string]string, expected)
	infos := make(map[string]string) // each once: there are few
	for file, err := range readDir(s.dir) {
		if err != nil {
			return nil, err
		}
		// Two files of one base, by a rename meanwhile or by an odd program: the one with
		// the info that sorts last, so that every process takes the same.
		if n := ParseName(file); checkBase(n.Base) == nil {
			if old, ok := files[n.Base]; !ok || old < n.Info {
				shared, ok := infos[n.Info]
				if !ok {
					shared = strings.Clone(n.Info)
					infos[shared] = shared
				}
				files[n.Base] = shared
			}
		}
	}
	s.mtime, s.stale, s.due = info.ModTime(), false, time.Time{}
	s.racy = start.Sub(s.mtime) < racyWindow(s.mtime)
	return files, nil
}

// steady reports whether the folder surely did not change since the listing: also not while we
// changed it ourselves, when due is set.
func (s *scan) steady() bool {
	info, err := os.Stat(s.dir)
	return err == nil && !s.racy && s.due.IsZero() && info.ModTime().Equal(s.mtime)
}

// changing runs do, which renames, makes or removes files in new/ and cur/ and brings the view
// up to that. Listings that were current before stay so.
func (f *folder) changing(do func() error) error {
	var current [len(f.scans)]bool
	for i := range f.scans {
		current[i] = f.scans[i].current() || f.opts.SingleWriter && !f.scans[i].stale
	}
	err := do()
	for i := range f.scans {
		s := &f.scans[i]
		info, serr := os.Stat(s.dir)
		switch {
		case !current[i] || serr != nil:
			s.stale = true
		case f.opts.SingleWriter:
			s.mtime, s.racy, s.due = info.ModTime(), false, time.Time{}
		case !info.ModTime().Equal(s.mtime):
			s.mtime = info.ModTime()
			if s.due.IsZero() {
				s.due = time.Now().Add(verifyAfter)
			}
		}
	}
	return err
}

// readFiles compares the view with the files. A message that is not found may be one that
// another program renamed while the folder was listed: it is gone only when the folders did
// not change from before the listing until after it, or when three listings missed it.
func (f *folder) readFiles(ctx context.Context, l *dotlock.Lock) error {
	if len(f.pending) > 0 { // they are in a file that we have not seen
		for i := range f.scans {
			f.scans[i].stale = true
		}
	}
	for {
		made := false
		var listed listings
		for i := range f.scans {
			files, err := f.scans[i].list(i * len(f.lines))
			if err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					return imap.ErrNoMailbox
				}
				return err
			}
			listed[i] = files
			made = made || files != nil
		}
		if !made {
			return nil
		}
		l.Touch()
		missing, err := f.compare(ctx, l, listed)
		if err != nil {
			return err
		}
		if missing == 0 {
			return nil
		}
		for i := range f.scans {
			f.scans[i].stale = true
		}
	}
}

// listings are the infos by base of new/ and cur/. One that is nil is as the view has it.
type listings [2]map[string]string

// compare brings the view up to the listings, and returns how many messages of the view are
// missing and not given up yet.
func (f *folder) compare(ctx context.Context, l *dotlock.Lock, listed listings) (missing int, err error) {
	modSeq := f.nextModSeq()
	sure := f.scans[0].steady() && f.scans[1].steady()
	var fresh []Ref
	var seen []placed
	found := make(map[imap.UID]struct{}, len(listed[0])+len(listed[1]))
	for i, files := range listed {
		if files == nil {
			for _, m := range f.msgs {
				if m.ref.dir() == i {
					found[m.at()] = struct{}{}
				}
			}
		}
		for base, info := range files {
			ref := Ref{Name{base, info}, i == 0}
			if ref.New {
				if _, both := listed[1][base]; both {
					continue // renamed meanwhile, or linked: cur/ counts
				}
			}
			rec, known := f.lines[base]
			if !known {
				fresh = append(fresh, ref)
				continue
			}
			ref.Name.Base = rec.base // one string is enough
			found[rec.uid] = struct{}{}
			at, ok := f.find(rec.uid)
			switch {
			case !ok:
				seen = append(seen, placed{rec, ref})
			case ref.New && listed[1] == nil && !f.msgs[at].ref.New: // linked, as above
			default:
				f.seeAgain(at, ref, modSeq)
			}
		}
	}
	often := func() error { l.Touch(); return ctx.Err() }
	added, err := f.seeFirst(seen, often, modSeq)
	if err != nil {
		return 0, err
	}
	missing = f.dropMissing(found, sure, modSeq)
	for uid := range f.pending { // indexed once; no file of it was found
		if f.isMissing(uid, sure) {
			missing++
			continue
		}
		delete(f.pending, uid)
		f.putGone(uid, modSeq)
	}
	f.insert(added...)
	missing += f.dropDeadLines(found, sure, modSeq)
	if err := f.welcome(fresh, often, modSeq); err != nil {
		return 0, err
	}
	f.flush()
	return missing, nil
}

// dropDeadLines looks at UID list records that were read anew for those that neither a file nor
// the index knows: a power cut took the end of the index. Somebody may have seen these messages,
// so they are noted as gone, and the records go. It returns how many may still be found.
func (f *folder) dropDeadLines(found map[imap.UID]struct{}, sure bool, modSeq imap.ModSeq) (missing int) {
	if !f.linesRead {
		return 0
	}
	dropped := false
	if len(f.lines) > len(found) {
		for base, rec := range f.lines {
			_, listed := found[rec.uid]
			if _, there := f.find(rec.uid); listed || there {
				continue
			}
			if _, indexed := f.pending[rec.uid]; indexed {
				continue
			}
			if f.isMissing(rec.uid, sure) {
				missing++
				continue
			}
			delete(f.lines, base)
			f.putGone(rec.uid, modSeq)
			dropped = true
		}
	}
	f.linesRead = missing > 0
	if dropped {
		f.compactUIDs()
	}
	return missing
}

// dropMissing takes the messages that were not found out of the view where that is sure,
// and returns how many it is not sure of.
func (f *folder) dropMissing(found map[imap.UID]struct{}, sure bool, modSeq imap.ModSeq) (missing int) {
	for uid := range f.missed {
		if _, ok := found[uid]; ok {
			delete(f.missed, uid)
		}
	}
	if len(found) >= len(f.msgs) {
		return 0
	}
	kept := make([]*message, 0, len(f.msgs))
	var lost []int
	for i, m := range f.msgs {
		if _, ok := found[m.at()]; ok {
			kept = append(kept, m)
			continue
		}
		if f.isMissing(m.at(), sure) {
			missing++
			kept = append(kept, m)
			continue
		}
		lost = append(lost, i)
	}
	old := f.msgs
	f.msgs = kept
	for _, i := range lost {
		f.count.add(old[i], -1)
		delete(f.lines, old[i].base)
		f.putGone(old[i].at(), modSeq)
	}
	return missing
}

// isMissing counts that a message was not found, and reports whether to look again.
func (f *folder) isMissing(uid imap.UID, sure bool) bool {
	f.missed[uid]++
	return !sure && f.missed[uid] < 3
}

// seeAgain takes in where the i'th message stands now. Other letters than before are a
// change of its flags.
func (f *folder) seeAgain(i int, ref Ref, modSeq imap.ModSeq) {
	m := f.msgs[i]
	flags := f.flagsOf(ref, m.flags)
	if ref == m.ref && flags.Equal(m.flags) {
		return
	}
	next := *m
	next.ref = ref
	if !flags.Equal(m.flags) {
		next.flags, next.modSeq = flags, modSeq
		f.highest = modSeq
		f.index.putMessage(next.entry)
	}
	f.replace(i, &next)
}

// placed is a file that has a UID.
type placed struct {
	rec *uidRecord
	ref Ref
}

// seeFirst returns messages for the view that have a UID already: those that another process
// added, or any at the first look. Files that have gone meanwhile are left out.
func (f *folder) seeFirst(seen []placed, often func() error, modSeq imap.ModSeq) ([]*message, error) {
	if len(seen) == 0 {
		return nil, nil
	}
	slices.SortFunc(seen, func(a, b placed) int { return cmpUID(a.rec.uid, b.rec.uid) })
	var unindexed []Ref
	for _, p := range seen {
		if _, ok := f.pending[p.rec.uid]; !ok {
			unindexed = append(unindexed, p.ref)
		}
	}
	stats, err := f.statAll(unindexed, often)
	if err != nil {
		return nil, err
	}
	msgs := make([]*message, 0, len(seen))
	for _, p := range seen {
		m := &message{uidRecord: p.rec, ref: p.ref}
		e, indexed := f.pending[p.rec.uid]
		if !indexed {
			e, stats = stats[0], stats[1:]
			if e.size < 0 {
				continue
			}
			e.uid = p.rec.uid
		}
		m.entry = e
		delete(f.pending, p.rec.uid)
		if flags := f.flagsOf(p.ref, e.flags); !indexed || !flags.Equal(e.flags) {
			m.flags, m.modSeq = flags, modSeq
			f.highest = modSeq
			f.index.putMessage(m.entry)
		}
		msgs = append(msgs, m)
	}
	return msgs, nil
}

// welcome gives UIDs to messages that have none.
func (f *folder) welcome(fresh []Ref, often func() error, modSeq imap.ModSeq) error {
	if len(fresh) == 0 {
		return nil
	}
	sortByDelivery(fresh)
	stats, err := f.statAll(fresh, often)
	if err != nil {
		return err
	}
	msgs := make([]*message, 0, len(fresh))
	recs := make([]uidRecord, 0, len(fresh))
	uid := f.uids.next
	for i, ref := range fresh {
		e := stats[i]
		if e.size < 0 {
			continue
		}
		e.uid, e.modSeq = uid, modSeq
		m := &message{entry: e, uidRecord: &uidRecord{uid: uid, base: ref.Name.Base}, ref: ref}
		m.flags = f.flagsOf(ref, imap.Flags{})
		msgs, recs = append(msgs, m), append(recs, *m.uidRecord)
		uid++
	}
	return f.admit(msgs, recs, modSeq)
}

// admit writes down messages that have been given the next UIDs and puts them into the view.
func (f *folder) admit(msgs []*message, recs []uidRecord, modSeq imap.ModSeq) error {
	if len(msgs) == 0 {
		return nil
	}
	if err := f.uids.append(recs); err != nil {
		return err
	}
	f.highest = modSeq
	for _, m := range msgs {
		f.lines[m.base] = m.uidRecord
		f.index.putMessage(m.entry)
	}
	f.insert(msgs...)
	return nil
}

// statAll returns what stat does of each file; size is negative for one that is no message, or
// was renamed or removed since it was listed: the next look finds it, or finds it missing. So it
// is for one that cannot be read, which hides no other: all that are tried again later. It calls
// often now and then, and ends with its error.
func (f *folder) statAll(refs []Ref, often func() error) ([]entry, error) {
	stats := make([]entry, len(refs))
	var mu sync.Mutex
	var failed error
	failures := 0
	const batch = 512
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for first := 0; first < len(refs); first += batch {
		if err := often(); err != nil {
			_ = g.Wait()
			return nil, err
		}
		work := func() error {
			for i := first; i < min(first+batch, len(refs)); i++ {
				e, err := f.stat(refs[i])
				if err != nil {
					e.size = -1
				}
				if stats[i] = e; err != nil && !errors.Is(err, fs.ErrNotExist) {
					mu.Lock()
					failed = err
					failures++
					mu.Unlock()
				}
			}
			return nil
		}
		if len(refs) <= batch {
			_ = work()
			break
		}
		g.Go(work)
	}
	_ = g.Wait()
	if failures > 0 {
		f.opts.logger().Warn("maildir messages not read", "dir", string(f.dir), "messages", failures, "err", failed)
		for i := range f.scans {
			f.scans[i].due = time.Now().Add(retryAfter)
		}
	}
	return stats, nil
}

// stat returns what only the file itself can tell: its date, and its size when the name
// does not say it.
func (f *folder) stat(ref Ref) (e entry, err error) {
	info, err := os.Stat(f.dir.path(ref))
	if err != nil {
		return e, err
	}
	if !info.Mode().IsRegular() {
		e.size = -1 // a pipe would be read for ever
		return e, nil
	}
	e.date, e.saved = info.ModTime().Unix(), f.opts.now().Unix()
	size, ok := ref.Name.CRLFSize()
	if ok && size >= info.Size() {
		e.size = size
		return e, nil
	}
	file, err := f.dir.Open(ref)
	if err != nil {
		return e, err
	}
	defer file.Close()
	e.size, err = crlfSize(file)
	return e, err
}

// flagsOf returns the flags that the file's name shows, and those of old that no name can.
func (f *folder) flagsOf(ref Ref, old imap.Flags) imap.Flags {
	flags := f.words.flags(ref.Name.Flags())
	for _, w := range old.Keywords() {
		if _, _, ok := f.words.letter(w, false); !ok {
			flags = flags.With(imap.Flag(w))
		}
	}
	return flags
}
