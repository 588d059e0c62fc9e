// Package reputation is a check that remembers what came from whom. Authenticated identities are asked first, and
// addresses only where there is none: an identity is its owner's alone, an address may be shared or new tomorrow.
// A good name never outweighs what is in a message: its part of the score is capped.
package reputation

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/ratelimit"
)

// Options tune it. The zero Options work.
type Options struct {
	// Max caps the score, either way. Zero means 2.5.
	Max float64

	// HalfLife is how long it takes until a message counts half. Zero means 30 days.
	HalfLife time.Duration

	// Stage is when the check runs. Zero, which is [spam.Connect], means [spam.Data], where identities are known.
	Stage spam.Stage

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// New returns a Reputation whose memory is kv.
func New(kv spam.KV, o Options) *Reputation {
	if o.Max <= 0 {
		o.Max = 2.5
	}
	if o.HalfLife <= 0 {
		o.HalfLife = 30 * 24 * time.Hour
	}
	if o.Stage == spam.Connect {
		o.Stage = spam.Data
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Reputation{kv, o}
}

// Reputation is a [spam.Check].
type Reputation struct {
	kv spam.KV
	o  Options
}

var _ spam.Check = (*Reputation)(nil)

// Name returns "reputation".
func (r *Reputation) Name() string { return "reputation" }

// Stage returns the stage of the Options.
func (r *Reputation) Stage() spam.Stage { return r.o.Stage }

// names are what a message's origin is remembered under.
func names(e *spam.Envelope) []string {
	if e.Identity != "" {
		return []string{"i:" + e.Identity}
	}
	var all []string
	for _, d := range e.Authenticated {
		all = append(all, "d:"+d)
	}
	if network := ratelimit.Network(e.Remote); len(all) == 0 && network != "" {
		all = append(all, "a:"+network)
	}
	return all
}

// Check judges by the worst of the names that a message came under: a spammer who signs for himself
// gains nothing by the good name of a service that he uses.
func (r *Reputation) Check(ctx context.Context, e *spam.Envelope, _ *spam.Message) (spam.Verdict, error) {
	v := spam.Verdict{Unsure: true, Probability: 0.5}
	known := false
	for _, name := range names(e) {
		n, err := r.update(ctx, name, func(*counts) {})
		if err != nil {
			return spam.Verdict{}, err
		}
		// Beside so few messages, a name says little.
		score := math.Log((n.spam + 1) / (n.ham + 1))
		score = max(-r.o.Max, min(r.o.Max, score))
		if n.ham+n.spam < 0.5 || known && score <= v.Score {
			continue
		}
		known = true
		v.Score = score
		v.Reasons = []spam.Reason{{Name: "reputation", Text: fmt.Sprintf("%s: %.1f of %.1f were spam", name[2:], n.spam, n.ham+n.spam), Score: score}}
	}
	v.Probability = 1 / (1 + math.Exp(-v.Score))
	return v, nil
}

// Learn remembers what a message from e turned out to be. Neutral and unlabelled messages count for nothing.
func (r *Reputation) Learn(ctx context.Context, e *spam.Envelope, l spam.Label) error {
	return r.add(ctx, e, l, 1)
}

// Unlearn takes a Learn back.
func (r *Reputation) Unlearn(ctx context.Context, e *spam.Envelope, l spam.Label) error {
	return r.add(ctx, e, l, -1)
}

func (r *Reputation) add(ctx context.Context, e *spam.Envelope, l spam.Label, by float64) error {
	if l != spam.Ham && l != spam.Spam {
		return nil
	}
	for _, name := range names(e) {
		_, err := r.update(ctx, name, func(n *counts) {
			if l == spam.Ham {
				n.ham = max(0, n.ham+by)
			} else {
				n.spam = max(0, n.spam+by)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

type counts struct{ ham, spam float64 }

// update changes what is known under a name, aged to now, and returns it. What counts for nearly nothing is forgotten.
func (r *Reputation) update(ctx context.Context, name string, change func(*counts)) (n counts, err error) {
	now := r.o.Now()
	err = r.kv.Update(ctx, "reputation\x00"+name, 10*r.o.HalfLife, func(old []byte) []byte {
		n = counts{}
		if len(old) == 24 {
			age := now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(old))))
			decay := math.Exp2(-max(0, age.Seconds()) / r.o.HalfLife.Seconds())
			n.ham = math.Float64frombits(binary.BigEndian.Uint64(old[8:])) * decay
			n.spam = math.Float64frombits(binary.BigEndian.Uint64(old[16:])) * decay
		}
		change(&n)
		if n.ham+n.spam < 0.01 {
			return nil
		}
		b := binary.BigEndian.AppendUint64(nil, uint64(now.UnixNano()))
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(n.ham))
		return binary.BigEndian.AppendUint64(b, math.Float64bits(n.spam))
	})
	return n, err
}
