package imapserver

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

// A box is an open mailbox, shared by the sessions of one account that have it selected. It
// keeps the newest version of the mailbox's index, which it alone makes.
type box struct {
	account *account
	id      uint64 // of this process, never used again
	key     string
	mb      imap.Mailbox

	refs      int                // guarded by account.mu
	stopWatch context.CancelFunc // guarded by account.mu

	cur   atomic.Pointer[index]
	dirty atomic.Bool // the store said that something happened

	keyResets atomic.Uint64 // how often the key for URLs was made anew

	mu        sync.Mutex // guards what makes versions; held while the store is asked
	keywords  keywordSets
	refreshed time.Time
	lost      error // the mailbox is gone, or another one took its place

	rankings rankings // for SORT

	wakeMu   sync.Mutex
	sleepers map[*conn]struct{} // sessions to wake when something happened
}

func newBox(a *account, key string, mb imap.Mailbox) *box {
	b := &box{account: a, id: a.server.boxes.Add(1), key: key, mb: mb, keywords: newKeywordSets(), sleepers: make(map[*conn]struct{})}
	b.cur.Store(&index{sets: b.keywords.sets})
	return b
}

// errLost is reported when the mailbox was deleted, or its UIDs were lost, underneath.
var errLost = errors.New("the selected mailbox is gone")

// refresh asks the store what happened and returns the newest version.
func (b *box) refresh(ctx context.Context) (*index, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refreshLocked(ctx)
}

// peek returns the newest version, asking the store only when it said that something
// happened, or when it was not asked for the given time.
func (b *box) peek(ctx context.Context, age time.Duration) (*index, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.dirty.Load() && b.lost == nil && time.Since(b.refreshed) < age {
		return b.cur.Load(), nil
	}
	return b.refreshLocked(ctx)
}

func (b *box) refreshLocked(ctx context.Context) (*index, error) {
	if b.lost != nil {
		return nil, b.lost
	}
	b.dirty.Store(false) // before asking: a wake from now on counts
	old := b.cur.Load()
	since := old.state.HighestModSeq
	d, err := b.mb.Changes(ctx, since)
	if errors.Is(err, imap.ErrTooOld) && since > 0 {
		since = 0
		d, err = b.mb.Changes(ctx, 0)
	}
	switch {
	case errors.Is(err, imap.ErrNoMailbox):
		b.lost = errLost
		b.wake()
		return nil, b.lost
	case err != nil:
		b.dirty.Store(true)
		return nil, err
	case old.state.UIDValidity != 0 && d.State.UIDValidity != old.state.UIDValidity:
		b.lost = errLost
		b.wake()
		return nil, b.lost
	}
	b.refreshed = time.Now()
	if since > 0 && d.State.HighestModSeq == since && d.State.UIDNext == old.state.UIDNext && len(d.State.Keywords) == len(old.state.Keywords) {
		return old, nil
	}
	from := old
	if since == 0 {
		from = &index{}
	}
	next, err := b.keywords.apply(from, d)
	if err != nil {
		b.dirty.Store(true)
		return nil, err
	}
	b.cur.Store(next)
	b.wake()
	return next, nil
}

// wake wakes the sessions that wait for something to happen. It never blocks.
func (b *box) wake() {
	b.wakeMu.Lock()
	defer b.wakeMu.Unlock()
	for c := range b.sleepers {
		c.wake()
	}
}

// listen makes c be woken, or no more.
func (b *box) listen(c *conn, on bool) {
	b.wakeMu.Lock()
	defer b.wakeMu.Unlock()
	if on {
		b.sleepers[c] = struct{}{}
	} else {
		delete(b.sleepers, c)
	}
}

// watch follows the store's hints until ctx ends.
func (b *box) watch(ctx context.Context) {
	err := b.mb.Watch(ctx, func() {
		b.dirty.Store(true)
		b.wake()
	})
	if ctx.Err() == nil && !errors.Is(err, imap.ErrNoMailbox) {
		// Idle sessions look for themselves from time to time.
		b.account.server.logger().LogAttrs(ctx, slog.LevelWarn, "watching a mailbox failed", slog.String("identity", b.account.identity), slog.Any("err", err))
	}
}

// An account is one user's open Store, shared by the user's sessions.
type account struct {
	server   *Server
	identity string
	opened   sync.Once
	store    imap.Store
	err      error // of Login

	hub hub // for NOTIFY

	mu    sync.Mutex
	boxes map[string]*box
	idle  []*box // boxes without sessions, kept for the next, oldest first

	sessions int         // guarded by Server.mu
	linger   *time.Timer // guarded by Server.mu
}

