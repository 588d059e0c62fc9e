package sched

import (
	"slices"
	"time"

	"github.com/mailblocks/mailblocks/queue"
)

// Len returns the number of messages.
func (x *Index[P]) Len() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.heads)
}

// IDs returns, in ascending order, the messages that may fit f as far as the index can tell:
// by ID, route and state.
func (x *Index[P]) IDs(f *queue.Filter) []uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.advance(time.Now().UnixNano())
	var ids []uint64
	if len(f.IDs) > 0 {
		for _, id := range f.IDs {
			n, ok := ParseID(id)
			if ok && x.fits(x.heads[n], f) {
				ids = append(ids, n)
			}
		}
	} else if f.Route != "" && f.State != queue.ItemDone {
		x.onRoute(f, func(it *Item[P]) { ids = append(ids, it.id) })
	} else {
		for id, it := range x.heads {
			if x.fits(it, f) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// onRoute calls each for the items on f.Route that fit f and are not done, without a look at the others.
func (x *Index[P]) onRoute(f *queue.Filter, each func(*Item[P])) {
	r := x.routes[f.Route]
	if r == nil {
		return
	}
	for _, h := range []*itemHeap[P]{&r.ready, &r.waiting, &r.parked, &r.held} {
		for _, it := range h.items {
			if it.fits(f) {
				each(it)
			}
		}
	}
	for it := range x.leases {
		if it.route == r && it.fits(f) {
			each(it)
		}
	}
	for it := range x.pins {
		if it.route == r && it.fits(f) {
			each(it)
		}
	}
}

// fits reports whether any item of the chain fits f.
func (x *Index[P]) fits(it *Item[P], f *queue.Filter) bool {
	for ; it != nil; it = it.next {
		if it.fits(f) {
			return true
		}
	}
	return false
}

func (it *Item[P]) fits(f *queue.Filter) bool {
	return (f.Route == "" || it.route.name == f.Route) &&
		(it.state() == f.State || f.State == queue.ItemAny && it.place != nowhere)
}

func (it *Item[P]) state() queue.ItemState {
	switch it.place {
	case nowhere:
		return queue.ItemDone
	case leased, pinned:
		return queue.ItemLeased
	}
	if it.hold {
		return queue.ItemHeld
	}
	return queue.ItemWaiting
}

// A View is one item as it is now.
type View[P any] struct {
	queue.Item
	Payload P
	Alarm   time.Time
	Hold    bool
}

// View returns the items of a message; none when it is not there (any more).
func (x *Index[P]) View(id uint64) []View[P] {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.views(id)
}

func (x *Index[P]) views(id uint64) []View[P] {
	var views []View[P]
	for it := x.heads[id]; it != nil; it = it.next {
		v := View[P]{
			Item: queue.Item{
				Route: it.route.name, Due: time.Unix(0, it.due), State: it.state(), Expires: it.expire,
			},
			Payload: it.Payload, Alarm: time.Unix(0, it.alarm), Hold: it.hold,
		}
		if it.alarm == 0 {
			v.Alarm = time.Time{}
		}
		if l := x.leases[it]; l != nil {
			v.Owner, v.Until = l.owner, time.Unix(0, l.until)
		}
		views = append(views, v)
	}
	return views
}

// Pick pins the items of a message that fit f, for c to be stored and applied by Apply.
// It waits while any of them is pinned by another. What c leaves out on leased items is
// left out; for the other operations a leased item is returned without being pinned, but for
// OpRemove, which takes its lease away.
func (x *Index[P]) Pick(id uint64, f *queue.Filter, op queue.Op) []*Item[P] {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.waitUnpinned(id)
	var picked []*Item[P]
	for it := x.heads[id]; it != nil; it = it.next {
		if it.place == nowhere || !it.fits(f) || !it.takes(op) {
			continue
		}
		if it.place != leased || op == queue.OpRemove {
			x.leave(it)
			x.pin(it)
		}
		picked = append(picked, it)
	}
	return picked
}

// takes reports whether op would change the item.
func (it *Item[P]) takes(op queue.Op) bool {
	switch op {
	case queue.OpHold:
		return !it.hold
	case queue.OpRelease:
		return it.hold
	case queue.OpKick, queue.OpReroute:
		return it.place != leased
	case queue.OpExpire:
		return !it.expire
	}
	return true
}

func (x *Index[P]) waitUnpinned(id uint64) {
	for {
		busy := false
		for it := x.heads[id]; it != nil; it = it.next {
			busy = busy || it.place == pinned
		}
		if !busy {
			return
		}
		x.unpinned.Wait()
	}
}

// PinWhole pins every item of a message that is not done, and returns all of them as they
// were. It fails, with nil, when one of them is leased or the message is gone.
func (x *Index[P]) PinWhole(id uint64) []View[P] {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.waitUnpinned(id)
	for it := x.heads[id]; it != nil; it = it.next {
		if it.place == leased {
			return nil
		}
	}
	views := x.views(id)
	for it := x.heads[id]; it != nil; it = it.next {
		if it.place != nowhere {
			x.leave(it)
			x.pin(it)
		}
	}
	return views
}

// Covers reports whether items are all of a message's items that are not done.
func (x *Index[P]) Covers(id uint64, items []*Item[P]) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for it := x.heads[id]; it != nil; it = it.next {
		if it.place != nowhere && !slices.Contains(items, it) {
			return false
		}
	}
	return true
}

// SetPayload changes what is noted with a pinned item.
func (x *Index[P]) SetPayload(it *Item[P], payload P) {
	x.mu.Lock()
	defer x.mu.Unlock()
	it.Payload = payload
}

// Apply does op to items that Pick returned and unpins them. After an OpRemove gone are the
// payloads of the messages that left, a slice for each. OpReroute is not done here but by Replace.
func (x *Index[P]) Apply(items []*Item[P], op queue.Op, now time.Time) (gone [][]P) {
	x.mu.Lock()
	defer x.mu.Unlock()
	at := now.UnixNano()
	for _, it := range items {
		switch op {
		case queue.OpHold:
			it.hold = true
		case queue.OpRelease:
			it.hold = false
		case queue.OpKick:
			it.due, it.alarm = min(it.due, at), 0
		case queue.OpExpire:
			it.expire, it.due, it.alarm = true, min(it.due, at), 0
		}
		if it.place != pinned {
			continue
		}
		x.unpin(it)
		if op != queue.OpRemove {
			x.enter(it, at)
		} else if g := x.dropIfDone(it.id); g != nil {
			gone = append(gone, g)
		}
	}
	x.unpinned.Broadcast()
	x.wakeAll()
	return gone
}

// Unpin gives pinned items back as they were.
func (x *Index[P]) Unpin(items []*Item[P]) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, it := range items {
		if it.place == pinned {
			x.unpin(it)
			x.enter(it, time.Now().UnixNano())
		}
	}
	x.unpinned.Broadcast()
}

// UnpinWhole takes PinWhole back.
func (x *Index[P]) UnpinWhole(id uint64) {
	x.mu.Lock()
	var items []*Item[P]
	for it := x.heads[id]; it != nil; it = it.next {
		items = append(items, it)
	}
	x.mu.Unlock()
	x.Unpin(items)
}

// Replace puts new items in the place of those of a message that PinWhole pinned.
func (x *Index[P]) Replace(id uint64, parts []Part, payload func(part int) P) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var rank Rank
	for it := x.heads[id]; it != nil; it = it.next {
		rank = it.rank
		x.unpin(it)
		x.detach(it)
	}
	x.unpinned.Broadcast()
	return x.add(id, rank, parts, payload)
}
