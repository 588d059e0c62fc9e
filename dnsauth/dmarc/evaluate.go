package dmarc

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
)

// Status is the outcome (RFC 9989, 9.2).
type Status string

// The outcomes of RFC 9989, 9.2.
const (
	None      Status = "none"
	Pass      Status = "pass"
	Fail      Status = "fail"
	TempError Status = "temperror"
	PermError Status = "permerror"
)

// Result is the outcome of an evaluation.
type Result struct {
	Status Status
	Reason string // for none, temperror and permerror: our words, printable ASCII

	AuthorDomain string
	OrgDomain    string  // organizational domain of AuthorDomain, when a record applies
	RecordDomain string  // the domain whose record applies
	Record       *Record // that record, as effective; nil without

	Published Policy // what the record wishes for this domain, of p=, sp= and np=
	Policy    Policy // the same after t=y: what to apply should it fail
	Exists    bool   // false if np= was consulted and the author domain does not exist

	DKIMDomain string // the d= that passed and is aligned; empty without
	SPFDomain  string // the MAIL FROM domain that passed and is aligned; empty without
}

// Disposition is what the domain owner wishes done with the message: its policy
// if it failed, else PolicyNone. RFC 9989, 7.4, warns against rejecting on
// that alone.
func (r *Result) Disposition() Policy {
	if r.Status == Fail {
		return r.Policy
	}
	return PolicyNone
}

// Options changes how organizational domains are found. nil means the DNS tree walk.
type Options struct {
	// OrganizationalDomain returns the organizational domain of a lower-case
	// name in A-labels, as RFC 7489, 3.2 does by a public suffix list; see
	// ByPublicSuffix. Nil means the tree walk of RFC 9989.
	OrganizationalDomain func(domain string) string

	// MaxAuthors is how many author domains are evaluated, should the From
	// field have several; more are a permerror. Zero means 4.
	MaxAuthors int
}

// Evaluation is an evaluation under way: look-ups begin with Start, Finish
// waits for them. It is used by one goroutine.
type Evaluation struct {
	opt     Options
	authors []string
	authErr error
	records *records
}

// Evaluate finds the outcome for a message. from is the value of its From field,
// spfResult and dkimResults are what was found before; nil for not checked.
func Evaluate(ctx context.Context, r resolver.Resolver, from string, spfResult *spf.Result, dkimResults []dkim.Result, opt *Options) *Result {
	return Start(ctx, r, from, opt).Finish(spfResult, dkimResults)
}

// Start begins the look-ups for the author domains in from, the value of a
// From field. Several From fields are joined with a comma by the caller.
func Start(ctx context.Context, r resolver.Resolver, from string, opt *Options) *Evaluation {
	e := &Evaluation{records: &records{ctx: ctx, resolver: r}}
	if opt != nil {
		e.opt = *opt
	}
	if e.opt.MaxAuthors <= 0 {
		e.opt.MaxAuthors = 4
	}
	e.authors, e.authErr = AuthorDomains(from)
	for _, d := range e.authors[:min(len(e.authors), e.opt.MaxAuthors)] {
		e.Prefetch(d)
	}
	return e
}

// Prefetch begins the look-ups for a domain that may turn out to be an
// authenticated identifier, such as the d= of a signature. It does nothing for
// one that has little in common with the author domains.
func (e *Evaluation) Prefetch(domain string) {
	domain, err := resolver.ToASCII(domain)
	if err != nil || !slices.ContainsFunc(e.authors, func(a string) bool { return related(a, domain) }) {
		return
	}
	if e.opt.OrganizationalDomain != nil {
		return // identifiers need no look-ups, authors are asked for in order
	}
	for _, n := range walkNames(domain) {
		e.records.start(n)
	}
}

// AuthorDomain returns the author domain, when there is exactly one.
func (e *Evaluation) AuthorDomain() string {
	if e.authErr == nil && len(e.authors) == 1 {
		return e.authors[0]
	}
	return ""
}

// Finish returns the outcome. With several author domains it is that of the one
// whose policy asks for the most among those that fail (RFC 9989, 11.5).
func (e *Evaluation) Finish(spfResult *spf.Result, dkimResults []dkim.Result) *Result {
	switch {
	case errors.Is(e.authErr, ErrNoAuthor):
		return &Result{Status: PermError, Reason: "no author domain"}
	case e.authErr != nil && len(e.authors) == 0:
		return &Result{Status: PermError, Reason: "author without a valid domain"}
	case len(e.authors) > e.opt.MaxAuthors:
		return &Result{Status: PermError, Reason: "too many author domains"}
	}
	var worst *Result
	for _, d := range e.authors {
		r := e.finish(d, spfResult, dkimResults)
		if worst == nil || severity(r) > severity(worst) {
			worst = r
		}
	}
	if e.authErr != nil && worst.Status == Pass {
		worst.Status, worst.Reason = PermError, "an author without a valid domain beside a valid one"
	}
	return worst
}

// severity orders outcomes from harmless to bad.
func severity(r *Result) int {
	switch r.Status {
	case Pass:
		return 0
	case None:
		return 1
	case Fail:
		return 4 + r.Policy.rank()
	case TempError:
		return 3
	}
	return 2
}

