package queue_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/memstore"
)

// world is a Runner on a store in memory, in a bubble whose clock is virtual.
type world struct {
	*testing.T
	runner queue.Runner
	store  queue.Store
	start  time.Time
	stop   context.CancelFunc
	done   chan error

	mu       sync.Mutex
	attempts []string // "route@age recipients"
	reports  []string // "kind@age recipients: text"
	dropped  int
}

// inWorld runs f in a bubble. deliver is the Transport.
func inWorld(t *testing.T, deliver func(ctx context.Context, w *world, a *queue.Attempt) []queue.Outcome, set func(*queue.Runner), f func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, store: memstore.New(), start: time.Now(), done: make(chan error, 1)}
		w.runner = queue.Runner{
			Store: w.store,
			Transport: queue.TransportFunc(func(ctx context.Context, a *queue.Attempt) []queue.Outcome {
				var to []string
				for _, r := range a.Recipients {
					to = append(to, r.Address)
				}
				w.note(&w.attempts, fmt.Sprintf("%s %s", w.age(), strings.Join(to, " ")))
				return deliver(ctx, w, a)
			}),
			Report: w.report,
			Retry:  queue.Backoff{Jitter: -1},
			Logger: slog.New(slog.DiscardHandler),
			Trace: &queue.Trace{Dropped: func(_ context.Context, _ queue.ID, rs []queue.Recipient) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.dropped += len(rs)
			}},
		}
		if set != nil {
			set(&w.runner)
		}
		ctx, cancel := context.WithCancel(t.Context())
		w.stop = cancel
		go func() { w.done <- w.runner.Run(ctx) }()
		f(w)
		cancel()
		require.NoError(t, <-w.done)
		require.NoError(t, w.store.Close())
	})
}

func (w *world) age() time.Duration { return time.Since(w.start) }

func (w *world) note(list *[]string, s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*list = append(*list, s)
}

func (w *world) taken(list *[]string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(*list)
}

// report notes what would be reported, to recipients of the route "reports", which is held.
func (w *world) report(ctx context.Context, r *queue.Report) (*queue.Message, error) {
	var to []string
	for _, rcpt := range r.Recipients {
		to = append(to, rcpt.Address)
	}
	w.note(&w.reports, fmt.Sprintf("%s at %s for %s: %s", r.Kind, w.age(), strings.Join(to, " "), r.Recipients[0].Last.Text))
	return nil, nil
}

func (w *world) enqueue(e queue.Envelope, to ...string) queue.ID {
	w.Helper()
	for _, a := range to {
		e.Recipients = append(e.Recipients, queue.Recipient{Address: a})
	}
	if e.ReversePath == "" {
		e.ReversePath = "sender@example.org"
	}
	ids, err := w.store.Enqueue(w.Context(), queue.Message{Envelope: e, Body: strings.NewReader("Subject: x\r\n\r\n")})
	require.NoError(w, err)
	return ids[0]
}

// pass lets virtual time go by.
func (w *world) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (w *world) queued() int {
	n := 0
	for _, err := range w.store.List(w.Context(), queue.Filter{}) {
		require.NoError(w, err)
		n++
	}
	return n
}

func always(o queue.Outcome) func(context.Context, *world, *queue.Attempt) []queue.Outcome {
	return func(_ context.Context, _ *world, a *queue.Attempt) []queue.Outcome { return a.All(o) }
}

func TestRunDelivers(t *testing.T) {
	inWorld(t, always(queue.Outcome{Result: queue.Delivered}), nil, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@one.test", "b@two.test", "c@one.test")
		w.pass(time.Second)
		assert.ElementsMatch(t, []string{"0s a@one.test c@one.test", "0s b@two.test"}, w.taken(&w.attempts))
		assert.Zero(t, w.queued())
		assert.Empty(t, w.taken(&w.reports))
	})
}

