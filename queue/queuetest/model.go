package queuetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/queue"
)

// model is a queue so simple that it can be seen to be right: what a store must look like after the same operations.
type model struct {
	*env
	s      queue.Store
	rnd    *rand.Rand
	msgs   map[queue.ID]*modelMessage
	leases []queue.Lease // that are held
	ended  []queue.Token // of leases that are not
	trail  []string      // what was done, for failures
}

type modelMessage struct {
	sender   string
	priority int8
	body     string
	rcpts    []queue.Recipient
	items    map[string]*modelItem // by route
}

type modelItem struct{ held, expire, leased bool }

func (m *modelMessage) pending(route string) (all []int) {
	for i, r := range m.rcpts {
		if r.Route == route && r.Status == queue.StatusPending {
			all = append(all, i)
		}
	}
	return all
}

func (m *modelMessage) done() bool {
	for route := range m.items {
		if len(m.pending(route)) > 0 {
			return false
		}
	}
	return true
}

// due reports whether the item may be leased. Times in the model are long past or far away.
func (m *modelMessage) due(route string) bool {
	it := m.items[route]
	if it.held || it.leased {
		return false
	}
	for _, i := range m.pending(route) {
		if it.expire || !m.rcpts[i].Due.After(time.Now()) {
			return true
		}
	}
	return false
}

var (
	modelRoutes  = []string{"a.test", "b.test", "c.test", "d.test"}
	modelSenders = []string{"one@example.org", "two@example.org", ""}
)

// testModel does random operations one after the other and compares the store with the model after each.
func testModel(e *env) {
	s := e.store()
	for seed := range uint64(4) {
		m := &model{env: e, s: s, rnd: rand.New(rand.NewPCG(seed, 4)), msgs: map[queue.ID]*modelMessage{}}
		for range 120 {
			m.step()
			m.compare()
			if e.Failed() {
				e.Fatalf("after:\n%s", strings.Join(m.trail, "\n"))
			}
		}
		m.alter(queue.Filter{}, queue.Change{Op: queue.OpRemove})
		m.compare()
	}
}

func (m *model) did(format string, args ...any) {
	m.trail = append(m.trail, fmt.Sprintf(format, args...))
}

func (m *model) step() {
	switch m.rnd.IntN(10) {
	case 0, 1, 2:
		m.enqueue()
	case 3, 4:
		m.lease()
	case 5, 6:
		m.settle()
	case 7:
		m.stale()
	default:
		f := queue.Filter{}
		if m.rnd.IntN(2) == 0 {
			f.Route = modelRoutes[m.rnd.IntN(len(modelRoutes))]
		}
		if m.rnd.IntN(3) == 0 {
			f.Sender = "<>"
			if s := modelSenders[m.rnd.IntN(len(modelSenders))]; s != "" {
				f.Sender = s
			}
		}
		if ids := slices.Sorted(maps.Keys(m.msgs)); len(ids) > 0 && m.rnd.IntN(2) == 0 {
			f.IDs = []queue.ID{ids[m.rnd.IntN(len(ids))]}
		}
		ops := []queue.Op{queue.OpHold, queue.OpRelease, queue.OpRelease, queue.OpKick, queue.OpReroute, queue.OpExpire}
		c := queue.Change{Op: ops[m.rnd.IntN(len(ops))], Route: modelRoutes[m.rnd.IntN(len(modelRoutes))]}
		if len(f.IDs) > 0 && m.rnd.IntN(4) == 0 {
			c.Op = queue.OpRemove
		}
		m.alter(f, c)
	}
}

func (m *model) enqueue() {
	msg := &modelMessage{
		sender: modelSenders[m.rnd.IntN(len(modelSenders))], priority: int8(m.rnd.IntN(3)), items: map[string]*modelItem{},
		body: fmt.Sprint("Subject: ", m.rnd.Uint64(), "\r\n\r\n", strings.Repeat("x", m.rnd.IntN(100))),
	}
	in := queue.Message{Envelope: queue.Envelope{ReversePath: msg.sender, Priority: msg.priority}, Body: strings.NewReader(msg.body)}
	if m.rnd.IntN(4) == 0 {
		in.HoldUntil = time.Now().Add(time.Hour)
	}
	for i := range 1 + m.rnd.IntN(3) {
		route := modelRoutes[m.rnd.IntN(len(modelRoutes))]
		r := queue.Recipient{Address: fmt.Sprintf("u%d@%s", i, route)}
		in.Recipients = append(in.Recipients, r)
		r.Route, r.Due = route, in.HoldUntil
		msg.rcpts = append(msg.rcpts, r)
		msg.items[route] = &modelItem{}
	}
	id := m.env.enqueue(m.s, in)[0]
	m.did("enqueue %s: %d recipients, priority %d", id, len(msg.rcpts), msg.priority)
	m.msgs[id] = msg
}

