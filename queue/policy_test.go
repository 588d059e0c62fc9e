package queue_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/mailblocks/mailblocks/queue"
)

// ages are the times of attempts at recipients whose addresses begin with prefix.
func (w *world) ages(prefix string) []string {
	var ages []string
	for _, a := range w.taken(&w.attempts) {
		if age, to, _ := strings.Cut(a, " "); strings.HasPrefix(to, prefix) {
			ages = append(ages, age)
		}
	}
	return ages
}

func TestRunRateOfRoute(t *testing.T) {
	inWorld(t, always(queue.Outcome{Result: queue.Delivered}), func(r *queue.Runner) {
		r.FirstPerRoute = 5
		r.Limits = func(route string) queue.Limits {
			if route == "slow.test" {
				return queue.Limits{Rate: queue.Rate{Count: 6, Per: time.Minute, Burst: 2}}
			}
			return queue.Limits{}
		}
	}, func(w *world) {
		for i := range 6 {
			w.enqueue(queue.Envelope{}, fmt.Sprintf("s%d@slow.test", i))
			w.enqueue(queue.Envelope{}, fmt.Sprintf("f%d@fast.test", i))
		}
		w.pass(time.Hour)
		assert.Equal(t, []string{"0s", "0s", "10s", "20s", "30s", "40s"}, w.ages("s"))
		assert.Equal(t, []string{"0s", "0s", "0s", "0s", "0s", "0s"}, w.ages("f"))
		w.enqueue(queue.Envelope{}, "s6@slow.test", "s7@slow.test")
		w.pass(time.Hour)
		assert.Len(t, w.ages("s"), 7, "the recipients of one message are one attempt")
	})
}

func TestRunRateOfAll(t *testing.T) {
	inWorld(t, always(queue.Outcome{Result: queue.Delivered}), func(r *queue.Runner) {
		r.Rate = queue.Rate{Count: 60, Per: time.Minute, Burst: 3}
	}, func(w *world) {
		for i := range 10 {
			w.enqueue(queue.Envelope{}, fmt.Sprintf("a@d%d.test", i))
		}
		w.pass(time.Hour)
		assert.Equal(t, []string{"0s", "0s", "0s", "1s", "2s", "3s", "4s", "5s", "6s", "7s"}, w.ages(""))
	})
}

// TestRunRateSurvivesRest: a slow rate is not forgotten while its route rests.
func TestRunRateSurvivesRest(t *testing.T) {
	inWorld(t, always(queue.Outcome{Result: queue.Delivered}), func(r *queue.Runner) {
		r.RouteRate = queue.Rate{Count: 1, Per: 24 * time.Hour}
	}, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@d.test")
		w.pass(3 * time.Hour)
		w.enqueue(queue.Envelope{}, "b@d.test")
		w.pass(48 * time.Hour)
		assert.Equal(t, []string{"0s", "24h0m0s"}, w.ages(""))
	})
}

func TestRunLimitsConcurrency(t *testing.T) {
	now, most := 0, map[string]int{}
	inWorld(t, func(_ context.Context, w *world, a *queue.Attempt) []queue.Outcome {
		w.mu.Lock()
		now++
		most[a.Route] = max(most[a.Route], now)
		w.mu.Unlock()
		<-time.After(time.Second)
		w.mu.Lock()
		now--
		w.mu.Unlock()
		return a.All(queue.Outcome{Result: queue.Delivered})
	}, func(r *queue.Runner) {
		r.FirstPerRoute = 10
		r.Limits = func(string) queue.Limits { return queue.Limits{Concurrency: 2} }
	}, func(w *world) {
		for range 20 {
			w.enqueue(queue.Envelope{}, "a@narrow.test")
		}
		w.pass(time.Minute)
		assert.Equal(t, map[string]int{"narrow.test": 2}, most)
		assert.Zero(t, w.queued())
	})
}