func TestRunReadsTheBody(t *testing.T) {
	var body string
	inWorld(t, func(_ context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		r, err := a.Open()
		require.NoError(w, err)
		defer r.Close()
		b, err := io.ReadAll(r)
		require.NoError(w, err)
		body = string(b)
		return a.All(queue.Outcome{Result: queue.Delivered})
	}, nil, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@one.test")
		w.pass(time.Second)
		assert.Equal(t, "Subject: x\r\n\r\n", body)
	})
}

// TestRunFiveDays follows a recipient that is refused for now, from the first attempt to the failure report.
func TestRunFiveDays(t *testing.T) {
	inWorld(t, always(queue.Outcome{Result: queue.Temporary, Code: 451, Text: "not now"}), nil, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@slow.test")
		w.pass(6 * 24 * time.Hour)
		attempts := w.taken(&w.attempts)
		var ages []string
		for _, a := range attempts[:9] {
			ages = append(ages, strings.Fields(a)[0])
		}
		assert.Equal(t, []string{"0s", "5m0s", "15m0s", "35m0s", "1h15m0s", "2h15m0s", "4h15m0s", "7h15m0s", "11h15m0s"}, ages)
		assert.Equal(t, "120h0m0s a@slow.test", attempts[len(attempts)-1], "the last attempt falls on the end of life")
		assert.Equal(t, []string{
			"delay at 4h15m0s for a@slow.test: not now",
			"failure at 120h0m0s for a@slow.test: not now",
		}, w.taken(&w.reports))
		assert.Zero(t, w.queued())
	})
}

// TestRunDeadRoute: a route that is down costs its messages no attempts; they are warned about and
// given up in time, though only one at a time is tried.
func TestRunDeadRoute(t *testing.T) {
	down := queue.Outcome{Result: queue.RouteDown, Text: "connection refused"}
	inWorld(t, always(down), nil, func(w *world) {
		const n = 50
		for i := range n {
			w.enqueue(queue.Envelope{}, fmt.Sprintf("u%d@dead.test", i))
		}
		w.pass(time.Second)
		assert.Len(t, w.taken(&w.attempts), 1, "the first attempt opens the breaker")
		w.pass(time.Hour)
		assert.Len(t, w.taken(&w.attempts), 1+6, "probes after 30 s, doubling up to 30 min")
		for e, err := range w.store.List(t.Context(), queue.Filter{}) {
			require.NoError(t, err)
			r := e.Envelope.Recipients[0]
			assert.Zero(t, r.Attempts)
			assert.Equal(t, "connection refused", r.Last.Text, "each message says why it waits, tried or not")
		}
		w.pass(3*time.Hour + time.Minute)
		assert.Len(t, w.taken(&w.reports), n, "all are warned about after 4 hours")
		w.pass(5 * 24 * time.Hour)
		assert.Len(t, w.taken(&w.reports), 2*n, "and given up after 5 days")
		assert.Zero(t, w.queued())
	})
}

// TestRunRouteRecovers: when a probe succeeds the messages that waited go out at once.
func TestRunRouteRecovers(t *testing.T) {
	up := false
	inWorld(t, func(_ context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		w.mu.Lock()
		defer w.mu.Unlock()
		if up {
			return a.All(queue.Outcome{Result: queue.Delivered})
		}
		return a.All(queue.Outcome{Result: queue.RouteDown, Text: "down"})
	}, nil, func(w *world) {
		for i := range 100 {
			w.enqueue(queue.Envelope{}, fmt.Sprintf("u%d@flaky.test", i))
		}
		w.pass(time.Minute)
		assert.Equal(t, 100, w.queued())
		w.mu.Lock()
		up = true
		w.mu.Unlock()
		w.pass(2 * time.Minute)
		assert.LessOrEqual(t, w.queued(), 2, "those that were probes wait for their own time")
		w.pass(10 * time.Minute)
		assert.Zero(t, w.queued())
	})
}

