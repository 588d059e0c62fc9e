package dnsauth

import (
	"cmp"
	"slices"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/dmarc"
	"github.com/mailblocks/mailblocks/dnsauth/dmarcrpt"
)

// maxReportedSignatures is what RFC 9990, 3.1.3 advises.
const maxReportedSignatures = 100

// Aggregate returns what this message adds to the aggregate report that the author's domain may
// have asked for: the arguments of dmarcrpt.Collector.Add. Applied is what was done with the message; why
// tells the reason where that is not what the policy says (RFC 9990, 3.1.6), and a zero one stands for
// "local_policy". It is not ok where there is nothing to report: no record, or none that could be looked up.
func (r *Report) Aggregate(applied Disposition, why dmarcrpt.Reason) (p dmarcrpt.Policy, rec dmarcrpt.Record, ok bool) {
	d := r.DMARC
	if d.Record == nil || d.Status != dmarc.Pass && d.Status != dmarc.Fail {
		return p, rec, false
	}
	p = r.policyPublished()
	rec.Row.SourceIP = r.SPF.IP.String()
	rec.Row.Evaluated = dmarcrpt.Evaluated{Disposition: string(applied), DKIM: passOrFail(d.DKIMDomain != ""), SPF: passOrFail(d.SPFDomain != "")}
	e := &rec.Row.Evaluated
	switch {
	case d.Status == dmarc.Pass && applied == Accept && d.Published != dmarc.PolicyNone:
		e.Disposition = "pass"
	case d.Status == dmarc.Fail && d.Policy != d.Published && applied == Disposition(d.Policy):
		e.Reasons = []dmarcrpt.Reason{{Type: "policy_test_mode"}}
	case applied != Disposition(d.Disposition()):
		why.Type = cmp.Or(why.Type, "local_policy")
		e.Reasons = []dmarcrpt.Reason{why}
	}
	rec.Identifiers.HeaderFrom = d.AuthorDomain
	if !r.SPF.Null {
		rec.Identifiers.EnvelopeFrom = r.SPF.Domain
	}
	rec.Auth.SPF = []dmarcrpt.SPFResult{{Domain: r.SPF.Domain, Scope: "mfrom", Result: string(r.SPF.Status), Human: r.SPF.Reason}}
	rec.Auth.DKIM = r.reportedSignatures()
	return p, rec, true
}

// policyPublished has the record's values, and the defaults of those that it leaves out.
func (r *Report) policyPublished() dmarcrpt.Policy {
	rec := r.DMARC.Record
	policy := cmp.Or(rec.Policy, dmarc.PolicyNone)
	subdomains := cmp.Or(rec.SubdomainPolicy, policy)
	return dmarcrpt.Policy{
		Domain:          r.DMARC.RecordDomain,
		Policy:          string(policy),
		Subdomains:      string(subdomains),
		Nonexistent:     string(cmp.Or(rec.NonexistentPolicy, subdomains)),
		AlignDKIM:       alignment(rec.StrictDKIM),
		AlignSPF:        alignment(rec.StrictSPF),
		DiscoveryMethod: r.discovery,
		Options:         rec.Options,
		Testing:         map[bool]string{true: "y", false: "n"}[rec.Testing],
	}
}

// reportedSignatures are the results in the order of RFC 9990, 3.1.3: those that passed first, and of them
// the author's own.
func (r *Report) reportedSignatures() []dmarcrpt.DKIMResult {
	rank := func(s *dkim.Result) int {
		switch {
		case s.Status != dkim.Pass:
			return 3
		case s.Domain() == r.DMARC.AuthorDomain:
			return 0
		case s.Domain() == r.DMARC.DKIMDomain:
			return 1
		}
		return 2
	}
	var sorted []*dkim.Result
	for i := range r.DKIM {
		if r.DKIM[i].Signature != nil {
			sorted = append(sorted, &r.DKIM[i])
		}
	}
	slices.SortStableFunc(sorted, func(a, b *dkim.Result) int { return cmp.Compare(rank(a), rank(b)) })
	var out []dmarcrpt.DKIMResult
	for _, s := range sorted[:min(len(sorted), maxReportedSignatures)] {
		out = append(out, dmarcrpt.DKIMResult{Domain: s.Signature.Domain, Selector: s.Signature.Selector, Result: string(s.Status), Human: s.Reason})
	}
	return out
}

func alignment(strict bool) string {
	if strict {
		return "s"
	}
	return "r"
}

func passOrFail(pass bool) string {
	if pass {
		return "pass"
	}
	return "fail"
}
