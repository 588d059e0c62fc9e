// Package greylist is a check that asks doubtful strangers to come again: software that sends spam seldom does.
// Who came again after a while is known from then on. Peers are known by organisation (the domain that their confirmed name is
// registered under) or else by network, not by sender, recipient or text: large senders try again from another address, and
// each new text would be delayed anew.
package greylist

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/mailblocks/mailblocks/spam"
)

// Options say who waits, and how long. The zero Options work.
type Options struct {
	// Stage is when the check runs. Zero, which is [spam.Connect], means [spam.Rcpt].
	Stage spam.Stage

	// Doubtful says whether a peer is worth the delay. Nil means [Doubtful]. M is nil before
	// [spam.Data].
	Doubtful func(e *spam.Envelope, m *spam.Message) bool

	Wait     time.Duration // how soon is too soon to come again; zero: 5 min
	Window   time.Duration // how late is too late; zero: 24 h
	Remember time.Duration // how long one is known since it last came; zero: 36 days

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Doubtful is true of strangers whom no authentication vouches for: neither SPF nor DKIM says
// who they are, or DMARC failed, and those whose address has no confirmed name.
func Doubtful(e *spam.Envelope, _ *spam.Message) bool {
	if e.Identity != "" {
		return false
	}
	return len(e.Authenticated) == 0 || e.DMARC == "fail" || e.RemoteName == ""
}

// Peer returns what a peer is known by: "example.org" for mx1.example.org, or its network,
// a /24 or /64. It is "" when nothing is known.
func Peer(e *spam.Envelope) string {
	if name := strings.ToLower(strings.TrimSuffix(e.RemoteName, ".")); name != "" {
		if org, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
			return org
		}
	}
	a := e.Remote.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil || !a.IsValid() {
		return ""
	}
	return p.String()
}

// New returns the check. Whom it knows is in kv, which several servers may share.
func New(kv spam.KV, o Options) spam.Check {
	if o.Stage == spam.Connect {
		o.Stage = spam.Rcpt
	}
	if o.Doubtful == nil {
		o.Doubtful = Doubtful
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.Wait, 5*time.Minute)
	def(&o.Window, 24*time.Hour)
	def(&o.Remember, 36*24*time.Hour)
	if o.Now == nil {
		o.Now = time.Now
	}
	return &check{kv, o}
}

type check struct {
	kv spam.KV
	o  Options
}

func (c *check) Name() string { return "greylist" }

func (c *check) Stage() spam.Stage { return c.o.Stage }

func (c *check) Check(ctx context.Context, e *spam.Envelope, m *spam.Message) (spam.Verdict, error) {
	v := spam.Verdict{Unsure: true, Probability: 0.5}
	peer := Peer(e)
	if peer == "" || !c.o.Doubtful(e, m) {
		return v, nil
	}
	wait, err := c.meet(ctx, peer)
	if err != nil || wait <= 0 {
		return v, err
	}
	v.Action = spam.Defer
	v.Reasons = []spam.Reason{{Name: "greylist", Text: peer}}
	v.Reply = fmt.Sprintf("greylisted, try again in %d seconds", int((wait+time.Second-1)/time.Second))
	return v, nil
}

// meet remembers that a peer came, and returns how long it has to wait yet.
func (c *check) meet(ctx context.Context, peer string) (wait time.Duration, err error) {
	now := c.o.Now()
	err = c.kv.Update(ctx, "greylist\x00"+peer, c.o.Remember, func(old []byte) []byte {
		var first time.Time // zero: it is known
		if len(old) == 8 {
			if n := int64(binary.BigEndian.Uint64(old)); n != 0 {
				first = time.Unix(0, n)
			}
		} else {
			first = now
		}
		switch {
		case first.IsZero():
			wait = 0
			return make([]byte, 8)
		case now.Sub(first) > c.o.Window:
			first = now // too late: as good as new
		case now.Sub(first) >= c.o.Wait:
			wait = 0
			return make([]byte, 8)
		}
		wait = first.Add(c.o.Wait).Sub(now)
		return binary.BigEndian.AppendUint64(nil, uint64(first.UnixNano()))
	})
	return wait, err
}
