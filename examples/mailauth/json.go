package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/dmarc"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
)

// output is what -json prints; parts that a command does not check are left out.
type output struct {
	SPF                   *spfOutput    `json:"spf,omitempty"`
	DKIM                  []dkimOutput  `json:"dkim,omitempty"`
	DMARC                 *dmarcOutput  `json:"dmarc,omitempty"`
	IPRev                 *iprevOutput  `json:"iprev,omitempty"`
	Domain                []publication `json:"domain,omitempty"`
	Disposition           string        `json:"disposition,omitempty"` // none, quarantine, reject
	Reason                string        `json:"reason,omitempty"`
	AuthenticationResults string        `json:"authentication_results,omitempty"`
	Queries               int           `json:"queries,omitempty"`
}

type spfOutput struct {
	Result      string `json:"result"`
	Domain      string `json:"domain"`
	Mechanism   string `json:"mechanism,omitempty"`
	Reason      string `json:"reason,omitempty"`
	Explanation string `json:"explanation,omitempty"`
	Lookups     int    `json:"lookups"`
	VoidLookups int    `json:"void_lookups"`
	ReceivedSPF string `json:"received_spf,omitempty"`
}

type dkimOutput struct {
	Result    string `json:"result"`
	Domain    string `json:"domain,omitempty"`
	Selector  string `json:"selector,omitempty"`
	Algorithm string `json:"algorithm,omitempty"`
	KeyBits   int    `json:"key_bits,omitempty"`
	Testing   bool   `json:"testing,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

type dmarcOutput struct {
	Result      string `json:"result"`
	Author      string `json:"author,omitempty"`
	OrgDomain   string `json:"org_domain,omitempty"`
	Record      string `json:"record,omitempty"`
	RecordAt    string `json:"record_at,omitempty"`
	Policy      string `json:"policy,omitempty"` // after t=y
	Published   string `json:"published,omitempty"`
	DKIMAligned string `json:"dkim_aligned,omitempty"`
	SPFAligned  string `json:"spf_aligned,omitempty"`
	Reason      string `json:"reason,omitempty"`
}

type iprevOutput struct {
	Result string `json:"result"`
	Name   string `json:"name,omitempty"`
}

// publication is one thing that a domain publishes, or should.
type publication struct {
	What    string `json:"what"` // mx, spf, dmarc, dkim; and where there is one: mta-sts, tls-rpt, bimi, dane
	Record  string `json:"record,omitempty"`
	Problem string `json:"problem,omitempty"`
}

func spfOut(r *spf.Result, servID string) *spfOutput {
	return &spfOutput{
		Result: string(r.Status), Domain: r.Domain, Mechanism: r.Mechanism, Reason: r.Reason, Explanation: r.Explanation,
		Lookups: r.Lookups, VoidLookups: r.VoidLookups, ReceivedSPF: r.ReceivedSPF(servID),
	}
}

func dkimOut(results []dkim.Result) []dkimOutput {
	var out []dkimOutput
	for i := range results {
		r := &results[i]
		o := dkimOutput{Result: string(r.Status), KeyBits: r.KeyBits, Testing: r.Testing, Reason: r.Reason}
		if s := r.Signature; s != nil {
			o.Domain, o.Selector, o.Algorithm = s.Domain, s.Selector, s.Algorithm
		}
		out = append(out, o)
	}
	return out
}

func dmarcOut(r *dmarc.Result) *dmarcOutput {
	o := &dmarcOutput{
		Result: string(r.Status), Author: r.AuthorDomain, OrgDomain: r.OrgDomain, RecordAt: r.RecordDomain,
		Policy: string(r.Policy), Published: string(r.Published), DKIMAligned: r.DKIMDomain, SPFAligned: r.SPFDomain, Reason: r.Reason,
	}
	if r.Record != nil {
		o.Record = r.Record.String()
	}
	return o
}

// print writes o as JSON, or its results as lines of text.
func (c *command) print(o *output) error {
	if c.json {
		e := json.NewEncoder(c.out)
		e.SetIndent("", "  ")
		return e.Encode(o)
	}
	line := func(method, result string, facts ...string) {
		fmt.Fprintf(c.out, "%s=%s", method, result)
		for i := 0; i+1 < len(facts); i += 2 {
			if facts[i+1] != "" {
				fmt.Fprintf(c.out, " %s=%q", facts[i], facts[i+1])
			}
		}
		fmt.Fprintln(c.out)
	}
	if o.IPRev != nil {
		line("iprev", o.IPRev.Result, "name", o.IPRev.Name)
	}
	if s := o.SPF; s != nil {
		line("spf", s.Result, "domain", s.Domain, "mechanism", s.Mechanism, "reason", s.Reason, "explanation", s.Explanation)
	}
	for _, d := range o.DKIM {
		line("dkim", d.Result, "domain", d.Domain, "selector", d.Selector, "reason", d.Reason)
	}
	if d := o.DMARC; d != nil {
		line("dmarc", d.Result, "author", d.Author, "policy", d.Policy, "record", d.Record, "reason", d.Reason)
	}
	for _, p := range o.Domain {
		line(p.What, map[bool]string{true: "ok", false: "wrong"}[p.Problem == ""], "record", p.Record, "problem", p.Problem)
	}
	if o.Disposition != "" {
		line("disposition", o.Disposition, "reason", o.Reason)
		fmt.Fprint(c.out, strings.ReplaceAll(o.AuthenticationResults, "\r\n", "\n"))
	}
	return nil
}