// TestRunRetryBy: a destination, and a kind of trouble, have their own intervals and ends.
func TestRunRetryBy(t *testing.T) {
	full := queue.Outcome{Result: queue.Temporary, Code: 452, Enhanced: "4.2.2", Text: "mailbox full"}
	inWorld(t, func(_ context.Context, _ *world, a *queue.Attempt) []queue.Outcome {
		if a.Route == "full.test" {
			return a.All(full)
		}
		return a.All(queue.Outcome{Result: queue.Temporary, Code: 451, Text: "later"})
	}, func(r *queue.Runner) {
		r.Retry = queue.RetryBy(func(route string, last queue.Outcome) queue.RetryPolicy {
			switch {
			case route == "short.test":
				return queue.Backoff{Jitter: -1, Life: time.Hour, WarnAfter: -1, Intervals: []time.Duration{20 * time.Minute}}
			case last.Class() == queue.ClassMailboxFull:
				return queue.Backoff{Jitter: -1, Intervals: []time.Duration{12 * time.Hour}, WarnAfter: 12 * time.Hour}
			}
			return nil
		})
	}, func(w *world) {
		w.enqueue(queue.Envelope{}, "s@short.test")
		w.enqueue(queue.Envelope{}, "f@full.test")
		w.pass(30 * time.Hour)
		assert.Equal(t, []string{"0s", "20m0s", "40m0s", "1h0m0s"}, w.ages("s@"))
		assert.Equal(t, []string{"0s", "12h0m0s", "24h0m0s"}, w.ages("f@"))
		assert.Equal(t, []string{"failure at 1h0m0s for s@short.test: later", "delay at 12h0m0s for f@full.test: mailbox full"}, w.taken(&w.reports))
	})
}

// TestRunDeliverBy: RFC 2852. In mode R the message is given back at its time; in mode N the sender is told then, and
// delivery goes on.
func TestRunDeliverBy(t *testing.T) {
	busy := queue.Outcome{Result: queue.Temporary, Text: "busy"}
	down := queue.Outcome{Result: queue.RouteDown, Text: "no route"}
	for _, c := range []struct {
		name     string
		by       queue.DeliverBy
		in       time.Duration
		outcome  queue.Outcome
		attempts string // the first ones
		reports  []string
	}{
		{
			"R", queue.DeliverBy{Return: true}, 7 * time.Minute, busy, "0s 5m0s",
			[]string{"failure at 7m0s for a@b.test: delivery time expired"},
		},
		{
			"R, route down", queue.DeliverBy{Return: true}, 7 * time.Minute, down, "0s 5m0s",
			[]string{"failure at 7m0s for a@b.test: delivery time expired"},
		},
		{
			"N", queue.DeliverBy{}, 7 * time.Minute, busy, "0s 5m0s 7m0s",
			[]string{"delay at 7m0s for a@b.test: busy", "failure at 120h0m0s for a@b.test: busy"},
		},
		{
			"N, later than the policy warns", queue.DeliverBy{}, 10 * time.Hour, busy, "0s 5m0s 15m0s",
			[]string{"delay at 10h0m0s for a@b.test: busy", "failure at 120h0m0s for a@b.test: busy"},
		},
		{
			"N, route down", queue.DeliverBy{}, 7 * time.Minute, down, "0s",
			[]string{"delay at 7m0s for a@b.test: no route", "failure at 120h0m0s for a@b.test: no route"},
		},
		{
			"N, over already", queue.DeliverBy{}, -time.Minute, busy, "0s 5m0s",
			[]string{"delay at 0s for a@b.test: busy", "failure at 120h0m0s for a@b.test: busy"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, always(c.outcome), nil, func(w *world) {
				c.by.Time = w.start.Add(c.in)
				w.enqueue(queue.Envelope{DeliverBy: c.by}, "a@b.test")
				w.pass(6 * 24 * time.Hour)
				assert.Equal(t, c.reports, w.taken(&w.reports))
				ages := w.ages("")
				want := strings.Fields(c.attempts)
				assert.Equal(t, want, ages[:min(len(want), len(ages))])
				if c.by.Return {
					assert.Len(t, ages, len(want), "nothing is tried once the time is over")
				}
				assert.Zero(t, w.queued())
			})
		})
	}
}

