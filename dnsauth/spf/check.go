package spf

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/internal/lazyctx"
)

// Status is the outcome of a check (RFC 7208, 2.6).
type Status string

// The outcomes of RFC 7208, 2.6.
const (
	None      Status = "none"
	Neutral   Status = "neutral"
	Pass      Status = "pass"
	Fail      Status = "fail"
	SoftFail  Status = "softfail"
	TempError Status = "temperror"
	PermError Status = "permerror"
)

// Identity is which of the peer's names was checked. DMARC counts a pass of
// MAIL FROM only, not one of a separate check of HELO.
type Identity string

// The identities of RFC 7208, 2.3 and 2.4.
const (
	MailFrom Identity = "mailfrom"
	Helo     Identity = "helo"
)

// Result is the outcome of a check and how it came about.
type Result struct {
	Status   Status
	Identity Identity
	Null     bool // MAIL FROM was empty: the identity is postmaster at the HELO name (RFC 7208, 2.4)
	IP       netip.Addr
	Helo     string // as given
	Sender   string // the address checked; postmaster@ was put before a bare domain
	Domain   string // the identity's domain, lower-case, in A-labels; as given if that can't be

	Mechanism   string // the directive that matched, as in "ip4:192.0.2.0/24"; "default" when none did
	Reason      string // why it is none, temperror or permerror: our words, printable ASCII
	Explanation string // the domain's words for a fail: third-party text, printable ASCII (RFC 7208, 6.2)

	Lookups     int // terms that asked the DNS, of Checker.MaxLookups
	VoidLookups int // of which had no answer, of Checker.MaxVoid
}

// Checker checks identities. Its zero value with a Resolver is ready to use by
// many goroutines at once; set its fields before. For the Max fields, zero means
// the RFC's number and negative means no limit.
type Checker struct {
	Resolver resolver.Resolver

	MaxLookups int // terms that ask the DNS; 10 (RFC 7208, 4.6.4)
	MaxVoid    int // of which without an answer; 2
	MaxMX      int // MX records of one mx term, over which it is a permerror; 10
	MaxPTR     int // PTR records looked at, the rest is ignored; 10

	// Prefetch asks for all names of a record at once, and for those that the
	// answers lead to, in place of one after the other. Status and counts are the
	// same, and the number of round trips is the depth of the records; but names
	// are asked for that an earlier term would have made needless, at most as
	// many terms as MaxLookups allows.
	Prefetch bool

	// Timeout bounds one check. Zero means 20 s.
	Timeout time.Duration

	// Receiver is our host name, for %{r} in explanations. Empty means "unknown".
	Receiver string

	// Now is the clock for %{t}. Nil means time.Now.
	Now func() time.Time
}

// MailFrom checks the identity of MAIL FROM (RFC 7208, 2.4). helo and from are
// as the peer gave them; from may stand in angle brackets. If it is empty the
// identity is postmaster at the HELO name.
func (c *Checker) MailFrom(ctx context.Context, ip netip.Addr, helo, from string) *Result {
	from = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(from), "<"), ">")
	if from == "" {
		return c.check(ctx, &Result{Identity: MailFrom, Null: true, IP: ip.Unmap(), Helo: helo, Sender: "postmaster@" + helo})
	}
	return c.check(ctx, &Result{Identity: MailFrom, IP: ip.Unmap(), Helo: helo, Sender: from})
}

// Helo checks the identity of HELO or EHLO (RFC 7208, 2.3).
func (c *Checker) Helo(ctx context.Context, ip netip.Addr, helo string) *Result {
	return c.check(ctx, &Result{Identity: Helo, IP: ip.Unmap(), Helo: helo, Sender: "postmaster@" + helo})
}

func (c *Checker) check(ctx context.Context, res *Result) *Result {
	local, domain := "", res.Sender
	if i := strings.LastIndexByte(res.Sender, '@'); i >= 0 {
		local, domain = res.Sender[:i], res.Sender[i+1:]
	}
	if local == "" {
		local = "postmaster"
		res.Sender = local + "@" + domain
	}
	res.Domain = domain
	res.Mechanism = "default"
	if a, err := resolver.ToASCII(domain); err == nil {
		res.Domain = a
	}
	if !res.IP.IsValid() {
		res.Status, res.Reason = None, "no client address"
		return res
	}

	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 20 * time.Second
	}
	bounded := &lazyctx.Context{Parent: ctx, At: time.Now().Add(timeout)}
	defer bounded.End()

	e := &evaluation{c: c, r: c.Resolver, res: res}
	e.values = macroValues{
		sender: res.Sender, local: local, domainOf: domain,
		ip: res.IP, helo: res.Helo, receiver: c.Receiver,
	}
	if e.values.receiver == "" {
		e.values.receiver = "unknown"
	}
	if c.Prefetch {
		e.ahead = &ahead{e: e, next: c.Resolver, left: min(limit(c.MaxLookups, 10), maxAhead)}
		e.r = e.ahead
	}
	o := e.checkHost(bounded, domain)
	res.Status, res.Reason = o.status, o.reason
	if o.directive != nil {
		res.Mechanism = o.directive.text
	}
	if o.status == Fail && o.directive != nil && o.record.Exp != "" {
		res.Explanation = e.explain(bounded, o)
	}
	return res
}

func (c *Checker) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

// limit returns the effective value of a Max field.
func limit(v, def int) int {
	switch {
	case v == 0:
		return def
	case v < 0:
		return 1 << 30
	}
	return v
}
