package queuetest

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/mailblocks/mailblocks/queue"
)

// Options say what the storage under test can do.
type Options struct {
	// Twice: a second Open on the same storage, while the first handle is open, gives
	// a second handle to the same queue. Otherwise it must fail with queue.ErrBusy when Durable.
	Twice bool

	// Durable: what was enqueued is there after Close and Open.
	Durable bool
}

// Test runs the suite. Each sub-test calls fresh once for an empty storage, and the function it
// returns once for each handle it needs on that storage.
func Test(t *testing.T, fresh func(t *testing.T) func() (queue.Store, error), o Options) {
	for _, c := range []struct {
		name string
		run  func(*env)
	}{
		{"Enqueue", testEnqueue},
		{"EnqueueAtomic", testEnqueueAtomic},
		{"LargeBody", testLargeBody},
		{"Lease", testLease},
		{"LeaseRoutes", testLeaseRoutes},
		{"LeaseFair", testLeaseFair},
		{"LeasePriority", testLeasePriority},
		{"LeaseSenders", testLeaseSenders},
		{"LeaseEnds", testLeaseEnds},
		{"LeaseConcurrent", testLeaseConcurrent},
		{"RoomDown", testRoomDown},
		{"Renew", testRenew},
		{"Settle", testSettle},
		{"SettleStale", testSettleStale},
		{"SettleReports", testSettleReports},
		{"SettleForeignRecipients", testSettleForeign},
		{"OpenOutlivesSettle", testOpenOutlives},
		{"List", testList},
		{"HoldRelease", testHoldRelease},
		{"Kick", testKick},
		{"Reroute", testReroute},
		{"Expire", testExpire},
		{"Remove", testRemove},
		{"Wake", testWake},
		{"WakeNotLost", testWakeNotLost},
		{"Future", testFuture},
		{"Closed", testClosed},
		{"Reopen", testReopen},
		{"Twice", testTwice},
		{"History", testHistory},
		{"Model", testModel},
		{"Workers", testWorkers},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := &env{T: t, Options: o, open: fresh(t), ctx: t.Context()}
			c.run(e)
		})
	}
}

// env is what one sub-test works with.
type env struct {
	*testing.T
	Options
	open func() (queue.Store, error)
	ctx  context.Context
}

// store opens a handle that is closed when the sub-test ends.
func (e *env) store() queue.Store {
	e.Helper()
	s, err := e.open()
	if err != nil {
		e.Fatalf("open: %v", err)
	}
	e.Cleanup(func() { s.Close() })
	return s
}

const body = "Subject: test\r\n\r\nHello.\r\n"

// message makes one from the null sender's opposite to the given recipients.
func message(to ...string) queue.Message {
	m := queue.Message{Envelope: queue.Envelope{ReversePath: "sender@example.org"}, Body: strings.NewReader(body)}
	for _, a := range to {
		m.Recipients = append(m.Recipients, queue.Recipient{Address: a})
	}
	return m
}

func (e *env) enqueue(s queue.Store, msgs ...queue.Message) []queue.ID {
	e.Helper()
	ids, err := s.Enqueue(e.ctx, msgs...)
	if err != nil {
		e.Fatalf("Enqueue: %v", err)
	}
	if len(ids) != len(msgs) {
		e.Fatalf("Enqueue of %d messages returned %d IDs", len(msgs), len(ids))
	}
	return ids
}

var everything = queue.Want{Max: 100, For: time.Hour}

func (e *env) lease(s queue.Store, w queue.Want) []queue.Lease {
	e.Helper()
	leases, err := s.Lease(e.ctx, w)
	if err != nil {
		e.Fatalf("Lease: %v", err)
	}
	if len(leases) > max(w.Max, 1) {
		e.Fatalf("Lease gave %d leases, %d were wanted at most", len(leases), w.Max)
	}
	for _, l := range leases {
		if len(l.Due) == 0 {
			e.Fatalf("a lease of %s has no due recipients", l.Token.ID)
		}
		for _, i := range l.Due {
			if r := l.Envelope.Recipients[i]; r.Route != l.Token.Route || r.Status != queue.StatusPending {
				e.Fatalf("a lease of route %q names recipient %+v", l.Token.Route, r)
			}
		}
	}
	return leases
}

// one leases and expects exactly one item.
func (e *env) one(s queue.Store) queue.Lease {
	e.Helper()
	leases := e.lease(s, everything)
	if len(leases) != 1 {
		e.Fatalf("Lease gave %d items, want 1", len(leases))
	}
	return leases[0]
}

// none expects that nothing is given out.
func (e *env) none(s queue.Store, why string) {
	e.Helper()
	if leases := e.lease(s, everything); len(leases) != 0 {
		e.Fatalf("Lease gave %d items, want none: %s", len(leases), why)
	}
}

// settled gives every due recipient of l the status.
func settled(l queue.Lease, status queue.Status) queue.Settlement {
	set := queue.Settlement{Recipients: map[int]queue.Recipient{}}
	for _, i := range l.Due {
		r := l.Envelope.Recipients[i]
		r.Status = status
		r.Attempts++
		set.Recipients[i] = r
	}
	return set
}

func (e *env) settle(s queue.Store, l queue.Lease, set queue.Settlement) []queue.ID {
	e.Helper()
	ids, err := s.Settle(e.ctx, l.Token, set)
	if err != nil {
		e.Fatalf("Settle: %v", err)
	}
	return ids
}

func (e *env) list(s queue.Store, f queue.Filter) []*queue.Entry {
	e.Helper()
	var all []*queue.Entry
	for entry, err := range s.List(e.ctx, f) {
		if err != nil {
			e.Fatalf("List: %v", err)
		}
		all = append(all, entry)
	}
	return all
}

func (e *env) alter(s queue.Store, f queue.Filter, c queue.Change, want int) {
	e.Helper()
	n, err := s.Alter(e.ctx, f, c)
	if err != nil {
		e.Fatalf("Alter %v: %v", c.Op, err)
	}
	if n != want {
		e.Fatalf("Alter %v changed %d items, want %d", c.Op, n, want)
	}
}

func (e *env) body(s queue.Store, id queue.ID) string {
	e.Helper()
	r, err := s.Open(e.ctx, id)
	if err != nil {
		e.Fatalf("Open: %v", err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		e.Fatalf("read the body: %v", err)
	}
	return string(b)
}

// until waits, by Wake alone, for ready to say yes.
func (e *env) until(s queue.Store, what string, ready func() bool) {
	e.Helper()
	deadline := time.Now().Add(time.Minute)
	var mark queue.Mark
	for !ready() {
		var err error
		mark, err = s.Wake(e.ctx, mark, time.Now().Add(10*time.Second))
		if err != nil {
			e.Fatalf("Wake: %v", err)
		}
		if time.Now().After(deadline) {
			e.Fatalf("never happened: %s", what)
		}
	}
}

func (e *env) is(err, want error) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Fatalf("error is %v, want %v", err, want)
	}
}
