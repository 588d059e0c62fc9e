package queuetest

import (
	"errors"
	"slices"
	"time"

	"github.com/mailblocks/mailblocks/queue"
)

func testList(e *env) {
	s := e.store()
	old := message("Ann@One.test")
	old.Arrived = time.Now().Add(-48 * time.Hour)
	null := message("bob@two.test")
	null.ReversePath = ""
	both := message("cid@one.test", "dee@two.test")
	both.ReversePath = "Boss@Example.COM"
	ids := e.enqueue(s, old, null, both)
	yesterday := time.Now().Add(-24 * time.Hour)
	for _, c := range []struct {
		name string
		f    queue.Filter
		want []int
	}{
		{"everything", queue.Filter{}, []int{0, 1, 2}},
		{"ids", queue.Filter{IDs: []queue.ID{ids[2], "unknown", ids[0]}}, []int{0, 2}},
		{"route", queue.Filter{Route: "two.test"}, []int{1, 2}},
		{"unknown route", queue.Filter{Route: "no.test"}, nil},
		{"sender", queue.Filter{Sender: "boss@example.com"}, []int{2}},
		{"sender's domain", queue.Filter{Sender: "@example.org"}, []int{0}},
		{"null sender", queue.Filter{Sender: "<>"}, []int{1}},
		{"recipient", queue.Filter{Recipient: "ann@one.TEST"}, []int{0}},
		{"recipient's domain", queue.Filter{Recipient: "@one.test"}, []int{0, 2}},
		{"old", queue.Filter{Before: yesterday}, []int{0}},
		{"young", queue.Filter{After: yesterday}, []int{1, 2}},
		{"both", queue.Filter{After: yesterday, Route: "one.test"}, []int{2}},
		{"held", queue.Filter{State: queue.ItemHeld}, nil},
		{"waiting", queue.Filter{State: queue.ItemWaiting}, []int{0, 1, 2}},
	} {
		var got []int
		for _, entry := range e.list(s, c.f) {
			got = append(got, slices.Index(ids, entry.ID))
		}
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			e.Errorf("%s: listed %v, want %v", c.name, got, c.want)
		}
	}
	if n := len(e.list(s, queue.Filter{Limit: 2})); n != 2 {
		e.Errorf("Limit 2 listed %d", n)
	}
	w := everything
	w.Owner = "worker 1"
	l := e.lease(s, w)[0]
	entries := e.list(s, queue.Filter{State: queue.ItemLeased, IDs: []queue.ID{l.Token.ID}})
	if len(entries) != 1 {
		e.Fatal("a leased item is not listed as such")
	}
	found := false
	for _, it := range entries[0].Items {
		if it.Route == l.Token.Route {
			found = it.Owner == "worker 1" && it.Until.Equal(l.Until)
		}
	}
	if !found {
		e.Errorf("items are %+v, want owner and end of the lease", entries[0].Items)
	}
}

func testHoldRelease(e *env) {
	s := e.store()
	e.enqueue(s, message("a@one.test", "b@two.test"))
	e.alter(s, queue.Filter{Route: "one.test"}, queue.Change{Op: queue.OpHold}, 1)
	e.alter(s, queue.Filter{Route: "one.test"}, queue.Change{Op: queue.OpHold}, 0)
	l := e.one(s)
	if l.Token.Route != "two.test" {
		e.Fatal("a held item was given out")
	}
	// A hold on a leased item acts when the lease ends.
	e.alter(s, queue.Filter{Route: "two.test"}, queue.Change{Op: queue.OpHold}, 1)
	e.settle(s, l, queue.Settlement{})
	e.none(s, "both are held")
	if n := len(e.list(s, queue.Filter{State: queue.ItemHeld})); n != 1 {
		e.Errorf("%d messages listed as held, want 1", n)
	}
	e.alter(s, queue.Filter{State: queue.ItemHeld}, queue.Change{Op: queue.OpRelease}, 2)
	if n := len(e.lease(s, everything)); n != 2 {
		e.Errorf("%d items after the release, want 2", n)
	}
}

