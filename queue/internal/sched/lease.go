package sched

import (
	"container/heap"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/internal/envcodec"
)

// A Grant is an item that Lease gave out.
type Grant[P any] struct {
	ID        uint64
	Payload   P // as it was then: a short lease may have ended before the caller looks
	Token     queue.Token
	Until     time.Time
	RouteDown bool
	Expire    bool
}

// Lease gives out due items, serving the routes in turn, one item each. It returns the time it
// took for now beside them.
func (x *Index[P]) Lease(w queue.Want) ([]Grant[P], time.Time, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	if x.closed != nil {
		return nil, now, x.closed
	}
	x.advance(now.UnixNano())
	x.turn++
	perRoute := w.PerRoute
	if perRoute < 1 {
		perRoute = math.MaxInt
	}
	var grants []Grant[P]
	more := false
	// A whole round without a grant ends the search. Routes that run empty leave the ring.
	for passed := 0; len(grants) < max(w.Max, 1) && passed < x.ringSize; {
		r := x.ring
		x.ring = r.next
		if r.turn != x.turn {
			r.turn, r.given = x.turn, 0
		}
		room, named := w.Room[r.name]
		if !named {
			room = perRoute
		}
		var it *Item[P]
		down := room == queue.RoomDown
		switch {
		case down && r.given < perRoute:
			var unseen bool
			it, unseen = r.needsAttention(now.UnixNano())
			more = more || unseen
		case !down && r.given < room:
			it = r.first()
		}
		if it == nil {
			passed++
			continue
		}
		passed = 0
		r.given++
		x.leave(it)
		grants = append(grants, x.grant(it, w, now, down))
	}
	if more {
		x.wakeAll()
	}
	return grants, now, nil
}

// parkAtOnce bounds how many items one call of Lease parks on a route: a destination that goes down with a
// million messages must not hold up the others meanwhile.
const parkAtOnce = 4096

// needsAttention finds an item whose alarm has come, on a route that is down. The ready
// items it meets that can wait are parked by their alarm, so each is looked at once. more: there are others to
// be looked at, by the next call.
func (r *route[P]) needsAttention(now int64) (due *Item[P], more bool) {
	for range parkAtOnce {
		it := r.ready.min()
		if it == nil {
			break
		}
		if it.alarm <= now {
			return it, false
		}
		r.ready.remove(it)
		r.parked.push(it)
	}
	if it := r.parked.min(); it != nil && it.alarm <= now {
		return it, false
	}
	return nil, r.ready.min() != nil
}

func (x *Index[P]) grant(it *Item[P], w queue.Want, now time.Time, down bool) Grant[P] {
	x.fence++
	l := &lease[P]{item: it, fence: x.fence, until: now.Add(w.For).UnixNano(), owner: w.Owner}
	x.leases[it] = l
	heap.Push(&x.ends, l)
	it.place = leased
	return Grant[P]{
		ID:        it.id,
		Payload:   it.Payload,
		Token:     queue.Token{ID: FormatID(it.id), Route: it.route.name, Fence: l.fence},
		Until:     time.Unix(0, l.until),
		RouteDown: down,
		Expire:    it.expire,
	}
}

// lease finds the lease that a token proves.
func (x *Index[P]) lease(t queue.Token, now time.Time) (*lease[P], error) {
	if x.closed != nil {
		return nil, x.closed
	}
	x.advance(now.UnixNano())
	id, _ := ParseID(t.ID)
	for it := x.heads[id]; it != nil; it = it.next {
		if it.place != leased || it.route.name != t.Route {
			continue
		}
		if l := x.leases[it]; l != nil && l.fence == t.Fence {
			return l, nil
		}
	}
	return nil, fmt.Errorf("queue: %s for %s: %w", t.ID, t.Route, queue.ErrStale)
}

// Renew makes a lease end d from now.
func (x *Index[P]) Renew(t queue.Token, d time.Duration) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	now := time.Now()
	l, err := x.lease(t, now)
	if err != nil {
		return err
	}
	l.until = now.Add(d).UnixNano()
	heap.Fix(&x.ends, l.pos)
	return nil
}

// Begin ends a lease and pins its item for the caller to settle: Finish or Abort must follow.
func (x *Index[P]) Begin(t queue.Token) (*Item[P], Undo, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l, err := x.lease(t, time.Now())
	if err != nil {
		return nil, Undo{}, err
	}
	undo := Undo{fence: l.fence, until: l.until, owner: l.owner}
	x.leave(l.item)
	x.pin(l.item)
	return l.item, undo, nil
}

// Undo is what Abort needs to make a lease whole again.
type Undo struct {
	fence uint64
	until int64
	owner string
}

// Abort takes Begin back: the lease is held as before.
func (x *Index[P]) Abort(it *Item[P], u Undo) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.unpin(it)
	l := &lease[P]{item: it, fence: u.fence, until: u.until, owner: u.owner}
	x.leases[it] = l
	heap.Push(&x.ends, l)
	it.place = leased
	x.unpinned.Broadcast()
	x.advance(time.Now().UnixNano())
}

// A Result is what became of a settled item.
type Result struct {
	Due   time.Time
	Alarm time.Time
	Done  bool
}

// Finish unpins a settled item and stores its new payload. When it was the last of its message
// that was not done, the message leaves the index and gone are the payloads of all its items.
func (x *Index[P]) Finish(it *Item[P], res Result, payload P) (gone []P) {
	x.mu.Lock()
	defer x.mu.Unlock()
	it.Payload = payload
	it.due, it.alarm = envcodec.Nanos(res.Due), envcodec.Nanos(res.Alarm)
	x.unpin(it)
	x.unpinned.Broadcast()
	if res.Done {
		return x.dropIfDone(it.id)
	}
	if it.expire {
		it.due, it.alarm = 0, 0
	}
	x.enter(it, time.Now().UnixNano())
	x.wakeAll()
	return nil
}

// dropIfDone removes a message none of whose items is anywhere.
func (x *Index[P]) dropIfDone(id uint64) (gone []P) {
	for it := x.heads[id]; it != nil; it = it.next {
		if it.place != nowhere {
			return nil
		}
	}
	for it := x.heads[id]; it != nil; it = it.next {
		gone = append(gone, it.Payload)
		x.detach(it)
	}
	delete(x.heads, id)
	return gone
}

// Wake implements queue.Store.
func (x *Index[P]) Wake(ctx context.Context, seen queue.Mark, until time.Time) (queue.Mark, error) {
	for {
		x.mu.Lock()
		now := time.Now()
		if x.closed != nil {
			x.mu.Unlock()
			return seen, x.closed
		}
		x.advance(now.UnixNano())
		if x.mark != seen || !now.Before(until) {
			defer x.mu.Unlock()
			return x.mark, nil
		}
		next := until
		if len(x.waiting) > 0 {
			next = earlier(next, x.waiting[0].waiting.min().due)
		}
		if len(x.ends) > 0 {
			next = earlier(next, x.ends[0].until)
		}
		wake := x.wake
		x.watched = true
		x.mu.Unlock()

		timer := time.NewTimer(next.Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			return seen, ctx.Err()
		case <-wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

func earlier(t time.Time, nanos int64) time.Time {
	if u := time.Unix(0, nanos); u.Before(t) {
		return u
	}
	return t
}
