package queue

import (
	"context"
	"io"
	"time"
)

// A Transport delivers. Deliver is called concurrently, at most once at a time for one
// message and route, and must return soon after ctx ends. It returns one Outcome for each of
// a.Recipients, in that order; a missing one counts as Temporary.
//
// Deliver may be called again for recipients it delivered before: when the process died, or
// the store failed, between its return and the commit of what it returned.
type Transport interface {
	Deliver(ctx context.Context, a *Attempt) []Outcome
}

// TransportFunc is a function that is a Transport.
type TransportFunc func(ctx context.Context, a *Attempt) []Outcome

// Deliver calls f.
func (f TransportFunc) Deliver(ctx context.Context, a *Attempt) []Outcome { return f(ctx, a) }

// An Attempt is one try to bring a message to those of its recipients that share a route.
// The Transport may not change it.
type Attempt struct {
	ID       ID
	Route    string
	Envelope *Envelope // all of it; Recipients of other routes included
	Size     int64     // octets of the body

	// Recipients are those to deliver to now: due, and of this route.
	Recipients []Recipient

	// Open opens the body; the caller closes it. It may be called more than once.
	Open func() (io.ReadSeekCloser, error)
}

// All returns the same outcome for every recipient of a.
func (a *Attempt) All(o Outcome) []Outcome {
	all := make([]Outcome, len(a.Recipients))
	for i := range all {
		all[i] = o
	}
	return all
}

// An Outcome is what an attempt came to for one recipient.
type Outcome struct {
	Result Result

	// Code and Enhanced are the SMTP reply code and the enhanced status code (RFC 3463, as
	// "4.2.1"), as given by the peer or else chosen by the transport; 0 and "" when there
	// are none. Text is the reply's text, or what went wrong in our own words; it is shown to
	// the sender in reports.
	Code     int
	Enhanced string
	Text     string

	// RemoteMTA is the host that gave the reply, "" when none did: then Text is ours.
	RemoteMTA string

	// After is a hint for Temporary, RouteDown and Deferred: try no earlier than this.
	After time.Duration

	// Handover says, for Delivered, who answers to the sender from now on.
	Handover Handover
}

// Result classes an outcome.
type Result uint8

const (
	// Temporary is a failure of this recipient or message that may pass (4yz). It is the zero
	// value: an outcome nobody set loses nothing.
	Temporary Result = iota
	// Delivered: the next hop or the mailbox is responsible now.
	Delivered
	// Permanent is a failure that no retry will mend (5yz).
	Permanent
	// RouteDown: the destination can not be talked to at all (no connection, no TLS where it
	// is required, 421). It opens the route's breaker and is no attempt of the message.
	RouteDown
	// Deferred: nothing was tried, for a reason of our own (a rate limit, shutdown). It costs
	// the message nothing.
	Deferred
)

// String returns the name, as logs and lists show it.
func (r Result) String() string {
	switch r {
	case Temporary:
		return "temporary"
	case Delivered:
		return "delivered"
	case Permanent:
		return "permanent"
	case RouteDown:
		return "route down"
	case Deferred:
		return "deferred"
	}
	return "unknown"
}

// Handover says what a successful delivery means for success reports (RFC 3461, 5.2).
type Handover uint8

const (
	// HandoverFinal: the message is in the recipient's mailbox. A success report, when asked
	// for, says "delivered" (RFC 3461, 5.2.3).
	HandoverFinal Handover = iota
	// HandoverRelayed: passed to a host that does not know DSN: "relayed" (RFC 3461, 5.2.2).
	HandoverRelayed
	// HandoverDSN: passed with its DSN parameters to a host that honours them; that host
	// reports and we don't (RFC 3461, 5.2.1).
	HandoverDSN
	// HandoverTold: relayed, and the sender is told so whatever NOTIFY says, unless that is NEVER: a message with a
	// deadline went to a host that does not keep it, or its way is traced (RFC 2852, 4).
	HandoverTold
)

// Relayed reports whether the message went to a host that will not report on it.
func (h Handover) Relayed() bool { return h == HandoverRelayed || h == HandoverTold }
