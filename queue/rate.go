package queue

import "time"

// Rate limits how often something begins: Count times in each Per, and up to Burst at once after a
// rest. The zero Rate is no limit. Count < 1 with a Per means once. Burst < 1 means 1.
//
// It is kept as a virtual schedule (GCRA): a token bucket without a clock of its own, so a limited route costs one time
// of memory and no timer while it rests.
type Rate struct {
	Count int
	Per   time.Duration
	Burst int
}

// limiter applies a Rate. Every method takes the time, which never runs backwards.
type limiter struct {
	every time.Duration // between two; 0 is no limit
	slack time.Duration // how far the schedule may be ahead of the clock
	next  time.Time     // when the schedule has its next
}

func newLimiter(r Rate) limiter {
	if r.Per <= 0 {
		return limiter{}
	}
	every := max(r.Per/time.Duration(max(r.Count, 1)), 1)
	return limiter{every: every, slack: every * time.Duration(max(r.Burst, 1)-1)}
}

// room is how many may begin now, at most limit.
func (l *limiter) room(now time.Time, limit int) int {
	if l.every == 0 {
		return limit
	}
	ahead := max(l.next.Sub(now), 0)
	if ahead > l.slack {
		return 0
	}
	return int(min((l.slack-ahead)/l.every+1, time.Duration(limit)))
}

// take notes that one begins. It may be called without room; then others wait longer.
func (l *limiter) take(now time.Time) {
	if l.every == 0 {
		return
	}
	if l.next.Before(now) {
		l.next = now
	}
	l.next = l.next.Add(l.every)
}

// ready is when there is room again; now or earlier when there is.
func (l *limiter) ready() time.Time { return l.next.Add(-l.slack) }

// rested reports whether the limiter is as good as new.
func (l *limiter) rested(now time.Time) bool { return !l.next.After(now) }
