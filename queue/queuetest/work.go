package queuetest

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/queue"
)

func testEnqueue(e *env) {
	s := e.store()
	if _, err := s.Enqueue(e.ctx, queue.Message{Body: strings.NewReader(body)}); !errors.Is(err, queue.ErrNoRecipients) {
		e.Fatalf("a message without recipients: %v, want ErrNoRecipients", err)
	}
	m := queue.Message{
		Envelope: queue.Envelope{
			ReversePath: "sénder@example.org",
			Recipients: []queue.Recipient{
				{Address: "a@example.org", Notify: queue.NotifySuccess | queue.NotifyDelay, ORcpt: "rfc822;A@example.org"},
				{Address: "a@example.org"}, // a duplicate is a recipient
				{Address: "B@EXAMPLE.NET", Notify: queue.NotifyNever},
				{Address: "c@example.com", Route: "smarthost"},
			},
			Return: queue.ReturnHeaders, EnvID: "QQ314159 +=", Body: queue.Body8BitMIME,
			UTF8: true, RequireTLS: true, Priority: -3, Expires: time.Now().Add(time.Hour).Round(0), Tag: "account 7",
		},
		Body: strings.NewReader(body),
	}
	before := time.Now().Add(-time.Second)
	ids := e.enqueue(s, m, message("x@example.org"))
	if ids[0] == ids[1] {
		e.Fatal("two messages have one ID")
	}
	if got := e.body(s, ids[0]); got != body {
		e.Fatalf("body is %q, want %q", got, body)
	}
	entries := e.list(s, queue.Filter{IDs: ids[:1]})
	if len(entries) != 1 {
		e.Fatalf("List by ID gave %d entries", len(entries))
	}
	got := entries[0].Envelope
	if got.Arrived.Before(before) || got.Arrived.After(time.Now().Add(time.Second)) {
		e.Errorf("Arrived is %v", got.Arrived)
	}
	if !got.Expires.Equal(m.Expires) {
		e.Errorf("Expires is %v, want %v", got.Expires, m.Expires)
	}
	if got.ReversePath != m.ReversePath || got.Return != m.Return || got.EnvID != m.EnvID || got.Body != m.Envelope.Body ||
		!got.UTF8 || !got.RequireTLS || got.Priority != m.Priority || got.Tag != m.Tag {
		e.Errorf("envelope came back as %+v", got)
	}
	for i, route := range []string{"example.org", "example.org", "example.net", "smarthost"} {
		r, want := got.Recipients[i], m.Recipients[i]
		if r.Address != want.Address || r.Notify != want.Notify || r.ORcpt != want.ORcpt {
			e.Errorf("recipient %d came back as %+v, want %+v", i, r, want)
		}
		if r.Route != route {
			e.Errorf("recipient %d has route %q, want %q", i, r.Route, route)
		}
	}
	if entries[0].Size != int64(len(body)) {
		e.Errorf("size is %d, want %d", entries[0].Size, len(body))
	}
	if len(entries[0].Items) != 3 {
		e.Errorf("%d items, want one for each of 3 routes", len(entries[0].Items))
	}
}

// torn fails after some octets.
type torn struct{ left io.Reader }

var errTorn = errors.New("connection reset")

func (r torn) Read(p []byte) (int, error) {
	n, err := r.left.Read(p)
	if err == io.EOF {
		err = errTorn
	}
	return n, err
}

func testEnqueueAtomic(e *env) {
	s := e.store()
	for _, size := range []int{10, 1 << 20} {
		bad := message("b@example.org")
		bad.Body = torn{strings.NewReader(strings.Repeat("x", size))}
		_, err := s.Enqueue(e.ctx, message("a@example.org"), bad)
		e.is(err, errTorn)
		e.none(s, "an Enqueue that failed leaves nothing, not even its good messages")
	}
	e.enqueue(s, message("c@example.org"))
	e.one(s)
}

