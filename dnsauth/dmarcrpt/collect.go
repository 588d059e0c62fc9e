package dmarcrpt

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"sync"
)

// Collector counts results by domain until they are taken for a report. Its zero
// value is ready; it is safe for concurrent use.
type Collector struct {
	// MaxRecords bounds the records of one domain, over which messages are
	// not counted. Zero means 10,000.
	MaxRecords int

	// MaxDomains bounds the domains. Zero means 100,000.
	MaxDomains int

	mu      sync.Mutex
	domains map[string]*collected
}

type collected struct {
	policy Policy
	counts map[string]*Record // by their JSON without the count
}

// Add counts a message with the policy of its author's domain; r.Row.Count is
// ignored. If the policy changes while results are collected, the last counts
// (RFC 9990, 3.1.1.5 lets reporters choose).
func (c *Collector) Add(policy Policy, r Record) {
	r.Row.Count = 0
	key, err := json.Marshal(r)
	if err != nil {
		return // there is nothing in a Record that can't be marshalled
	}
	policy.Domain = strings.ToLower(policy.Domain)
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.domains[policy.Domain]
	if d == nil {
		if len(c.domains) >= cmp.Or(c.MaxDomains, 100000) {
			return
		}
		d = &collected{counts: make(map[string]*Record)}
		if c.domains == nil {
			c.domains = make(map[string]*collected)
		}
		c.domains[policy.Domain] = d
	}
	d.policy = policy
	known := d.counts[string(key)]
	if known == nil {
		if len(d.counts) >= cmp.Or(c.MaxRecords, 10000) {
			return
		}
		known = &r
		d.counts[string(key)] = known
	}
	known.Row.Count++
}

// Take returns a report for each domain, by name, and forgets what it counted.
// The caller fills in the Metadata, with an ID for each.
func (c *Collector) Take() []*Report {
	c.mu.Lock()
	domains := c.domains
	c.domains = nil
	c.mu.Unlock()
	var out []*Report
	for _, d := range domains {
		r := &Report{Version: "1.0", Policy: d.policy}
		for _, rec := range d.counts {
			r.Records = append(r.Records, *rec)
		}
		slices.SortFunc(r.Records, func(a, b Record) int {
			return cmp.Or(cmp.Compare(b.Row.Count, a.Row.Count), cmp.Compare(a.Row.SourceIP, b.Row.SourceIP), cmp.Compare(a.Identifiers.HeaderFrom, b.Identifiers.HeaderFrom))
		})
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *Report) int { return cmp.Compare(a.Policy.Domain, b.Policy.Domain) })
	return out
}
