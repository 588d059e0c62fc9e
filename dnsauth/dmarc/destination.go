package dmarc

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/miekg/dns"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// ErrDestination is wrapped by what ReportDestination returns for a URI that
// reports must not be sent to.
var ErrDestination = errors.New("dmarc: destination has not agreed to take reports")

// ReportDestination checks whether reports about policyDomain, where the record
// stands, may be sent to uri, one of the record's, and returns the URIs to send
// them to: uri itself, or those that the destination names in its place. A
// destination with another organizational domain must have agreed by a record
// at policyDomain._report._dmarc (RFC 9990, 4), or else anybody could have
// reports sent to anybody.
//
// The error wraps ErrDestination if it has not, and is the resolver's if that is
// not known now.
func ReportDestination(ctx context.Context, r resolver.Resolver, policyDomain, uri string, opt *Options) ([]string, error) {
	domain, err := resolver.ToASCII(policyDomain)
	if err != nil {
		return nil, ErrDestination
	}
	host, ok := destinationHost(uri)
	if !ok {
		return nil, ErrDestination
	}
	if host == domain {
		return []string{uri}, nil
	}
	same, err := sameOrganization(ctx, r, domain, host, opt)
	if err != nil {
		return nil, err
	}
	if same {
		return []string{uri}, nil
	}
	a, err := r.Resolve(ctx, resolver.EscapeName(domain+"._report._dmarc."+host), dns.TypeTXT)
	if errors.Is(err, resolver.ErrName) {
		return nil, ErrDestination
	}
	if err != nil {
		return nil, err
	}
	for _, text := range resolver.Texts(a) {
		record, err := Parse(text)
		if err != nil {
			continue
		}
		var instead []string
		for _, u := range record.Aggregate {
			if h, ok := destinationHost(u); ok && h == host { // others would be a loop's beginning
				instead = append(instead, u)
			}
		}
		if instead == nil {
			instead = []string{uri}
		}
		return instead, nil
	}
	return nil, ErrDestination
}

func sameOrganization(ctx context.Context, r resolver.Resolver, a, b string, opt *Options) (bool, error) {
	if opt != nil && opt.OrganizationalDomain != nil {
		return opt.OrganizationalDomain(a) == opt.OrganizationalDomain(b), nil
	}
	if !related(a, b) {
		return false, nil
	}
	records := &records{ctx: ctx, resolver: r}
	orgA, _, err := records.walk(a)
	if err != nil {
		return false, err
	}
	orgB, _, err := records.walk(b)
	return orgA == orgB, err
}

// destinationHost is the domain of a mailto or https URI.
func destinationHost(uri string) (string, bool) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", false
	}
	host := u.Hostname()
	if u.Scheme == "mailto" {
		address, err := url.PathUnescape(u.Opaque)
		if err != nil {
			return "", false
		}
		host = address[strings.LastIndexByte(address, '@')+1:]
	}
	host, err = resolver.ToASCII(host)
	return host, err == nil
}