func testLargeBody(e *env) {
	s := e.store()
	var big bytes.Buffer
	for i := 0; big.Len() < 3<<20; i++ {
		big.WriteString(strings.Repeat(string(rune('a'+i%26)), 70) + "\r\n")
	}
	m := message("a@example.org")
	m.Body = bytes.NewReader(big.Bytes())
	ids := e.enqueue(s, m, message("b@example.org"))
	if e.body(s, ids[0]) != big.String() {
		e.Fatal("a body of 3 MiB came back changed")
	}
	r, err := s.Open(e.ctx, ids[0])
	if err != nil {
		e.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Seek(2<<20, io.SeekStart); err != nil {
		e.Fatalf("Seek: %v", err)
	}
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(rest, big.Bytes()[2<<20:]) {
		e.Fatalf("after Seek the body is different (%v)", err)
	}
	if _, err := s.Open(e.ctx, "nosuchmessage"); !errors.Is(err, queue.ErrNotFound) {
		e.Fatalf("Open of an unknown ID: %v, want ErrNotFound", err)
	}
}

func testLease(e *env) {
	s := e.store()
	e.none(s, "the queue is empty")
	id := e.enqueue(s, message("a@example.org", "b@example.org"))[0]
	l := e.one(s)
	if l.Token.ID != id || len(l.Due) != 2 || l.Size != int64(len(body)) {
		e.Fatalf("lease is %+v", l)
	}
	if d := l.Until.Sub(l.Now); d != everything.For {
		e.Errorf("the lease lasts %v, want %v", d, everything.For)
	}
	e.none(s, "the only item is leased")
	e.settle(s, l, queue.Settlement{})
	again := e.one(s) // an empty settlement gives it back untouched
	if again.Token.Fence == l.Token.Fence {
		e.Error("two leases of an item have the same fence")
	}
	for range 10 {
		e.enqueue(s, message("c@example.org"))
	}
	if n := len(e.lease(s, queue.Want{Max: 4, For: time.Hour})); n != 4 {
		e.Errorf("Lease with Max 4 of 10 gave %d", n)
	}
	if n := len(e.lease(s, queue.Want{For: time.Hour})); n != 1 {
		e.Errorf("Lease with Max 0 gave %d, want 1", n)
	}
}

func testLeaseRoutes(e *env) {
	s := e.store()
	e.enqueue(s, message("a@one.test", "b@two.test", "c@one.test", "d@three.test"))
	leases := e.lease(s, everything)
	if len(leases) != 3 {
		e.Fatalf("a message on three routes gave %d leases", len(leases))
	}
	count := map[string]int{}
	for _, l := range leases {
		count[l.Token.Route] = len(l.Due)
	}
	if count["one.test"] != 2 || count["two.test"] != 1 || count["three.test"] != 1 {
		e.Fatalf("recipients by route: %v", count)
	}
	for _, l := range leases {
		e.settle(s, l, queue.Settlement{})
	}
	leases = e.lease(s, queue.Want{Max: 10, For: time.Hour, Room: map[string]int{"one.test": 0, "two.test": queue.RoomDown, "three.test": 1}})
	for _, l := range leases {
		if l.Token.Route == "one.test" {
			e.Error("a route without room was given out")
		}
		if (l.Token.Route == "two.test") != l.RouteDown {
			e.Errorf("route %s: RouteDown is %v", l.Token.Route, l.RouteDown)
		}
	}
	if len(leases) != 2 {
		e.Errorf("%d leases, want three.test and the alarm of two.test", len(leases))
	}
}

func testLeaseFair(e *env) {
	s := e.store()
	for range 20 {
		e.enqueue(s, message("a@full.test"))
	}
	e.enqueue(s, message("a@small.test"), message("b@small.test"))
	w := queue.Want{Max: 4, For: time.Hour, PerRoute: 3}
	count := map[string]int{}
	for _, l := range e.lease(s, w) {
		count[l.Token.Route]++
	}
	if count["small.test"] == 0 {
		e.Error("a long queue for one destination keeps another from being served")
	}
	if count["full.test"] > 3 {
		e.Errorf("PerRoute 3 was exceeded: %v", count)
	}
	for range 3 {
		e.lease(s, w)
	}
	for _, l := range e.lease(s, queue.Want{Max: 50, For: time.Hour}) {
		if l.Token.Route == "small.test" {
			e.Error("small.test was not served in turn")
		}
	}
}

func testLeasePriority(e *env) {
	s := e.store()
	for _, p := range []int8{0, -4, 6} {
		m := message("a@example.org")
		m.Priority = p
		e.enqueue(s, m)
	}
	for _, want := range []int8{6, 0, -4} {
		l := e.lease(s, queue.Want{Max: 1, For: time.Hour})
		if len(l) != 1 || l[0].Envelope.Priority != want {
			e.Fatalf("want the message of priority %d next", want)
		}
	}
}

// testLeaseSenders: the senders of one destination are served in turn, whether their messages are new or come back
// from a lease, and a higher priority still goes first.
func testLeaseSenders(e *env) {
	s := e.store()
	from := func(sender string, priority int8) queue.Message {
		m := message("a@example.org")
		m.ReversePath, m.Priority = sender, priority
		return m
	}
	for range 30 {
		e.enqueue(s, from("bulk@news.test", 0))
	}
	e.enqueue(s, from("one@small.test", 0), from("two@small.test", 0), from("bulk@news.test", 5))
	var order []string
	var held []queue.Lease
	for range 6 {
		for _, l := range e.lease(s, queue.Want{Max: 1, For: time.Hour}) {
			order = append(order, l.Envelope.ReversePath)
			held = append(held, l)
		}
	}
	if len(order) < 6 || order[0] != "bulk@news.test" || held[0].Envelope.Priority != 5 {
		e.Fatalf("the message of the higher priority is not the first: %v", order)
	}
	for _, sender := range []string{"one@small.test", "two@small.test"} {
		if !slices.Contains(order[1:5], sender) {
			e.Errorf("one sender's 30 messages keep %s waiting: %v", sender, order)
		}
	}
	for _, l := range held { // given back, all due at once
		e.settle(s, l, queue.Settlement{})
	}
	order = nil
	for range 6 {
		for _, l := range e.lease(s, queue.Want{Max: 1, For: time.Hour}) {
			order = append(order, l.Envelope.ReversePath)
		}
	}
	if !slices.Contains(order, "one@small.test") || !slices.Contains(order, "two@small.test") {
		e.Errorf("after a retry the senders are not served in turn: %v", order)
	}
}

func testLeaseEnds(e *env) {
	s := e.store()
	e.enqueue(s, message("a@example.org"))
	short := queue.Want{Max: 1, For: 30 * time.Millisecond}
	first := e.lease(s, short)
	if len(first) != 1 {
		e.Fatal("nothing leased")
	}
	var second []queue.Lease
	e.until(s, "a lease that ended gives its item back", func() bool {
		second = e.lease(s, everything)
		return len(second) > 0
	})
	_, err := s.Settle(e.ctx, first[0].Token, settled(first[0], queue.StatusDelivered))
	e.is(err, queue.ErrStale)
	e.is(s.Renew(e.ctx, first[0].Token, time.Hour), queue.ErrStale)
	e.settle(s, second[0], settled(second[0], queue.StatusDelivered))
}

func testLeaseConcurrent(e *env) {
	s := e.store()
	const messages, workers = 200, 8
	for range messages {
		e.enqueue(s, message("a@one.test", "b@two.test"))
	}
	var mu sync.Mutex
	seen := map[queue.Token]bool{}
	items := map[[2]string]int{}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				leases, err := s.Lease(e.ctx, queue.Want{Max: 7, For: time.Hour})
				if err != nil {
					e.Errorf("Lease: %v", err)
					return
				}
				if len(leases) == 0 {
					return
				}
				mu.Lock()
				for _, l := range leases {
					seen[l.Token] = true
					items[[2]string{string(l.Token.ID), l.Token.Route}]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(items) != 2*messages || len(seen) != 2*messages {
		e.Fatalf("%d items were leased with %d tokens, want %d of each", len(items), len(seen), 2*messages)
	}
	for item, n := range items {
		if n != 1 {
			e.Fatalf("%v was leased %d times at once", item, n)
		}
	}
}

func testRoomDown(e *env) {
	s := e.store()
	e.enqueue(s, message("a@down.test"), message("b@down.test"))
	w := everything
	w.Room = map[string]int{"down.test": queue.RoomDown}
	leases := e.lease(s, w)
	if len(leases) != 2 {
		e.Fatalf("%d items of a route that is down were shown, want both once", len(leases))
	}
	for i, l := range leases {
		if !l.RouteDown {
			e.Fatal("the lease does not say that the route is down")
		}
		alarm := l.Now.Add(time.Hour)
		if i == 1 {
			alarm = l.Now.Add(-time.Second)
		}
		e.settle(s, l, queue.Settlement{Alarm: alarm})
	}
	again := e.lease(s, w)
	if len(again) != 1 || again[0].Token.ID != leases[1].Token.ID {
		e.Fatalf("%d items shown again, want the one whose alarm has come", len(again))
	}
	e.settle(s, again[0], queue.Settlement{Alarm: time.Now().Add(time.Hour)})
	if n := len(e.lease(s, w)); n != 0 {
		e.Fatalf("%d items shown before their alarm", n)
	}
	if n := len(e.lease(s, everything)); n != 2 {
		e.Fatalf("when the route is up again %d items are due, want 2", n)
	}
}

func testRenew(e *env) {
	s := e.store()
	e.enqueue(s, message("a@example.org"), message("z@other.test"))
	leases := e.lease(s, queue.Want{Max: 2, For: 40 * time.Millisecond})
	if len(leases) != 2 {
		e.Fatal("want two leases")
	}
	if err := s.Renew(e.ctx, leases[0].Token, time.Hour); err != nil {
		e.Fatalf("Renew: %v", err)
	}
	e.until(s, "the lease that was not renewed ends", func() bool {
		ended := e.lease(s, everything)
		for _, l := range ended {
			if l.Token.ID == leases[0].Token.ID {
				e.Fatal("a renewed lease ended")
			}
		}
		return len(ended) > 0
	})
	e.settle(s, leases[0], settled(leases[0], queue.StatusDelivered))
	e.is(s.Renew(e.ctx, leases[0].Token, time.Hour), queue.ErrStale)
}
