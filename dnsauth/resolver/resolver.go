package resolver

import (
	"context"
	"time"

	"github.com/miekg/dns"
)

// Resolver answers one DNS question. It is safe for concurrent use.
//
// The name is in presentation form, with or without the final dot, in A-labels
// ([ToASCII]); case does not matter. The type is one of dns.TypeA and so on.
//
// A name that does not exist and a name without such records are answers with
// a nil error. The error is for everything that leaves the question open: it
// is, or wraps, an [*Error], and [Temporary] tells whether a later try may help.
// Resolve returns soon after ctx ends.
type Resolver interface {
	Resolve(ctx context.Context, name string, qtype uint16) (Answer, error)
}

// Func makes a Resolver of a function.
type Func func(ctx context.Context, name string, qtype uint16) (Answer, error)

// Resolve calls f.
func (f Func) Resolve(ctx context.Context, name string, qtype uint16) (Answer, error) {
	return f(ctx, name, qtype)
}

// Answer is what the DNS has at a name. It may be shared: don't change its records.
type Answer struct {
	// RRs are the CNAME records that lead from the name asked for to the
	// final name, in order, and then the final name's records of the type
	// asked for. Records that don't belong to that chain are left out.
	RRs []dns.RR

	// NXDomain says that the final name of the chain does not exist, not
	// with any type (RFC 8020). Without it, an answer that has no record of
	// the type asked for means "no data": the name exists.
	NXDomain bool

	// Secure says that a resolver we trust has validated the whole chain,
	// or the proof that there is nothing, with DNSSEC (RFC 4035, 3.2.3).
	Secure bool

	// TTL is how long the answer may be kept.
	TTL time.Duration
}

// Records returns the records of type T in an answer, such as *dns.MX.
func Records[T dns.RR](a Answer) []T {
	var out []T
	for _, rr := range a.RRs {
		if r, ok := rr.(T); ok {
			out = append(out, r)
		}
	}
	return out
}

// Has reports whether the answer holds at least one record of type qtype.
func (a Answer) Has(qtype uint16) bool {
	for _, rr := range a.RRs {
		if rr.Header().Rrtype == qtype {
			return true
		}
	}
	return false
}

// FinalName returns the lower-case name, without the final dot, at the end of
// the CNAME chain that began at name; name itself if there is no CNAME.
func (a Answer) FinalName(name string) string {
	final := name
	for _, rr := range a.RRs {
		if c, ok := rr.(*dns.CNAME); ok {
			final = c.Target
		}
	}
	return trimDot(dns.CanonicalName(final))
}

func trimDot(name string) string {
	if n := len(name); n > 1 && name[n-1] == '.' {
		return name[:n-1]
	}
	return name
}

// chain picks from a response's answer section the CNAME chain that starts at
// name and the records of type qtype at its end. A loop or a chain of more
// than maxChain links is cut where it is; ok is false then.
func chain(section []dns.RR, name string, qtype uint16) (rrs []dns.RR, final string, ok bool) {
	final = dns.CanonicalName(name)
	for range maxChain {
		var next *dns.CNAME
		found := false
		for _, rr := range section {
			h := rr.Header()
			if h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != final {
				continue
			}
			switch {
			case h.Rrtype == qtype:
				rrs, found = append(rrs, rr), true
			case h.Rrtype == dns.TypeCNAME:
				next = rr.(*dns.CNAME)
			}
		}
		if found || next == nil {
			return rrs, final, true
		}
		rrs = append(rrs, next)
		final = dns.CanonicalName(next.Target)
	}
	return rrs, final, false
}

// maxChain bounds the CNAME records followed for one question.
const maxChain = 12
