// Package ratelimit is a check that limits how often something happens: messages of an address, of an account, to
// a recipient. It counts by the generic cell rate algorithm (GCRA), which keeps one moment for a key, and forgets a key
// as soon as its limit is whole again.
package ratelimit

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/mailblocks/mailblocks/spam"
)

// A Limit allows Events in each Per, and so many at once.
type Limit struct {
	Events int
	Per    time.Duration
}

// Options say what is counted and limited.
type Options struct {
	// Name is the check's name. Empty means "ratelimit".
	Name string

	// Stage is when the check runs. Zero is [spam.Connect].
	Stage spam.Stage

	// Key names who is counted; "" is not. Nil means the identity if there is one,
	// else the network of the address (see [Network]).
	Key func(e *spam.Envelope) string

	// Limit returns the limit of a key. A limit without events lets nothing through. Required.
	Limit func(key string) Limit

	// Action is what a verdict over the limit asks for. Zero means [spam.Defer].
	Action spam.Action

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// New returns the check. What it counts is in kv, which several servers may share.
func New(kv spam.KV, o Options) spam.Check {
	if o.Name == "" {
		o.Name = "ratelimit"
	}
	if o.Key == nil {
		o.Key = func(e *spam.Envelope) string {
			if e.Identity != "" {
				return "i:" + e.Identity
			}
			return "a:" + Network(e.Remote)
		}
	}
	if o.Action == spam.Accept {
		o.Action = spam.Defer
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &check{kv, o}
}

// Network returns what an address is counted by: itself, and for IPv6 its /64. It is "" for none.
func Network(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
	p, _ := a.Prefix(64)
	return p.String()
}

type check struct {
	kv spam.KV
	o  Options
}

func (c *check) Name() string { return c.o.Name }

func (c *check) Stage() spam.Stage { return c.o.Stage }

func (c *check) Check(ctx context.Context, e *spam.Envelope, _ *spam.Message) (spam.Verdict, error) {
	unsure := spam.Verdict{Unsure: true, Probability: 0.5}
	key := c.o.Key(e)
	if key == "" {
		return unsure, nil
	}
	limit := c.o.Limit(key)
	wait, err := c.take(ctx, key, limit)
	if err != nil || wait <= 0 {
		return unsure, err
	}
	unsure.Action = c.o.Action
	unsure.Reasons = []spam.Reason{{Name: c.o.Name, Text: fmt.Sprintf("over %d in %v", limit.Events, limit.Per)}}
	unsure.Reply = "rate limit, try again later"
	return unsure, nil
}

// take counts an event of key, unless the limit is used up: then it returns how long to wait.
func (c *check) take(ctx context.Context, key string, l Limit) (wait time.Duration, err error) {
	if l.Events <= 0 || l.Per <= 0 {
		return l.Per + 1, nil
	}
	step := max(l.Per/time.Duration(l.Events), 1)
	now := c.o.Now()
	err = c.kv.Update(ctx, c.o.Name+"\x00"+key, l.Per, func(old []byte) []byte {
		// When all events so far would be paid for, at the rate.
		paid := now
		if len(old) == 8 {
			if at := time.Unix(0, int64(binary.BigEndian.Uint64(old))); at.After(now) {
				paid = at
			}
		}
		next := paid.Add(step)
		if wait = next.Sub(now) - l.Per; wait > 0 {
			return append([]byte(nil), old...)
		}
		return binary.BigEndian.AppendUint64(nil, uint64(next.UnixNano()))
	})
	return wait, err
}
