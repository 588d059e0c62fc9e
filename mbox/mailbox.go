package mbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/bodybuf"
)

// mailbox is a handle on a folder.
type mailbox struct {
	store  *Store
	f      *folder
	closed atomic.Bool
}

var (
	_ imap.Mailbox  = (*mailbox)(nil)
	_ imap.Recenter = (*mailbox)(nil)
)

func (m *mailbox) Close() error {
	if !m.closed.Swap(true) {
		closeFolder(m.f)
	}
	return nil
}

// usable tells why the handle can not be used.
func (m *mailbox) usable(ctx context.Context) error {
	if m.closed.Load() {
		return imap.ErrClosed
	}
	return ctx.Err()
}

// view runs do on the folder, up to date.
func (m *mailbox) view(ctx context.Context, doing string, do func(f *folder) error) error {
	err := m.usable(ctx)
	if err == nil {
		m.f.mu.Lock()
		defer m.f.mu.Unlock()
		if err = m.f.refresh(ctx); err == nil {
			err = do(m.f)
		}
	}
	if err != nil {
		return m.f.errorf(doing, err)
	}
	return nil
}

// change runs do on the folder, up to date and locked.
func (m *mailbox) change(ctx context.Context, doing string, do func(f *folder, l *Lock) error) error {
	err := m.usable(ctx)
	if err == nil {
		m.f.mu.Lock()
		defer m.f.mu.Unlock()
		err = m.f.locked(ctx, func(l *Lock) error { return do(m.f, l) })
	}
	if err != nil {
		return m.f.errorf(doing, err)
	}
	return nil
}

func (m *mailbox) State(ctx context.Context) (s imap.State, err error) {
	err = m.view(ctx, "state of", func(f *folder) error {
		s = f.state()
		return nil
	})
	return s, err
}

func (f *folder) state() imap.State {
	return imap.State{
		ID:            f.id,
		UIDValidity:   f.base.validity,
		UIDNext:       f.next,
		HighestModSeq: f.highest,
		Messages:      uint32(len(f.msgs)),
		Unseen:        f.count.unseen,
		Deleted:       f.count.deleted,
		Size:          f.count.size,
		Keywords:      sorted(f.base.keywords),
		NoNewKeywords: len(f.base.keywords) >= maxKeywords,
	}
}

func (m *mailbox) Changes(ctx context.Context, since imap.ModSeq) (d imap.Delta, err error) {
	err = m.view(ctx, fmt.Sprintf("changes since %d of", since), func(f *folder) error {
		if since != 0 && since < f.forgotten() {
			return imap.ErrTooOld
		}
		d.State = f.state()
		var changed []*entry
		if since == 0 {
			changed = slices.Clone(f.msgs)
		} else if since < f.highest {
			for _, e := range f.msgs {
				if e.modSeq > since {
					changed = append(changed, e)
				}
			}
		}
		sets := slices.Clip(f.index.sets) // they are only added to
		words := &index{sets: sets}
		d.Messages = func(yield func(imap.Message, error) bool) {
			for _, e := range changed {
				msg := imap.Message{
					UID: e.uid, ModSeq: e.modSeq, Flags: imap.MakeFlags(e.system, words.keywords(e.words)),
					InternalDate: time.Unix(e.date, 0), Size: e.size,
				}
				if e.saved != 0 {
					msg.SaveDate = time.Unix(e.saved, 0)
				}
				if !yield(msg, nil) {
					return
				}
			}
		}
		if since > 0 {
			var gone []imap.UID
			for i := len(f.gone) - 1; i >= 0 && f.gone[i].modSeq > since; i-- {
				gone = append(gone, f.gone[i].uid)
			}
			slices.Sort(gone)
			d.Gone = imap.NumSetOf(gone...)
		}
		return nil
	})
	return d, err
}

