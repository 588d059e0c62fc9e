package queuetest

import (
	"errors"
	"io"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/queue"
)

func testSettle(e *env) {
	s := e.store()
	id := e.enqueue(s, message("a@example.org", "b@example.org", "c@other.test"))[0]
	var first, other queue.Lease
	for _, l := range e.lease(s, everything) {
		if l.Token.Route == "example.org" {
			first = l
		} else {
			other = l
		}
	}
	later := time.Now().Add(time.Hour).Round(0)
	last := queue.Outcome{
		Result: queue.Temporary, Code: 450, Enhanced: "4.2.0", Text: "greylisted", RemoteMTA: "mx.example.org",
		After: time.Minute, Handover: queue.HandoverRelayed,
	}
	pending := first.Envelope.Recipients[1]
	pending.Attempts, pending.Due, pending.Last, pending.Warned = 1, later, last, true
	delivered := first.Envelope.Recipients[0]
	delivered.Status = queue.StatusDelivered
	e.settle(s, first, queue.Settlement{Recipients: map[int]queue.Recipient{0: delivered, 1: pending}})
	e.none(s, "one route waits, the other is leased")

	e.settle(s, other, settled(other, queue.StatusFailed))
	entries := e.list(s, queue.Filter{})
	if len(entries) != 1 {
		e.Fatalf("%d messages listed, want 1", len(entries))
	}
	rs := entries[0].Envelope.Recipients
	if rs[0].Status != queue.StatusDelivered || rs[2].Status != queue.StatusFailed || rs[2].Attempts != 1 {
		e.Errorf("settled recipients are %+v and %+v", rs[0], rs[2])
	}
	if r := rs[1]; r.Status != queue.StatusPending || r.Attempts != 1 || !r.Due.Equal(later) || r.Last != last || !r.Warned {
		e.Errorf("the pending recipient came back as %+v", r)
	}
	for _, it := range entries[0].Items {
		want := queue.ItemWaiting
		if it.Route == "other.test" {
			want = queue.ItemDone
		} else if !it.Due.Equal(later) {
			e.Errorf("item is due %v, want %v", it.Due, later)
		}
		if it.State != want {
			e.Errorf("item %s is %v, want %v", it.Route, it.State, want)
		}
	}
	e.alter(s, queue.Filter{}, queue.Change{Op: queue.OpKick}, 1)
	l := e.one(s)
	if len(l.Due) != 1 || l.Due[0] != 1 {
		e.Fatalf("due recipients are %v, want the pending one alone", l.Due)
	}
	e.settle(s, l, settled(l, queue.StatusDelivered))
	if n := len(e.list(s, queue.Filter{})); n != 0 {
		e.Fatalf("%d messages left after the last recipient was settled", n)
	}
	if _, err := s.Open(e.ctx, id); !errors.Is(err, queue.ErrNotFound) {
		e.Fatalf("Open of a finished message: %v, want ErrNotFound", err)
	}
}

func testSettleStale(e *env) {
	s := e.store()
	e.enqueue(s, message("a@example.org"))
	l := e.one(s)
	for _, bad := range []queue.Token{
		{}, {ID: l.Token.ID}, {ID: l.Token.ID, Route: l.Token.Route, Fence: l.Token.Fence + 1},
		{ID: l.Token.ID, Route: "other.test", Fence: l.Token.Fence},
	} {
		_, err := s.Settle(e.ctx, bad, settled(l, queue.StatusDelivered))
		e.is(err, queue.ErrStale)
	}
	e.settle(s, l, queue.Settlement{})
	report := message("sender@example.org")
	set := settled(l, queue.StatusDelivered)
	set.Reports = []queue.Message{report}
	_, err := s.Settle(e.ctx, l.Token, set)
	e.is(err, queue.ErrStale)
	if n := len(e.list(s, queue.Filter{})); n != 1 {
		e.Fatalf("%d messages after a refused settlement, want the one that was there: its reports must not be enqueued", n)
	}
}

func testSettleReports(e *env) {
	s := e.store()
	id := e.enqueue(s, message("a@example.org"))[0]
	l := e.one(s)

	bad := settled(l, queue.StatusFailed)
	broken := message("sender@example.org")
	broken.Body = torn{strings.NewReader("half a rep")}
	bad.Reports = []queue.Message{broken}
	_, err := s.Settle(e.ctx, l.Token, bad)
	e.is(err, errTorn)
	e.none(s, "a settlement whose report could not be read leaves the lease held")

	good := settled(l, queue.StatusFailed)
	report := message("sender@example.org")
	report.ReversePath = ""
	report.Body = strings.NewReader("Subject: sorry\r\n\r\n")
	good.Reports = []queue.Message{report}
	ids := e.settle(s, l, good)
	if len(ids) != 1 || ids[0] == id {
		e.Fatalf("report IDs are %v", ids)
	}
	entries := e.list(s, queue.Filter{})
	if len(entries) != 1 || entries[0].ID != ids[0] || entries[0].Envelope.ReversePath != "" {
		e.Fatalf("after the settlement the queue holds %d messages, want the report alone", len(entries))
	}
	if got := e.body(s, ids[0]); got != "Subject: sorry\r\n\r\n" {
		e.Fatalf("the report reads %q", got)
	}
}