func (m *model) lease() {
	w := queue.Want{Max: 1 + m.rnd.IntN(4), For: time.Hour, PerRoute: m.rnd.IntN(3), Room: map[string]int{}}
	for _, route := range modelRoutes {
		if m.rnd.IntN(3) == 0 {
			w.Room[route] = m.rnd.IntN(3)
		}
	}
	room := func(route string) int {
		if n, ok := w.Room[route]; ok {
			return n
		}
		if w.PerRoute == 0 {
			return 1 << 30
		}
		return w.PerRoute
	}
	leases := m.env.lease(m.s, w)
	m.did("lease max %d per route %d room %v: %d", w.Max, w.PerRoute, w.Room, len(leases))
	given := map[string]int{}
	for _, l := range leases {
		msg, route := m.msgs[l.Token.ID], l.Token.Route
		switch {
		case msg == nil || msg.items[route] == nil:
			m.Errorf("a lease for %s on %s, which is not there", l.Token.ID, route)
			continue
		case !msg.due(route):
			m.Errorf("a lease for %s on %s, which is held, leased or not due", l.Token.ID, route)
		case l.Expire != msg.items[route].expire:
			m.Errorf("Expire is %v for %s on %s", l.Expire, l.Token.ID, route)
		}
		for _, i := range l.Due {
			if r := l.Envelope.Recipients[i]; r.Attempts != msg.rcpts[i].Attempts || r.Status != queue.StatusPending || r.Route != route {
				m.Errorf("the lease of %s gives recipient %d as %+v, want %+v", l.Token.ID, i, r, msg.rcpts[i])
			}
		}
		for _, other := range m.msgs {
			if other.priority > msg.priority && other.items[route] != nil && other.due(route) && !slices.ContainsFunc(leases, func(l queue.Lease) bool { return m.msgs[l.Token.ID] == other }) {
				m.Errorf("%s on %s was given out before one of a higher priority", l.Token.ID, route)
			}
		}
		given[route]++
	}
	for _, l := range leases {
		if msg := m.msgs[l.Token.ID]; msg != nil && msg.items[l.Token.Route] != nil {
			msg.items[l.Token.Route].leased = true
		}
	}
	m.leases = append(m.leases, leases...)
	for route, n := range given {
		if n > room(route) {
			m.Errorf("%d leases on %s, where there is room for %d", n, route, room(route))
		}
	}
	if len(leases) > w.Max {
		m.Errorf("%d leases, want at most %d", len(leases), w.Max)
	}
	for id, msg := range m.msgs {
		for route := range msg.items {
			if len(leases) < w.Max && given[route] < room(route) && msg.due(route) {
				m.Errorf("%s on %s was due and not given out", id, route)
			}
		}
	}
}

func (m *model) take() (l queue.Lease, ok bool) {
	if len(m.leases) == 0 {
		return l, false
	}
	n := m.rnd.IntN(len(m.leases))
	l = m.leases[n]
	m.leases = slices.Delete(m.leases, n, n+1)
	m.ended = append(m.ended, l.Token)
	return l, true
}

func (m *model) settle() {
	l, ok := m.take()
	if !ok {
		return
	}
	set := queue.Settlement{Recipients: map[int]queue.Recipient{}, Alarm: time.Now().Add(time.Hour)}
	msg := m.msgs[l.Token.ID]
	for _, i := range l.Due {
		r := l.Envelope.Recipients[i]
		switch r.Attempts++; m.rnd.IntN(4) {
		case 0:
			r.Status = queue.StatusDelivered
		case 1:
			r.Due = time.Now().Add(time.Hour)
		case 2:
			r.Status = queue.StatusFailed
		case 3:
			continue // as it was
		}
		set.Recipients[i] = r
	}
	if m.rnd.IntN(3) == 0 {
		set.Reports = []queue.Message{{
			Envelope: queue.Envelope{Recipients: []queue.Recipient{{Address: "s@a.test"}}}, Body: strings.NewReader("Subject: report\r\n\r\n"),
		}}
	}
	ids, err := m.s.Settle(m.ctx, l.Token, set)
	m.did("settle %s on %s: %d recipients, %d reports: %v", l.Token.ID, l.Token.Route, len(set.Recipients), len(set.Reports), err)
	if msg == nil {
		m.is(err, queue.ErrStale)
		return
	}
	if err != nil || len(ids) != len(set.Reports) {
		m.Errorf("Settle of a lease that is held: %v, %d reports", err, len(ids))
	}
	for i, r := range set.Recipients {
		msg.rcpts[i] = r
	}
	msg.items[l.Token.Route].leased = false
	for _, id := range ids {
		m.msgs[id] = &modelMessage{body: "Subject: report\r\n\r\n", rcpts: []queue.Recipient{{Address: "s@a.test", Route: "a.test"}}, items: map[string]*modelItem{"a.test": {}}}
	}
	if msg.done() {
		delete(m.msgs, l.Token.ID)
	}
}