func (m *mailbox) Body(ctx context.Context, uid imap.UID) (_ imap.Body, err error) {
	b := &textBody{}
	err = m.view(ctx, fmt.Sprintf("open uid %d of", uid), func(f *folder) error {
		for range 3 {
			i, ok := f.find(uid)
			if !ok {
				return imap.ErrExpunged
			}
			done, err := f.read(ctx, f.msgs[i], b)
			if done || err != nil {
				return err
			}
			if err := f.refresh(ctx); err != nil { // somebody changed it just now
				return err
			}
		}
		return f.locked(ctx, func(l *Lock) error {
			i, ok := f.find(uid)
			if !ok {
				return imap.ErrExpunged
			}
			return writeMessage(b, l.f, &f.msgs[i].place, f.opts.Dialect)
		})
	})
	if err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// read copies a message into w under a lock for reading, if the file is as the view says.
func (f *folder) read(ctx context.Context, e *entry, w io.Writer) (done bool, err error) {
	o := LockOptions{Wait: f.opts.LockWait, NoDotLock: f.opts.NoDotLock, exists: true, shared: true, disk: f.opts.disk}
	l, err := LockFile(ctx, f.path, &o)
	if err != nil {
		return false, err
	}
	defer l.Unlock()
	info, err := l.f.Stat()
	if err != nil || stampOf(info) != f.file {
		return false, err
	}
	return true, writeMessage(w, l.f, &e.place, f.opts.Dialect)
}

// textBody is a message's text, copied: the file may be written over while it is read.
type textBody struct{ bodybuf.Buffer }

func (m *mailbox) Append(ctx context.Context, msgs []imap.NewMessage) (done imap.AppendResult, err error) {
	if err := m.usable(ctx); err != nil {
		return done, m.f.errorf("append to", err)
	}
	a := arrival{f: m.f}
	defer a.close()
	for _, msg := range msgs {
		if err := a.receive(ctx, msg.Body, msg.Flags, msg.InternalDate); err != nil {
			return done, m.f.errorf("append to", err)
		}
	}
	err = m.change(ctx, "append to", func(f *folder, l *Lock) error {
		uids, err := a.store(l)
		done = imap.AppendResult{UIDValidity: f.base.validity, UIDs: uids}
		return err
	})
	if err != nil {
		return imap.AppendResult{}, err
	}
	return done, nil
}

// An arrival is messages on their way into a folder.
type arrival struct {
	f     *folder
	items []item
	flags []imap.Flags
}

func (a *arrival) close() {
	for _, it := range a.items {
		it.in.text.Close()
	}
}

// The dates that a separator can hold.
var firstDate, lastDate = time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 30, 0, 0, 0, 0, time.UTC)

// receive reads one message to its end.
func (a *arrival) receive(ctx context.Context, r io.Reader, flags imap.Flags, date time.Time) error {
	opts := a.f.opts
	in, err := receive(&ctxReader{ctx, r}, opts.Dialect)
	if err != nil {
		return err
	}
	now := opts.now()
	if date.IsZero() {
		date = now
	} else if date.Before(firstDate) {
		date = firstDate
	} else if date.After(lastDate) {
		date = lastDate
	}
	sep, err := formatSeparator(in.sender(), date, opts.Location, opts.Dialect)
	if err != nil {
		sep, err = formatSeparator("", date, opts.Location, opts.Dialect)
	}
	e := &entry{system: flags.System(), recent: true, date: date.Unix(), saved: now.Unix(), size: in.size}
	a.items, a.flags = append(a.items, item{e: e, in: in, sep: sep}), append(a.flags, flags)
	return err
}

// A ctxReader ends with its context.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// store puts the messages into the folder, which is locked.
func (a *arrival) store(l *Lock) ([]imap.UID, error) {
	if len(a.items) == 0 {
		return nil, nil
	}
	u := a.f.plan()
	u.holder = true
	var uids []imap.UID
	for i, it := range a.items {
		e := clonePlace(it.e)
		words, err := u.words(a.f, a.flags[i])
		if err != nil {
			return nil, err
		}
		if u.next == 1<<32-1 {
			return nil, imap.ErrLimit
		}
		e.uid, e.modSeq, e.words = u.next, u.modSeq, words
		u.next++
		it.e = e
		u.items, uids = append(u.items, it), append(uids, e.uid)
	}
	return uids, a.f.apply(l, u)
}

func (m *mailbox) SetFlags(ctx context.Context, set imap.UIDSet, op imap.FlagOp, unchangedSince imap.ModSeq) (conflict imap.UIDSet, err error) {
	err = m.change(ctx, "set flags in", func(f *folder, l *Lock) error {
		u := f.plan()
		dirty := false
		if op.Action == imap.FlagsRemove {
			op.Flags = f.knownOf(op.Flags)
		}
		for i := range u.items {
			e := u.items[i].e
			if e.uid == 0 || !set.Contains(e.uid) {
				continue
			}
			if unchangedSince != 0 && e.modSeq > unchangedSince {
				conflict.Add(e.uid)
				continue
			}
			old := f.flags(e)
			flags := op.Apply(old)
			if flags.Equal(old) {
				continue
			}
			words, err := u.words(f, flags)
			if err != nil {
				return err
			}
			e = u.change(i)
			e.system, e.words, e.modSeq = flags.System(), words, u.modSeq
			dirty = true
		}
		if !dirty {
			return nil
		}
		return f.apply(l, u)
	})
	return conflict, err
}

// knownOf returns those of flags that the mailbox may have.
func (f *folder) knownOf(flags imap.Flags) imap.Flags {
	var words []string
	for _, w := range flags.Keywords() {
		if spelled, ok := f.base.spelling(w); ok {
			words = append(words, spelled)
		}
	}
	return imap.MakeFlags(flags.System(), words)
}

func (m *mailbox) Expunge(ctx context.Context, set imap.UIDSet, onlyDeleted bool) error {
	return m.change(ctx, "expunge in", func(f *folder, l *Lock) error { return f.expunge(l, set, onlyDeleted) })
}

