// Package iprev checks that the reverse name of a client leads back to its
// address (RFC 8601, 3).
//
//	RFC           | section/feature                     |
//	RFC 8601, 3   | iprev: PTR, then A or AAAA of each  | yes
//	RFC 1035, 3.5 | in-addr.arpa                        | yes
//	RFC 3596, 2.5 | ip6.arpa                            | yes
package iprev

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// Status is the outcome (RFC 8601, 2.7.3).
type Status string

// The outcomes of RFC 8601, 2.7.3.
const (
	Pass      Status = "pass"
	Fail      Status = "fail" // the address has names, none of which leads back
	TempError Status = "temperror"
	PermError Status = "permerror" // the address has no name
)

// Result is the outcome of a check.
type Result struct {
	Status Status
	IP     netip.Addr
	Name   string   // the first name that leads back; else the first there is
	Names  []string // all that lead back
}

// maxNames bounds the names that are looked up, at once.
const maxNames = 10

// Check looks for the names of ip and their addresses.
func Check(ctx context.Context, r resolver.Resolver, ip netip.Addr) *Result {
	ip = ip.Unmap().WithZone("")
	res := &Result{Status: PermError, IP: ip}
	if !ip.IsValid() {
		return res
	}
	names, err := resolver.LookupPTR(ctx, r, ip)
	if err != nil {
		if resolver.Temporary(err) {
			res.Status = TempError
		}
		return res
	}
	names = names[:min(len(names), maxNames)]
	res.Status, res.Name = Fail, names[0]

	qtype := dns.TypeAAAA
	if ip.Is4() {
		qtype = dns.TypeA
	}
	type answer struct {
		back bool
		err  error
	}
	answers := make([]chan answer, len(names))
	for i, name := range names {
		answers[i] = make(chan answer, 1)
		go func() {
			a, err := r.Resolve(ctx, resolver.EscapeName(strings.TrimSuffix(name, ".")), qtype)
			answers[i] <- answer{slices.Contains(resolver.AddrsOf(a), ip), err}
		}()
	}
	for i, name := range names {
		switch a := <-answers[i]; {
		case a.back:
			res.Names = append(res.Names, name)
		case resolver.Temporary(a.err):
			res.Status = TempError
		}
	}
	if len(res.Names) > 0 {
		res.Status, res.Name = Pass, res.Names[0]
	}
	return res
}
