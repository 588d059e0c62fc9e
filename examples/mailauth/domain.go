package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/dmarc"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
)

// checkDomain tells what a domain publishes for mail and what is wrong with it.
// Keys are looked for at the selectors given with -selector.
func (c *command) checkDomain(ctx context.Context) error {
	if c.flags.NArg() != 1 {
		return errors.New("check-domain: one domain is needed, behind the flags")
	}
	domain, err := resolver.ToASCII(c.flags.Arg(0))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r := c.resolver()

	found := []publication{checkMX(ctx, r, domain), checkSPF(ctx, r, domain), checkDMARC(ctx, r, domain)}
	found = append(found, checkOptional(ctx, r, domain)...)
	if c.selector != "" {
		for s := range strings.SplitSeq(c.selector, ",") {
			found = append(found, checkKey(ctx, r, s+"._domainkey."+domain))
		}
	}
	if err := c.print(&output{Domain: found}); err != nil {
		return err
	}
	for _, p := range found {
		if p.Problem != "" {
			return errBad
		}
	}
	return nil
}

func checkMX(ctx context.Context, r resolver.Resolver, domain string) publication {
	p := publication{What: "mx"}
	mxs, _, err := resolver.LookupMX(ctx, r, domain)
	if err != nil {
		p.Problem = err.Error()
		return p
	}
	var hosts []string
	for _, mx := range mxs {
		hosts = append(hosts, fmt.Sprintf("%d %s.", mx.Preference, mx.Host))
		if mx.Host == "" {
			continue // a null MX: the domain takes no mail
		}
		if _, err := resolver.LookupAddrs(ctx, r, mx.Host); err != nil {
			p.Problem = err.Error()
		}
	}
	p.Record = strings.Join(hosts, ", ")
	return p
}

// pick returns the one record among texts that is of a kind.
func pick(ctx context.Context, r resolver.Resolver, name string, is func(string) bool) (string, error) {
	texts, err := resolver.LookupTXT(ctx, r, name)
	if err != nil {
		return "", err
	}
	var found []string
	for _, t := range texts {
		if is(t) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", errors.New("no record")
	}
	return "", errors.New("several records count as an error")
}

func checkSPF(ctx context.Context, r resolver.Resolver, domain string) publication {
	p := publication{What: "spf"}
	text, err := pick(ctx, r, domain, spf.IsRecord)
	if err == nil {
		p.Record = text
		_, err = spf.Parse(text)
	}
	if err != nil {
		p.Problem = err.Error()
	}
	return p
}

func checkDMARC(ctx context.Context, r resolver.Resolver, domain string) publication {
	p := publication{What: "dmarc"}
	text, err := pick(ctx, r, "_dmarc."+domain, dmarc.IsRecord)
	if err != nil {
		p.Problem = err.Error()
		return p
	}
	p.Record = text
	rec, err := dmarc.Parse(text)
	if err != nil {
		p.Problem = err.Error()
	} else if _, ok := rec.Usable(); !ok {
		p.Problem = "no valid policy: the record is without effect"
	} else if len(rec.Aggregate) == 0 {
		p.Problem = "no rua=: nobody will tell when mail fails"
	}
	return p
}

func checkKey(ctx context.Context, r resolver.Resolver, name string) publication {
	p := publication{What: "dkim"}
	text, err := pick(ctx, r, resolver.EscapeName(name), func(string) bool { return true })
	if err != nil {
		p.Problem = err.Error()
		return p
	}
	p.Record = text
	key, err := dkim.ParseKey(text)
	switch {
	case err != nil:
		p.Problem = err.Error()
	case key.Revoked():
		p.Problem = "key revoked"
	case key.Type == "rsa" && key.Bits() < 2048:
		p.Problem = fmt.Sprintf("RSA key of %d bits", key.Bits())
	case key.Testing():
		p.Problem = "t=y: verifiers are told not to count it"
	}
	return p
}
