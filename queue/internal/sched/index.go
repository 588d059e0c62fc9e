// Package sched is the index of queued work that the stores in memory and on files share:
// which item is due when, on which route, who holds it. It keeps no envelopes and no bodies, about
// a hundred bytes an item.
package sched

import (
	"container/heap"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/internal/envcodec"
)

// An Index is safe for concurrent use. P is what its owner notes with each item.
//
// An item that is leased or pinned belongs to whoever holds it: its Payload may be read without a lock,
// and only the holder changes it, through the Index.
type Index[P any] struct {
	mu       sync.Mutex
	unpinned sync.Cond // signalled when items are unpinned
	closed   error
	heads    map[uint64]*Item[P] // by message; the items of one message are chained
	routes   map[string]*route[P]
	ring     *route[P] // the next to serve among the routes with due work
	ringSize int
	waiting  routeHeap[P] // routes by the time of their earliest waiting item
	leases   map[*Item[P]]*lease[P]
	ends     leaseHeap[P]
	pins     map[*Item[P]]struct{}
	fence    uint64
	turn     uint32 // counts calls of Lease
	mark     queue.Mark
	wake     chan struct{} // closed and replaced when mark moves
	watched  bool          // somebody waits for wake
}

// An Item is one message's recipients on one route.
type Item[P any] struct {
	Payload P
	id      uint64
	next    *Item[P]
	route   *route[P]
	due     int64 // Unix nanoseconds
	alarm   int64
	rank    Rank
	turn    uint32 // among the ready
	pos     int32
	place   place
	hold    bool
	expire  bool
}

// ID returns the number of the item's message.
func (it *Item[P]) ID() uint64 { return it.id }

// Flags returns whether the item is held, and whether it is to be given up. Both are changed by
// Apply alone.
func (it *Item[P]) Flags() (hold, expire bool) { return it.hold, it.expire }

// Route returns the item's route. It is fixed while the item is leased or pinned.
func (it *Item[P]) Route() string { return it.route.name }

type route[P any] struct {
	name       string
	ready      itemHeap[P]
	waiting    itemHeap[P]
	parked     itemHeap[P]
	held       itemHeap[P]
	turns      *turns
	items      int       // in any place
	prev, next *route[P] // ring; nil when outside
	waitPos    int       // in Index.waiting, -1 when outside
	turn       uint32    // Index.turn at which given was counted
	given      int
}

type lease[P any] struct {
	item  *Item[P]
	fence uint64
	until int64
	owner string
	pos   int
}

// New returns an empty index. Its fences begin at random, so that tokens of an earlier
// life of the same storage are not taken for its own.
func New[P any]() *Index[P] {
	var seed [8]byte
	rand.Read(seed[:])
	x := &Index[P]{
		heads:  make(map[uint64]*Item[P]),
		routes: make(map[string]*route[P]),
		leases: make(map[*Item[P]]*lease[P]),
		pins:   make(map[*Item[P]]struct{}),
		fence:  binary.LittleEndian.Uint64(seed[:]) >> 2,
		mark:   1,
		wake:   make(chan struct{}),
	}
	x.unpinned.L = &x.mu
	return x
}

// A Part is an item to be added.
type Part struct {
	Route  string
	Due    time.Time
	Alarm  time.Time
	Hold   bool
	Expire bool
	Done   bool // all its recipients are settled
}

// Add enters a message. payload gives each of its items, by the index of its part, what its
// owner notes with it.
func (x *Index[P]) Add(id uint64, rank Rank, parts []Part, payload func(part int) P) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.add(id, rank, parts, payload)
}

func (x *Index[P]) add(id uint64, rank Rank, parts []Part, payload func(part int) P) error {
	if x.closed != nil {
		return x.closed
	}
	x.insert(id, rank, parts, payload, time.Now().UnixNano())
	x.wakeAll()
	return nil
}

// Fill makes room for n messages and enters those that each is called for, all at once. It is for an index that nobody uses yet.
func (x *Index[P]) Fill(n int, each func(add func(id uint64, rank Rank, parts []Part, payload func(part int) P))) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.heads = make(map[uint64]*Item[P], n)
	now := time.Now().UnixNano()
	each(func(id uint64, rank Rank, parts []Part, payload func(part int) P) {
		x.insert(id, rank, parts, payload, now)
	})
	x.wakeAll()
}

func (x *Index[P]) insert(id uint64, rank Rank, parts []Part, payload func(part int) P, now int64) {
	var first *Item[P]
	end := &first
	for i := range parts {
		part := &parts[i]
		it := &Item[P]{
			Payload: payload(i), id: id, rank: rank,
			due: envcodec.Nanos(part.Due), alarm: envcodec.Nanos(part.Alarm), hold: part.Hold, expire: part.Expire,
		}
		*end, end = it, &it.next
		x.attach(it, part.Route)
		if !part.Done {
			x.enter(it, now)
		}
	}
	x.heads[id] = first
}