func testSettleForeign(e *env) {
	s := e.store()
	e.enqueue(s, message("a@one.test", "b@two.test"))
	for _, l := range e.lease(s, everything) {
		if l.Token.Route != "one.test" {
			continue
		}
		set := settled(l, queue.StatusDelivered)
		r := l.Envelope.Recipients[1]
		r.Status = queue.StatusDelivered
		set.Recipients[1], set.Recipients[99] = r, r
		e.settle(s, l, set)
	}
	rs := e.list(s, queue.Filter{})[0].Envelope.Recipients
	if rs[0].Status != queue.StatusDelivered || rs[1].Status != queue.StatusPending {
		e.Fatalf("a lease settles its own route alone; recipients are %+v", rs)
	}
}

func testOpenOutlives(e *env) {
	s := e.store()
	big := strings.Repeat("a line of text\r\n", 1<<16)
	for _, text := range []string{body, big} {
		m := message("a@example.org")
		m.Body = strings.NewReader(text)
		id := e.enqueue(s, m)[0]
		r, err := s.Open(e.ctx, id)
		if err != nil {
			e.Fatal(err)
		}
		l := e.one(s)
		e.settle(s, l, settled(l, queue.StatusDelivered))
		got, err := io.ReadAll(r)
		if err != nil || string(got) != text {
			e.Errorf("a body of %d octets, opened before the message was settled, can not be read after: %v", len(text), err)
		}
		r.Close()
	}
}

func testReopen(e *env) {
	if !e.Durable {
		e.Skip("the store is not durable")
	}
	s, err := e.open()
	if err != nil {
		e.Fatal(err)
	}
	big := message("big@example.org")
	bigText := strings.Repeat("0123456789abcdef\r\n", 1<<16)
	big.Body = strings.NewReader(bigText)
	ids := e.enqueue(s, message("a@one.test", "b@two.test"), big, message("gone@example.org"), message("held@example.org"))
	later := time.Now().Add(time.Hour).Round(0)
	var kept queue.Token
	for _, l := range e.lease(s, everything) {
		switch {
		case l.Token.ID == ids[0] && l.Token.Route == "one.test":
			set := settled(l, queue.StatusPending)
			r := set.Recipients[0]
			r.Due, r.Last.Text = later, "try later"
			set.Recipients[0] = r
			e.settle(s, l, set)
		case l.Token.ID == ids[2]:
			e.settle(s, l, settled(l, queue.StatusDelivered))
		case l.Token.ID == ids[3]:
			e.settle(s, l, queue.Settlement{})
		default:
			kept = l.Token
		}
	}
	e.alter(s, queue.Filter{IDs: ids[3:]}, queue.Change{Op: queue.OpHold}, 1)
	if err := s.Close(); err != nil {
		e.Fatalf("Close: %v", err)
	}

	s = e.store()
	_, err = s.Settle(e.ctx, kept, queue.Settlement{})
	e.is(err, queue.ErrStale) // a token of an earlier life
	entries := e.list(s, queue.Filter{})
	if len(entries) != 3 {
		e.Fatalf("%d messages after reopening, want 3", len(entries))
	}
	if e.body(s, ids[0]) != body || e.body(s, ids[1]) != bigText {
		e.Error("bodies changed by reopening")
	}
	r := e.list(s, queue.Filter{IDs: ids[:1]})[0].Envelope.Recipients[0]
	if r.Attempts != 1 || !r.Due.Equal(later) || r.Last.Text != "try later" {
		e.Errorf("recipient state after reopening is %+v", r)
	}
	if st := e.list(s, queue.Filter{IDs: ids[3:]})[0].Items[0].State; st != queue.ItemHeld {
		e.Errorf("a held item is %v after reopening", st)
	}
	var due []string
	for _, l := range e.lease(s, everything) {
		due = append(due, l.Token.Route)
	}
	if len(due) != 2 {
		e.Errorf("due after reopening: %v, want two.test and example.org", due)
	}
	fresh := e.enqueue(s, message("new@example.org"))[0]
	for _, old := range ids {
		if fresh == old {
			e.Error("an ID was used again")
		}
	}
}

func testTwice(e *env) {
	if !e.Twice && !e.Durable {
		e.Skip("one handle by nature")
	}
	s := e.store()
	other, err := e.open()
	if !e.Twice {
		e.is(err, queue.ErrBusy)
		return
	}
	if err != nil {
		e.Fatalf("second handle: %v", err)
	}
	defer other.Close()
	e.enqueue(s, message("a@example.org"))
	var l queue.Lease
	e.until(other, "a handle learns of work that another added", func() bool {
		leases := e.lease(other, everything)
		if len(leases) > 0 {
			l = leases[0]
		}
		return len(leases) > 0
	})
	e.none(s, "the item is leased through the other handle")
	e.settle(s, l, settled(l, queue.StatusDelivered)) // a token is good on any handle
	if n := len(e.list(other, queue.Filter{})); n != 0 {
		e.Errorf("%d messages left", n)
	}
}

func testClosed(e *env) {
	s := e.store()
	e.enqueue(s, message("a@example.org"))
	woken := make(chan error, 1)
	go func() {
		var mark queue.Mark
		var err error
		for err == nil {
			mark, err = s.Wake(e.ctx, mark, time.Now().Add(time.Hour))
		}
		woken <- err
	}()
	if err := s.Close(); err != nil {
		e.Fatalf("Close: %v", err)
	}
	e.is(<-woken, queue.ErrClosed)
	_, err := s.Enqueue(e.ctx, message("a@example.org"))
	e.is(err, queue.ErrClosed)
	_, err = s.Lease(e.ctx, everything)
	e.is(err, queue.ErrClosed)
}
