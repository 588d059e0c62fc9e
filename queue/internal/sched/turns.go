package sched

import (
	"strings"

	"github.com/mailblocks/mailblocks/queue"
)

// Rank is what orders the due work of a route: the higher priority first, and among equals the senders in turn, so
// that one sender's hundred thousand messages do not stand before another's one.
type Rank struct {
	Priority int8
	Sender   uint32 // hash of the reverse-path; senders that share one share their turns
}

// RankOf gives the rank of a message.
func RankOf(priority int8, reversePath string) Rank {
	hash := uint32(2166136261) // FNV-1a
	for _, c := range []byte(strings.ToLower(reversePath)) {
		hash = (hash ^ uint32(c)) * 16777619
	}
	return Rank{priority, hash}
}

// EnvelopeRank gives the rank of an envelope's message.
func EnvelopeRank(e *queue.Envelope) Rank { return RankOf(e.Priority, e.ReversePath) }

// turns numbers the ready items of one route. An item that becomes ready gets the turn after its sender's latest, or
// after the one that is being served, whichever is later: so each sender has one item in every turn.
// It is there only while more than one item is ready.
type turns struct {
	now  map[int8]uint32 // by priority: the turn of the item given out last
	last map[Rank]uint32
	size int // of last, when it was swept
}

// later reports whether turn a comes after b; turns wrap around.
func later(a, b uint32) bool { return int32(a-b) > 0 }

// next gives the turn of an item that becomes ready.
func (t *turns) next(k Rank) uint32 {
	turn := t.now[k.Priority]
	if last, ok := t.last[k]; ok && later(last, turn) {
		turn = last
	}
	turn++
	t.last[k] = turn
	if len(t.last) > 2*t.size+64 {
		for k, last := range t.last {
			if !later(last, t.now[k.Priority]) { // as good as not known
				delete(t.last, k)
			}
		}
		t.size = len(t.last)
	}
	return turn
}

// makeReady puts an item that is nowhere among the ready ones of its route.
func (r *route[P]) makeReady(it *Item[P]) {
	switch first := r.ready.min(); {
	case first == nil:
		it.turn, r.turns = 0, nil
	case r.turns == nil: // first is the only one
		r.turns = &turns{now: make(map[int8]uint32), last: map[Rank]uint32{first.rank: first.turn}}
		r.turns.now[first.rank.Priority] = first.turn
		fallthrough
	default:
		it.turn = r.turns.next(it.rank)
	}
	r.ready.push(it)
}

// unparkAtOnce is how many items leave the parked ones of a route with each item it gives out: more than one, so
// that they end, but not all, of which there may be a million.
const unparkAtOnce = 256

// first is the item a route that is up gives out next.
func (r *route[P]) first() *Item[P] {
	for range unparkAtOnce {
		it := r.parked.min()
		if it == nil {
			break
		}
		r.parked.remove(it)
		r.makeReady(it)
	}
	it := r.ready.min()
	if it != nil && r.turns != nil {
		r.turns.now[it.rank.Priority] = it.turn
	}
	return it
}
