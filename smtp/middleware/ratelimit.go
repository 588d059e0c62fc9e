package middleware

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/smtp"
)

// Rate is how much may come in how long, and all of it at once at the most. A zero N means no limit.
type Rate struct {
	N   int
	Per time.Duration
}

// Limits configure RateLimit. Each is counted by identity for those who authenticated, and by
// address (IPv6: by /64) for the others.
type Limits struct {
	Messages   Rate // MAIL
	Recipients Rate // RCPT

	// Connections is counted by address always, and those beyond are sent away (421 4.7.0).
	Connections Rate

	// Entries bounds the memory: so many keys are counted. Zero means 100,000. When
	// they are used up, those are forgotten whose rate has recovered, then all.
	Entries int

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// RateLimit refuses connections, MAIL and RCPT beyond the limits for now (MAIL and RCPT with 450 4.7.1).
func RateLimit(l Limits) smtp.Middleware {
	if l.Entries <= 0 {
		l.Entries = 100_000
	}
	if l.Now == nil {
		l.Now = time.Now
	}
	messages, recipients, connections := newBuckets(l, l.Messages), newBuckets(l, l.Recipients), newBuckets(l, l.Connections)
	return func(next smtp.Handler) smtp.Handler {
		return rateLimit{smtp.Pass{Handler: next}, messages, recipients, connections}
	}
}

type rateLimit struct {
	smtp.Pass
	messages, recipients, connections *buckets
}

func (h rateLimit) Connect(ctx context.Context, s *smtp.Session) error {
	if !h.connections.take(keyOf(&smtp.Session{Remote: s.Remote})) {
		return &smtp.Reply{Code: 421, Enhanced: smtp.EnhancedCode{4, 7, 0}, Text: "too many connections, try again later"}
	}
	return h.Pass.Connect(ctx, s)
}

var tooFast = &smtp.Reply{Code: 450, Enhanced: smtp.EnhancedCode{4, 7, 1}, Text: "too fast, try again later"}

func (h rateLimit) Mail(ctx context.Context, tx *smtp.Transaction) error {
	if !h.messages.take(keyOf(tx.Session)) {
		return tooFast
	}
	return h.Pass.Mail(ctx, tx)
}

func (h rateLimit) Rcpt(ctx context.Context, tx *smtp.Transaction, r *smtp.Recipient) error {
	if !h.recipients.take(keyOf(tx.Session)) {
		return tooFast
	}
	return h.Pass.Rcpt(ctx, tx, r)
}

// key is who is counted: an identity, or else an address.
type key struct {
	identity string
	addr     netip.Addr
}

func keyOf(s *smtp.Session) key {
	if s.Identity != "" {
		return key{identity: s.Identity}
	}
	a := s.Remote.Addr().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	return key{addr: a}
}

// buckets are token buckets, each kept as the time at which it is full again.
type buckets struct {
	each  time.Duration // one token's worth
	burst time.Duration
	max   int
	now   func() time.Time

	mu   sync.Mutex
	full map[key]time.Time
}

func newBuckets(l Limits, r Rate) *buckets {
	if r.N <= 0 || r.Per <= 0 {
		return nil
	}
	return &buckets{each: r.Per / time.Duration(r.N), burst: r.Per, max: l.Entries, now: l.Now, full: make(map[key]time.Time)}
}

func (b *buckets) take(k key) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	full, known := b.full[k]
	if full.Before(now) {
		full = now
	}
	if full = full.Add(b.each); full.Sub(now) > b.burst {
		return false
	}
	if !known && len(b.full) >= b.max {
		for k, t := range b.full {
			if !t.After(now) {
				delete(b.full, k)
			}
		}
		if len(b.full) >= b.max {
			clear(b.full)
		}
	}
	b.full[k] = full
	return true
}
