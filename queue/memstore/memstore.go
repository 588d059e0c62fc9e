package memstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/internal/sched"
)

// A Store is a queue.Store in memory. Make it with New.
type Store struct {
	index  *sched.Index[*message]
	lastID atomic.Uint64
}

var _ queue.Store = (*Store)(nil)

// A message is shared by its items; mu guards the envelope, of which each lease holder changes
// the recipients on its own route.
type message struct {
	body []byte
	mu   sync.Mutex
	env  *queue.Envelope
}

func (m *message) self(int) *message { return m }

// New returns an empty Store.
func New() *Store {
	s := &Store{index: sched.New[*message]()}
	s.lastID.Store(sched.FirstID(time.Now()))
	return s
}

// Enqueue implements queue.Store.
func (s *Store) Enqueue(ctx context.Context, msgs ...queue.Message) ([]queue.ID, error) {
	if err := s.index.Err(); err != nil {
		return nil, err
	}
	prepared, err := prepare(ctx, msgs)
	if err != nil {
		return nil, err
	}
	return s.add(prepared)
}

// prepare reads everything that can fail before anything is entered.
func prepare(ctx context.Context, msgs []queue.Message) ([]*message, error) {
	var prepared []*message
	for i := range msgs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		env, err := sched.Prepare(&msgs[i].Envelope, time.Now())
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(msgs[i].Body)
		if err != nil {
			return nil, fmt.Errorf("queue/memstore: read message: %w", err)
		}
		prepared = append(prepared, &message{body: body, env: env})
	}
	return prepared, nil
}

func (s *Store) add(msgs []*message) ([]queue.ID, error) {
	var ids []queue.ID
	for _, m := range msgs {
		id := s.lastID.Add(1)
		if err := s.index.Add(id, sched.EnvelopeRank(m.env), sched.Parts(m.env), m.self); err != nil {
			return nil, err
		}
		ids = append(ids, sched.FormatID(id))
	}
	return ids, nil
}

// Lease implements queue.Store.
func (s *Store) Lease(ctx context.Context, w queue.Want) ([]queue.Lease, error) {
	grants, now, err := s.index.Lease(w)
	if err != nil {
		return nil, err
	}
	leases := make([]queue.Lease, 0, len(grants))
	for _, g := range grants {
		m := g.Payload
		env := m.envelope()
		leases = append(leases, queue.Lease{
			Token: g.Token, Envelope: env, Size: int64(len(m.body)),
			Due: sched.Due(env, g.Token.Route, now), Now: now, Until: g.Until,
			RouteDown: g.RouteDown, Expire: g.Expire,
		})
	}
	return leases, nil
}

func (m *message) envelope() *queue.Envelope {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sched.Clone(m.env)
}

// Renew implements queue.Store.
func (s *Store) Renew(ctx context.Context, t queue.Token, d time.Duration) error {
	return s.index.Renew(t, d)
}

// Settle implements queue.Store.
func (s *Store) Settle(ctx context.Context, t queue.Token, set queue.Settlement) ([]queue.ID, error) {
	it, undo, err := s.index.Begin(t)
	if err != nil {
		return nil, err
	}
	reports, err := prepare(ctx, set.Reports)
	if err != nil {
		s.index.Abort(it, undo)
		return nil, err
	}
	m := it.Payload
	m.mu.Lock()
	sched.Settle(m.env, t.Route, &set)
	due, done := sched.Summary(m.env, t.Route)
	m.mu.Unlock()
	ids, err := s.add(reports)
	if err != nil {
		return nil, err
	}
	s.index.Finish(it, sched.Result{Due: due, Alarm: set.Alarm, Done: done}, m)
	return ids, nil
}

type reader struct{ *bytes.Reader }

func (reader) Close() error { return nil }

// Open implements queue.Store.
func (s *Store) Open(ctx context.Context, id queue.ID) (io.ReadSeekCloser, error) {
	n, _ := sched.ParseID(id)
	views := s.index.View(n)
	if len(views) == 0 {
		return nil, fmt.Errorf("queue/memstore: open %s: %w", id, queue.ErrNotFound)
	}
	return reader{bytes.NewReader(views[0].Payload.body)}, nil
}

// List implements queue.Store.
func (s *Store) List(ctx context.Context, f queue.Filter) iter.Seq2[*queue.Entry, error] {
	return func(yield func(*queue.Entry, error) bool) {
		if err := s.index.Err(); err != nil {
			yield(nil, err)
			return
		}
		n := 0
		for _, id := range s.index.IDs(&f) {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			views := s.index.View(id)
			if len(views) == 0 {
				continue
			}
			m := views[0].Payload
			env := m.envelope()
			if !sched.Match(env, &f) {
				continue
			}
			if !yield(sched.Entry(id, env, int64(len(m.body)), views), nil) {
				return
			}
			if n++; n == f.Limit {
				return
			}
		}
	}
}

// Alter implements queue.Store.
func (s *Store) Alter(ctx context.Context, f queue.Filter, c queue.Change) (int, error) {
	if err := s.index.Err(); err != nil {
		return 0, err
	}
	changed, n := 0, 0
	for _, id := range s.index.IDs(&f) {
		if err := ctx.Err(); err != nil {
			return changed, err
		}
		views := s.index.View(id)
		if len(views) == 0 || !sched.Match(views[0].Payload.envelope(), &f) {
			continue
		}
		did, err := s.alter(id, &f, c)
		if err != nil {
			return changed, err
		}
		changed += did
		if n++; n == f.Limit {
			break
		}
	}
	return changed, nil
}

func (s *Store) alter(id uint64, f *queue.Filter, c queue.Change) (int, error) {
	if c.Op == queue.OpReroute {
		views := s.index.PinWhole(id)
		if views == nil {
			return 0, nil
		}
		m := views[0].Payload
		m.mu.Lock()
		parts, n := sched.Reroute(m.env, views, f, c.Route)
		m.mu.Unlock()
		if n == 0 {
			s.index.UnpinWhole(id)
			return 0, nil
		}
		return n, s.index.Replace(id, parts, m.self)
	}
	items := s.index.Pick(id, f, c.Op)
	for _, it := range items {
		m := it.Payload
		m.mu.Lock()
		switch c.Op {
		case queue.OpKick:
			sched.Kick(m.env, it.Route(), time.Now())
		case queue.OpRemove:
			sched.Abandon(m.env, it.Route())
		}
		m.mu.Unlock()
	}
	s.index.Apply(items, c.Op, time.Now())
	return len(items), nil
}

// Wake implements queue.Store.
func (s *Store) Wake(ctx context.Context, seen queue.Mark, until time.Time) (queue.Mark, error) {
	return s.index.Wake(ctx, seen, until)
}

// Close implements queue.Store. What is still queued is lost.
func (s *Store) Close() error {
	s.index.Close(queue.ErrClosed)
	return nil
}