func (x *Index[P]) attach(it *Item[P], name string) {
	r := x.routes[name]
	if r == nil {
		r = &route[P]{name: name, waitPos: -1}
		r.ready.in, r.waiting.in, r.parked.in, r.held.in = ready, waiting, parked, held
		x.routes[name] = r
	}
	r.items++
	it.route = r
}

func (x *Index[P]) detach(it *Item[P]) {
	r := it.route
	if r.items--; r.items == 0 {
		delete(x.routes, r.name)
	}
}

// enter puts an item that is nowhere into the structure it belongs to.
func (x *Index[P]) enter(it *Item[P], now int64) {
	switch {
	case it.hold:
		it.route.held.push(it)
	case it.due > now:
		it.route.waiting.push(it)
	default:
		it.route.makeReady(it)
	}
	x.fix(it.route)
}

// leave takes an item out of the structure it is in.
func (x *Index[P]) leave(it *Item[P]) {
	switch it.place {
	case waiting:
		it.route.waiting.remove(it)
	case ready:
		it.route.ready.remove(it)
	case parked:
		it.route.parked.remove(it)
	case held:
		it.route.held.remove(it)
	case leased:
		if l := x.leases[it]; l != nil {
			heap.Remove(&x.ends, l.pos)
			delete(x.leases, it)
		}
	}
	it.place = nowhere
	x.fix(it.route)
}

// pin gives an item that is nowhere to somebody who changes it; unpin takes it back.
func (x *Index[P]) pin(it *Item[P]) {
	it.place = pinned
	x.pins[it] = struct{}{}
}

func (x *Index[P]) unpin(it *Item[P]) {
	it.place = nowhere
	delete(x.pins, it)
}

// fix puts a route where its items say: into the ring, and into the heap of waiting routes.
func (x *Index[P]) fix(r *route[P]) {
	due := len(r.ready.items)+len(r.parked.items) > 0
	switch {
	case due && r.next == nil:
		x.ringSize++
		if x.ring == nil {
			r.prev, r.next = r, r
			x.ring = r
		} else { // the last to be served
			r.prev, r.next = x.ring.prev, x.ring
			r.prev.next, r.next.prev = r, r
		}
	case !due && r.next != nil:
		x.ringSize--
		if r.next == r {
			x.ring = nil
		} else {
			r.prev.next, r.next.prev = r.next, r.prev
			if x.ring == r {
				x.ring = r.next
			}
		}
		r.prev, r.next = nil, nil
	}
	waits := len(r.waiting.items) > 0
	switch {
	case waits && r.waitPos < 0:
		heap.Push(&x.waiting, r)
	case waits:
		heap.Fix(&x.waiting, r.waitPos)
	case r.waitPos >= 0:
		heap.Remove(&x.waiting, r.waitPos)
	}
}

// advance does what the time asks for: waiting items become ready, leases end.
func (x *Index[P]) advance(now int64) {
	moved := false
	for len(x.waiting) > 0 {
		r := x.waiting[0]
		if r.waiting.min().due > now {
			break
		}
		for it := r.waiting.min(); it != nil && it.due <= now; it = r.waiting.min() {
			r.waiting.remove(it)
			r.makeReady(it)
		}
		x.fix(r)
		moved = true
	}
	for len(x.ends) > 0 && x.ends[0].until <= now {
		it := x.ends[0].item
		x.leave(it)
		x.enter(it, now)
		moved = true
	}
	if moved {
		x.wakeAll()
	}
}

func (x *Index[P]) wakeAll() {
	x.mark++
	if x.watched {
		x.watched = false
		close(x.wake)
		x.wake = make(chan struct{})
	}
}

// Close makes every later call fail with err and wakes those who wait.
func (x *Index[P]) Close(err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closed == nil {
		x.closed = err
		x.wakeAll()
	}
}

// Err returns what Close was given, nil while the index is in use.
func (x *Index[P]) Err() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.closed
}

// routeHeap orders routes by their earliest waiting item (container/heap).
type routeHeap[P any] []*route[P]

func (h routeHeap[P]) Len() int           { return len(h) }
func (h routeHeap[P]) Less(i, j int) bool { return h[i].waiting.min().due < h[j].waiting.min().due }
func (h routeHeap[P]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].waitPos, h[j].waitPos = i, j
}

func (h *routeHeap[P]) Push(r any) {
	r.(*route[P]).waitPos = len(*h)
	*h = append(*h, r.(*route[P]))
}

func (h *routeHeap[P]) Pop() any {
	last := len(*h) - 1
	r := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	r.waitPos = -1
	return r
}

// leaseHeap orders leases by their end (container/heap).
type leaseHeap[P any] []*lease[P]

func (h leaseHeap[P]) Len() int           { return len(h) }
func (h leaseHeap[P]) Less(i, j int) bool { return h[i].until < h[j].until }
func (h leaseHeap[P]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h *leaseHeap[P]) Push(l any) {
	l.(*lease[P]).pos = len(*h)
	*h = append(*h, l.(*lease[P]))
}

func (h *leaseHeap[P]) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return l
}