// stale settles and renews with tokens of leases that have ended.
func (m *model) stale() {
	if len(m.ended) == 0 {
		return
	}
	t := m.ended[m.rnd.IntN(len(m.ended))]
	_, err := m.s.Settle(m.ctx, t, queue.Settlement{Recipients: map[int]queue.Recipient{0: {Status: queue.StatusDelivered}}})
	m.is(err, queue.ErrStale)
	m.is(m.s.Renew(m.ctx, t, time.Hour), queue.ErrStale)
	m.did("stale settle of %s", t.ID)
}

func (m *model) alter(f queue.Filter, c queue.Change) {
	want := 0
	for id, msg := range m.msgs {
		if len(f.IDs) > 0 && f.IDs[0] != id || f.Sender != "" && f.Sender != msg.sender && !(f.Sender == "<>" && msg.sender == "") {
			continue
		}
		want += msg.alter(f.Route, c)
		if msg.done() {
			delete(m.msgs, id)
		}
	}
	n, err := m.s.Alter(m.ctx, f, c)
	m.did("%s %s of %+v: %d %v", c.Op, c.Route, f, n, err)
	if err != nil || n != want {
		m.Errorf("Alter %s of %+v changed %d, want %d: %v", c.Op, f, n, want, err)
	}
	for i := len(m.leases) - 1; i >= 0; i-- { // those that were removed
		t := m.leases[i].Token
		if msg := m.msgs[t.ID]; msg == nil || msg.items[t.Route] == nil || !msg.items[t.Route].leased {
			m.leases = slices.Delete(m.leases, i, i+1)
			m.ended = append(m.ended, t)
		}
	}
}

func (m *modelMessage) alter(only string, c queue.Change) (changed int) {
	if c.Op == queue.OpReroute {
		for _, it := range m.items {
			if it.leased {
				return 0
			}
		}
	}
	for _, route := range slices.Sorted(maps.Keys(m.items)) {
		it, pending := m.items[route], m.pending(route)
		if only != "" && route != only || len(pending) == 0 {
			continue
		}
		switch c.Op {
		case queue.OpHold, queue.OpRelease:
			if it.held == (c.Op == queue.OpHold) {
				continue
			}
			it.held = !it.held
		case queue.OpKick:
			if it.leased {
				continue
			}
			for _, i := range pending {
				m.rcpts[i].Due = time.Time{}
			}
		case queue.OpExpire:
			if it.expire {
				continue
			}
			it.expire = true
		case queue.OpRemove:
			for _, i := range pending {
				m.rcpts[i].Status = queue.StatusFailed
			}
			it.leased = false
		case queue.OpReroute:
			if route == c.Route {
				continue
			}
			for _, i := range pending {
				m.rcpts[i].Route = c.Route
			}
			if m.items[c.Route] == nil {
				m.items[c.Route] = &modelItem{}
			}
		}
		changed++
	}
	return changed
}

// compare looks at all that can be seen of the store.
func (m *model) compare() {
	seen := map[queue.ID]bool{}
	for _, entry := range m.list(m.s, queue.Filter{}) {
		msg := m.msgs[entry.ID]
		if msg == nil {
			m.Errorf("%s is listed, and should be gone", entry.ID)
			continue
		}
		seen[entry.ID] = true
		for i, r := range entry.Envelope.Recipients {
			if want := msg.rcpts[i]; r.Address != want.Address || r.Route != want.Route || r.Status != want.Status || r.Attempts != want.Attempts {
				m.Errorf("%s: recipient %d is %+v, want %+v", entry.ID, i, r, want)
			}
		}
		for _, it := range entry.Items {
			want := msg.items[it.Route]
			if want == nil {
				m.Errorf("%s: there is no item on %s", entry.ID, it.Route)
				continue
			}
			state := queue.ItemWaiting
			switch {
			case len(msg.pending(it.Route)) == 0:
				state = queue.ItemDone
			case want.leased:
				state = queue.ItemLeased
			case want.held:
				state = queue.ItemHeld
			}
			if it.State != state || state != queue.ItemDone && it.Expires != want.expire {
				m.Errorf("%s on %s is %s, expires %v; want %s, %v", entry.ID, it.Route, it.State, it.Expires, state, want.expire)
			}
		}
	}
	for id, msg := range m.msgs {
		if !seen[id] {
			m.Errorf("%s is not listed", id)
		} else if m.rnd.IntN(8) == 0 && m.body(m.s, id) != msg.body {
			m.Errorf("%s: the body has changed", id)
		}
	}
}

