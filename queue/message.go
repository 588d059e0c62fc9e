package queue

import (
	"io"
	"strings"
	"time"
)

// ID names a queued message within its store. It is made of letters and digits, is never
// used again, and sorts roughly in the order of arrival.
type ID string

// A Message is what Enqueue takes: an envelope and a body.
type Message struct {
	Envelope

	// Body is the message itself, header and body, lines ending in CRLF, not dot-stuffed.
	// The store reads it until io.EOF, once, and does not close it.
	Body io.Reader

	// SizeHint is the number of octets in Body when it is known, else 0. It only helps a
	// store to choose where to put the body.
	SizeHint int64
}

// An Envelope is what travels beside a message and not in it: the return path, the
// recipients, and the service extensions asked for.
type Envelope struct {
	// ReversePath is the address reports go to, without angle brackets; "" is the null
	// sender, which never gets a report (RFC 5321, 4.5.5).
	ReversePath string

	// Recipients in the order given. Duplicates are legal and are kept. At least one.
	Recipients []Recipient

	Return ReturnKind // RET (RFC 3461, 4.3)
	EnvID  string     // ENVID, xtext decoded (RFC 3461, 4.4)

	Body       BodyKind // BODY (RFC 6152, RFC 3030)
	UTF8       bool     // SMTPUTF8 was asked for (RFC 6531)
	RequireTLS bool     // REQUIRETLS was asked for (RFC 8689)

	// Priority runs from -9 to 9, 0 being normal (RFC 6710). Among the due work of one route a
	// higher priority goes first.
	Priority int8

	// HoldUntil is the time before which nothing is attempted (RFC 4865); zero means now.
	HoldUntil time.Time

	// Expires ends the message's life earlier than the retry policy would; zero leaves it to
	// the policy.
	Expires time.Time

	// DeliverBy is the sender's own deadline; the zero value is none.
	DeliverBy DeliverBy

	// Arrived is when the message entered this queue. The store sets it when it is zero.
	Arrived time.Time

	// Tag is the embedder's own note (an account, a log id); the queue keeps it and never
	// looks at it.
	Tag string
}

// DeliverBy is the deadline of RFC 2852.
type DeliverBy struct {
	Time time.Time

	// Return gives the message back at Time (by-mode R). Otherwise the sender is told of the delay at Time, in place of
	// when the retry policy would, and delivery goes on (by-mode N).
	Return bool

	// Trace asks for a report from each host that passes the message on (RFC 2852, 4.2).
	Trace bool
}

// expires is the end of the message's life that its sender or its embedder has set; zero when none has.
func (e *Envelope) expires() time.Time {
	if by := &e.DeliverBy; by.Return && !by.Time.IsZero() && (e.Expires.IsZero() || by.Time.Before(e.Expires)) {
		return by.Time
	}
	return e.Expires
}

// warnAt is the time by which the sender wants to hear of a delay; zero leaves it to the policy.
func (e *Envelope) warnAt() time.Time {
	if e.DeliverBy.Return {
		return time.Time{}
	}
	return e.DeliverBy.Time
}

// ReturnKind says how much of a message a failure report returns.
type ReturnKind uint8

// The values of RET (RFC 3461, 4.3). ReturnDefault leaves the choice to the writer of reports.
const (
	ReturnDefault ReturnKind = iota
	ReturnFull
	ReturnHeaders
)

// BodyKind is the kind of content a sender declared.
type BodyKind uint8

// The values of BODY: RFC 6152 and RFC 3030.
const (
	Body7Bit BodyKind = iota
	Body8BitMIME
	BodyBinaryMIME
)

// Notify is the set of events a sender wants reports about (NOTIFY, RFC 3461, 4.1).
// The zero value is "not said", which means failures and, at our choice, delays.
type Notify uint8

// The events of RFC 3461, 4.1. NotifyNever stands alone.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// Success reports whether n asks for reports of successful delivery.
func (n Notify) Success() bool { return n&NotifySuccess != 0 && n&NotifyNever == 0 }

// Failure reports whether n asks for reports of failure, which is so unless it was ruled out.
func (n Notify) Failure() bool { return n == 0 || n&NotifyFailure != 0 && n&NotifyNever == 0 }

// Delay reports whether n allows reports of delay. When nothing was said it does
// (RFC 3461, 4.1 leaves that to the MTA).
func (n Notify) Delay() bool { return n == 0 || n&NotifyDelay != 0 && n&NotifyNever == 0 }

// String gives n as the value of a NOTIFY parameter, "" when nothing was said.
func (n Notify) String() string {
	if n&NotifyNever != 0 {
		return "NEVER"
	}
	var words []string
	for _, w := range []struct {
		bit  Notify
		word string
	}{{NotifySuccess, "SUCCESS"}, {NotifyFailure, "FAILURE"}, {NotifyDelay, "DELAY"}} {
		if n&w.bit != 0 {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ",")
}

// A Recipient is one forward path and what became of it so far.
type Recipient struct {
	Address string // without angle brackets: "user@example.org"
	Notify  Notify
	ORcpt   string // ORCPT as "rfc822;user@example.org", address part xtext decoded (RFC 3461, 4.2)

	// Route is the key by which work is grouped, limited and broken off: all recipients of
	// a message with one Route go in one attempt. When it is empty Enqueue fills in
	// RouteByDomain.
	Route string

	// State, kept by the Runner through Settle; zero when a message is enqueued.
	Status   Status
	Attempts int       // attempts that reached the destination's door
	Due      time.Time // next attempt, while Status is StatusPending
	Warned   bool      // a delay report was sent or is not wanted any more
	Last     Outcome   // of the latest attempt
}

// Status says whether a recipient still waits for delivery.
type Status uint8

// A recipient leaves StatusPending once and for all. A message all of whose recipients have left
// it is removed from the queue.
const (
	StatusPending   Status = iota
	StatusDelivered        // the next hop, or the mailbox, is responsible
	StatusFailed           // refused for good, or given up
)

// String returns the name, as logs and lists show it.
func (s Status) String() string {
	switch s {
	case StatusPending:
		return "pending"
	case StatusDelivered:
		return "delivered"
	case StatusFailed:
		return "failed"
	}
	return "unknown"
}
