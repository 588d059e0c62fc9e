package spf

import (
	"context"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// maxAhead bounds the terms that are asked for ahead, whatever MaxLookups is.
const maxAhead = 50

// ahead asks for what the evaluation will want. The evaluation itself goes on as
// ever, one term after the other, and finds answers here; so its outcome can't
// differ.
type ahead struct {
	e    *evaluation // of which only the values and limits are read
	next resolver.Resolver

	mu      sync.Mutex
	left    int // terms that may still be asked for
	answers map[aheadKey]*future
}

type aheadKey struct {
	name  string // lower-case, without the final dot
	qtype uint16
}

// future is an answer under way.
type future struct {
	done   chan struct{}
	answer resolver.Answer
	err    error
}

// newFuture runs ask, which ends with the context it was given.
func newFuture(ask func() (resolver.Answer, error)) *future {
	f := &future{done: make(chan struct{})}
	go func() {
		defer close(f.done)
		f.answer, f.err = ask()
	}()
	return f
}

func (f *future) wait(ctx context.Context) (resolver.Answer, error) {
	select {
	case <-f.done:
		return f.answer, f.err
	case <-ctx.Done():
		return resolver.Answer{}, resolver.ErrTimeout
	}
}

func keyOf(name string, qtype uint16) aheadKey {
	return aheadKey{strings.ToLower(strings.TrimSuffix(name, ".")), qtype}
}

// Resolve answers from what was asked ahead, or asks.
func (p *ahead) Resolve(ctx context.Context, name string, qtype uint16) (resolver.Answer, error) {
	p.mu.Lock()
	f := p.answers[keyOf(name, qtype)]
	p.mu.Unlock()
	if f != nil {
		return f.wait(ctx)
	}
	return p.next.Resolve(ctx, name, qtype)
}

// start asks for the names of a record, up to a term that is sure to match.
func (p *ahead) start(ctx context.Context, r *Record, domain string) {
	ip := p.e.values.ip
	for i := range r.Directives {
		d := &r.Directives[i]
		target := domain
		if d.Domain != "" {
			if d.spec.needsPTR() {
				continue
			}
			target = p.e.expandDomain(ctx, d.spec, domain)
		}
		switch d.Mechanism {
		case "all":
			return
		case "ip4", "ip6":
			if d.Network.Contains(ip) {
				return
			}
		case "include":
			p.record(ctx, target)
		case "a":
			p.ask(ctx, target, addrType(ip), true, nil)
		case "exists":
			p.ask(ctx, target, dns.TypeA, true, nil)
		case "mx":
			p.ask(ctx, target, dns.TypeMX, true, func(a resolver.Answer) { p.hosts(ctx, a) })
		case "ptr":
			p.ask(ctx, resolver.ReverseName(ip), dns.TypePTR, true, nil)
		}
	}
	if r.Redirect != "" && !r.redirect.needsPTR() {
		p.record(ctx, p.e.expandDomain(ctx, r.redirect, domain))
	}
}

// record asks for another record and for what it leads to.
func (p *ahead) record(ctx context.Context, domain string) {
	name, err := resolver.ToASCII(domain)
	if err != nil {
		return
	}
	p.ask(ctx, name, dns.TypeTXT, true, func(a resolver.Answer) {
		for _, t := range resolver.Texts(a) {
			if !IsRecord(t) {
				continue
			}
			if r, err := parsed(t); err == nil {
				p.start(ctx, r, name)
			}
			return
		}
	})
}

// hosts asks for the addresses of mail hosts.
func (p *ahead) hosts(ctx context.Context, a resolver.Answer) {
	mxs := resolver.Records[*dns.MX](a)
	if len(mxs) > limit(p.e.c.MaxMX, 10) {
		return
	}
	for _, mx := range mxs {
		if mx.Mx != "." {
			p.ask(ctx, mx.Mx, addrType(p.e.values.ip), false, nil)
		}
	}
}

// ask begins a look-up unless it has begun, and calls then with its answer. A
// term counts towards the limit; the hosts of an mx term come with it.
func (p *ahead) ask(ctx context.Context, name string, qtype uint16, term bool, then func(resolver.Answer)) {
	name, err := resolver.ToASCII(name)
	if err != nil {
		return
	}
	name = resolver.EscapeName(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	key := keyOf(name, qtype)
	if p.answers[key] != nil || term && p.left == 0 {
		return
	}
	if term {
		p.left--
	}
	if p.answers == nil {
		p.answers = make(map[aheadKey]*future)
	}
	f := newFuture(func() (resolver.Answer, error) { return p.next.Resolve(ctx, name, qtype) })
	p.answers[key] = f
	if then == nil {
		return
	}
	go func() { // ends with the look-up
		<-f.done
		if f.err == nil {
			then(f.answer)
		}
	}()
}