// testWorkers has workers lease the same few messages for moments, settle late and let leases end. The books hold what every
// interleaving allows: a lease shows the outcome of every settlement before it, so none was lost and none came from a
// holder whose lease had ended; and the queue runs empty by Wake alone.
func testWorkers(e *env) {
	s := e.store()
	type book struct{ settled, under int } // settlements that succeeded, and that are under way
	var mu sync.Mutex
	books := map[queue.ID]*book{}
	finished := map[queue.ID]int{}
	const messages, workers, steps = 30, 6, 120
	for range messages {
		books[e.enqueue(s, message("u@one.test"))[0]] = &book{}
	}
	settle := func(l queue.Lease, last bool) {
		mu.Lock()
		b := books[l.Token.ID]
		b.under++
		mu.Unlock()
		r := l.Envelope.Recipients[0]
		r.Attempts++
		if last {
			r.Status = queue.StatusDelivered
		}
		_, err := s.Settle(e.ctx, l.Token, queue.Settlement{Recipients: map[int]queue.Recipient{0: r}})
		mu.Lock()
		defer mu.Unlock()
		b.under--
		switch {
		case err == nil:
			b.settled++
			if last {
				finished[l.Token.ID]++
			}
		case !errors.Is(err, queue.ErrStale):
			e.Errorf("Settle: %v", err)
		}
	}
	// before is what had succeeded when Lease was called.
	before := func() (settled, delivered map[queue.ID]int) {
		mu.Lock()
		defer mu.Unlock()
		settled = map[queue.ID]int{}
		for id, b := range books {
			settled[id] = b.settled
		}
		return settled, maps.Clone(finished)
	}
	look := func(l queue.Lease, settled, delivered map[queue.ID]int) {
		mu.Lock()
		defer mu.Unlock()
		b, least := books[l.Token.ID], settled[l.Token.ID]
		if n := l.Envelope.Recipients[0].Attempts; n < least || n > b.settled+b.under {
			e.Errorf("a lease of %s shows %d settlements; %d had succeeded before it, %d by now, %d are under way", l.Token.ID, n, least, b.settled, b.under)
		}
		if delivered[l.Token.ID] > 0 {
			e.Errorf("a lease of %s, which was delivered", l.Token.ID)
		}
	}
	var wg sync.WaitGroup
	for n := range workers {
		rnd := rand.New(rand.NewPCG(11, uint64(n)))
		wg.Go(func() {
			var late []queue.Lease
			for range steps {
				w := queue.Want{Max: 1 + rnd.IntN(3), For: time.Duration(1+rnd.IntN(5)) * time.Millisecond}
				if rnd.IntN(3) == 0 {
					w.For = time.Minute
				}
				settled, delivered := before()
				leases, err := s.Lease(e.ctx, w)
				if err != nil {
					e.Errorf("Lease: %v", err)
					return
				}
				for _, l := range leases {
					look(l, settled, delivered)
					switch {
					case w.For == time.Minute || rnd.IntN(2) == 0:
						settle(l, rnd.IntN(40) == 0)
					default:
						late = append(late, l)
					}
				}
				if len(late) > 3 {
					settle(late[0], false)
					late = late[1:]
				}
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(e.ctx, 30*time.Second)
	defer cancel()
	for mark := queue.Mark(0); ; {
		settled, delivered := before()
		for _, l := range e.lease(s, everything) {
			look(l, settled, delivered)
			settle(l, true)
		}
		if len(e.list(s, queue.Filter{})) == 0 {
			break
		}
		var err error
		if mark, err = s.Wake(ctx, mark, time.Now().Add(time.Minute)); err != nil {
			e.Fatalf("%d messages are left, and Wake does not wake: %v", len(e.list(s, queue.Filter{})), err)
		}
	}
	for id := range books {
		if finished[id] != 1 {
			e.Errorf("%s was delivered %d times, want once", id, finished[id])
		}
	}
}
