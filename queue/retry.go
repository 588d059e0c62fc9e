package queue

import (
	"hash/fnv"
	"strconv"
	"time"
)

// A RetryPolicy decides when to try again and when to give up. Its methods are pure functions of
// their arguments, so that a policy can be tested as a table, and safe for concurrent use.
type RetryPolicy interface {
	// Next is asked after an outcome that was neither Delivered nor Permanent. r carries the
	// number of attempts including the one just made; age counts from the message's arrival
	// (or the end of its hold). It returns how long to wait, or that it is time to give up.
	Next(r *Recipient, o Outcome, age time.Duration) (after time.Duration, giveUp bool)

	// Warn says whether a recipient still pending at this age should be reported as delayed.
	Warn(r *Recipient, age time.Duration) bool

	// Attention is the next age, greater than the one given, at which Next or Warn may answer
	// differently without any attempt being made; 0 when there is none.
	Attention(r *Recipient, age time.Duration) time.Duration
}

// Backoff is the standard RetryPolicy (RFC 5321, 4.5.4.1). The zero value has the defaults.
type Backoff struct {
	// Intervals between attempts; the last one repeats.
	// Nil means 5, 10, 20, 40 minutes, 1, 2, 3 and then every 4 hours: two quick tries for
	// greylisting, then patience. RFC 5321 asks for 30 minutes at least once a host failed,
	// which the route's breaker keeps whatever stands here.
	Intervals []time.Duration

	// Jitter spreads each interval evenly over ± this fraction of itself. 0 means 0.1;
	// negative means none.
	Jitter float64

	// Life is the age at which a message is given up. 0 means 5 days.
	Life time.Duration

	// WarnAfter is the age at which a delay is reported, once. 0 means 4 hours; negative
	// means never.
	WarnAfter time.Duration

	// Deferral is how long a Deferred outcome waits that says no After. 0 means 1 minute.
	Deferral time.Duration
}

var _ RetryPolicy = Backoff{}

var defaultIntervals = []time.Duration{
	5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 4 * time.Hour,
}

// Next implements RetryPolicy. An outcome's After is honoured where it is longer than the
// interval and leaves some life. The last wait is cut so that one attempt falls on the end of life.
func (b Backoff) Next(r *Recipient, o Outcome, age time.Duration) (time.Duration, bool) {
	left := b.life() - age
	if left <= 0 {
		return 0, true
	}
	var wait time.Duration
	switch o.Result {
	case Deferred:
		wait = b.Deferral
		if wait <= 0 {
			wait = time.Minute
		}
		if o.After > 0 {
			wait = o.After
		}
	case RouteDown:
		// The breaker keeps the time of the route; this is the time of a message that meets
		// an open breaker and has no better hint.
		wait = max(b.interval(1), o.After)
	default:
		wait = b.interval(r.Attempts)
		wait = max(b.spread(wait, r, age), o.After)
	}
	return min(wait, left), false
}

// Warn implements RetryPolicy.
func (b Backoff) Warn(r *Recipient, age time.Duration) bool {
	after := b.warnAfter()
	return after > 0 && !r.Warned && age >= after
}

// Attention implements RetryPolicy.
func (b Backoff) Attention(r *Recipient, age time.Duration) time.Duration {
	if after := b.warnAfter(); after > age && !r.Warned {
		return min(after, b.life())
	}
	if life := b.life(); life > age {
		return life
	}
	return 0
}

func (b Backoff) life() time.Duration {
	if b.Life == 0 {
		return 5 * 24 * time.Hour
	}
	return b.Life
}

func (b Backoff) warnAfter() time.Duration {
	if b.WarnAfter == 0 {
		return 4 * time.Hour
	}
	return b.WarnAfter
}

// interval is the wait after the given number of attempts.
func (b Backoff) interval(attempts int) time.Duration {
	steps := b.Intervals
	if len(steps) == 0 {
		steps = defaultIntervals
	}
	return steps[min(max(attempts-1, 0), len(steps)-1)]
}

// spread adds jitter. It is derived from the arguments and not drawn, so that the policy
// stays a function; the age, in nanoseconds, differs enough between messages.
func (b Backoff) spread(wait time.Duration, r *Recipient, age time.Duration) time.Duration {
	share := b.Jitter
	if share == 0 {
		share = 0.1
	}
	if share < 0 {
		return wait
	}
	h := fnv.New64a()
	h.Write([]byte(r.Address))
	h.Write(strconv.AppendInt([]byte{'/'}, int64(age), 10))
	x := h.Sum64()
	x ^= x >> 33 // FNV's high bits mix poorly on short input
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	unit := float64(x>>11) / (1 << 53) // 0 ≤ unit < 1
	return wait + time.Duration((2*unit-1)*share*float64(wait))
}
