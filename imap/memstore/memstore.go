package memstore

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

// Storage holds one user's mail. It may be opened any number of times, also at once: its
// Stores all see the same mail. Safe for concurrent use.
type Storage struct {
	mu         sync.Mutex // guards all below, boxes and what is in them included
	boxes      map[string]*box
	subscribed map[string]bool
	validity   uint32 // the last UIDVALIDITY given out
	ids        uint64 // the last object id given out

	extras   // of the store itself; see upgrades.go
	limits   map[imap.QuotaResource]int64
	watchers map[*func()]bool // of the names
}

// New returns a Storage with an empty Inbox.
func New() *Storage {
	s := &Storage{
		boxes:      make(map[string]*box),
		subscribed: make(map[string]bool),
		watchers:   make(map[*func()]bool),
		// Clients keep what they know of a mailbox longer than we live.
		validity: uint32(time.Now().Unix()),
	}
	s.boxes[imap.Inbox] = s.newBox("")
	return s
}

// Open returns a new handle on the storage. It never fails.
func (s *Storage) Open() imap.Store { return &store{s} }

func (s *Storage) newBox(use imap.SpecialUse) *box {
	s.validity++
	return &box{
		use:      use,
		state:    imap.State{ID: s.newID("F"), UIDValidity: s.validity, UIDNext: 1, HighestModSeq: 1},
		watchers: make(map[*func()]bool),
	}
}

func (s *Storage) newID(kind string) string {
	s.ids++
	return fmt.Sprintf("%s%d", kind, s.ids)
}

// isLevel reports whether name has mailboxes below it.
func (s *Storage) isLevel(name string) bool {
	for other := range s.boxes {
		if strings.HasPrefix(other, name+"/") {
			return true
		}
	}
	return false
}

// fail says what was attempted, and on which mailbox.
func fail(what, name string, err error) error {
	return fmt.Errorf("memstore: %s %q: %w", what, name, err)
}

// store is a handle on a Storage; it has nothing to release.
type store struct{ *Storage }

var _ imap.Store = store{}

func (s store) Close() error { return nil }