func (f *folder) expunge(l *Lock, set imap.UIDSet, onlyDeleted bool) error {
	u := f.plan()
	u.items = slices.DeleteFunc(u.items, func(it item) bool {
		if it.e.uid == 0 || !set.Contains(it.e.uid) || onlyDeleted && it.e.system&imap.Deleted == 0 {
			return false
		}
		u.gone = append(u.gone, it.e.uid)
		return true
	})
	if len(u.gone) == 0 {
		return nil
	}
	return f.apply(l, u)
}

func (m *mailbox) Copy(ctx context.Context, set imap.UIDSet, dst string, move bool) (copied imap.Copied, err error) {
	to, err := m.store.Open(ctx, dst)
	if err != nil {
		if errors.Is(err, imap.ErrNotSelectable) || errors.Is(err, imap.ErrBadName) {
			err = fmt.Errorf("mbox: copy to %q: %w", dst, imap.ErrNoMailbox)
		}
		if uerr := m.usable(ctx); uerr != nil {
			err = m.f.errorf("copy from", uerr)
		}
		return copied, err
	}
	defer to.Close()
	target := to.(*mailbox)
	a := arrival{f: target.f}
	defer a.close()
	if !move {
		err = m.change(ctx, "copy from", func(f *folder, l *Lock) (err error) {
			copied.From, err = a.take(ctx, f, l, set)
			return err
		})
		if err == nil && len(copied.From) > 0 {
			err = target.change(ctx, "copy to", func(f *folder, l *Lock) (err error) {
				copied.UIDValidity = f.base.validity
				copied.To, err = a.store(l)
				return err
			})
		}
	} else {
		copied, err = m.move(ctx, target, &a, set)
	}
	if err != nil {
		return imap.Copied{}, err
	}
	return copied, nil
}

// move copies, durably, and takes the originals away then: a crash between leaves both. Only a
// move holds two files' locks, and only one of a store at a time does, so that two never wait
// for each other.
func (m *mailbox) move(ctx context.Context, target *mailbox, a *arrival, set imap.UIDSet) (copied imap.Copied, err error) {
	if target.f != m.f {
		unlock, err := m.store.lock(ctx, "move")
		if err != nil {
			return copied, err
		}
		defer unlock()
	}
	err = m.change(ctx, "move from", func(f *folder, l *Lock) (err error) {
		if copied.From, err = a.take(ctx, f, l, set); err != nil || len(copied.From) == 0 {
			return err
		}
		put := func(to *folder, l *Lock) (err error) {
			copied.UIDValidity = to.base.validity
			copied.To, err = a.store(l)
			return err
		}
		if target.f == m.f {
			err = put(f, l)
		} else {
			err = target.change(ctx, "move to", put)
		}
		if err == nil {
			err = f.expunge(l, imap.NumSetOf(copied.From...), false)
		}
		return err
	})
	return copied, err
}

// take reads the messages of set from f, which is locked.
func (a *arrival) take(ctx context.Context, f *folder, l *Lock, set imap.UIDSet) (from []imap.UID, err error) {
	for _, e := range f.msgs {
		if !set.Contains(e.uid) {
			continue
		}
		var text bodybuf.Buffer
		err := writeMessage(&text, l.f, &e.place, f.opts.Dialect)
		if err == nil {
			err = a.receive(ctx, text.Reader(), f.flags(e), time.Unix(e.date, 0))
		}
		text.Close()
		if err != nil {
			return nil, err
		}
		l.Touch()
		from = append(from, e.uid)
	}
	return from, nil
}

// Recent implements imap.Recenter: a message without O in Status is recent.
func (m *mailbox) Recent(ctx context.Context) (set imap.UIDSet, err error) {
	err = m.view(ctx, "recent of", func(f *folder) error {
		for _, e := range f.msgs {
			if e.recent {
				set.Add(e.uid)
			}
		}
		return nil
	})
	return set, err
}

// ClaimRecent implements imap.Recenter.
func (m *mailbox) ClaimRecent(ctx context.Context) (set imap.UIDSet, err error) {
	if set, err = m.Recent(ctx); err != nil || len(set) == 0 {
		return nil, err
	}
	set = nil
	err = m.change(ctx, "claim recent in", func(f *folder, l *Lock) error {
		u := f.plan()
		for i := range u.items {
			if e := u.items[i].e; e.recent && e.uid != 0 {
				set.Add(e.uid)
				u.change(i).recent = false
			}
		}
		if len(set) == 0 {
			return nil
		}
		return f.apply(l, u)
	})
	if err != nil {
		return nil, err
	}
	return set, nil
}

// pollEvery is how often a watched file is looked at: one stat.
const pollEvery = time.Second

func (m *mailbox) Watch(ctx context.Context, wake func()) error {
	if m.closed.Load() {
		return m.f.errorf("watch", imap.ErrClosed)
	}
	m.f.watchMu.Lock()
	m.f.watchers[&wake] = struct{}{}
	m.f.watchMu.Unlock()
	defer func() {
		m.f.watchMu.Lock()
		delete(m.f.watchers, &wake)
		m.f.watchMu.Unlock()
	}()
	wake()
	return m.f.watch(ctx, wake)
}