// TestRunFair: a destination that hangs holds up nobody else, however much is queued for it.
func TestRunFair(t *testing.T) {
	inWorld(t, func(ctx context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		if a.Route == "hangs.test" {
			select {
			case <-time.After(10 * time.Minute):
			case <-ctx.Done():
			}
			return a.All(queue.Outcome{Result: queue.Temporary})
		}
		return a.All(queue.Outcome{Result: queue.Delivered})
	}, func(r *queue.Runner) { r.Concurrency = 10; r.PerRoute = 4; r.FirstPerRoute = 4 }, func(w *world) {
		for i := range 500 {
			w.enqueue(queue.Envelope{}, fmt.Sprintf("u%d@hangs.test", i))
		}
		w.enqueue(queue.Envelope{}, "a@quick.test")
		w.pass(time.Second)
		hanging := 0
		quick := false
		for _, a := range w.taken(&w.attempts) {
			if strings.Contains(a, "hangs.test") {
				hanging++
			}
			quick = quick || strings.Contains(a, "quick.test")
		}
		assert.True(t, quick, "a@quick.test was not tried")
		assert.Equal(t, 4, hanging, "attempts at the route that hangs")
	})
}

// TestRunWindow: concurrency on a route grows with success up to PerRoute.
func TestRunWindow(t *testing.T) {
	most, now := 0, 0
	inWorld(t, func(_ context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		w.mu.Lock()
		now++
		most = max(most, now)
		first := len(w.attempts) == 1
		w.mu.Unlock()
		if first {
			assert.Equal(t, 1, most, "a fresh route gets one attempt")
		}
		<-time.After(time.Second)
		w.mu.Lock()
		now--
		w.mu.Unlock()
		return a.All(queue.Outcome{Result: queue.Delivered})
	}, func(r *queue.Runner) { r.PerRoute = 7 }, func(w *world) {
		for i := range 100 {
			w.enqueue(queue.Envelope{}, fmt.Sprintf("u%d@busy.test", i))
		}
		w.pass(time.Minute)
		assert.Equal(t, 7, most)
		assert.Zero(t, w.queued())
	})
}

func TestRunReports(t *testing.T) {
	permanent := queue.Outcome{Result: queue.Permanent, Code: 550, Enhanced: "5.1.1", Text: "no such user"}
	for _, c := range []struct {
		name    string
		from    string
		rcpt    queue.Recipient
		outcome queue.Outcome
		want    string // kind of the report
		dropped int
	}{
		{"failure", "s@example.org", queue.Recipient{}, permanent, "failure", 0},
		{"failure, null sender", "<>", queue.Recipient{}, permanent, "", 1},
		{"failure, never", "s@example.org", queue.Recipient{Notify: queue.NotifyNever}, permanent, "", 1},
		{"failure, only success wanted", "s@example.org", queue.Recipient{Notify: queue.NotifySuccess}, permanent, "", 1},
		{"success not wanted", "s@example.org", queue.Recipient{}, queue.Outcome{Result: queue.Delivered}, "", 0},
		{"success", "s@example.org", queue.Recipient{Notify: queue.NotifySuccess}, queue.Outcome{Result: queue.Delivered}, "success", 0},
		{"success, null sender", "<>", queue.Recipient{Notify: queue.NotifySuccess}, queue.Outcome{Result: queue.Delivered}, "", 0},
		{
			"success, next hop reports", "s@example.org", queue.Recipient{Notify: queue.NotifySuccess},
			queue.Outcome{Result: queue.Delivered, Handover: queue.HandoverDSN}, "", 0,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, always(c.outcome), nil, func(w *world) {
				c.rcpt.Address = "a@b.test"
				from := c.from
				if from == "<>" {
					from = ""
				}
				_, err := w.store.Enqueue(t.Context(), queue.Message{
					Envelope: queue.Envelope{ReversePath: from, Recipients: []queue.Recipient{c.rcpt}}, Body: strings.NewReader(""),
				})
				require.NoError(t, err)
				w.pass(time.Minute)
				assert.Zero(t, w.queued())
				reports := w.taken(&w.reports)
				if c.want == "" {
					assert.Empty(t, reports)
				} else if assert.Len(t, reports, 1) {
					assert.True(t, strings.HasPrefix(reports[0], c.want+" "), reports[0])
				}
				assert.Equal(t, c.dropped, w.dropped)
			})
		})
	}
}

