package queue

import (
	"container/heap"
	"time"
)

// verdict is what an attempt says about its route.
type verdict uint8

const (
	neutral verdict = iota // nothing: it was not tried
	up                     // somebody answered
	down
)

// routes keeps the window and the breaker of each route that differs from a fresh one. It
// belongs to one goroutine.
//
// A window is the number of attempts a route may have at a time. A success adds one, RouteDown halves it,
// and when it falls below one the breaker opens: for a fresh route at the first
// RouteDown, for one that took twenty at a time after several in a row. When its time is over one
// attempt is let through; RouteDown doubles the time, success closes the breaker.
type routes struct {
	first, max         int
	breakFor, breakMax time.Duration

	byName map[string]*routeState
	free   map[string]int // Want.Room
	probes probeHeap
	swept  time.Time
}

type routeState struct {
	name     string
	window   float64
	inFlight int // attempts
	looking  int // items looked after while the route is down
	down     bool
	pause    time.Duration // of the breaker, when it opens next
	until    time.Time     // down: when to probe
	last     Outcome       // down: why
	used     time.Time
	probePos int // in probes, -1 outside
}

// RouteChange tells that a route's breaker opened or closed.
type RouteChange struct {
	Route  string
	Down   bool
	Until  time.Time // Down: when it is probed
	Reason string    // Down: the text of the outcome that opened it
}

func newRoutes(first, limit int, breakFor, breakMax time.Duration) *routes {
	return &routes{
		first: min(first, limit), max: limit, breakFor: breakFor, breakMax: max(breakFor, breakMax),
		byName: make(map[string]*routeState), free: make(map[string]int),
	}
}

// forget is how long an idle route's window, or a breaker that nobody probes, is remembered.
const forget = time.Hour

// maxLooking bounds how many items of one unreachable route are looked after at a time.
const maxLooking = 4

// room gives what Lease may hand out. The map stays the routes' own.
func (rs *routes) room(now time.Time) map[string]int {
	for len(rs.probes) > 0 && !rs.probes[0].until.After(now) {
		r := heap.Pop(&rs.probes).(*routeState)
		rs.set(r)
	}
	if now.Sub(rs.swept) > forget/4 {
		rs.swept = now
		for name, r := range rs.byName {
			if r.inFlight+r.looking == 0 && r.probePos < 0 && now.Sub(r.used) > forget {
				delete(rs.byName, name)
				delete(rs.free, name)
			}
		}
	}
	return rs.free
}

// set brings free up to date for one route.
func (rs *routes) set(r *routeState) {
	switch {
	case r.probePos >= 0 && r.looking < maxLooking:
		rs.free[r.name] = RoomDown
	case r.probePos >= 0:
		rs.free[r.name] = 0
	case r.down: // half open: one probe at a time
		rs.free[r.name] = max(1-r.inFlight, 0)
	default:
		rs.free[r.name] = max(int(r.window)-r.inFlight, 0)
	}
}

// start notes an attempt. It returns why the route is down, if it is.
func (rs *routes) start(name string, lookedAfter bool) Outcome {
	r := rs.byName[name]
	if r == nil {
		r = &routeState{name: name, window: float64(rs.first), probePos: -1}
		rs.byName[name] = r
	}
	if lookedAfter {
		r.looking++
	} else {
		r.inFlight++
	}
	rs.set(r)
	return r.last
}

// finish takes note of a result; the change is nil when the breaker stays as it was.
func (rs *routes) finish(res result, now time.Time) *RouteChange {
	r := rs.byName[res.route]
	if res.lookedAfter {
		r.looking--
		rs.set(r)
		return nil
	}
	r.inFlight--
	r.used = now
	var change *RouteChange
	switch res.verdict {
	case up:
		if r.down {
			rs.close(r)
			change = &RouteChange{Route: r.name}
		}
		r.window = min(r.window+1, float64(rs.max))
	case down:
		r.last = res.last
		if r.window /= 2; r.window < 1 {
			r.window = 0.5
		}
		if r.window < 1 && r.probePos < 0 {
			rs.open(r, now)
			change = &RouteChange{Route: r.name, Down: true, Until: r.until, Reason: res.last.Text}
		}
	}
	rs.set(r)
	return change
}

func (rs *routes) open(r *routeState, now time.Time) {
	r.pause = min(max(2*r.pause, rs.breakFor), rs.breakMax)
	r.down = true
	r.until = now.Add(max(r.pause, r.last.After))
	heap.Push(&rs.probes, r)
}

func (rs *routes) close(r *routeState) {
	if r.probePos >= 0 { // a success that was in flight when the breaker opened
		heap.Remove(&rs.probes, r.probePos)
	}
	r.down, r.pause, r.last, r.window = false, 0, Outcome{}, float64(rs.first)
}

// nextProbe is the time until the next breaker half opens, at most limit.
func (rs *routes) nextProbe(now time.Time, limit time.Duration) time.Duration {
	if len(rs.probes) == 0 {
		return limit
	}
	return min(max(rs.probes[0].until.Sub(now), 0), limit)
}

// probeHeap orders the routes whose breakers are open by when they are probed (container/heap).
type probeHeap []*routeState

func (h probeHeap) Len() int           { return len(h) }
func (h probeHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h probeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].probePos, h[j].probePos = i, j
}

func (h *probeHeap) Push(r any) {
	r.(*routeState).probePos = len(*h)
	*h = append(*h, r.(*routeState))
}

func (h *probeHeap) Pop() any {
	last := len(*h) - 1
	r := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	r.probePos = -1
	return r
}
