package maildir

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/dotlock"
)

// A scan is a listing of new/ or cur/, and when it was made.
type scan struct {
	dir   string
	stale bool // must be made again whatever the folder's time says
	mtime time.Time
	racy  bool              // the folder may have changed after the listing without showing it
	due   time.Time         // when it must be made again to be sure; zero: never
	files map[string]string // base → info
}

// verifyAfter is how long changes of our own are trusted to be all there was: a foreign
// change in the very instant of ours is seen that much later.
const verifyAfter = time.Second

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

// list makes the listing anew if it must be.
func (s *scan) list() (made bool, err error) {
	if s.current() {
		return false, nil
	}
	start := time.Now()
	info, err := os.Stat(s.dir)
	if err != nil {
		return false, err
	}
	files := make(map[string]string, len(s.files))
	for file, err := range readDir(s.dir) {
		if err != nil {
			return false, err
		}
		// Two files of one base, by a rename meanwhile or by an odd program: the one with
		// the info that sorts last, so that every process takes the same.
		if n := ParseName(file); checkBase(n.Base) == nil {
			if old, ok := files[n.Base]; !ok || old < n.Info {
				files[n.Base] = n.Info
			}
		}
	}
	s.files, s.mtime, s.stale, s.due = files, info.ModTime(), false, time.Time{}
	s.racy = start.Sub(s.mtime) < racyWindow(s.mtime)
	return true, nil
}

// steady reports whether the folder surely did not change since the listing: also not while we
// changed it ourselves, when due is set.
func (s *scan) steady() bool {
	info, err := os.Stat(s.dir)
	return err == nil && !s.racy && s.due.IsZero() && info.ModTime().Equal(s.mtime)
}

// changing runs do, which renames, makes or removes files in new/ and cur/ and notes that in
// the listings with put and drop. Listings that were current before stay so.
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

func (f *folder) listing(ref Ref) map[string]string {
	i := ref.dir()
	if f.scans[i].files == nil {
		f.scans[i].files = make(map[string]string)
	}
	return f.scans[i].files
}

func (f *folder) put(ref Ref)  { f.listing(ref)[ref.Name.Base] = ref.Name.Info }
func (f *folder) drop(ref Ref) { delete(f.listing(ref), ref.Name.Base) }

// readFiles compares the view with the files. A message that is not found may be one that
// another program renamed while the folder was listed: it is gone only when the folders did
// not change from before the listing until after it, or when three listings missed it.
func (f *folder) readFiles(ctx context.Context, l *dotlock.Lock) error {
	for {
		made := false
		for i := range f.scans {
			m, err := f.scans[i].list()
			if err != nil {
				if errors.Is(err, fs.ErrNotExist) {
					return imap.ErrNoMailbox
				}
				return err
			}
			made = made || m
		}
		if !made && len(f.pending) == 0 {
			return nil
		}
		l.Touch()
		missing, err := f.compare(ctx, l)
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

// compare brings the view up to the listings, and returns how many messages of the view are
// missing and not given up yet.
func (f *folder) compare(ctx context.Context, l *dotlock.Lock) (missing int, err error) {
	modSeq := f.nextModSeq()
	sure := f.scans[0].steady() && f.scans[1].steady()
	var fresh []Ref
	var added []*message
	found := make(map[imap.UID]struct{}, len(f.scans[0].files)+len(f.scans[1].files))
	for i := range f.scans {
		for base, info := range f.scans[i].files {
			ref := Ref{Name{base, info}, i == 0}
			if ref.New {
				if _, both := f.scans[1].files[base]; both {
					continue // renamed meanwhile, or linked: cur/ counts
				}
			}
			rec, known := f.lines[base]
			if !known {
				fresh = append(fresh, ref)
				continue
			}
			found[rec.uid] = struct{}{}
			if at, ok := f.find(rec.uid); ok {
				f.seeAgain(at, ref, modSeq)
				continue
			}
			m, err := f.seeFirst(rec, ref, modSeq)
			if err != nil {
				return 0, err
			}
			if m != nil {
				added = append(added, m)
			}
		}
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
	if err := f.welcome(ctx, l, fresh, modSeq); err != nil {
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

// seeFirst returns a message for the view that has a UID already: one that another process
// added, or any at the first look. It is nil for a file that has gone meanwhile.
func (f *folder) seeFirst(rec uidRecord, ref Ref, modSeq imap.ModSeq) (*message, error) {
	m := &message{uidRecord: rec, ref: ref}
	e, indexed := f.pending[rec.uid]
	if !indexed {
		var err error
		if e, err = f.stat(ref); err != nil {
			return nil, ignoreGone(err)
		}
		e.uid = rec.uid
	}
	m.entry = e
	delete(f.pending, rec.uid)
	if flags := f.flagsOf(ref, e.flags); !indexed || !flags.Equal(e.flags) {
		m.flags, m.modSeq = flags, modSeq
		f.highest = modSeq
		f.index.putMessage(m.entry)
	}
	return m, nil
}

// welcome gives UIDs to messages that have none.
func (f *folder) welcome(ctx context.Context, l *dotlock.Lock, fresh []Ref, modSeq imap.ModSeq) error {
	if len(fresh) == 0 {
		return nil
	}
	slices.SortFunc(fresh, func(a, b Ref) int { return compareBases(a.Name.Base, b.Name.Base) })
	var msgs []*message
	var recs []uidRecord
	uid := f.uids.next
	for _, ref := range fresh {
		if err := ctx.Err(); err != nil {
			return err
		}
		l.Touch()
		e, err := f.stat(ref)
		if err != nil {
			if err := ignoreGone(err); err != nil {
				return err
			}
			continue
		}
		e.uid, e.modSeq = uid, modSeq
		m := &message{entry: e, uidRecord: uidRecord{uid: uid, base: ref.Name.Base}, ref: ref}
		m.flags = f.flagsOf(ref, imap.Flags{})
		msgs, recs = append(msgs, m), append(recs, m.uidRecord)
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

// stat returns what only the file itself can tell: its date, and its size when the name
// does not say it.
func (f *folder) stat(ref Ref) (e entry, err error) {
	info, err := os.Stat(f.dir.path(ref))
	if err != nil {
		return e, err
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

// ignoreGone passes over a file that was renamed or removed since it was listed: the next
// look finds it, or finds it missing.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
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
