package queue

import (
	"strings"
	"time"
)

// Limits are what one route is allowed. A field that is zero leaves it to the Runner's of the same meaning.
type Limits struct {
	Concurrency int           // Runner.PerRoute
	First       int           // Runner.FirstPerRoute
	BreakFor    time.Duration // Runner.BreakFor
	BreakMax    time.Duration // Runner.BreakMax
	Rate        Rate          // Runner.RouteRate
}

// RetryBy is a RetryPolicy that leaves each recipient to the policy chosen for its route and for its latest outcome, so
// that some destinations, or some kinds of trouble, are treated in their own way:
//
//	queue.RetryBy(func(route string, last queue.Outcome) queue.RetryPolicy {
//		switch {
//		case route == "backup.example.org":
//			return queue.Backoff{Life: 24 * time.Hour}
//		case last.Class() == queue.ClassMailboxFull:
//			return queue.Backoff{Intervals: []time.Duration{4 * time.Hour}}
//		}
//		return queue.Backoff{}
//	})
//
// It must be a pure function. A nil policy means Backoff{}.
type RetryBy func(route string, last Outcome) RetryPolicy

var _ RetryPolicy = RetryBy(nil)

func (f RetryBy) of(route string, last Outcome) RetryPolicy {
	if p := f(route, last); p != nil {
		return p
	}
	return Backoff{}
}

// Next implements RetryPolicy.
func (f RetryBy) Next(r *Recipient, o Outcome, age time.Duration) (time.Duration, bool) {
	return f.of(r.Route, o).Next(r, o, age)
}

// Warn implements RetryPolicy.
func (f RetryBy) Warn(r *Recipient, age time.Duration) bool {
	return f.of(r.Route, r.Last).Warn(r, age)
}

// Attention implements RetryPolicy.
func (f RetryBy) Attention(r *Recipient, age time.Duration) time.Duration {
	return f.of(r.Route, r.Last).Attention(r, age)
}

// Class is the kind of trouble that an outcome tells of, as far as codes tell it.
type Class uint8

// The classes of Outcome.Class.
const (
	ClassOther       Class = iota // nothing that is known to want its own treatment
	ClassUnreachable              // RouteDown: no connection, no TLS, no session
	ClassUnresolved               // X.4.3, X.4.4: the DNS does not say where to go
	ClassGreylisted               // come again in some minutes
	ClassMailboxFull              // X.2.2
	ClassThrottled                // too much at a time: X.4.5, X.7.28, 421 while it is no loss of the route
	ClassAuth                     // X.7.20 to X.7.27, X.7.29: SPF, DKIM, DMARC, ARC, reverse DNS (RFC 7372)
)

// Class tells what kind of trouble o is. It goes by the enhanced status code (RFC 3463, RFC 7372) and, for
// greylisting, which has no code that all use, by the reply's words.
func (o *Outcome) Class() Class {
	_, detail, _ := strings.Cut(o.Enhanced, ".")
	switch detail {
	case "4.3", "4.4":
		return ClassUnresolved
	case "2.2":
		return ClassMailboxFull
	case "4.5", "7.28":
		return ClassThrottled
	case "7.20", "7.21", "7.22", "7.23", "7.24", "7.25", "7.26", "7.27", "7.29":
		return ClassAuth
	}
	text := strings.ToLower(o.Text)
	switch {
	case o.Result == RouteDown:
		return ClassUnreachable
	case o.Result != Temporary:
	case strings.Contains(text, "greylist"), strings.Contains(text, "graylist"), strings.Contains(text, "grey list"):
		return ClassGreylisted
	case o.Code == 421:
		return ClassThrottled
	}
	return ClassOther
}