func (s store) Mailboxes(ctx context.Context) iter.Seq2[imap.MailboxInfo, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make(map[string]imap.MailboxInfo)
	for name, b := range s.boxes {
		list[name] = imap.MailboxInfo{Name: name, ID: b.state.ID, SpecialUse: b.use, Subscribed: s.subscribed[name]}
		for i, c := range name {
			if level := name[:i]; c == '/' && s.boxes[level] == nil {
				list[level] = imap.MailboxInfo{Name: level, NoSelect: true, Subscribed: s.subscribed[level]}
			}
		}
	}
	for name := range s.subscribed {
		if _, ok := list[name]; !ok {
			list[name] = imap.MailboxInfo{Name: name, NonExistent: true, NoSelect: true, Subscribed: true}
		}
	}
	return func(yield func(imap.MailboxInfo, error) bool) {
		for _, info := range list {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (s store) Open(ctx context.Context, name string) (imap.Mailbox, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.boxes[name]
	switch {
	case b == nil && s.isLevel(name):
		return nil, fail("open", name, imap.ErrNotSelectable)
	case b == nil:
		return nil, fail("open", name, imap.ErrNoMailbox)
	}
	return &mailbox{storage: s.Storage, box: b}, nil
}

func (s store) Create(ctx context.Context, name string, opts *imap.CreateOptions) error {
	if err := imap.CheckName(name); err != nil {
		return fail("create", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wakeNames()
	if s.boxes[name] != nil {
		return fail("create", name, imap.ErrMailboxExists)
	}
	if opts == nil {
		opts = new(imap.CreateOptions)
	}
	if err := s.room(0, 0, 1); err != nil {
		return fail("create", name, err)
	}
	s.boxes[name] = s.newBox(opts.SpecialUse)
	return nil
}

func (s store) Delete(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wakeNames()
	b := s.boxes[name]
	switch {
	case name == imap.Inbox:
		return fail("delete", name, imap.ErrBadName)
	case b == nil && s.isLevel(name):
		return fail("delete", name, imap.ErrHasChildren)
	case b == nil:
		return fail("delete", name, imap.ErrNoMailbox)
	}
	delete(s.boxes, name)
	b.deleted = true
	b.wake()
	return nil
}

func (s store) Rename(ctx context.Context, old, new string) error {
	if err := imap.CheckName(new); err != nil {
		return fail("rename to", new, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wakeNames()
	switch {
	case s.boxes[old] == nil && !s.isLevel(old):
		return fail("rename", old, imap.ErrNoMailbox)
	case s.boxes[new] != nil || s.isLevel(new):
		return fail("rename to", new, imap.ErrMailboxExists)
	case old == imap.Inbox:
		inbox, b := s.boxes[old], s.newBox("")
		b.annotations, b.acl = inbox.annotations, inbox.acl
		s.boxes[new] = b
		inbox.copyTo(b, imap.AllUIDs, true)
		return nil
	case strings.HasPrefix(new, old+"/"):
		return fail("rename below itself", old, imap.ErrBadName)
	}
	// Open handles hold the box, not its name, and follow it.
	for name := range maps.Clone(s.boxes) {
		if name == old || strings.HasPrefix(name, old+"/") {
			s.boxes[new+name[len(old):]] = s.boxes[name]
			delete(s.boxes, name)
		}
	}
	return nil
}

func (s store) Subscribe(ctx context.Context, name string, on bool) error {
	if err := imap.CheckName(name); err != nil {
		return fail("subscribe to", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wakeNames()
	if on {
		s.subscribed[name] = true
	} else {
		delete(s.subscribed, name)
	}
	return nil
}

// maxGone bounds what a box remembers of expunged messages.
const maxGone = 1 << 16

// box is a mailbox, shared by the handles on it and guarded by Storage.mu.
type box struct {
	use      imap.SpecialUse
	state    imap.State // always up to date
	msgs     []*message // by ascending UID
	gone     []expunge  // by ascending modSeq
	forgot   imap.ModSeq
	recent   imap.UID // the messages after this one are recent
	deleted  bool
	watchers map[*func()]bool
	extras
}

// message is never written to: a change of flags puts another one in its place, so that
// whoever holds one has a consistent view of it without a lock.
type message struct {
	imap.Message
	body string
}

type expunge struct {
	uid    imap.UID
	modSeq imap.ModSeq
}

// wake tells the watchers of b that something happened. They must not block.
func (b *box) wake() {
	for w := range b.watchers {
		(*w)()
	}
}

// count adds m to the counts of the state, or takes it out when n is -1.
func (b *box) count(m *message, n int) {
	b.state.Messages += uint32(n)
	b.state.Size += int64(n) * m.Size
	if m.Flags.System()&imap.Seen == 0 {
		b.state.Unseen += uint32(n)
	}
	if m.Flags.System()&imap.Deleted != 0 {
		b.state.Deleted += uint32(n)
	}
}

// add appends m as a new message of b and returns its UID.
func (b *box) add(m message, modSeq imap.ModSeq) imap.UID {
	m.UID, m.ModSeq, m.SaveDate = b.state.UIDNext, modSeq, time.Now()
	m.Flags = b.spell(m.Flags)
	b.state.UIDNext++
	b.state.HighestModSeq = modSeq
	b.msgs = append(b.msgs, &m)
	b.count(&m, 1)
	return m.UID
}

// spell returns f with keywords as they were first spelled in b, learning the new ones.
func (b *box) spell(f imap.Flags) imap.Flags {
	var keywords []string
	for _, k := range f.Keywords() {
		i := slices.IndexFunc(b.state.Keywords, func(known string) bool { return strings.EqualFold(k, known) })
		if i < 0 {
			i = len(b.state.Keywords)
			b.state.Keywords = append(slices.Clip(b.state.Keywords), k) // a State given out keeps its own
		}
		keywords = append(keywords, b.state.Keywords[i])
	}
	return imap.MakeFlags(f.System(), keywords)
}

// within calls f with the index of each message of set in b.
func (b *box) within(set imap.UIDSet, f func(i int, m *message)) {
	for _, r := range set {
		i, _ := slices.BinarySearchFunc(b.msgs, r.First, compareUID)
		for ; i < len(b.msgs) && b.msgs[i].UID <= r.Last; i++ {
			f(i, b.msgs[i])
		}
	}
}

func compareUID(m *message, uid imap.UID) int { return int(int64(m.UID) - int64(uid)) }

// expunge removes the messages of set or, when onlyDeleted, those of them that have \Deleted.
func (b *box) expunge(set imap.UIDSet, onlyDeleted bool) {
	modSeq := b.state.HighestModSeq + 1
	before := len(b.msgs)
	b.msgs = slices.DeleteFunc(b.msgs, func(m *message) bool {
		if !set.Contains(m.UID) || onlyDeleted && m.Flags.System()&imap.Deleted == 0 {
			return false
		}
		b.count(m, -1)
		b.gone = append(b.gone, expunge{m.UID, modSeq})
		return true
	})
	if len(b.msgs) == before {
		return
	}
	b.state.HighestModSeq = modSeq
	if over := len(b.gone) - maxGone; over > 0 {
		b.forgot = b.gone[over-1].modSeq
		b.gone = slices.Clone(b.gone[over:])
	}
	b.wake()
}

// copyTo copies the messages of set to dst, in one step.
func (b *box) copyTo(dst *box, set imap.UIDSet, move bool) imap.Copied {
	done := imap.Copied{UIDValidity: dst.state.UIDValidity}
	var found []*message
	b.within(set, func(_ int, m *message) { found = append(found, m) })
	modSeq := dst.state.HighestModSeq + 1
	for _, m := range found {
		done.From = append(done.From, m.UID)
		done.To = append(done.To, dst.add(*m, modSeq))
	}
	if len(found) > 0 {
		dst.wake()
	}
	if move {
		b.expunge(imap.NumSetOf(done.From...), false)
	}
	return done
}
