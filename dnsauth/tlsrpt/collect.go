package tlsrpt

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Session is one attempt to speak TLS with a mail host.
type Session struct {
	Policy  Policy   // its Domain is whom the report is for
	Failure *Failure // nil for success; its Count is ignored
}

// Collector counts sessions by UTC day, domain, policy and way to fail. Its zero
// value is ready; it is safe for concurrent use.
type Collector struct {
	// MaxFailures bounds the different failures kept for one policy and day;
	// further ones only count in the summary. Zero means 1,000.
	MaxFailures int

	// MaxPolicies bounds the policies kept for one day, over which sessions are
	// not counted. Zero means 100,000.
	MaxPolicies int

	mu   sync.Mutex
	days map[time.Time]map[string]*tally // by policyKey
}

type tally struct {
	policy   Policy
	summary  Summary
	failures map[Failure]int64
}

func policyKey(p *Policy) string {
	return strings.Join([]string{strings.ToLower(p.Domain), string(p.Type), strings.Join(p.Lines, "\n"), strings.Join(p.MXHost, "\n")}, "\x00")
}

func day(at time.Time) time.Time { return at.UTC().Truncate(24 * time.Hour) }

// Add counts a session that was at a time.
func (c *Collector) Add(at time.Time, s Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tally(at, &s.Policy)
	if t == nil {
		return
	}
	if s.Failure == nil {
		t.summary.Successful++
		return
	}
	t.summary.Failed++
	f := *s.Failure
	f.Count = 0
	if _, known := t.failures[f]; known || len(t.failures) < cmp.Or(c.MaxFailures, 1000) {
		t.failures[f]++
	}
}

// tally finds the tally of a policy, with mu held; nil when there are too many.
func (c *Collector) tally(at time.Time, p *Policy) *tally {
	if c.days == nil {
		c.days = make(map[time.Time]map[string]*tally)
	}
	tallies := c.days[day(at)]
	if tallies == nil {
		tallies = make(map[string]*tally)
		c.days[day(at)] = tallies
	}
	key := policyKey(p)
	t := tallies[key]
	if t == nil {
		if len(tallies) >= cmp.Or(c.MaxPolicies, 100000) {
			return nil
		}
		t = &tally{policy: *p, failures: make(map[Failure]int64)}
		t.policy.Domain = strings.ToLower(t.policy.Domain)
		tallies[key] = t
	}
	return t
}

// Take returns the results of the UTC day that holds at, by domain, and forgets
// them. The caller makes a Report of those of each domain that asks for one.
func (c *Collector) Take(at time.Time) map[string][]Result {
	c.mu.Lock()
	tallies := c.days[day(at)]
	delete(c.days, day(at))
	c.mu.Unlock()
	out := make(map[string][]Result)
	for _, key := range sortedKeys(tallies) {
		t := tallies[key]
		out[t.policy.Domain] = append(out[t.policy.Domain], t.result())
	}
	return out
}

func (t *tally) result() Result {
	r := Result{Policy: t.policy, Summary: t.summary}
	for f, n := range t.failures {
		f.Count = n
		r.Failures = append(r.Failures, f)
	}
	slices.SortFunc(r.Failures, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Type, b.Type), cmp.Compare(a.MXHost, b.MXHost), cmp.Compare(a.ReceivingIP, b.ReceivingIP), cmp.Compare(a.Reason, b.Reason))
	})
	return r
}

func sortedKeys(m map[string]*tally) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Days returns the UTC days that there are results of, ascending.
func (c *Collector) Days() []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.SortedFunc(maps.Keys(c.days), time.Time.Compare)
}

// Save writes all results, so that they survive a restart.
func (c *Collector) Save(w io.Writer) error {
	c.mu.Lock()
	saved := make(map[string][]Result, len(c.days))
	for day, tallies := range c.days {
		for _, key := range sortedKeys(tallies) {
			saved[day.Format(time.DateOnly)] = append(saved[day.Format(time.DateOnly)], tallies[key].result())
		}
	}
	c.mu.Unlock()
	if err := json.NewEncoder(w).Encode(saved); err != nil {
		return fmt.Errorf("tlsrpt: save results: %w", err)
	}
	return nil
}

// Load adds the results that Save wrote to those there are.
func (c *Collector) Load(r io.Reader) error {
	var saved map[string][]Result
	if err := json.NewDecoder(r).Decode(&saved); err != nil {
		return fmt.Errorf("tlsrpt: load results: %w", err)
	}
	for text, results := range saved {
		at, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return fmt.Errorf("tlsrpt: load results: %w", err)
		}
		for i := range results {
			c.merge(at, &results[i])
		}
	}
	return nil
}

func (c *Collector) merge(at time.Time, r *Result) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tally(at, &r.Policy)
	if t == nil {
		return
	}
	t.summary.Successful += r.Summary.Successful
	t.summary.Failed += r.Summary.Failed
	for _, f := range r.Failures {
		n := f.Count
		f.Count = 0
		t.failures[f] += n
	}
}

// Day returns the range of the UTC day that holds at.
func Day(at time.Time) DateRange {
	return DateRange{Start: day(at), End: day(at).Add(24*time.Hour - time.Second)}
}

// Classify returns the result type for the error of a TLS handshake.
func Classify(err error) ResultType {
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &host):
		return CertificateMismatch
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return CertificateExpired
	case errors.As(err, &invalid), errors.As(err, &unknown), errors.As(err, &verification):
		return CertificateUntrusted
	}
	return ValidationFailure
}
