package spool

import (
	"context"
	"fmt"
	"time"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/internal/sched"
)

// alterBatch is how many messages Alter changes with one commit.
const alterBatch = 256

// Alter implements queue.Store.
func (s *Store) Alter(ctx context.Context, f queue.Filter, c queue.Change) (changed int, err error) {
	s.alterMu.Lock()
	defer s.alterMu.Unlock()
	if err := s.index.Err(); err != nil {
		return 0, err
	}
	n := 0
	var batch []alteration
	flush := func() error {
		did, err := s.commitAlterations(batch, c)
		changed += did
		batch = nil
		return err
	}
	for _, id := range s.index.IDs(&f) {
		if err := ctx.Err(); err != nil {
			return changed, errorsFirst(flush(), err)
		}
		if sched.NeedsEnvelope(&f) {
			m, views, err := s.look(id)
			if err != nil {
				return changed, errorsFirst(flush(), err)
			}
			if views == nil || !sched.Match(m.env, &f) {
				continue
			}
		}
		if c.Op == queue.OpReroute {
			did, err := s.reroute(id, &f, c.Route)
			if err != nil {
				return changed, err
			}
			changed += did
		} else if a := (alteration{id: id, items: s.index.Pick(id, &f, c.Op)}); len(a.items) > 0 {
			if err := s.describe(&a, c.Op); err != nil {
				s.index.Unpin(a.items)
				return changed, errorsFirst(flush(), err)
			}
			batch = append(batch, a)
		}
		if len(batch) == alterBatch {
			if err := flush(); err != nil {
				return changed, err
			}
		}
		if n++; n == f.Limit {
			break
		}
	}
	return changed, flush()
}

func errorsFirst(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// An alteration is a change to some items of a message, all pinned but for leased ones whose
// flags alone are to change.
type alteration struct {
	id    uint64
	items []*sched.Item[payload]
	t     txn
	state []int // for each item the record in t that is its new state, -1 for none
}

// describe writes the records of an alteration.
func (s *Store) describe(a *alteration, op queue.Op) error {
	if op == queue.OpRemove && s.index.Covers(a.id, a.items) {
		a.t.add(kindGone, a.id, nil, nil)
		for range a.items {
			a.state = append(a.state, -1)
		}
		return nil
	}
	for _, it := range a.items {
		hold, expire := it.Flags()
		switch op {
		case queue.OpHold:
			hold = true
		case queue.OpRelease:
			hold = false
		case queue.OpExpire:
			expire = true
		case queue.OpKick, queue.OpRemove:
			m, err := s.assemble(a.id, it.Payload)
			if err != nil {
				return err
			}
			if op == queue.OpKick {
				sched.Kick(m.env, it.Route(), time.Now())
			} else {
				sched.Abandon(m.env, it.Route())
			}
			due, done := sched.Summary(m.env, it.Route())
			a.state = append(a.state, len(a.t.at))
			a.t.add(kindState, a.id, appendStateMeta(nil, it.Route(), sched.Result{Due: due, Done: done}, m.env), nil)
			continue
		default:
			return fmt.Errorf("queue/spool: unknown operation %v", op)
		}
		a.state = append(a.state, -1)
		a.t.add(kindFlags, a.id, appendFlagsMeta(nil, it.Route(), hold, expire), nil)
	}
	return nil
}

// commitAlterations makes alterations durable and applies them to the index.
func (s *Store) commitAlterations(batch []alteration, c queue.Change) (changed int, err error) {
	if len(batch) == 0 {
		return 0, nil
	}
	var txns []*txn
	for i := range batch {
		txns = append(txns, &batch[i].t)
	}
	err = s.check(s.log.commit(txns...))
	for i := range batch {
		a := &batch[i]
		if a.t.err != nil || err != nil && !a.written() {
			s.index.Unpin(a.items)
			continue
		}
		for j, it := range a.items {
			if n := a.state[j]; n >= 0 {
				p := it.Payload
				s.log.unneeded(p.state)
				p.state = a.t.at[n]
				s.index.SetPayload(it, p)
			}
		}
		for _, gone := range s.index.Apply(a.items, c.Op, time.Now()) {
			s.forget(a.id, gone)
		}
		changed += len(a.items)
	}
	return changed, err
}

// written reports whether the transaction has its place in the log.
func (a *alteration) written() bool { return a.t.at[0].seg != 0 }

// reroute rewrites a message with new routes for the items that f selects.
func (s *Store) reroute(id uint64, f *queue.Filter, route string) (int, error) {
	views := s.index.PinWhole(id)
	if views == nil {
		return 0, nil
	}
	moved := 0
	_, err := s.rewrite([]rewriting{{id: id, views: views, change: func(m *stored) []sched.Part {
		var parts []sched.Part
		parts, moved = sched.Reroute(m.env, views, f, route)
		return parts
	}}})
	return moved, err
}

// A rewriting writes a message whose items are all pinned anew, at the end of the log.
type rewriting struct {
	id     uint64
	views  []sched.View[payload]
	change func(*stored) []sched.Part // returns the parts to have from now on
}

// rewrite does the rewritings in one commit, unpins the messages, and returns how many it did.
func (s *Store) rewrite(batch []rewriting) (done int, err error) {
	txns := make([]*txn, 0, len(batch))
	parts := make([][]sched.Part, 0, len(batch))
	rest := batch
	defer func() {
		for _, rw := range rest {
			s.index.UnpinWhole(rw.id)
		}
	}()
	var first error
	kept := batch[:0:0]
	for _, rw := range batch {
		t, p, err := s.copyOf(rw)
		if err != nil { // it stays where it is
			first = errorsFirst(first, err)
			s.index.UnpinWhole(rw.id)
			continue
		}
		kept, txns, parts = append(kept, rw), append(txns, t), append(parts, p)
	}
	rest = kept
	if len(kept) == 0 {
		return 0, first
	}
	if err := s.check(s.log.commit(txns...)); err != nil {
		return 0, err
	}
	rest = nil
	for i, rw := range kept {
		fromFile := rw.views[0].Payload.fromFile
		err := s.index.Replace(rw.id, parts[i], func(int) payload {
			return payload{message: txns[i].at[0], fromFile: fromFile}
		})
		if err != nil {
			return done, err
		}
		s.log.unneeded(rw.views[0].Payload.message)
		for _, v := range rw.views {
			s.log.unneeded(v.Payload.state)
		}
		done++
	}
	return done, first
}

// copyOf makes the transaction that writes a message again.
func (s *Store) copyOf(rw rewriting) (*txn, []sched.Part, error) {
	m, err := s.assemble(rw.id, payloads(rw.views)...)
	if err != nil {
		return nil, nil, err
	}
	var body []byte
	if !m.fromFile {
		if body, err = s.log.body(rw.views[0].Payload.message, m.rec); err != nil {
			return nil, nil, err
		}
	}
	parts := rw.change(m)
	t := new(txn)
	t.add(kindMessage, rw.id, appendMessageMeta(nil, m.size, m.fromFile, parts, m.env), body)
	return t, parts, nil
}
