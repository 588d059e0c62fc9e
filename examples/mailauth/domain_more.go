package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/bimi"
	"github.com/mailblocks/mailblocks/dnsauth/dane"
	"github.com/mailblocks/mailblocks/dnsauth/mtasts"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/tlsrpt"
)

// checkOptional looks at what a domain may publish, and says nothing of what it
// does not.
func checkOptional(ctx context.Context, r resolver.Resolver, domain string) []publication {
	var found []publication
	mxs, secure, _ := resolver.LookupMX(ctx, r, domain) // checkMX has reported the error
	found = append(found, checkMTASTS(ctx, r, domain, mxs)...)

	report, err := tlsrpt.Lookup(ctx, r, domain)
	if !errors.Is(err, tlsrpt.ErrNoRecord) {
		p := publication{What: "tls-rpt"}
		if err != nil {
			p.Problem = err.Error()
		} else {
			p.Record = report.String()
		}
		found = append(found, p)
	}

	indicator, err := bimi.Lookup(ctx, r, domain, "", "")
	if !errors.Is(err, bimi.ErrNoRecord) {
		p := publication{What: "bimi"}
		if err != nil {
			p.Problem = err.Error()
		} else {
			p.Record = indicator.Record.String()
		}
		found = append(found, p)
	}
	return append(found, checkDANE(ctx, r, domain, mxs, secure)...)
}

// checkMTASTS fetches the policy and compares it with the mail hosts.
func checkMTASTS(ctx context.Context, r resolver.Resolver, domain string, mxs []resolver.MX) []publication {
	client := &mtasts.Client{Resolver: r}
	found, err := client.Policy(ctx, domain)
	if err != nil {
		return []publication{{What: "mta-sts", Problem: err.Error()}}
	}
	p := publication{What: "mta-sts"}
	switch {
	case found.Policy == nil && found.Problem == nil:
		return nil
	case found.Problem != nil:
		p.Problem = found.Problem.Error()
		return []publication{p}
	}
	p.Record = strings.Join(strings.Fields(found.Policy.String()), " ")
	for _, mx := range mxs {
		if found.Policy.Mode != mtasts.None && !found.Policy.Matches(mx.Host) {
			p.Problem = "policy does not name " + mx.Host
		}
	}
	return []publication{p}
}

// checkDANE looks for TLSA records of the mail hosts.
func checkDANE(ctx context.Context, r resolver.Resolver, domain string, mxs []resolver.MX, secure bool) []publication {
	var out []publication
	for _, mx := range mxs {
		if mx.Host == "" {
			continue
		}
		set, err := dane.Lookup(ctx, r, mx.Host, 25, domain)
		p := publication{What: "dane"}
		switch {
		case err != nil:
			p.Problem = err.Error()
		case set.Status == dane.Absent:
			continue
		case set.Status == dane.Unusable:
			p.Problem = "none of the TLSA records of " + set.Base + " can be used"
		default:
			var texts []string
			for _, rec := range set.Records {
				texts = append(texts, rec.String())
			}
			p.Record = fmt.Sprintf("%s: %s", set.Base, strings.Join(texts, ", "))
			if !secure {
				p.Problem = "TLSA records have no effect: the MX records are not secure"
			}
		}
		out = append(out, p)
	}
	return out
}
