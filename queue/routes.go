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
// Beside them each route has a limiter, for its Rate.
//
// A window is the number of attempts a route may have at a time. A success adds one, RouteDown halves it,
// and when it falls below one the breaker opens: for a fresh route at the first
// RouteDown, for one that took twenty at a time after several in a row. When its time is over one
// attempt is let through; RouteDown doubles the time, success closes the breaker.
type routes struct {
	limits func(name string) Limits // complete ones
	fresh  int                      // Want.PerRoute: the window of a route that is not in byName

	byName map[string]*routeState
	free   map[string]int // Want.Room
	timed  timedHeap      // routes that have no room before a certain time
	swept  time.Time
}

type routeState struct {
	Limits
	name     string
	window   float64
	rate     limiter
	inFlight int // attempts
	looking  int // items looked after while the route is down
	down     bool
	open     bool          // down, and not to be probed before until
	pause    time.Duration // of the breaker, when it opens next
	until    time.Time     // what routes.timed orders by: when to probe, or when the rate leaves room again
	last     Outcome       // down: why
	used     time.Time
	pos      int // in timed, -1 outside
}

// RouteChange tells that a route's breaker opened or closed.
type RouteChange struct {
	Route  string
	Down   bool
	Until  time.Time // Down: when it is probed
	Reason string    // Down: the text of the outcome that opened it
}

// newRoutes makes routes whose Limits are r's, but for what r.Limits says of each.
func newRoutes(r *Runner) *routes {
	base := Limits{
		Concurrency: max(orDefault(r.PerRoute, 20), 1),
		First:       max(orDefault(r.FirstPerRoute, 1), 1),
		BreakFor:    orDefault(r.BreakFor, 30*time.Second),
		BreakMax:    orDefault(r.BreakMax, 30*time.Minute),
		Rate:        r.RouteRate,
	}
	rs := &routes{
		fresh:  min(base.First, base.Concurrency),
		limits: func(string) Limits { return base },
		byName: make(map[string]*routeState), free: make(map[string]int),
	}
	if r.Limits != nil {
		rs.limits = func(name string) Limits { return r.Limits(name).or(base) }
	}
	if r.Limits != nil || base.Rate.Per > 0 {
		rs.fresh = 1 // how many there may be is not known before the route is
	}
	return rs
}

func (l Limits) or(base Limits) Limits {
	l.Concurrency = max(orDefault(l.Concurrency, base.Concurrency), 1)
	l.First = max(orDefault(l.First, base.First), 1)
	l.BreakFor = orDefault(l.BreakFor, base.BreakFor)
	l.BreakMax = orDefault(l.BreakMax, base.BreakMax)
	if l.Rate == (Rate{}) {
		l.Rate = base.Rate
	}
	return l
}

// forget is how long an idle route's window, or a breaker that nobody probes, is remembered.
const forget = time.Hour

// maxLooking bounds how many items of one unreachable route are looked after at a time.
const maxLooking = 4

// room gives what Lease may hand out. The map stays the routes' own.
func (rs *routes) room(now time.Time) map[string]int {
	for len(rs.timed) > 0 && !rs.timed[0].until.After(now) {
		r := heap.Pop(&rs.timed).(*routeState)
		r.open = false
		rs.set(r, now)
	}
	if now.Sub(rs.swept) > forget/4 {
		rs.swept = now
		for name, r := range rs.byName {
			if r.inFlight+r.looking == 0 && r.pos < 0 && r.rate.rested(now) && now.Sub(r.used) > forget {
				delete(rs.byName, name)
				delete(rs.free, name)
			}
		}
	}
	return rs.free
}

// set brings free up to date for one route.
func (rs *routes) set(r *routeState, now time.Time) {
	if r.open {
		rs.free[r.name] = 0
		if r.looking < maxLooking {
			rs.free[r.name] = RoomDown
		}
		return
	}
	free := max(int(r.window)-r.inFlight, 0)
	if r.down { // half open: one probe at a time
		free = max(1-r.inFlight, 0)
	}
	if free > 0 {
		if free = r.rate.room(now, free); free == 0 {
			rs.wait(r, r.rate.ready())
		}
	}
	rs.free[r.name] = free
}

// wait has the route looked at again at a time.
func (rs *routes) wait(r *routeState, until time.Time) {
	r.until = until
	if r.pos >= 0 {
		heap.Fix(&rs.timed, r.pos)
	} else {
		heap.Push(&rs.timed, r)
	}
}

// start notes an attempt. It returns why the route is down, if it is, and whether the route was not known.
func (rs *routes) start(name string, lookedAfter bool, now time.Time) (last Outcome, fresh bool) {
	r := rs.byName[name]
	if fresh = r == nil; fresh {
		limits := rs.limits(name)
		r = &routeState{
			Limits: limits, name: name, window: float64(min(limits.First, limits.Concurrency)),
			rate: newLimiter(limits.Rate), pos: -1,
		}
		rs.byName[name] = r
	}
	if lookedAfter {
		r.looking++
	} else {
		r.inFlight++
		r.rate.take(now)
	}
	rs.set(r, now)
	return r.last, fresh
}

// finish takes note of a result; the change is nil when the breaker stays as it was.
func (rs *routes) finish(res result, now time.Time) *RouteChange {
	r := rs.byName[res.route]
	if res.lookedAfter {
		r.looking--
		rs.set(r, now)
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
		r.window = min(r.window+1, float64(r.Concurrency))
	case down:
		r.last = res.last
		if r.window /= 2; r.window < 1 {
			r.window = 0.5
		}
		if r.window < 1 && !r.open {
			rs.breakOff(r, now)
			change = &RouteChange{Route: r.name, Down: true, Until: r.until, Reason: res.last.Text}
		}
	}
	rs.set(r, now)
	return change
}

func (rs *routes) breakOff(r *routeState, now time.Time) {
	r.pause = min(max(2*r.pause, r.BreakFor), max(r.BreakFor, r.BreakMax))
	r.down, r.open = true, true
	rs.wait(r, now.Add(max(r.pause, r.last.After)))
}

func (rs *routes) close(r *routeState) {
	if r.open { // a success that was in flight when the breaker opened
		heap.Remove(&rs.timed, r.pos)
	}
	r.down, r.open, r.pause, r.last, r.window = false, false, 0, Outcome{}, float64(min(r.First, r.Concurrency))
}

// next is the time until a route that has no room is to be looked at, at most limit.
func (rs *routes) next(now time.Time, limit time.Duration) time.Duration {
	if len(rs.timed) == 0 {
		return limit
	}
	return min(max(rs.timed[0].until.Sub(now), 0), limit)
}

// timedHeap orders routes by until (container/heap).
type timedHeap []*routeState

func (h timedHeap) Len() int           { return len(h) }
func (h timedHeap) Less(i, j int) bool { return h[i].until.Before(h[j].until) }
func (h timedHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h *timedHeap) Push(r any) {
	r.(*routeState).pos = len(*h)
	*h = append(*h, r.(*routeState))
}

func (h *timedHeap) Pop() any {
	last := len(*h) - 1
	r := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	r.pos = -1
	return r
}
