package imapserver

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

// Bounds on what NOTIFY makes us watch for one user.
const (
	// maxWatched is how many mailboxes are watched; others are looked at from time to time.
	maxWatched = 200
	// maxNotified is how many mailboxes a session may ask of.
	maxNotified = 5000
	// hubPoll is how often we look for what no store tells.
	hubPoll = 15 * time.Second
)

// A hub watches the mailboxes of one user for all sessions that sent NOTIFY, as a box watches
// the messages of one mailbox: what there is stands on a board, and a session that is behind
// tells its client the difference to the newest one.
type hub struct {
	account *account

	mu      sync.Mutex // guards what makes boards; held while the store is asked
	cur     *board
	watched map[string]*watchedBox // by id, or name without one

	names atomic.Bool // the list of mailboxes may have changed
	dirty atomic.Bool // something of a watched mailbox may have

	wakeMu   sync.Mutex
	sessions map[*conn]*notifySpec
	news     map[*conn]metadataNews
	stop     context.CancelFunc // of watchNames and poll, while there are sessions
}

// A board is one state of all mailboxes. It is never written to.
type board struct {
	boxes map[string]*boardBox
	names []string // in the order of LIST
}

// boardBox is a mailbox on a board: as LIST shows it, and its state when somebody wants it.
type boardBox struct {
	listed
	state imap.State
	known bool
}

// same reports whether LIST shows both alike.
func (b *boardBox) same(o *boardBox) bool { return b.listed == o.listed }

// watchedBox is a mailbox whose state somebody wants.
type watchedBox struct {
	name   string
	mb     imap.Mailbox
	dirty  atomic.Bool
	polled bool // nobody tells us when it changes
	stop   context.CancelFunc
}

// join makes c be told, or told of something else. The board is the newest one.
func (h *hub) join(ctx context.Context, c *conn, spec *notifySpec) (*board, error) {
	h.wakeMu.Lock()
	if h.sessions == nil {
		h.sessions = make(map[*conn]*notifySpec)
	}
	first := len(h.sessions) == 0
	h.sessions[c] = spec
	if first {
		var ctx context.Context
		ctx, h.stop = context.WithCancel(context.Background())
		go h.watchNames(ctx)
		go h.poll(ctx)
	}
	h.wakeMu.Unlock()
	h.names.Store(true)
	b, err := h.newest(ctx)
	if err != nil {
		h.leave(c)
	}
	return b, err
}

