package sched

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/queue"
)

// check looks at every promise the structures of an index make to each other.
func (x *Index[P]) check(t *testing.T) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	places := map[place]int{}
	items := map[*route[P]]int{}
	for id, head := range x.heads {
		for it := head; it != nil; it = it.next {
			require.Equal(t, id, it.id)
			require.Same(t, it.route, x.routes[it.route.name])
			places[it.place]++
			items[it.route]++
			if it.place == leased {
				require.Contains(t, x.leases, it)
			}
		}
	}
	require.Len(t, x.leases, places[leased])
	require.Len(t, x.ends, places[leased])
	require.Len(t, x.pins, places[pinned])
	heaps := 0
	ring := map[*route[P]]bool{}
	for r := x.ring; r != nil && !ring[r]; r = r.next {
		ring[r] = true
		require.Same(t, r, r.next.prev)
	}
	require.Len(t, ring, x.ringSize)
	for _, r := range x.routes {
		require.Equal(t, items[r], r.items)
		require.Equal(t, len(r.ready.items)+len(r.parked.items) > 0, ring[r], "%s in the ring", r.name)
		require.Equal(t, len(r.waiting.items) > 0, r.waitPos >= 0)
		for _, h := range []*itemHeap[P]{&r.ready, &r.waiting, &r.parked, &r.held} {
			heaps += len(h.items)
			for i, it := range h.items {
				require.EqualValues(t, i, it.pos)
				require.Equal(t, h.in, it.place)
				require.Same(t, r, it.route)
				require.False(t, i > 0 && before(h.in, it, h.items[(i-1)/2]), "the heap is in order")
			}
		}
	}
	require.Equal(t, places[ready]+places[waiting]+places[parked]+places[held], heaps)
}

// TestIndexRandom does all there is to do, at random, and checks the structures after each step.
func TestIndexRandom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(8) {
			rnd := rand.New(rand.NewPCG(seed, 9))
			x := New[int]()
			next := uint64(1)
			var grants []Grant[int]
			for range 150 {
				switch rnd.IntN(8) {
				case 0, 1:
					var parts []Part
					for n := range 1 + rnd.IntN(3) {
						parts = append(parts, Part{
							Route: fmt.Sprint("r", n*10+rnd.IntN(4)), Due: time.Now().Add(time.Duration(rnd.IntN(100)-50) * time.Second),
							Hold: rnd.IntN(6) == 0,
						})
					}
					require.NoError(t, x.Add(next, Rank{int8(rnd.IntN(3)), rnd.Uint32N(4)}, parts, func(i int) int { return i }))
					next++
				case 2, 3:
					w := queue.Want{Max: rnd.IntN(5), For: time.Minute, PerRoute: rnd.IntN(3), Room: map[string]int{"r0": 0, "r1": queue.RoomDown}}
					got, _, err := x.Lease(w)
					require.NoError(t, err)
					grants = append(grants, got...)
				case 4, 5:
					if len(grants) == 0 {
						continue
					}
					g := grants[len(grants)-1]
					grants = grants[:len(grants)-1]
					it, undo, err := x.Begin(g.Token)
					if err != nil {
						require.ErrorIs(t, err, queue.ErrStale)
						continue
					}
					x.check(t)
					if rnd.IntN(4) == 0 {
						x.Abort(it, undo)
						continue
					}
					x.Finish(it, Result{
						Due: time.Now().Add(time.Duration(rnd.IntN(60)) * time.Second), Done: rnd.IntN(2) == 0,
						Alarm: time.Now().Add(time.Duration(rnd.IntN(60)) * time.Second),
					}, 7)
				case 6:
					op := queue.OpHold + queue.Op(rnd.IntN(6))
					f := &queue.Filter{Route: []string{"", "r2", "r11"}[rnd.IntN(3)]}
					for _, id := range x.IDs(f) {
						if rnd.IntN(4) > 0 {
							continue
						}
						if op != queue.OpReroute {
							x.Apply(x.Pick(id, f, op), op, time.Now())
						} else if views := x.PinWhole(id); views != nil {
							x.check(t)
							if rnd.IntN(2) == 0 {
								x.UnpinWhole(id)
							} else {
								require.NoError(t, x.Replace(id, []Part{{Route: "new"}}, func(int) int { return 1 }))
							}
						}
					}
				case 7:
					<-time.After(time.Duration(rnd.IntN(20)) * time.Second)
				}
				x.check(t)
			}
			for _, f := range []queue.Filter{{}, {Route: "r0"}, {State: queue.ItemHeld, Route: "r1"}} {
				for _, id := range x.IDs(&f) {
					assert.NotEmpty(t, x.View(id))
				}
			}
		}
	})
}

func TestID(t *testing.T) {
	last := queue.ID("")
	for _, n := range []uint64{0, 1, 31, 32, 1 << 40, 1<<64 - 1} {
		id := FormatID(n)
		got, ok := ParseID(id)
		assert.True(t, ok)
		assert.Equal(t, n, got)
		assert.Greater(t, id, last, "IDs sort as numbers do")
		last = id
	}
	for _, bad := range []queue.ID{"", "x", "0000000000000000", "000000000000a", "Z000000000000", "00000000000é"} {
		_, ok := ParseID(bad)
		assert.False(t, ok, bad)
	}
}