func (e *Evaluation) finish(author string, spfResult *spf.Result, dkimResults []dkim.Result) *Result {
	res := &Result{AuthorDomain: author, Exists: true}
	fail := func(err error) *Result {
		if errors.Is(err, resolver.ErrBogus) {
			res.Status, res.Reason = TempError, "DNS: DNSSEC validation failed"
		} else {
			res.Status, res.Reason = TempError, "DNS: no answer for a policy record"
		}
		return res
	}
	found, err := e.discover(res, author)
	if err != nil {
		return fail(err)
	}
	if !found {
		res.Status, res.Reason = None, "no policy record"
		return res
	}
	usable, ok := res.Record.Usable()
	if !ok {
		res.Record = nil
		res.Status, res.Reason = None, "policy record without a valid policy"
		return res
	}
	res.Record = usable
	policyErr := e.choosePolicy(res)
	undecided, alignErr := e.align(res, spfResult, dkimResults)
	switch {
	case res.DKIMDomain != "" || res.SPFDomain != "":
		res.Status = Pass
	case policyErr != nil:
		return fail(policyErr)
	case alignErr != nil:
		return fail(alignErr)
	case undecided:
		res.Status, res.Reason = TempError, "an aligned identifier could not be checked now"
	default:
		res.Status = Fail
	}
	return res
}

// discover finds the record that applies (RFC 9989, 4.10.1) and the
// organizational domain of the author.
func (e *Evaluation) discover(res *Result, author string) (bool, error) {
	rec, err := e.records.get(author)
	if err != nil {
		return false, err
	}
	suffix := ""
	if rec != nil && e.opt.OrganizationalDomain == nil {
		// The record here applies, whatever is above. A walk that fails leaves
		// only exact alignment to be found.
		res.RecordDomain, res.Record = author, rec
		if res.OrgDomain, _, err = e.records.walk(author); err != nil {
			res.OrgDomain = ""
		}
		return true, nil
	}
	if e.opt.OrganizationalDomain != nil {
		res.OrgDomain = e.orgByOption(author)
	} else if res.OrgDomain, suffix, err = e.records.walk(author); err != nil {
		return false, err
	}
	for _, d := range []string{author, res.OrgDomain, suffix} {
		if d == "" {
			continue
		}
		rec, err := e.records.get(d)
		if err != nil {
			return false, err
		}
		if rec != nil {
			res.RecordDomain, res.Record = d, rec
			return true, nil
		}
	}
	return false, nil
}

func (e *Evaluation) orgByOption(domain string) string {
	if org := e.opt.OrganizationalDomain(domain); org != "" {
		return org
	}
	return domain
}

// choosePolicy takes p=, sp= or np= (RFC 9989, 4.10.1), and t=.
func (e *Evaluation) choosePolicy(res *Result) error {
	rec := res.Record
	res.Published = rec.Policy
	if res.RecordDomain != res.AuthorDomain {
		if rec.SubdomainPolicy != "" {
			res.Published = rec.SubdomainPolicy
		}
		if rec.NonexistentPolicy != "" {
			a, err := e.records.resolver.Resolve(e.records.ctx, resolver.EscapeName(res.AuthorDomain), dns.TypeA)
			if err != nil && !errors.Is(err, resolver.ErrName) {
				return err
			}
			if err != nil || a.NXDomain && len(a.RRs) == 0 {
				res.Exists = false
				res.Published = rec.NonexistentPolicy
			}
		}
	}
	res.Policy = res.Published
	if rec.Testing {
		res.Policy = res.Published.softened()
	}
	return nil
}

// align looks for authenticated identifiers that are aligned with the author
// (RFC 9989, 4.10.2). undecided says that an aligned one met a passing trouble,
// so that the message can not be said to fail (5.3.6). The trouble of others
// does not count: anybody can sign with a name whose server is silent.
func (e *Evaluation) align(res *Result, spfResult *spf.Result, dkimResults []dkim.Result) (undecided bool, failed error) {
	try := func(domain string, strict, passed bool) string {
		ok, err := e.aligned(res, domain, strict)
		failed = errors.Join(failed, err)
		switch {
		case ok && passed:
			return domain
		case ok:
			undecided = true
		}
		return ""
	}
	for i := range dkimResults {
		r := &dkimResults[i]
		if res.DKIMDomain == "" && r.Signature != nil && (r.Status == dkim.Pass || r.Status == dkim.TempError) {
			res.DKIMDomain = try(r.Domain(), res.Record.StrictDKIM, r.Status == dkim.Pass)
		}
	}
	if r := spfResult; r != nil && r.Identity == spf.MailFrom && (r.Status == spf.Pass || r.Status == spf.TempError) {
		res.SPFDomain = try(r.Domain, res.Record.StrictSPF, r.Status == spf.Pass)
	}
	return undecided, failed
}

func (e *Evaluation) aligned(res *Result, domain string, strict bool) (bool, error) {
	domain, err := resolver.ToASCII(domain)
	if err != nil {
		return false, nil
	}
	if domain == res.AuthorDomain {
		return true, nil
	}
	if strict {
		return false, nil
	}
	if e.opt.OrganizationalDomain != nil {
		return e.orgByOption(domain) == res.OrgDomain, nil
	}
	if res.OrgDomain == "" {
		if res.OrgDomain, _, err = e.records.walk(res.AuthorDomain); err != nil {
			return false, err
		}
	}
	// Both names end in an organizational domain that they share. Asking no
	// further also means that nobody can leave the outcome open with a
	// signature of a domain whose servers don't answer.
	if domain != res.OrgDomain && !strings.HasSuffix(domain, "."+res.OrgDomain) {
		return false, nil
	}
	org, _, err := e.records.walk(domain)
	if err != nil {
		return false, err
	}
	return org == res.OrgDomain, nil
}

// related reports whether two names share their last two labels. Others have a
// common organizational domain only if that is a top-level domain.
func related(a, b string) bool {
	return lastLabels(a) == lastLabels(b)
}

func lastLabels(domain string) string {
	i := strings.LastIndexByte(domain, '.')
	return domain[strings.LastIndexByte(domain[:max(i, 0)], '.')+1:]
}
