// Package dnsbl asks DNS lists about addresses and domains (RFC 5782).
//
// A list tells what it means by the address it answers with, and some lists
// answer every query of a client they have blocked. So each list has a table of
// answers, what is not in it does not count, and 127.255.255.0/24 is an error
// of the list, never a listing.
//
//	RFC           | section/feature                        |
//	RFC 5782, 2.1 | IPv4 addresses                         | yes
//	RFC 5782, 2.4 | IPv6 addresses                         | yes
//	RFC 5782, 3   | domain names                           | yes
//	RFC 5782, 5   | test entries                           | yes: Probe, Watch
package dnsbl

import (
	"context"
	"errors"
	"net/netip"

	"github.com/miekg/dns"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// List is one DNS list.
type List struct {
	Zone string // such as "zen.spamhaus.org"

	// Codes are the answers that mean something, with what they mean to us.
	// Nil accepts every answer in 127.0.0.0/8 but 127.0.0.1.
	Codes map[netip.Addr]string
}

// Status is what a list said.
type Status string

// The outcomes.
const (
	Clean  Status = "clean"
	Listed Status = "listed"
	Failed Status = "failed" // the list did not answer, refused, or answered nonsense
)

// Result is one list's answer.
type Result struct {
	Zone    string
	Status  Status
	Code    netip.Addr // that decided; invalid when clean or without an answer
	Meaning string     // of Codes, empty without a table
}

var (
	loopback = netip.MustParsePrefix("127.0.0.0/8")
	refusals = netip.MustParsePrefix("127.255.255.0/24")
	unlisted = netip.MustParseAddr("127.0.0.1") // RFC 5782, 5: never a listing
)

// CheckAddr asks all lists about an address, at once. The results are in the
// order of lists.
func CheckAddr(ctx context.Context, r resolver.Resolver, ip netip.Addr, lists ...List) []Result {
	if !ip.IsValid() {
		return nil
	}
	return check(ctx, r, resolver.ReverseLabels(ip.WithZone("")), lists)
}

// CheckDomain asks all lists about a domain name, at once.
func CheckDomain(ctx context.Context, r resolver.Resolver, domain string, lists ...List) []Result {
	name, err := resolver.ToASCII(domain)
	if err != nil {
		return nil
	}
	return check(ctx, r, resolver.EscapeName(name), lists)
}

func check(ctx context.Context, r resolver.Resolver, labels string, lists []List) []Result {
	results := make([]chan Result, len(lists))
	for i := range lists {
		results[i] = make(chan Result, 1)
		go func() { results[i] <- lists[i].ask(ctx, r, labels) }()
	}
	out := make([]Result, len(lists))
	for i := range lists {
		out[i] = <-results[i]
	}
	return out
}

func (l *List) ask(ctx context.Context, r resolver.Resolver, labels string) Result {
	res := Result{Zone: l.Zone, Status: Clean}
	a, err := r.Resolve(ctx, labels+"."+l.Zone, dns.TypeA)
	if err != nil {
		if !errors.Is(err, resolver.ErrName) {
			res.Status = Failed
		}
		return res
	}
	for _, code := range resolver.AddrsOf(a) {
		if refusals.Contains(code) || !loopback.Contains(code) {
			return Result{Zone: l.Zone, Status: Failed, Code: code}
		}
		meaning, known := l.Codes[code]
		if l.Codes == nil {
			known = code != unlisted
		}
		if known && res.Status != Listed {
			res.Status, res.Code, res.Meaning = Listed, code, meaning
		}
	}
	return res
}