// TestRunReportFails: a failure that can not be reported is not settled; when reports work again
// the sender is told.
func TestRunReportFails(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	inWorld(t, always(queue.Outcome{Result: queue.Permanent, Text: "no"}), func(r *queue.Runner) {
		report := r.Report
		r.Report = func(ctx context.Context, rep *queue.Report) (*queue.Message, error) {
			if broken.Load() {
				return nil, errors.New("template is broken")
			}
			return report(ctx, rep)
		}
	}, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@b.test")
		w.pass(time.Second)
		assert.Equal(t, 1, w.queued())
		broken.Store(false)
		w.pass(time.Hour)
		assert.Zero(t, w.queued())
		assert.Len(t, w.taken(&w.reports), 1)
	})
}

// TestRunReportUnreadable: a report that can not be stored keeps its message pending, and not the others of
// the attempt.
func TestRunReportUnreadable(t *testing.T) {
	inWorld(t, func(_ context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		outcomes := a.All(queue.Outcome{Result: queue.Permanent, Text: "no"})
		if len(outcomes) > 1 {
			outcomes[0].Result = queue.Delivered
		}
		return outcomes
	}, func(r *queue.Runner) {
		r.Report = func(context.Context, *queue.Report) (*queue.Message, error) {
			return &queue.Message{
				Envelope: queue.Envelope{Recipients: []queue.Recipient{{Address: "s@example.org"}}},
				Body:     iotest.ErrReader(errors.New("disk")),
			}, nil
		}
	}, func(w *world) {
		w.enqueue(queue.Envelope{}, "good@b.test", "bad@b.test")
		w.pass(time.Minute)
		for e, err := range w.store.List(t.Context(), queue.Filter{}) {
			require.NoError(t, err)
			assert.Equal(t, queue.StatusDelivered, e.Envelope.Recipients[0].Status)
			assert.Equal(t, queue.StatusPending, e.Envelope.Recipients[1].Status)
		}
		assert.Equal(t, 1, w.queued())
		assert.Len(t, w.taken(&w.attempts), 1)
	})
}

// TestRunReportIsEnqueued: the report replaces the message in one commit, and is delivered in turn.
func TestRunReportIsEnqueued(t *testing.T) {
	inWorld(t, func(_ context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		if a.Envelope.ReversePath == "" {
			return a.All(queue.Outcome{Result: queue.Permanent, Text: "no such sender"})
		}
		return a.All(queue.Outcome{Result: queue.Permanent, Text: "no such user"})
	}, func(r *queue.Runner) {
		r.Report = func(ctx context.Context, rep *queue.Report) (*queue.Message, error) {
			return &queue.Message{
				Envelope: queue.Envelope{Recipients: []queue.Recipient{{Address: rep.Envelope.ReversePath}}},
				Body:     strings.NewReader("Subject: failed\r\n\r\n"),
			}, nil
		}
	}, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@b.test")
		w.pass(time.Second)
		assert.Equal(t, []string{"0s a@b.test", "0s sender@example.org"}, w.taken(&w.attempts))
		assert.Zero(t, w.queued(), "a report that fails is dropped, not reported")
		assert.Equal(t, 1, w.dropped)
	})
}

// TestRunPerRecipient: each recipient has its own outcome and its own retries.
func TestRunPerRecipient(t *testing.T) {
	inWorld(t, func(_ context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		outcomes := make([]queue.Outcome, len(a.Recipients))
		for i, r := range a.Recipients {
			switch {
			case strings.HasPrefix(r.Address, "good"), w.age() > 10*time.Minute:
				outcomes[i].Result = queue.Delivered
			case strings.HasPrefix(r.Address, "bad"):
				outcomes[i] = queue.Outcome{Result: queue.Permanent, Text: "no"}
			}
		}
		return outcomes
	}, nil, func(w *world) {
		w.enqueue(queue.Envelope{}, "good@b.test", "grey@b.test", "bad@b.test")
		w.pass(time.Hour)
		assert.Equal(t, []string{"0s good@b.test grey@b.test bad@b.test", "5m0s grey@b.test", "15m0s grey@b.test"}, w.taken(&w.attempts))
		assert.Equal(t, []string{"failure at 0s for bad@b.test: no"}, w.taken(&w.reports))
		assert.Zero(t, w.queued())
	})
}