// postpone settles l so that it is due in an hour.
func postpone(l queue.Lease) queue.Settlement {
	set := settled(l, queue.StatusPending)
	for i, r := range set.Recipients {
		r.Due = l.Now.Add(time.Hour)
		set.Recipients[i] = r
	}
	return set
}

func testKick(e *env) {
	s := e.store()
	e.enqueue(s, message("a@one.test", "b@one.test"))
	l := e.one(s)
	e.alter(s, queue.Filter{}, queue.Change{Op: queue.OpKick}, 0) // leased: being tried right now
	e.settle(s, l, postpone(l))
	e.none(s, "due in an hour")
	e.alter(s, queue.Filter{Route: "two.test"}, queue.Change{Op: queue.OpKick}, 0)
	e.alter(s, queue.Filter{Route: "one.test"}, queue.Change{Op: queue.OpKick}, 1)
	if l = e.one(s); len(l.Due) != 2 {
		e.Errorf("%d recipients due after a kick, want 2", len(l.Due))
	}
}

func testReroute(e *env) {
	s := e.store()
	ids := e.enqueue(s, message("a@one.test", "b@two.test", "c@one.test"), message("d@two.test"))
	e.alter(s, queue.Filter{Route: "one.test"}, queue.Change{Op: queue.OpReroute, Route: "two.test"}, 1)
	for _, l := range e.lease(s, everything) {
		if l.Token.Route != "two.test" {
			e.Errorf("an item is left on route %q", l.Token.Route)
		}
		want := 1
		if l.Token.ID == ids[0] {
			want = 3
		}
		if len(l.Due) != want {
			e.Errorf("%d recipients due, want %d", len(l.Due), want)
		}
		e.settle(s, l, queue.Settlement{})
	}
	if e.body(s, ids[0]) != body {
		e.Error("the body changed on the way")
	}
	e.alter(s, queue.Filter{IDs: ids[1:]}, queue.Change{Op: queue.OpReroute, Route: "smarthost"}, 1)
	if n := len(e.list(s, queue.Filter{Route: "smarthost"})); n != 1 {
		e.Errorf("%d messages on the new route, want 1", n)
	}
}

func testExpire(e *env) {
	s := e.store()
	e.enqueue(s, message("a@one.test"))
	l := e.one(s)
	e.settle(s, l, postpone(l))
	e.alter(s, queue.Filter{}, queue.Change{Op: queue.OpExpire}, 1)
	w := everything
	w.Room = map[string]int{"one.test": queue.RoomDown}
	leases := e.lease(s, w)
	if len(leases) != 1 || !leases[0].Expire {
		e.Fatal("an expired item must be given out at once, marked so, even when its route is down")
	}
}

func testRemove(e *env) {
	s := e.store()
	ids := e.enqueue(s, message("a@one.test", "b@two.test"), message("c@one.test"))
	var one queue.Lease
	for _, l := range e.lease(s, everything) {
		if l.Token.ID == ids[0] && l.Token.Route == "one.test" {
			one = l
		}
	}
	e.alter(s, queue.Filter{IDs: ids[:1], Route: "one.test"}, queue.Change{Op: queue.OpRemove}, 1)
	_, err := s.Settle(e.ctx, one.Token, settled(one, queue.StatusDelivered))
	e.is(err, queue.ErrStale)
	if n := len(e.list(s, queue.Filter{})); n != 2 {
		e.Fatalf("%d messages left, want 2: one item of the first is still there", n)
	}
	e.alter(s, queue.Filter{}, queue.Change{Op: queue.OpRemove}, 2)
	if n := len(e.list(s, queue.Filter{})); n != 0 {
		e.Fatalf("%d messages left, want none", n)
	}
	if _, err := s.Open(e.ctx, ids[0]); !errors.Is(err, queue.ErrNotFound) {
		e.Fatalf("Open of a removed message: %v, want ErrNotFound", err)
	}
}
