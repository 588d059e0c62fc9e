package spam

import (
	"context"
	"net/netip"
	"time"
)

// A Stage is a moment in the life of a message at which checks run.
type Stage uint8

const (
	Connect Stage = iota // a peer connected: Envelope.Remote is known
	Mail                 // MAIL FROM was given
	Rcpt                 // RCPT TO was given: the last of Envelope.Recipients is the new one
	Data                 // the message was read: the only stage with a Message
)

// String returns "connect", "mail", "rcpt" or "data".
func (s Stage) String() string {
	return [...]string{"connect", "mail", "rcpt", "data"}[min(s, Data)]
}

// An Envelope holds facts about a message that are not in it. Any server can fill it; what is
// not known yet, or never, is zero.
type Envelope struct {
	Remote     netip.Addr // the peer's address
	RemoteName string     // its name, confirmed in both directions; without a final dot
	Hello      string     // what it called itself in EHLO
	TLS        bool
	Identity   string   // who logged in; empty for a stranger
	Sender     string   // the reverse path, without angle brackets
	Recipients []string // without angle brackets
	Time       time.Time

	// Authenticated lists the identities that authentication found valid, as lower-case
	// domains: SPF's and DKIM's. A valid identity is a name to remember reputation under,
	// never a reason to trust.
	Authenticated []string
	// DMARC is the result of DMARC: "pass", "fail", "none" or empty.
	DMARC string
}

// A Check looks at a message, or at its envelope before there is one. Checks are safe for
// concurrent use.
type Check interface {
	// Name is constant and unique in a chain.
	Name() string
	// Stage says when the check runs.
	Stage() Stage
	// Check judges. M is nil before Data; neither e nor m may be changed. An error is the
	// check's own trouble; what then happens to the message is the chain's [Policy].
	Check(ctx context.Context, e *Envelope, m *Message) (Verdict, error)
}