// leave makes c be told nothing more.
func (h *hub) leave(c *conn) {
	h.wakeMu.Lock()
	delete(h.sessions, c)
	delete(h.news, c)
	last := len(h.sessions) == 0 && h.stop != nil
	if last {
		h.stop()
		h.stop = nil
	}
	h.wakeMu.Unlock()
	if !last {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wakeMu.Lock()
	nobody := len(h.sessions) == 0
	h.wakeMu.Unlock()
	if nobody {
		h.cur = nil
		for key := range h.watched {
			h.forget(key)
		}
	}
}

// wake wakes all sessions. It never blocks.
func (h *hub) wake() {
	h.wakeMu.Lock()
	defer h.wakeMu.Unlock()
	for c := range h.sessions {
		c.wake()
	}
}

// namesChanged is called when a session of ours, or the store, changed what LIST shows.
func (h *hub) namesChanged() {
	h.names.Store(true)
	h.wake()
}

// touch has a mailbox looked at again, which a session of ours changed.
func (h *hub) touch(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.watched {
		if w.name == name {
			w.dirty.Store(true)
			h.dirty.Store(true)
		}
	}
}

func (h *hub) watchNames(ctx context.Context) {
	w, ok := imap.UpgradeStore[imap.StoreWatcher](h.account.store)
	if !ok {
		return
	}
	if err := w.WatchNames(ctx, h.namesChanged); ctx.Err() == nil {
		h.account.server.logger().LogAttrs(ctx, slog.LevelWarn, "watching mailboxes failed", slog.String("identity", h.account.identity), slog.Any("err", err))
	}
}

// poll looks from time to time for what nobody tells.
func (h *hub) poll(ctx context.Context) {
	_, told := imap.UpgradeStore[imap.StoreWatcher](h.account.store)
	tick := time.NewTicker(hubPoll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !told {
			h.names.Store(true)
		}
		h.dirty.Store(true)
		h.mu.Lock()
		for _, w := range h.watched {
			if w.polled {
				w.dirty.Store(true)
			}
		}
		h.mu.Unlock()
		h.wake()
	}
}

// newest returns the newest board, asking the store where it may know more.
func (h *hub) newest(ctx context.Context) (*board, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := h.names.Swap(false) || h.cur == nil // before asking: a wake from now on counts
	dirty := h.dirty.Swap(false)
	if !names && !dirty {
		return h.cur, nil
	}
	next, err := h.look(ctx, names)
	if err != nil {
		h.names.Store(true)
		return nil, err
	}
	if h.cur == nil || !next.equal(h.cur) {
		h.cur = next
		h.wake()
	}
	return h.cur, nil
}

func (b *board) equal(o *board) bool {
	return maps.EqualFunc(b.boxes, o.boxes, func(x, y *boardBox) bool {
		return x == y || x.same(y) && x.known == y.known && x.state.HighestModSeq == y.state.HighestModSeq &&
			x.state.UIDNext == y.state.UIDNext && x.state.UIDValidity == y.state.UIDValidity && x.state.Messages == y.state.Messages
	})
}

// look makes a board.
func (h *hub) look(ctx context.Context, names bool) (*board, error) {
	next := &board{boxes: make(map[string]*boardBox)}
	if names {
		tree, order, err := h.account.tree(ctx)
		if err != nil {
			return nil, err
		}
		next.names = order
		for name, m := range tree {
			next.boxes[name] = &boardBox{listed: *m}
		}
		h.rewatch(ctx, next)
	} else {
		next.names = h.cur.names
		maps.Copy(next.boxes, h.cur.boxes)
	}
	for _, w := range h.watched {
		b := next.boxes[w.name]
		if b == nil {
			continue
		}
		var old *boardBox
		if h.cur != nil {
			old = h.cur.boxes[w.name]
		}
		if !w.dirty.Swap(false) && old != nil && old.known && old.ID == b.ID {
			b.state, b.known = old.state, true
			continue
		}
		state, err := w.mb.State(ctx)
		switch {
		case errors.Is(err, imap.ErrNoMailbox):
			h.names.Store(true)
			continue
		case notAllowed(err): // another's mailbox, listed but not to be read
			continue
		case err != nil:
			w.dirty.Store(true)
			return nil, err
		}
		fresh := *b
		fresh.state, fresh.known = state, true
		next.boxes[w.name] = &fresh
	}
	return next, nil
}

// rewatch watches those mailboxes of a board that sessions ask of, and no others.
func (h *hub) rewatch(ctx context.Context, next *board) {
	wanted := make(map[string]string)
	h.wakeMu.Lock()
	for name, b := range next.boxes {
		if b.NoSelect {
			continue
		}
		for _, spec := range h.sessions {
			if spec.events(b)&messageEvents != 0 {
				wanted[orElse(b.ID, name)] = name
				break
			}
		}
	}
	h.wakeMu.Unlock()
	for key, w := range h.watched {
		if wanted[key] != w.name {
			h.forget(key)
		}
	}
	for key, name := range wanted {
		if h.watched[key] != nil || len(h.watched) >= maxNotified {
			continue
		}
		mb, err := h.account.store.Open(ctx, name)
		if err != nil {
			continue // it has just gone, or cannot be read: its state stays unknown
		}
		watching, stop := context.WithCancel(context.Background())
		w := &watchedBox{name: name, mb: mb, stop: stop, polled: len(h.watched) >= maxWatched}
		w.dirty.Store(true)
		if h.watched == nil {
			h.watched = make(map[string]*watchedBox)
		}
		h.watched[key] = w
		if !w.polled {
			go func() {
				_ = mb.Watch(watching, func() {
					w.dirty.Store(true)
					h.dirty.Store(true)
					h.wake()
				})
				if watching.Err() == nil {
					h.namesChanged() // the mailbox went away
				}
			}()
		}
	}
}

// forget ends the watch of a mailbox.
func (h *hub) forget(key string) {
	w := h.watched[key]
	w.stop()
	h.account.logClose(w.mb.Close())
	delete(h.watched, key)
}
