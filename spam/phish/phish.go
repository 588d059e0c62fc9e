// Package phish is a check for letters that pretend to come from somebody else. It learns nothing: it compares what a message shows
// with what it is. A well-known name in the display name of an address of others, a link whose text is the address of
// another site, letters of several alphabets in one word and the like are reasons with scores; a few of them together
// call a message junk.
package phish

import (
	"cmp"
	"context"
	"math"
	"slices"

	"github.com/mailblocks/mailblocks/spam"
)

// Options tune the check. The zero Options work.
type Options struct {
	// JunkAt is the sum of scores from which the check alone calls a message junk. Zero means 4.
	JunkAt float64

	// Brands are further names that are abused, lower-case, and the domains that their owners send mail from. An entry
	// takes the place of a built-in one of that name; one without domains removes it.
	Brands map[string][]string
}

// New returns the check.
func New(o Options) spam.Check {
	if o.JunkAt <= 0 {
		o.JunkAt = 4
	}
	return &check{o}
}

type check struct{ o Options }

func (c *check) Name() string { return "phish" }

func (c *check) Stage() spam.Stage { return spam.Data }

func (c *check) Check(_ context.Context, _ *spam.Envelope, m *spam.Message) (spam.Verdict, error) {
	v := spam.Verdict{Unsure: true, Probability: 0.5}
	if m == nil {
		return v, nil
	}
	v.Reasons = c.find(m)
	for _, r := range v.Reasons {
		v.Score += r.Score
	}
	slices.SortStableFunc(v.Reasons, func(a, b spam.Reason) int { return cmp.Compare(b.Score, a.Score) })
	v.Probability = 1 / (1 + math.Exp(-v.Score))
	if v.Score >= c.o.JunkAt {
		v.Action, v.Unsure = spam.Junk, false
	}
	return v, nil
}

// finder collects reasons, each kind once.
type finder struct {
	c       *check
	m       *spam.Message
	org     string // the author's organisation
	reasons []spam.Reason
}

func (c *check) find(m *spam.Message) []spam.Reason {
	f := &finder{c: c, m: m, org: organisation(m.From.Domain())}
	f.author()
	f.links()
	return f.reasons
}

func (f *finder) add(name, text string, score float64) {
	for i := range f.reasons {
		if f.reasons[i].Name == name {
			return
		}
	}
	f.reasons = append(f.reasons, spam.Reason{Name: name, Text: clean(text), Score: score})
}
