package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/dane"
	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/mtasts"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/tlsrpt"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/smtp"
)

// newRelay makes what carries queued mail to other servers: to those that MX records name, or
// all to the smarthost.
func (s *server) newRelay() *relay.Transport {
	s.tlsReports = &relay.TLSReporter{
		Store: s.queue, Resolver: s.resolver, Organization: s.cfg.hostname, Contact: "postmaster@" + s.cfg.domains[0],
		Dir: filepath.Join(s.cfg.data, "tls-reports"),
	}
	t := &relay.Transport{
		Resolver: s.resolver,
		Hostname: s.cfg.hostname,
		Port:     s.cfg.relayPort,
		// A DNS server of one's own is a test's, and its world stands on loopback.
		AllowLoopback: s.cfg.dns != "",
		Prepare:       s.sign,
		TLSResult:     s.tlsReports.Note,
	}
	policies := &mtasts.Client{Resolver: s.resolver, Store: mtasts.Dir(filepath.Join(s.cfg.data, "mta-sts"))}
	t.Security = func(ctx context.Context, domain string, mx resolver.MX, secure bool) (relay.Security, error) {
		return security(ctx, s.resolver, policies, domain, mx, secure)
	}
	if s.cfg.smarthost != "" {
		t.Smarthost = func(string) *relay.Smarthost { return &relay.Smarthost{Addr: s.cfg.smarthost} }
	}
	return t
}

// security says what TLS must be like with a host: as its TLSA records say where DNSSEC vouches
// for them (DANE, RFC 7672), else as the domain's MTA-STS policy says (RFC 8461), else as it comes.
func security(ctx context.Context, r resolver.Resolver, policies *mtasts.Client, domain string, mx resolver.MX, secure bool) (relay.Security, error) {
	if secure {
		set, err := dane.Lookup(ctx, r, mx.Host, 25, domain)
		if err != nil {
			slog.Warn("host passed over: its TLSA records cannot be had", slog.String("host", mx.Host), slog.Any("err", err))
			return relay.Security{Level: relay.Refused}, nil
		}
		if set.Status != dane.Absent {
			policy := tlsrpt.Policy{Type: tlsrpt.TLSA}
			for _, r := range set.Records {
				policy.Lines = append(policy.Lines, r.String())
			}
			return relay.Security{
				Level: relay.Encrypted, Config: set.Config(nil), Key: "dane " + strings.Join(policy.Lines, ","), Policy: policy,
			}, nil
		}
	}
	found, err := policies.Policy(ctx, domain)
	if err != nil {
		return relay.Security{}, err
	}
	p := found.Policy
	if p == nil || p.Mode == mtasts.None {
		sec := relay.Security{}
		if found.Record && found.Problem != nil {
			sec.Failure = tlsrpt.STSFetchError
		}
		return sec, nil
	}
	policy := tlsrpt.Policy{Type: tlsrpt.STS, Lines: strings.Split(strings.TrimSpace(found.Text), "\n"), MXHost: p.MX}
	switch {
	case p.Mode == mtasts.Testing:
		return relay.Security{Observe: true, Policy: policy}, nil
	case !p.Matches(mx.Host):
		return relay.Security{Level: relay.Refused}, nil
	}
	return relay.Security{Level: relay.Verified, Policy: policy}, nil
}

// sign puts DKIM signatures before a message that leaves: those of its sender's domain, or,
// for a report of our own, of the first.
func (s *server) sign(_ context.Context, a *queue.Attempt, body io.ReadSeeker) (io.Reader, error) {
	_, domain := smtp.SplitAddress(canonical(a.Envelope.ReversePath))
	keys := s.dkim[domain]
	if keys == nil {
		keys = s.dkim[s.cfg.domains[0]]
	}
	var opt dkim.SignOptions
	for _, k := range keys {
		opt.Keys = append(opt.Keys, dkim.SigningKey{Domain: k.domain, Selector: k.selector, Signer: k.signer})
	}
	signer, err := dkim.NewSigner(opt)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(signer, body); err != nil {
		return nil, err
	}
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	fields, err := signer.Finish()
	if err != nil {
		// A message without From cannot be signed, and goes without.
		return body, nil
	}
	return io.MultiReader(bytes.NewReader(fields), body), nil
}
