package spf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/mailblocks/mailblocks/dnsauth/internal/memo"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// evaluation is one run of check_host() with its recursions, which share the
// limits (RFC 7208, 4.6.4).
type evaluation struct {
	c      *Checker
	r      resolver.Resolver // c's, behind what was asked ahead
	ahead  *ahead            // nil without Checker.Prefetch
	res    *Result           // counts go there
	values macroValues

	ptrDone  bool
	ptrNames []string // validated names of the client address
	ptrVoid  bool     // the address has no PTR record
}

// outcome is what check_host() returns.
type outcome struct {
	status    Status
	reason    string
	directive *Directive // that matched, nil if none did
	record    *Record    // with that directive: redirect leads to another than the first
	domain    string     // of that record
}

// stop is an exception of a mechanism: it ends the evaluation (RFC 7208, 4.6.2).
type stop struct {
	status Status
	reason string
}

func (s *stop) Error() string { return s.reason }

func permError(format string, args ...any) *stop {
	return &stop{PermError, fmt.Sprintf(format, args...)}
}

// checkHost is check_host() of RFC 7208, 4.
func (e *evaluation) checkHost(ctx context.Context, domain string) outcome {
	name, err := resolver.ToASCII(domain)
	if err != nil || !strings.Contains(name, ".") || name[0] == '[' {
		return outcome{status: None, reason: "not a fully qualified domain name"}
	}
	record, o := e.fetch(ctx, name)
	if record == nil {
		return o
	}
	if e.ahead != nil {
		e.ahead.start(ctx, record, name)
	}
	for i := range record.Directives {
		d := &record.Directives[i]
		match, err := e.matches(ctx, d, name)
		if err != nil {
			var s *stop
			if !errors.As(err, &s) {
				s = &stop{TempError, "DNS: " + cause(err)}
			}
			return outcome{status: s.status, reason: s.reason}
		}
		if match {
			return outcome{status: d.Qualifier.status(), directive: d, record: record, domain: name}
		}
	}
	if record.Redirect == "" || record.all {
		return outcome{status: Neutral}
	}
	if err := e.count(); err != nil {
		return outcome{status: err.status, reason: err.reason}
	}
	target := e.expandDomain(ctx, record.redirect, name)
	o = e.checkHost(ctx, target)
	if o.status == None {
		return outcome{status: PermError, reason: "redirect to " + printable(target) + ": no SPF record"}
	}
	return o
}

func (q Qualifier) status() Status {
	switch q {
	case QualifierFail:
		return Fail
	case QualifierSoftFail:
		return SoftFail
	case QualifierNeutral:
		return Neutral
	}
	return Pass
}

// fetch looks up and parses the record of a domain (RFC 7208, 4.4 and 4.5).
// Without one, it returns the outcome.
func (e *evaluation) fetch(ctx context.Context, name string) (*Record, outcome) {
	a, err := e.r.Resolve(ctx, resolver.EscapeName(name), dns.TypeTXT)
	switch {
	case errors.Is(err, resolver.ErrName):
		return nil, outcome{status: None, reason: "not a domain name"}
	case err != nil:
		return nil, outcome{status: TempError, reason: "DNS: " + cause(err)}
	case a.NXDomain:
		return nil, outcome{status: None, reason: "domain does not exist"}
	}
	text, found := "", 0
	for _, t := range resolver.Texts(a) {
		if IsRecord(t) {
			text = t
			found++
		}
	}
	switch found {
	case 0:
		return nil, outcome{status: None, reason: "no SPF record"}
	case 1:
	default:
		return nil, outcome{status: PermError, reason: printable(name) + " has several SPF records"}
	}
	r, err := parsed(text)
	if err != nil {
		return nil, outcome{status: PermError, reason: printable(name) + ": " + printable(strings.TrimPrefix(err.Error(), "spf: "))}
	}
	return r, outcome{}
}

// records remembers parsed records. At most 16 MiB of text stand for them.
var records = memo.Memo[parseResult]{Max: 4096, MaxLen: 4096}

type parseResult struct {
	record *Record
	err    error
}

// parsed is Parse from memory.
func parsed(text string) (*Record, error) {
	p := records.Get(text, func(text string) parseResult {
		r, err := Parse(text)
		return parseResult{r, err}
	})
	return p.record, p.err
}

