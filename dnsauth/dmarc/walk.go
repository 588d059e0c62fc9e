package dmarc

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// walkNames returns the names of the DNS tree walk for domain: itself, its
// parent, or for a name of more than eight labels the last seven, and so on up
// to the top level (RFC 9989, 4.10).
func walkNames(domain string) []string {
	names := []string{domain}
	rest := domain
	labels := strings.Count(domain, ".") + 1
	for labels > 1 {
		_, rest, _ = strings.Cut(rest, ".")
		if labels--; labels <= 7 {
			names = append(names, rest)
		}
	}
	return names
}

// records looks up the policy records of names, each once, all at once.
type records struct {
	ctx      context.Context // of the evaluation
	resolver resolver.Resolver

	mu     sync.Mutex
	byName map[string]*resolver.Pending
}

// start begins the look-up for name unless it has begun.
func (r *records) start(name string) *resolver.Pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.byName[name]
	if p == nil {
		if r.byName == nil {
			r.byName = make(map[string]*resolver.Pending)
		}
		p = resolver.Ask(r.ctx, r.resolver, resolver.EscapeName("_dmarc."+name), dns.TypeTXT)
		r.byName[name] = p
	}
	return p
}

// get waits for the record at _dmarc.name, nil without a valid one. Several are as good as
// none (RFC 9989, 4.10, step 2).
func (r *records) get(name string) (rec *Record, err error) {
	a, err := r.start(name).Answer(r.ctx)
	if errors.Is(err, resolver.ErrName) {
		return nil, nil // too long to exist
	}
	if err != nil {
		return nil, err
	}
	for _, text := range resolver.Texts(a) {
		if p, err := Parse(text); err == nil {
			if rec != nil {
				return nil, nil
			}
			rec = p
		}
	}
	return rec, nil
}

// walk finds the organizational domain of domain (RFC 9989, 4.10.2), and the
// public suffix domain above it if a record says psd=y.
func (r *records) walk(domain string) (org, suffix string, err error) {
	names := walkNames(domain)
	for _, n := range names {
		r.start(n)
	}
	for i, n := range names {
		rec, err := r.get(n)
		if err != nil {
			return "", "", err
		}
		if rec == nil {
			continue
		}
		switch {
		case rec.PSD == PSDNo:
			return n, "", nil
		case rec.PSD == PSDYes && i > 0:
			return oneLabelBelow(n, domain), n, nil
		case rec.PSD == PSDYes:
			return n, "", nil // the walk stops where it began
		}
		org = n
	}
	if org == "" {
		org = domain
	}
	return org, "", nil
}

// oneLabelBelow returns the ancestor of domain, or domain, that is a child of parent.
func oneLabelBelow(parent, domain string) string {
	below := strings.TrimSuffix(domain, "."+parent)
	return below[strings.LastIndexByte(below, '.')+1:] + "." + parent
}
