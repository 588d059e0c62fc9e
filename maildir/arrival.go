package maildir

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/disk"
	"github.com/mailblocks/mailblocks/internal/dotlock"
)

// An arrival is a set of messages, complete and synced in tmp/, that are to come into the
// folder all or none. Arrivals that wait for the folder at the same time go in together:
// one lock, one sync of new/ and cur/, one sync of the UID list for all of them.
type arrival struct {
	ctx   context.Context
	files []arriving
	// Set by whoever brings it in.
	done     bool
	msgs     []*message
	validity uint32
	err      error
}

type arriving struct {
	tmp   string // path
	base  string
	flags imap.Flags
	date  time.Time // zero: now
	size  int64
	guid  string // of the original, for a copy
}

// discard removes what is left of an arrival in tmp/.
func (a *arrival) discard() {
	for _, file := range a.files {
		_ = disk.Remove(file.tmp)
	}
}

// arrive brings the files of a into the folder, or leaves nothing of them.
func (f *folder) arrive(a *arrival) error {
	f.queueMu.Lock()
	f.queue = append(f.queue, a)
	f.queueMu.Unlock()

	f.mu.Lock()
	defer f.mu.Unlock()
	if a.done { // whoever had the folder before us took ours along
		return a.err
	}
	f.queueMu.Lock()
	batch := f.queue
	f.queue = nil
	f.queueMu.Unlock()
	err := f.alive()
	if err == nil {
		// The others' arrivals do not end with our context.
		ctx := context.WithoutCancel(a.ctx)
		err = f.locked(ctx, func(l *dotlock.Lock) error { return f.commit(ctx, batch) })
	}
	for _, other := range batch {
		other.done, other.validity = true, f.uids.validity
		if err != nil && other.err == nil {
			other.err = err
		}
		if other.err != nil {
			other.discard()
		}
	}
	return a.err
}

// commit gives the files of a batch their names and UIDs. Both locks are held.
func (f *folder) commit(ctx context.Context, batch []*arrival) error {
	if err := f.readLists(ctx); err != nil {
		return err
	}
	modSeq := f.nextModSeq()
	now := f.opts.now().Unix()
	uid := f.uids.next
	var msgs []*message
	var recs []uidRecord
	var dirs [2]bool
	saveWords := false
	for _, a := range batch {
		for _, file := range a.files {
			if !f.index.hasRoom(file.flags) {
				a.err = imap.ErrLimit
			}
		}
		if a.err != nil {
			continue
		}
		for _, file := range a.files {
			m := &message{uidRecord: &uidRecord{base: file.base}, ref: Ref{Name: Name{Base: file.base}, New: true}}
			m.entry = entry{modSeq: modSeq, flags: f.spell(file.flags), date: file.date.Unix(), saved: now, size: file.size}
			if file.guid != "" {
				m.extra = " G" + file.guid
			}
			if file.flags.Len() > 0 {
				letters, _, added := f.words.letters(m.flags, "")
				saveWords = saveWords || added
				m.ref = Ref{Name: m.ref.Name.WithFlags(letters)}
			}
			m.entry.uid, m.uidRecord.uid = uid, uid
			uid++
			a.msgs = append(a.msgs, m)
		}
	}
	if saveWords {
		if err := f.words.save(); err != nil {
			return err
		}
	}
	done, err := f.announce(batch)
	if err != nil {
		return err
	}
	defer done()
	undo := func() {
		for _, m := range msgs {
			_ = disk.Remove(f.dir.path(m.ref))
		}
	}
	return f.changing(func() error {
		for _, a := range batch {
			if a.err != nil {
				continue
			}
			for i, m := range a.msgs {
				if err := disk.Rename(a.files[i].tmp, f.dir.path(m.ref)); err != nil {
					undo()
					return err
				}
				msgs, recs = append(msgs, m), append(recs, *m.uidRecord)
				dirs[m.ref.dir()] = true
			}
		}
		for i, touched := range dirs {
			if touched {
				if err := atomicfile.SyncDir(f.scans[i].dir); err != nil {
					undo()
					return err
				}
			}
		}
		if err := f.admit(msgs, recs, modSeq); err != nil {
			undo()
			return err
		}
		f.flush()
		f.wake()
		return nil
	})
}

// spell gives keywords the spelling that the folder knows them by.
func (f *folder) spell(flags imap.Flags) imap.Flags {
	words := flags.Keywords()
	if len(words) == 0 {
		return flags
	}
	spelled := make([]string, len(words))
	for i, w := range words {
		spelled[i] = w
		if c, _, ok := f.words.letter(w, false); ok {
			spelled[i] = f.words.name(c)
		} else if known, ok := f.index.spelling(w); ok {
			spelled[i] = known
		}
	}
	return imap.MakeFlags(flags.System(), spelled)
}

// receive stores a new message in tmp/.
func (d Dir) receive(ctx context.Context, msg imap.NewMessage) (arriving, error) {
	t, err := d.write(ctx, msg.Body, msg.InternalDate)
	if err != nil {
		return arriving{}, err
	}
	a := arriving{tmp: t.path, base: t.base(), flags: msg.Flags, date: msg.InternalDate, size: t.crlfSize}
	if isObjectID(msg.ID) {
		a.guid = msg.ID
	}
	if a.date.IsZero() {
		a.date = time.Now()
	}
	return a, nil
}

// link puts another name of the message at path, which may be in another folder, into tmp/;
// where the file system can not, a copy.
func (d Dir) link(ctx context.Context, from Dir, m *message) (arriving, error) {
	a := arriving{flags: m.flags, date: m.internalDate(), size: m.size, guid: m.guid()}
	path := from.path(m.ref)
	info, err := os.Stat(path)
	if err != nil {
		return a, err
	}
	t := tmpFile{unique: unique(time.Now()), size: info.Size(), crlfSize: m.size}
	t.path = filepath.Join(string(d), "tmp", t.unique)
	if err := disk.Link(path, t.path); err != nil {
		if os.IsNotExist(err) {
			return a, err
		}
		f, err := os.Open(path)
		if err != nil {
			return a, err
		}
		defer f.Close()
		if t, err = d.write(ctx, f, a.date); err != nil {
			return a, err
		}
	}
	a.tmp, a.base = t.path, t.base()
	return a, nil
}