// matches evaluates one mechanism.
func (e *evaluation) matches(ctx context.Context, d *Directive, domain string) (bool, error) {
	ip := e.values.ip
	switch d.Mechanism {
	case "all":
		return true, nil
	case "ip4", "ip6":
		return d.Network.Contains(ip), nil
	}
	if err := e.count(); err != nil {
		return false, err
	}
	target := domain
	if d.Domain != "" {
		target = e.expandDomain(ctx, d.spec, domain)
	}
	switch d.Mechanism {
	case "include":
		return e.matchInclude(ctx, target)
	case "a":
		a, err := e.lookup(ctx, target, addrType(ip), true)
		return err == nil && d.contains(a, ip), err
	case "mx":
		return e.matchMX(ctx, d, target)
	case "ptr":
		return e.matchPTR(ctx, target)
	case "exists":
		a, err := e.lookup(ctx, target, dns.TypeA, true)
		return err == nil && a.Has(dns.TypeA), err
	}
	return false, permError("mechanism %s is not implemented", d.Mechanism)
}

// matchInclude is the table of RFC 7208, 5.2.
func (e *evaluation) matchInclude(ctx context.Context, target string) (bool, error) {
	o := e.checkHost(ctx, target)
	switch o.status {
	case Pass:
		return true, nil
	case TempError, PermError:
		return false, &stop{o.status, o.reason}
	case None:
		return false, permError("include of %s: %s", printable(target), o.reason)
	}
	return false, nil
}

func (e *evaluation) matchMX(ctx context.Context, d *Directive, target string) (bool, error) {
	a, err := e.lookup(ctx, target, dns.TypeMX, true)
	if err != nil {
		return false, err
	}
	mxs := resolver.Records[*dns.MX](a)
	if len(mxs) > limit(e.c.MaxMX, 10) {
		return false, permError("%s has %d MX records", printable(target), len(mxs))
	}
	hosts := make([]string, 0, len(mxs))
	for _, mx := range mxs {
		if mx.Mx != "." { // null MX (RFC 7505)
			hosts = append(hosts, mx.Mx)
		}
	}
	for _, answer := range e.resolveAll(ctx, hosts, addrType(e.values.ip)) {
		// A mail host that has only the other family's addresses is not the
		// record's fault: only the term itself can be a void look-up.
		a, err := answer()
		if err != nil {
			return false, err
		}
		if d.contains(a, e.values.ip) {
			return true, nil
		}
	}
	return false, nil
}

// resolveAll asks for several names at once and returns a function for each
// that waits for its answer.
func (e *evaluation) resolveAll(ctx context.Context, names []string, qtype uint16) []func() (resolver.Answer, error) {
	answers := make([]func() (resolver.Answer, error), len(names))
	for i, name := range names {
		ask := func() (resolver.Answer, error) { return e.resolve(ctx, name, qtype) }
		if len(names) > 1 {
			f := newFuture(ask)
			ask = func() (resolver.Answer, error) { return f.wait(ctx) }
		}
		answers[i] = ask
	}
	return answers
}

func (e *evaluation) matchPTR(ctx context.Context, target string) (bool, error) {
	e.validate(ctx)
	if e.ptrVoid {
		if err := e.countVoid(); err != nil {
			return false, err
		}
	}
	target = strings.ToLower(strings.TrimSuffix(target, "."))
	for _, n := range e.ptrNames {
		if n == target || strings.HasSuffix(n, "."+target) {
			return true, nil
		}
	}
	return false, nil
}

// validate finds the names of the client address whose addresses lead back to
// it (RFC 7208, 5.5), once.
func (e *evaluation) validate(ctx context.Context) {
	if e.ptrDone {
		return
	}
	e.ptrDone = true
	ip := e.values.ip
	names, err := resolver.LookupPTR(ctx, e.r, ip)
	if err != nil {
		e.ptrVoid = errors.Is(err, resolver.ErrNXDomain) || errors.Is(err, resolver.ErrNoData)
		return
	}
	names = names[:min(len(names), limit(e.c.MaxPTR, 10))]
	for i, answer := range e.resolveAll(ctx, names, addrType(ip)) {
		a, err := answer()
		if err != nil {
			continue
		}
		for _, addr := range resolver.AddrsOf(a) {
			if addr == ip {
				e.ptrNames = append(e.ptrNames, names[i])
				break
			}
		}
	}
}