func TestRunDeferred(t *testing.T) {
	inWorld(t, always(queue.Outcome{Result: queue.Deferred, After: 30 * time.Second}), nil, func(w *world) {
		id := w.enqueue(queue.Envelope{}, "a@b.test")
		w.pass(10*time.Minute + time.Second)
		assert.Len(t, w.taken(&w.attempts), 21)
		for e, err := range w.store.List(t.Context(), queue.Filter{IDs: []queue.ID{id}}) {
			require.NoError(t, err)
			assert.Zero(t, e.Envelope.Recipients[0].Attempts, "deferral costs nothing")
		}
	})
}

func TestRunHoldUntilAndExpires(t *testing.T) {
	inWorld(t, always(queue.Outcome{Result: queue.Temporary, Text: "busy"}), nil, func(w *world) {
		w.enqueue(queue.Envelope{HoldUntil: w.start.Add(time.Hour), Expires: w.start.Add(70 * time.Minute)}, "a@b.test")
		w.pass(24 * time.Hour)
		assert.Equal(t, []string{"1h0m0s a@b.test", "1h5m0s a@b.test"}, w.taken(&w.attempts))
		assert.Equal(t, []string{"failure at 1h10m0s for a@b.test: delivery time expired"}, w.taken(&w.reports))
	})
}

func TestRunExpireByHand(t *testing.T) {
	inWorld(t, always(queue.Outcome{}), nil, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@b.test")
		w.pass(time.Minute)
		n, err := w.store.Alter(t.Context(), queue.Filter{}, queue.Change{Op: queue.OpExpire})
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		w.pass(time.Second)
		assert.Equal(t, []string{"failure at 1m0s for a@b.test: given up by the operator"}, w.taken(&w.reports))
		assert.Len(t, w.taken(&w.attempts), 1)
	})
}

// TestRunDrains: when the context ends the attempt in flight is finished and settled.
func TestRunDrains(t *testing.T) {
	inWorld(t, func(ctx context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		w.stop()
		<-time.After(20 * time.Second)
		if ctx.Err() != nil {
			return nil
		}
		return a.All(queue.Outcome{Result: queue.Delivered})
	}, nil, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@b.test")
		w.pass(time.Second)
		w.enqueue(queue.Envelope{}, "b@b.test")
		w.pass(time.Minute)
		assert.Len(t, w.taken(&w.attempts), 1, "no new work is taken")
		assert.Equal(t, 1, w.queued())
	})
}

// TestRunGraceEnds: an attempt that does not end in time is cancelled and costs the message nothing.
func TestRunGraceEnds(t *testing.T) {
	inWorld(t, func(ctx context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		w.stop()
		<-ctx.Done()
		return a.All(queue.Outcome{Result: queue.Temporary, Text: "cancelled"})
	}, nil, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@b.test")
		w.pass(time.Minute)
		for e, err := range w.store.List(t.Context(), queue.Filter{}) {
			require.NoError(t, err)
			assert.Zero(t, e.Envelope.Recipients[0].Attempts)
			assert.Equal(t, queue.ItemWaiting, e.Items[0].State)
		}
	})
}

func TestRunTransportMisbehaves(t *testing.T) {
	n := 0
	inWorld(t, func(_ context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		n++
		switch n {
		case 1:
			panic("transport")
		case 2:
			return nil
		}
		return append(a.All(queue.Outcome{Result: queue.Delivered}), queue.Outcome{}, queue.Outcome{})
	}, nil, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@b.test", "b@b.test")
		w.pass(time.Hour)
		assert.Equal(t, 3, n)
		assert.Zero(t, w.queued())
	})
}

// TestRunRenews: a lease is renewed while its attempt lasts, so no second attempt begins.
func TestRunRenews(t *testing.T) {
	inWorld(t, func(_ context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		<-time.After(40 * time.Minute)
		return a.All(queue.Outcome{Result: queue.Delivered})
	}, nil, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@b.test")
		w.pass(time.Hour)
		assert.Len(t, w.taken(&w.attempts), 1)
		assert.Zero(t, w.queued())
	})
}