// How long and how much is kept open for sessions to come. Many clients connect, look and
// leave, again and again.
const (
	lingerTime   = time.Minute
	maxLingering = 1000 // accounts
	maxIdleBoxes = 4    // mailboxes of an account
)

// account opens the user's Store, or joins those who have it open.
func (s *Server) account(ctx context.Context, identity string) (*account, error) {
	s.mu.Lock()
	a := s.accounts[identity]
	if a == nil {
		a = &account{server: s, identity: identity, boxes: make(map[string]*box)}
		a.hub.account = a
		if s.accounts == nil {
			s.accounts = make(map[string]*account)
		}
		s.accounts[identity] = a
	}
	if a.sessions == 0 && a.linger != nil {
		a.linger.Stop()
		a.linger = nil
		s.lingering--
	}
	a.sessions++
	s.mu.Unlock()

	a.opened.Do(func() { a.store, a.err = s.openStore(ctx, identity) })
	if a.err != nil {
		s.leave(a)
		return nil, a.err
	}
	return a, nil
}

// leave ends a session's use of a.
func (s *Server) leave(a *account) {
	s.mu.Lock()
	if a.sessions--; a.sessions > 0 {
		s.mu.Unlock()
		return
	}
	if a.err != nil || s.closing || s.lingering >= maxLingering {
		delete(s.accounts, a.identity)
		s.mu.Unlock()
		a.close()
		return
	}
	defer s.mu.Unlock()
	s.lingering++
	var timer *time.Timer
	timer = time.AfterFunc(lingerTime, func() {
		s.mu.Lock()
		expired := a.linger == timer && a.sessions == 0
		if expired {
			s.lingering--
			delete(s.accounts, a.identity)
		}
		s.mu.Unlock()
		if expired {
			a.close()
		}
	})
	a.linger = timer
}

// closeAccounts closes the accounts that no session uses, and those that the last session
// leaves from now on.
func (s *Server) closeAccounts() {
	s.mu.Lock()
	s.closing = true
	var idle []*account
	for identity, a := range s.accounts {
		if a.sessions == 0 {
			a.linger.Stop()
			s.lingering--
			delete(s.accounts, identity)
			idle = append(idle, a)
		}
	}
	s.mu.Unlock()
	for _, a := range idle {
		a.close()
	}
}

func (a *account) close() {
	if a.store == nil {
		return
	}
	a.mu.Lock()
	boxes := a.idle
	a.idle = nil
	a.mu.Unlock()
	for _, b := range boxes {
		a.logClose(b.mb.Close())
	}
	a.logClose(a.store.Close())
}

func (a *account) logClose(err error) {
	if err != nil {
		a.server.logger().Warn("closing a store failed", slog.String("identity", a.identity), slog.Any("err", err))
	}
}

// open returns the box of a mailbox, up to date.
func (a *account) open(ctx context.Context, name string) (*box, *index, error) {
	mb, err := a.store.Open(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	st, err := mb.State(ctx)
	if err != nil {
		_ = mb.Close()
		return nil, nil, err
	}
	key := st.ID
	if key == "" {
		key = "name:" + name
	}
	b := a.join(key, st.UIDValidity, mb)
	x, err := b.refresh(ctx)
	if err != nil {
		a.release(b)
		return nil, nil, err
	}
	return b, x, nil
}

// join returns the box with key, made of mb unless it is there.
func (a *account) join(key string, validity uint32, mb imap.Mailbox) *box {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.boxes[key]
	if known := b; b != nil {
		v := known.cur.Load().state.UIDValidity
		if v != 0 && v != validity {
			b = nil // another mailbox of that name; the old box dies with its sessions
		}
	}
	if b == nil {
		b = newBox(a, key, mb)
		a.boxes[key] = b
	} else {
		a.logClose(mb.Close())
	}
	if b.refs++; b.refs == 1 {
		for i, other := range a.idle {
			if other == b {
				a.idle = append(a.idle[:i:i], a.idle[i+1:]...)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		b.stopWatch = cancel
		go b.watch(ctx)
	}
	return b
}

// release ends a session's use of b.
func (a *account) release(b *box) {
	b.mu.Lock()
	lost := b.lost != nil
	b.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if b.refs--; b.refs > 0 {
		return
	}
	b.stopWatch()
	if lost || a.boxes[b.key] != b {
		if a.boxes[b.key] == b {
			delete(a.boxes, b.key)
		}
		a.logClose(b.mb.Close())
		return
	}
	a.idle = append(a.idle, b)
	if len(a.idle) > maxIdleBoxes {
		oldest := a.idle[0]
		a.idle = append([]*box(nil), a.idle[1:]...)
		if a.boxes[oldest.key] == oldest {
			delete(a.boxes, oldest.key)
		}
		a.logClose(oldest.mb.Close())
	}
}
