package maildir

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"slices"
	"sync/atomic"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/dotlock"
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

// view gives the caller the folder, up to date, until it calls unlock.
func (m *mailbox) view(ctx context.Context, doing string) (f *folder, unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if m.closed.Load() {
		return nil, nil, m.f.errorf(doing, imap.ErrClosed)
	}
	m.f.mu.Lock()
	if err := m.f.refresh(ctx); err != nil {
		m.f.mu.Unlock()
		return nil, nil, m.f.errorf(doing, err)
	}
	return m.f, m.f.mu.Unlock, nil
}

// change runs do on the folder, up to date, with both locks held.
func (m *mailbox) change(ctx context.Context, doing string, do func(f *folder) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f := m.f
	if m.closed.Load() {
		return f.errorf(doing, imap.ErrClosed)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.alive()
	if err == nil {
		err = f.locked(ctx, func(l *dotlock.Lock) error {
			if err := f.sync(ctx, l); err != nil {
				return err
			}
			before := f.highest
			err := f.changing(func() error { return do(f) })
			f.flush()
			if f.highest != before {
				f.wake()
			}
			return err
		})
	}
	if err != nil {
		return f.errorf(doing, err)
	}
	return nil
}

func (m *mailbox) State(ctx context.Context) (imap.State, error) {
	f, unlock, err := m.view(ctx, "state of")
	if err != nil {
		return imap.State{}, err
	}
	defer unlock()
	return f.state(), nil
}

func (f *folder) state() imap.State {
	return imap.State{
		ID:            f.uids.guid,
		UIDValidity:   f.uids.validity,
		UIDNext:       f.uids.next,
		HighestModSeq: f.highest,
		Messages:      uint32(len(f.msgs)),
		Unseen:        f.count.unseen,
		Deleted:       f.count.deleted,
		Size:          f.count.size,
		Keywords:      slices.Sorted(maps.Keys(f.count.keywords)),
	}
}

func (m *mailbox) Changes(ctx context.Context, since imap.ModSeq) (imap.Delta, error) {
	f, unlock, err := m.view(ctx, "changes of")
	if err != nil {
		return imap.Delta{}, err
	}
	defer unlock()
	if since != 0 && since < f.forgotten() {
		return imap.Delta{}, f.errorf(fmt.Sprintf("changes since %d of", since), imap.ErrTooOld)
	}
	d := imap.Delta{State: f.state()}
	var changed []*message
	if since == 0 {
		changed = slices.Clone(f.msgs)
	} else if since < f.highest {
		for _, msg := range f.msgs {
			if msg.modSeq > since {
				changed = append(changed, msg)
			}
		}
	}
	d.Messages = func(yield func(imap.Message, error) bool) {
		for _, msg := range changed {
			if !yield(msg.message(), nil) {
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
	return d, nil
}

func (m *message) message() imap.Message {
	return imap.Message{
		UID:          m.at(),
		ModSeq:       m.modSeq,
		Flags:        m.flags,
		InternalDate: m.internalDate(),
		SaveDate:     time.Unix(m.saved, 0),
		Size:         m.size,
		ID:           objectID(m.guid()),
	}
}

// objectID returns a GUID as RFC 8474, 4 wants it: as it is where that is allowed, else a
// hash of it.
func objectID(guid string) string {
	if isObjectID(guid) {
		return guid
	}
	h := fnv.New128a()
	_, _ = h.Write([]byte(guid))
	return "M" + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

func isObjectID(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return 0 < len(s) && len(s) <= 200
}

func (m *mailbox) Body(ctx context.Context, uid imap.UID) (imap.Body, error) {
	doing := fmt.Sprintf("open uid %d of", uid)
	// Where the message stood when we looked last is where it stands now, nearly always.
	msg, err := m.known(ctx, uid)
	if err != nil {
		return nil, m.f.errorf(doing, err)
	}
	for try := 0; ; try++ {
		if msg != nil {
			file, err := m.f.dir.Open(msg.ref)
			if err == nil {
				return m.openBody(doing, file, msg.size)
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return nil, m.f.errorf(doing, err)
			}
			m.look() // another program renamed it, or it is gone
		}
		if try == 5 || try > 0 && msg == nil {
			return nil, m.f.errorf(doing, imap.ErrExpunged)
		}
		f, unlock, err := m.view(ctx, doing)
		if err != nil {
			return nil, err
		}
		msg = nil
		if i, ok := f.find(uid); ok {
			msg = f.msgs[i]
		}
		unlock()
	}
}

// known returns the message of a UID as the view has it now, nil when it has none.
func (m *mailbox) known(ctx context.Context, uid imap.UID) (*message, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if m.closed.Load() {
		return nil, imap.ErrClosed
	}
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	if i, ok := m.f.find(uid); ok {
		return m.f.msgs[i], nil
	}
	return nil, nil
}

func (m *mailbox) openBody(doing string, file *os.File, size int64) (imap.Body, error) {
	body, err := openBody(file, size)
	if err != nil {
		file.Close()
		return nil, m.f.errorf(doing, err)
	}
	return body, nil
}

// look makes the next view list the files again.
func (m *mailbox) look() {
	m.f.mu.Lock()
	defer m.f.mu.Unlock()
	for i := range m.f.scans {
		m.f.scans[i].stale = true
	}
}

func (m *mailbox) Append(ctx context.Context, msgs []imap.NewMessage) (imap.AppendResult, error) {
	if m.closed.Load() {
		return imap.AppendResult{}, m.f.errorf("append to", imap.ErrClosed)
	}
	a := &arrival{ctx: ctx}
	for _, msg := range msgs {
		file, err := m.f.dir.receive(ctx, msg)
		if err != nil {
			a.discard()
			if aerr := m.f.lives(); aerr != nil {
				err = aerr
			}
			return imap.AppendResult{}, m.f.errorf("append to", err)
		}
		a.files = append(a.files, file)
	}
	if err := m.f.admitted(a, false); err != nil {
		return imap.AppendResult{}, m.f.errorf("append to", err)
	}
	return imap.AppendResult{UIDValidity: a.validity, UIDs: a.uids()}, nil
}

func (a *arrival) uids() []imap.UID {
	uids := make([]imap.UID, len(a.msgs))
	for i, m := range a.msgs {
		uids[i] = m.at()
	}
	return uids
}

func (m *mailbox) SetFlags(ctx context.Context, set imap.UIDSet, op imap.FlagOp, unchangedSince imap.ModSeq) (conflict imap.UIDSet, err error) {
	err = m.change(ctx, "set flags in", func(f *folder) error {
		modSeq := f.nextModSeq()
		if op.Action != imap.FlagsRemove && !f.index.hasRoom(op.Flags) {
			return imap.ErrLimit
		}
		op.Flags = f.spell(op.Flags)
		for _, i := range f.within(set) {
			msg := f.msgs[i]
			if unchangedSince != 0 && msg.modSeq > unchangedSince {
				conflict.Add(msg.at())
				continue
			}
			flags := op.Apply(msg.flags)
			if flags.Equal(msg.flags) {
				continue
			}
			letters, _, added := f.words.letters(flags, msg.ref.Name.Flags())
			if added {
				if err := f.words.save(); err != nil {
					return err
				}
			}
			ref, err := f.dir.SetFlags(msg.ref, letters)
			if errors.Is(err, fs.ErrNotExist) {
				// Another program renamed or removed it just now: its change comes first.
				ref, err = f.setAgain(msg, op, &flags)
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
			}
			if err != nil {
				return err
			}
			next := *msg
			next.ref, next.flags, next.modSeq = ref, flags, modSeq
			f.highest = modSeq
			f.index.putMessage(next.entry)
			f.replace(i, &next)
		}
		return nil
	})
	return conflict, err
}

// setAgain looks for the file of a message under any name and applies op to what it shows.
func (f *folder) setAgain(msg *message, op imap.FlagOp, flags *imap.Flags) (Ref, error) {
	for range 3 {
		ref, err := f.locate(msg.base)
		if err != nil {
			return ref, err
		}
		*flags = op.Apply(f.flagsOf(ref, msg.flags))
		letters, _, added := f.words.letters(*flags, ref.Name.Flags())
		if added {
			if err := f.words.save(); err != nil {
				return ref, err
			}
		}
		if to, err := f.dir.SetFlags(ref, letters); !errors.Is(err, fs.ErrNotExist) {
			return to, err
		}
	}
	return Ref{}, fs.ErrNotExist
}

// locate lists the files to find where the message of this base stands now.
func (f *folder) locate(base string) (Ref, error) {
	for range 3 { // who renames it hides it from a listing under way
		for ref, err := range f.dir.All() {
			if err != nil {
				return Ref{}, err
			}
			if ref.Name.Base == base {
				return ref, nil
			}
		}
	}
	return Ref{}, fs.ErrNotExist
}

// within returns where in the view the messages of set are.
func (f *folder) within(set imap.UIDSet) []int {
	var at []int
	for _, r := range set {
		i, _ := f.find(r.First)
		for ; i < len(f.msgs) && f.msgs[i].at() <= r.Last; i++ {
			at = append(at, i)
		}
	}
	return at
}

func (m *mailbox) Expunge(ctx context.Context, set imap.UIDSet, onlyDeleted bool) error {
	return m.change(ctx, "expunge in", func(f *folder) error { return f.expunge(set, onlyDeleted) })
}

// expunge removes files, for good, and takes them out of the view. Both locks are held.
func (f *folder) expunge(set imap.UIDSet, onlyDeleted bool) (failed error) {
	gone := make(map[imap.UID]struct{})
	var freed usage
	var dirs [2]bool
	for _, i := range f.within(set) {
		msg := f.msgs[i]
		if onlyDeleted && msg.flags.System()&imap.Deleted == 0 {
			continue
		}
		// The name says \Deleted: a program that takes the flag away takes the name.
		err := f.dir.Remove(msg.ref)
		keep := false
		for tries := 0; errors.Is(err, fs.ErrNotExist) && !keep && tries < 20; tries++ {
			ref, lost := f.locate(msg.base)
			if err = lost; lost == nil {
				if keep = onlyDeleted && f.flagsOf(ref, msg.flags).System()&imap.Deleted == 0; !keep {
					err = f.dir.Remove(ref)
				}
			} else if errors.Is(lost, fs.ErrNotExist) {
				break
			}
		}
		if keep {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = err
			break
		}
		gone[msg.at()] = struct{}{}
		dirs[msg.ref.dir()] = true
		octets, sized := msg.ref.Name.Size()
		if !sized {
			octets = msg.size
		}
		freed.octets += octets
		freed.messages++
	}
	for i, touched := range dirs {
		if touched && failed == nil {
			failed = atomicfile.SyncDir(f.scans[i].dir)
		}
	}
	if len(gone) > 0 {
		if err := f.quota().add(context.Background(), freed.minus(), true); err != nil {
			f.opts.logger().Warn("maildirsize not written", "dir", f.root, "err", err)
		}
		f.remove(f.nextModSeq(), func(msg *message) bool {
			_, ok := gone[msg.at()]
			return ok
		})
	}
	return failed
}

func (m *mailbox) Copy(ctx context.Context, set imap.UIDSet, dst string, move bool) (copied imap.Copied, err error) {
	to, err := m.store.Open(ctx, dst)
	if err != nil {
		if errors.Is(err, imap.ErrNotSelectable) {
			err = fmt.Errorf("maildir: copy to %q: %w", dst, imap.ErrNoMailbox)
		}
		return copied, err
	}
	defer to.Close()
	target := to.(*mailbox).f
	if move && target != m.f {
		return m.moveTo(ctx, target, set)
	}
	for range 5 {
		f, unlock, err := m.view(ctx, "copy from")
		if err != nil {
			return copied, err
		}
		a, from, err := f.linkTo(ctx, target, set)
		unlock()
		if errors.Is(err, fs.ErrNotExist) && target.lives() == nil {
			m.look() // one was renamed or removed just now: begin anew
			continue
		}
		if err != nil {
			return copied, f.errorf("copy from", err)
		}
		if len(from) == 0 {
			return copied, nil
		}
		if err := target.admitted(a, move); err != nil {
			return copied, target.errorf("copy to", err)
		}
		copied = imap.Copied{UIDValidity: a.validity, From: from, To: a.uids()}
		if move {
			return copied, m.Expunge(ctx, imap.NumSetOf(from...), false)
		}
		return copied, nil
	}
	return copied, m.f.errorf("copy from", fs.ErrNotExist)
}

// linkTo puts the messages of set into the target's tmp/, all or none.
func (f *folder) linkTo(ctx context.Context, target *folder, set imap.UIDSet) (a *arrival, from []imap.UID, err error) {
	a = &arrival{ctx: ctx}
	for _, i := range f.within(set) {
		file, err := target.dir.link(ctx, f.dir, f.msgs[i])
		if err != nil {
			a.discard()
			return nil, nil, err
		}
		a.files = append(a.files, file)
		from = append(from, f.msgs[i].at())
	}
	return a, from, nil
}

// moveTo moves messages: the copies come first, durable, the originals go after, so that a
// crash between leaves both. The folder stays locked all the while, lest another move takes
// them too. Only a move holds two folders' locks, and only one of a tree at a time does, so
// that two never wait for each other.
func (m *mailbox) moveTo(ctx context.Context, target *folder, set imap.UIDSet) (copied imap.Copied, err error) {
	moves, err := lockFile(ctx, filepath.Join(m.f.root, "mailblocks-move"))
	if err != nil {
		return copied, m.f.errorf("move from", err)
	}
	defer moves.Unlock()
	for range 5 {
		err = m.change(ctx, "move from", func(f *folder) error {
			a, from, err := f.linkTo(ctx, target, set)
			if err != nil || len(from) == 0 {
				return err
			}
			if err := target.admitted(a, true); err != nil {
				return err
			}
			copied = imap.Copied{UIDValidity: a.validity, From: from, To: a.uids()}
			return f.expunge(imap.NumSetOf(from...), false)
		})
		if !errors.Is(err, fs.ErrNotExist) || target.lives() != nil || len(copied.From) > 0 {
			break
		}
		m.look()
	}
	return copied, err
}

// UIDLs returns the POP3 names that an earlier server gave to messages: the UID list's P
// records, an empty one standing for the base name. A POP3 server uses them, so that clients
// download nothing again.
func (m *mailbox) UIDLs(ctx context.Context) (map[imap.UID]string, error) {
	f, unlock, err := m.view(ctx, "UIDLs of")
	if err != nil {
		return nil, err
	}
	defer unlock()
	names := make(map[imap.UID]string)
	for _, msg := range f.msgs {
		if msg.extra == "" {
			continue
		}
		if name, ok := msg.uidl(); ok {
			names[msg.at()] = name
		}
	}
	return names, nil
}

// Recent implements imap.Recenter: messages in new/ are recent.
func (m *mailbox) Recent(ctx context.Context) (set imap.UIDSet, err error) {
	f, unlock, err := m.view(ctx, "recent of")
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, msg := range f.msgs {
		if msg.ref.New {
			set.Add(msg.at())
		}
	}
	return set, nil
}

// ClaimRecent implements imap.Recenter: it moves the messages of new/ to cur/, and those are
// recent that nobody else moved first.
func (m *mailbox) ClaimRecent(ctx context.Context) (set imap.UIDSet, err error) {
	set, err = m.Recent(ctx)
	if err != nil || len(set) == 0 {
		return nil, err
	}
	set = nil
	err = m.change(ctx, "claim recent in", func(f *folder) error {
		for i, msg := range f.msgs {
			if !msg.ref.New {
				continue
			}
			ref, err := f.dir.SetFlags(msg.ref, msg.ref.Name.Flags())
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			next := *msg
			next.ref = ref
			f.replace(i, &next)
			set.Add(msg.at())
		}
		return nil
	})
	return set, err
}

func (m *mailbox) Watch(ctx context.Context, wake func()) error {
	if m.closed.Load() {
		return m.f.errorf("watch", imap.ErrClosed)
	}
	if err := m.f.lives(); err != nil {
		return m.f.errorf("watch", err)
	}
	m.f.watchMu.Lock()
	m.f.watchers[&wake] = struct{}{}
	m.f.watchMu.Unlock()
	defer func() {
		m.f.watchMu.Lock()
		delete(m.f.watchers, &wake)
		m.f.watchMu.Unlock()
	}()
	dir := string(m.f.dir)
	return notify.watch(ctx, m.f, m.f.opts.logger(), filepath.Join(dir, "new"), filepath.Join(dir, "cur"), dir)
}