// TestRunLeaseLost: when the item is removed meanwhile the attempt is told to stop.
func TestRunLeaseLost(t *testing.T) {
	stopped := false
	inWorld(t, func(ctx context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		<-ctx.Done()
		stopped = true
		return nil
	}, nil, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@b.test")
		w.pass(time.Second)
		_, err := w.store.Alter(t.Context(), queue.Filter{}, queue.Change{Op: queue.OpRemove})
		require.NoError(t, err)
		w.pass(5 * time.Minute)
		assert.True(t, stopped)
		assert.Zero(t, w.queued())
	})
}

// flakyStore fails for a while, as a database does that restarts.
type flakyStore struct {
	queue.Store
	mu   sync.Mutex
	down bool
}

var errDown = errors.New("connection refused")

func (s *flakyStore) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

func (s *flakyStore) Lease(ctx context.Context, w queue.Want) ([]queue.Lease, error) {
	if s.isDown() {
		return nil, errDown
	}
	return s.Store.Lease(ctx, w)
}

func (s *flakyStore) Settle(ctx context.Context, t queue.Token, set queue.Settlement) ([]queue.ID, error) {
	if s.isDown() {
		return nil, errDown
	}
	return s.Store.Settle(ctx, t, set)
}

func TestRunStoreAway(t *testing.T) {
	var store *flakyStore
	inWorld(t, func(_ context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		store.mu.Lock()
		store.down = true
		store.mu.Unlock()
		return a.All(queue.Outcome{Result: queue.Delivered})
	}, func(r *queue.Runner) {
		store = &flakyStore{Store: r.Store}
		r.Store = store
	}, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@b.test")
		w.pass(time.Minute)
		assert.Equal(t, 1, w.queued())
		store.mu.Lock()
		store.down = false
		store.mu.Unlock()
		w.pass(10 * time.Second)
		assert.Zero(t, w.queued(), "the outcome is stored as soon as the store is back")
		assert.Len(t, w.taken(&w.attempts), 1, "and nothing is delivered twice")
	})
}

func TestRunEndsWithTheStore(t *testing.T) {
	store := memstore.New()
	r := queue.Runner{Store: store, Transport: queue.TransportFunc(nil), Report: queue.NoReports}
	done := make(chan error)
	go func() { done <- r.Run(t.Context()) }()
	require.NoError(t, store.Close())
	assert.ErrorIs(t, <-done, queue.ErrClosed)
}

func TestRunNeedsItsFields(t *testing.T) {
	transport := queue.TransportFunc(nil)
	for _, r := range []*queue.Runner{
		{Transport: transport, Report: queue.NoReports},
		{Store: memstore.New(), Report: queue.NoReports},
		{Store: memstore.New(), Transport: transport},
	} {
		assert.Error(t, r.Run(t.Context()))
	}
}

func TestRouted(t *testing.T) {
	store := memstore.New()
	defer store.Close()
	s := queue.Routed(store, func(r *queue.Recipient) string {
		if strings.HasSuffix(r.Address, "@here.test") {
			return "local"
		}
		return ""
	})
	m := queue.Message{Envelope: queue.Envelope{Recipients: []queue.Recipient{
		{Address: "a@here.test"}, {Address: "b@There.test"}, {Address: "c@here.test", Route: "special"},
	}}, Body: strings.NewReader("")}
	_, err := s.Enqueue(t.Context(), m)
	require.NoError(t, err)
	assert.Empty(t, m.Recipients[0].Route, "the caller's slice stays its own")
	leases, err := s.Lease(t.Context(), queue.Want{Max: 9, For: time.Hour})
	require.NoError(t, err)
	var routes []string
	for _, l := range leases {
		routes = append(routes, l.Token.Route)
	}
	slices.Sort(routes)
	assert.Equal(t, []string{"local", "special", "there.test"}, routes)
}