// TestRunTold: passing a message on to a host that does not keep its deadline is reported, wanted or not.
func TestRunTold(t *testing.T) {
	inWorld(t, always(queue.Outcome{Result: queue.Delivered, Handover: queue.HandoverTold, Text: "ok"}), nil, func(w *world) {
		w.enqueue(queue.Envelope{}, "a@b.test")
		e := queue.Envelope{Recipients: []queue.Recipient{{Address: "never@b.test", Notify: queue.NotifyNever}}}
		w.enqueue(e)
		w.pass(time.Minute)
		assert.Equal(t, []string{"success at 0s for a@b.test: ok"}, w.taken(&w.reports))
	})
}

// TestRunPriority: MT-PRIORITY orders what waits for one route, and a hold ends in its place.
func TestRunPriority(t *testing.T) {
	inWorld(t, func(_ context.Context, _ *world, a *queue.Attempt) []queue.Outcome {
		<-time.After(time.Second)
		return a.All(queue.Outcome{Result: queue.Delivered})
	}, func(r *queue.Runner) { r.PerRoute = 1 }, func(w *world) {
		w.enqueue(queue.Envelope{}, "first@b.test")
		w.pass(time.Millisecond)
		w.enqueue(queue.Envelope{Priority: -3}, "low@b.test")
		w.enqueue(queue.Envelope{}, "normal@b.test")
		w.enqueue(queue.Envelope{Priority: 6}, "high@b.test")
		w.enqueue(queue.Envelope{Priority: 9, HoldUntil: w.start.Add(2500 * time.Millisecond)}, "held@b.test")
		w.pass(time.Minute)
		assert.Equal(t, []string{"0s first@b.test", "1s high@b.test", "2s normal@b.test", "3s held@b.test", "4s low@b.test"}, w.taken(&w.attempts))
	})
}

// TestRunSenders: one sender's thousand messages do not delay another's one.
func TestRunSenders(t *testing.T) {
	inWorld(t, func(_ context.Context, _ *world, a *queue.Attempt) []queue.Outcome {
		<-time.After(time.Second)
		return a.All(queue.Outcome{Result: queue.Delivered})
	}, func(r *queue.Runner) { r.PerRoute = 1 }, func(w *world) {
		for range 1000 {
			w.enqueue(queue.Envelope{ReversePath: "news@bulk.test"}, "n@b.test")
		}
		w.pass(10 * time.Second)
		w.enqueue(queue.Envelope{ReversePath: "person@small.test"}, "one@b.test")
		w.pass(5 * time.Second)
		assert.Len(t, w.ages("one@"), 1)
	})
}

func TestOutcomeClass(t *testing.T) {
	for _, c := range []struct {
		o    queue.Outcome
		want queue.Class
	}{
		{queue.Outcome{}, queue.ClassOther},
		{queue.Outcome{Code: 450, Enhanced: "4.2.0", Text: "Greylisted, see http://example.org"}, queue.ClassGreylisted},
		{queue.Outcome{Code: 451, Enhanced: "4.7.1", Text: "Graylisting in action"}, queue.ClassGreylisted},
		{queue.Outcome{Result: queue.Permanent, Code: 550, Text: "not greylisted, refused"}, queue.ClassOther},
		{queue.Outcome{Code: 452, Enhanced: "4.2.2"}, queue.ClassMailboxFull},
		{queue.Outcome{Result: queue.Permanent, Code: 552, Enhanced: "5.2.2"}, queue.ClassMailboxFull},
		{queue.Outcome{Code: 452, Enhanced: "4.5.3"}, queue.ClassOther},
		{queue.Outcome{Code: 421, Enhanced: "4.7.28"}, queue.ClassThrottled},
		{queue.Outcome{Code: 421}, queue.ClassThrottled},
		{queue.Outcome{Result: queue.RouteDown, Code: 421}, queue.ClassUnreachable},
		{queue.Outcome{Result: queue.RouteDown, Enhanced: "4.4.1"}, queue.ClassUnreachable},
		{queue.Outcome{Result: queue.RouteDown, Enhanced: "4.4.3"}, queue.ClassUnresolved},
		{queue.Outcome{Result: queue.Permanent, Code: 550, Enhanced: "5.7.26"}, queue.ClassAuth},
	} {
		assert.Equal(t, c.want, c.o.Class(), "%+v", c.o)
	}
}
