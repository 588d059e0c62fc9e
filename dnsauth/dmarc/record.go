package dmarc

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
)

// Policy is what a domain owner wishes for messages that fail (RFC 9989, 4.7).
type Policy string

// The policies of RFC 9989, 4.7.
const (
	PolicyNone       Policy = "none"
	PolicyQuarantine Policy = "quarantine"
	PolicyReject     Policy = "reject"
)

// rank orders policies by strictness; an absent one ranks lowest.
func (p Policy) rank() int {
	switch p {
	case PolicyNone:
		return 1
	case PolicyQuarantine:
		return 2
	case PolicyReject:
		return 3
	}
	return 0
}

// softened is the policy one level below, for t=y.
func (p Policy) softened() Policy {
	if p == PolicyReject {
		return PolicyQuarantine
	}
	return PolicyNone
}

// PSD says whether a domain is a public suffix (psd=).
type PSD byte

// The values of psd=.
const (
	PSDUnknown PSD = 'u'
	PSDYes     PSD = 'y'
	PSDNo      PSD = 'n'
)

// Record is a parsed DMARC policy record. Values that don't parse stand as if
// the tag were absent, but for the policies; see Usable.
type Record struct {
	Policy            Policy // p=; empty when absent or malformed
	SubdomainPolicy   Policy // sp=; the same
	NonexistentPolicy Policy // np=; the same
	StrictDKIM        bool   // adkim=s
	StrictSPF         bool   // aspf=s
	PSD               PSD    // psd=
	Testing           bool   // t=y

	Aggregate []string // rua=: valid URIs, without the obsolete size limit
	Failure   []string // ruf=: the same
	Options   string   // fo=, "0" when absent, malformed, or without ruf=
	Percent   int      // pct= of RFC 7489; 100 when absent or malformed

	badPolicy bool // p= is absent or malformed, or sp= or np= malformed
}

// IsRecord reports whether a TXT record's text begins with the version tag of a
// DMARC record; all others at the name are none of DMARC's business.
func IsRecord(text string) bool {
	first, _, _ := strings.Cut(text, ";")
	name, value, ok := strings.Cut(first, "=")
	return ok && strings.EqualFold(trim(name), "v") && trim(value) == "DMARC1"
}

// ErrNotRecord is what Parse returns for text that is no DMARC record.
var ErrNotRecord = errors.New("dmarc: not a DMARC record")

// Parse parses the text of a TXT record. Its only error is ErrNotRecord: what
// is malformed behind the version tag is passed over (RFC 9989, 4.8).
func Parse(text string) (*Record, error) {
	if !IsRecord(text) {
		return nil, ErrNotRecord
	}
	r := &Record{PSD: PSDUnknown, Percent: 100}
	seen := make(map[string]bool, 12)
	options := ""
	_, text, _ = strings.Cut(text, ";")
	for spec := range strings.SplitSeq(text, ";") {
		name, value, ok := strings.Cut(spec, "=")
		name, value = strings.ToLower(trim(name)), trim(value)
		if !ok || seen[name] {
			continue
		}
		seen[name] = true
		switch name {
		case "p":
			r.Policy = parsePolicy(value)
		case "sp":
			r.SubdomainPolicy = parsePolicy(value)
			r.badPolicy = r.badPolicy || r.SubdomainPolicy == ""
		case "np":
			r.NonexistentPolicy = parsePolicy(value)
			r.badPolicy = r.badPolicy || r.NonexistentPolicy == ""
		case "adkim":
			r.StrictDKIM = strings.EqualFold(value, "s")
		case "aspf":
			r.StrictSPF = strings.EqualFold(value, "s")
		case "psd":
			switch strings.ToLower(value) {
			case "y":
				r.PSD = PSDYes
			case "n":
				r.PSD = PSDNo
			}
		case "t":
			r.Testing = strings.EqualFold(value, "y")
		case "rua":
			r.Aggregate = parseURIs(value)
		case "ruf":
			r.Failure = parseURIs(value)
		case "fo":
			options = parseOptions(value)
		case "pct":
			if n, err := strconv.Atoi(value); err == nil && 0 <= n && n <= 100 {
				r.Percent = n
			}
		}
	}
	r.badPolicy = r.badPolicy || r.Policy == ""
	if r.Options = "0"; options != "" && r.Failure != nil {
		r.Options = options
	}
	return r, nil
}

// Usable reports whether the record asks for anything. One without a valid p=,
// or with a malformed sp= or np=, counts as p=none if somebody wants reports
// (effective is that record then), and otherwise DMARC does not apply
// (RFC 9989, 4.10.1).
func (r *Record) Usable() (effective *Record, ok bool) {
	if !r.badPolicy {
		return r, true
	}
	if len(r.Aggregate) == 0 {
		return nil, false
	}
	e := *r
	e.Policy, e.SubdomainPolicy, e.NonexistentPolicy, e.badPolicy = PolicyNone, "", "", false
	return &e, true
}

func parsePolicy(s string) Policy {
	if p := Policy(strings.ToLower(s)); p.rank() > 0 {
		return p
	}
	return ""
}

// parseURIs returns the valid URIs of a dmarc-urilist.
func parseURIs(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		part = trim(part)
		if i := strings.LastIndexByte(part, '!'); i >= 0 { // obs-dmarc-report-size
			part = part[:i]
		}
		u, err := url.Parse(part)
		if err != nil || u.Scheme == "" || strings.ContainsAny(part, " !") {
			continue
		}
		if u.Scheme == "mailto" && !strings.Contains(u.Opaque, "@") {
			continue
		}
		out = append(out, part)
	}
	return out
}

// parseOptions checks fo=: "0" and "1" exclude each other, each letter once.
func parseOptions(s string) string {
	s = strings.ToLower(s)
	seen := ""
	for part := range strings.SplitSeq(s, ":") {
		part = trim(part)
		if len(part) != 1 || !strings.Contains("01ds", part) || strings.Contains(seen, part) {
			return ""
		}
		seen += part
	}
	if strings.Contains(seen, "0") && strings.Contains(seen, "1") {
		return ""
	}
	return strings.Join(strings.Split(seen, ""), ":")
}

func trim(s string) string { return strings.Trim(s, " \t\r\n") }

// String returns the record's text without tags that have their default value.
// Parse of it gives an equal record.
func (r *Record) String() string {
	var b strings.Builder
	b.WriteString("v=DMARC1")
	tag := func(name, value string, write bool) {
		if write {
			b.WriteString("; " + name + "=" + value)
		}
	}
	tag("p", string(r.Policy), r.Policy != "")
	tag("sp", string(r.SubdomainPolicy), r.SubdomainPolicy != "")
	tag("np", string(r.NonexistentPolicy), r.NonexistentPolicy != "")
	tag("adkim", "s", r.StrictDKIM)
	tag("aspf", "s", r.StrictSPF)
	tag("psd", string(rune(r.PSD)), r.PSD != PSDUnknown && r.PSD != 0)
	tag("t", "y", r.Testing)
	tag("pct", strconv.Itoa(r.Percent), r.Percent != 100)
	tag("rua", strings.Join(r.Aggregate, ","), len(r.Aggregate) > 0)
	tag("ruf", strings.Join(r.Failure, ","), len(r.Failure) > 0)
	tag("fo", r.Options, r.Options != "0" && r.Options != "")
	return b.String()
}
