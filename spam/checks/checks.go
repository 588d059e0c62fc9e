// Package checks makes spam checks of DNS lists: DNSBL asks about the peer's address, URIBL about the domains that a
// message links to. Only what a list's table of codes names counts; lists that misbehave are paused by their
// dnsbl.Watch, and never count.
package checks

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/mailblocks/mailblocks/dnsauth/dnsbl"
	"github.com/mailblocks/mailblocks/spam"
)

// Options say what listings are worth. The zero Options work.
type Options struct {
	// Name is the check's name. Empty means "dnsbl" or "uribl".
	Name string

	// Score returns the log-odds of a listing. Nil means 2 for one that the list's table of codes names, and
	// 0 for others.
	Score func(r dnsbl.Result) float64

	// Max caps the sum. Zero means 6.
	Max float64

	// MaxDomains bounds the domains of a message that are asked about. Zero means 20.
	MaxDomains int
}

func (o Options) withDefaults(name string) Options {
	if o.Name == "" {
		o.Name = name
	}
	if o.Score == nil {
		o.Score = func(r dnsbl.Result) float64 {
			if r.Meaning == "" {
				return 0
			}
			return 2
		}
	}
	if o.Max <= 0 {
		o.Max = 6
	}
	if o.MaxDomains <= 0 {
		o.MaxDomains = 20
	}
	return o
}

// DNSBL returns a check of the peer's address, at [spam.Connect].
func DNSBL(w *dnsbl.Watch, o Options) spam.Check {
	return &addresses{w, o.withDefaults("dnsbl")}
}

// URIBL returns a check of the registered domains of a message's links, at [spam.Data].
func URIBL(w *dnsbl.Watch, o Options) spam.Check {
	return &links{w, o.withDefaults("uribl")}
}

type addresses struct {
	w *dnsbl.Watch
	o Options
}

func (c *addresses) Name() string { return c.o.Name }

func (c *addresses) Stage() spam.Stage { return spam.Connect }

func (c *addresses) Check(ctx context.Context, e *spam.Envelope, _ *spam.Message) (spam.Verdict, error) {
	var t tally
	if e.Identity == "" && public(e.Remote) {
		t.add(c.o, "", c.w.Addr(ctx, e.Remote))
	}
	return t.verdict(c.o)
}

func public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate()
}

type links struct {
	w *dnsbl.Watch
	o Options
}

func (c *links) Name() string { return c.o.Name }

func (c *links) Stage() spam.Stage { return spam.Data }

func (c *links) Check(ctx context.Context, _ *spam.Envelope, m *spam.Message) (spam.Verdict, error) {
	var t tally
	if m == nil {
		return t.verdict(c.o)
	}
	domains := Domains(m)
	domains = domains[:min(len(domains), c.o.MaxDomains)]
	results := make([]chan []dnsbl.Result, len(domains))
	for i, domain := range domains {
		results[i] = make(chan []dnsbl.Result, 1)
		go func() { results[i] <- c.w.Domain(ctx, domain) }() // ends with its look-ups, at the latest with ctx
	}
	for i, domain := range domains {
		t.add(c.o, domain, <-results[i])
	}
	return t.verdict(c.o)
}

// Domains returns the registered domains of a message's links in order, each once.
func Domains(m *spam.Message) []string {
	var all []string
	seen := map[string]bool{}
	for _, l := range m.Links {
		u, err := url.Parse(strings.TrimSpace(l.URL))
		if err != nil {
			continue
		}
		host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
		org, err := publicsuffix.EffectiveTLDPlusOne(host)
		if err != nil || seen[org] {
			continue
		}
		if _, err := netip.ParseAddr(host); err == nil {
			continue
		}
		seen[org] = true
		all = append(all, org)
	}
	return all
}

// tally adds up what lists said.
type tally struct {
	score    float64
	reasons  []spam.Reason
	answered bool
	failed   []string
}

func (t *tally) add(o Options, domain string, results []dnsbl.Result) {
	for _, r := range results {
		switch r.Status {
		case dnsbl.Failed:
			t.failed = append(t.failed, r.Zone)
			continue
		case dnsbl.Clean:
			t.answered = true
			continue
		}
		t.answered = true
		score := min(o.Score(r), o.Max-t.score)
		if score == 0 {
			continue
		}
		text := r.Zone
		if r.Meaning != "" {
			text += " " + r.Meaning
		}
		if domain != "" {
			text = domain + " in " + text
		}
		t.score += score
		t.reasons = append(t.reasons, spam.Reason{Name: o.Name, Text: text, Score: score})
	}
}

// errFailed says that no list answered.
var errFailed = errors.New("no list answered")

// verdict is unsure: a listing is a part of the evidence. It fails only if there was nobody to ask that answered.
func (t *tally) verdict(o Options) (spam.Verdict, error) {
	if len(t.failed) > 0 && !t.answered {
		return spam.Verdict{}, fmt.Errorf("%s: %w: %s", o.Name, errFailed, strings.Join(t.failed, ", "))
	}
	return spam.Verdict{Score: t.score, Probability: 1 / (1 + math.Exp(-t.score)), Reasons: t.reasons, Unsure: t.score == 0}, nil
}
