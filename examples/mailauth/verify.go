package main

import (
	"context"
	"errors"

	"github.com/mailblocks/mailblocks/dnsauth"
	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/dmarc"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
)

// verify checks everything, as a server does.
func (c *command) verify(ctx context.Context) error {
	ip, err := c.addr()
	if err != nil {
		return err
	}
	cfg := dnsauth.Config{Resolver: c.resolver(), ServID: c.servID, Timeout: c.timeout}
	cfg.DKIM.Now, cfg.SPF.Now = c.now, c.now
	check := dnsauth.Start(ctx, cfg, dnsauth.Session{IP: ip, Helo: c.helo, MailFrom: c.from})
	if err := copyMessage(check, c.in); err != nil {
		return err
	}
	r, err := check.Finish()
	if err != nil {
		return err
	}
	o := &output{
		SPF: spfOut(r.SPF, c.servID), DKIM: dkimOut(r.DKIM), DMARC: dmarcOut(r.DMARC),
		IPRev:       &iprevOutput{Result: string(r.IPRev.Status), Name: r.IPRev.Name},
		Disposition: string(r.Disposition), Reason: r.Reason,
		AuthenticationResults: r.AuthenticationResults, Queries: r.Queries,
	}
	if err := c.print(o); err != nil {
		return err
	}
	return outcome(r.Disposition == dnsauth.Accept)
}

func outcome(good bool) error {
	if good {
		return nil
	}
	return errBad
}

// spf checks MAIL FROM, or HELO if that is empty.
func (c *command) spf(ctx context.Context) error {
	ip, err := c.addr()
	if err != nil {
		return err
	}
	checker := &spf.Checker{Resolver: c.resolver(), Timeout: c.timeout, Receiver: c.servID, Now: c.now}
	r := checker.MailFrom(ctx, ip, c.helo, c.from)
	if err := c.print(&output{SPF: spfOut(r, c.servID)}); err != nil {
		return err
	}
	return outcome(r.Status == spf.Pass)
}

// dkim checks the signatures of the message on standard input.
func (c *command) dkim(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	v := dkim.NewVerifier(ctx, c.resolver(), &dkim.VerifyOptions{Now: c.now})
	if err := copyMessage(v, c.in); err != nil {
		return err
	}
	results := v.Finish()
	out := dkimOut(results)
	if len(results) == 0 {
		out = []dkimOutput{{Result: "none", Reason: "message not signed"}}
	}
	if err := c.print(&output{DKIM: out}); err != nil {
		return err
	}
	for i := range results {
		if results[i].Status == dkim.Pass {
			return nil
		}
	}
	return errBad
}

// dmarc evaluates the author's policy against identifiers that passed.
func (c *command) dmarc(ctx context.Context) error {
	if c.author == "" {
		return errors.New("dmarc: -author is missing")
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var envelope *spf.Result
	if c.spfPass != "" {
		envelope = &spf.Result{Status: spf.Pass, Identity: spf.MailFrom, Domain: c.spfPass}
	}
	var signatures []dkim.Result
	for _, d := range c.dkimPass {
		signatures = append(signatures, dkim.Result{Status: dkim.Pass, Signature: &dkim.Signature{Domain: d}})
	}
	r := dmarc.Evaluate(ctx, c.resolver(), c.author, envelope, signatures, nil)
	if err := c.print(&output{DMARC: dmarcOut(r)}); err != nil {
		return err
	}
	return outcome(r.Status == dmarc.Pass)
}