// validatedName is the value of %{p} (RFC 7208, 7.3).
func (e *evaluation) validatedName(ctx context.Context, domain string) string {
	e.validate(ctx)
	best := "unknown"
	for _, n := range e.ptrNames {
		if n == domain {
			return n
		}
		if best == "unknown" || strings.HasSuffix(n, "."+domain) && !strings.HasSuffix(best, "."+domain) {
			best = n
		}
	}
	return best
}

// expandDomain expands a domain-spec and cuts it to the length of a name.
func (e *evaluation) expandDomain(ctx context.Context, m macroString, domain string) string {
	name := e.expand(ctx, m, domain)
	name = strings.TrimSuffix(name, ".")
	for len(name) > 253 {
		i := strings.IndexByte(name, '.')
		if i < 0 {
			break
		}
		name = name[i+1:]
	}
	return name
}

func (e *evaluation) expand(ctx context.Context, m macroString, domain string) string {
	v := e.values
	v.domain = domain
	v.now = e.c.now()
	if m.needsPTR() {
		v.ptr = e.validatedName(ctx, domain)
	}
	return m.expand(&v)
}

// explain fetches and expands the explanation of the record that failed
// (RFC 7208, 6.2). Whatever goes wrong, there is none.
func (e *evaluation) explain(ctx context.Context, o outcome) string {
	target := e.expandDomain(ctx, o.record.exp, o.domain)
	a, err := e.resolve(ctx, target, dns.TypeTXT)
	if err != nil {
		return ""
	}
	texts := resolver.Texts(a)
	if len(texts) != 1 {
		return ""
	}
	m, err := parseMacro(texts[0], true)
	if err != nil {
		return ""
	}
	s := e.expand(ctx, m, o.domain)
	if len(s) > maxExplanation || printable(s) != s {
		return ""
	}
	return s
}

// maxExplanation leaves room for the text in a reply of several lines.
const maxExplanation = 2000

// count counts a term that asks the DNS.
func (e *evaluation) count() *stop {
	e.res.Lookups++
	if n := limit(e.c.MaxLookups, 10); e.res.Lookups > n {
		return permError("more than %d terms with DNS look-ups", n)
	}
	return nil
}

func (e *evaluation) countVoid() error {
	e.res.VoidLookups++
	if n := limit(e.c.MaxVoid, 2); e.res.VoidLookups > n {
		return permError("more than %d void look-ups", n)
	}
	return nil
}

// lookup resolves a term's target and counts it when it is void.
func (e *evaluation) lookup(ctx context.Context, name string, qtype uint16, countVoid bool) (resolver.Answer, error) {
	a, err := e.resolve(ctx, name, qtype)
	if err == nil && countVoid && !a.Has(qtype) {
		err = e.countVoid()
	}
	return a, err
}

// resolve asks for a target-name. A malformed one, which expansion can give,
// has no records (RFC 7208, 4.8 leaves it open).
func (e *evaluation) resolve(ctx context.Context, name string, qtype uint16) (resolver.Answer, error) {
	ascii, err := resolver.ToASCII(name)
	if err != nil {
		return resolver.Answer{NXDomain: true}, nil
	}
	a, err := e.r.Resolve(ctx, resolver.EscapeName(ascii), qtype)
	if errors.Is(err, resolver.ErrName) {
		return resolver.Answer{NXDomain: true}, nil
	}
	return a, err
}

func addrType(ip netip.Addr) uint16 {
	if ip.Is4() {
		return dns.TypeA
	}
	return dns.TypeAAAA
}

// contains compares the client with the answer's addresses under the
// directive's prefix lengths.
func (d *Directive) contains(a resolver.Answer, ip netip.Addr) bool {
	bits := d.Len6
	if ip.Is4() {
		bits = d.Len4
	}
	for _, addr := range resolver.AddrsOf(a) {
		if p, err := addr.Prefix(bits); err == nil && p.Contains(ip) {
			return true
		}
	}
	return false
}

// cause names a DNS failure without the wording of errors from below.
func cause(err error) string {
	for _, e := range []error{resolver.ErrTimeout, resolver.ErrBogus, resolver.ErrBudget, resolver.ErrServFail} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return "look-up interrupted"
}

// printable replaces everything but printable ASCII.
func printable(s string) string {
	clean := true
	for i := range len(s) {
		clean = clean && s[i] >= ' ' && s[i] <= '~'
	}
	if clean {
		return s
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
