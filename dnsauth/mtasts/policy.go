package mtasts

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Mode is what a policy asks for when a mail host does not fit it.
type Mode string

// The modes of RFC 8461, 5.
const (
	Enforce Mode = "enforce" // give the host no mail
	Testing Mode = "testing" // deliver, and report
	None    Mode = "none"    // as if there were no policy
)

// Policy is a parsed policy (RFC 8461, 3.2).
type Policy struct {
	Mode   Mode
	MX     []string      // lower-case patterns: a host name, or "*." and a domain
	MaxAge time.Duration // how long it may be kept after it was fetched
}

// maxAge is the longest max_age (RFC 8461, 3.2).
const maxAge = 31557600 * time.Second

// maxMX bounds the patterns of a policy.
const maxMX = 1000

// ErrPolicy is wrapped by what ParsePolicy returns.
var ErrPolicy = errors.New("mtasts: malformed policy")

// ParsePolicy parses the text of a policy, whose lines end in CRLF or LF. Of a
// field that appears twice the first counts, but for mx. A max_age beyond the
// RFC's largest counts as that.
func ParsePolicy(text string) (*Policy, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrPolicy)
	}
	p := &Policy{}
	seen := make(map[string]bool)
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimLeft(value, " \t")
		if !ok || !isFieldName(name) || value == "" || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return nil, fmt.Errorf("%w: line %q", ErrPolicy, line[:min(len(line), 80)])
		}
		if seen[name] && name != "mx" {
			continue
		}
		seen[name] = true
		if err := p.set(name, value); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"version", "mode", "max_age"} {
		if !seen[name] {
			return nil, fmt.Errorf("%w: no %s", ErrPolicy, name)
		}
	}
	if len(p.MX) == 0 && p.Mode != None {
		return nil, fmt.Errorf("%w: no mx", ErrPolicy)
	}
	return p, nil
}

func (p *Policy) set(name, value string) error {
	switch name {
	case "version":
		if value != "STSv1" {
			return fmt.Errorf("%w: unknown version", ErrPolicy)
		}
	case "mode":
		p.Mode = Mode(value)
		if p.Mode != Enforce && p.Mode != Testing && p.Mode != None {
			return fmt.Errorf("%w: unknown mode", ErrPolicy)
		}
	case "max_age":
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil || len(value) > 10 || value[0] == '+' {
			return fmt.Errorf("%w: max_age", ErrPolicy)
		}
		p.MaxAge = min(time.Duration(min(n, 1<<31))*time.Second, maxAge)
	case "mx":
		pattern := strings.ToLower(strings.TrimSuffix(value, "."))
		if !isPattern(pattern) {
			return fmt.Errorf("%w: mx %q", ErrPolicy, value[:min(len(value), 80)])
		}
		if len(p.MX) == maxMX {
			return fmt.Errorf("%w: more than %d mx", ErrPolicy, maxMX)
		}
		p.MX = append(p.MX, pattern)
	}
	return nil
}

// isPattern is ["*."] Domain, in A-labels.
func isPattern(s string) bool {
	s = strings.TrimPrefix(s, "*.")
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !isAlnum(label[i]) && label[i] != '-' && label[i] != '_' {
				return false
			}
		}
	}
	return true
}

// Matches reports whether a mail host fits one of the patterns, of which "*"
// stands for exactly one label (RFC 8461, 4.1).
func (p *Policy) Matches(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	_, parent, _ := strings.Cut(host, ".")
	for _, pattern := range p.MX {
		if suffix, wild := strings.CutPrefix(pattern, "*."); wild && suffix == parent || pattern == host {
			return host != ""
		}
	}
	return false
}

// String returns the policy's text, as a policy host serves it.
func (p *Policy) String() string {
	var b strings.Builder
	b.WriteString("version: STSv1\r\nmode: " + string(p.Mode) + "\r\n")
	for _, mx := range p.MX {
		b.WriteString("mx: " + mx + "\r\n")
	}
	b.WriteString("max_age: " + strconv.FormatInt(int64(p.MaxAge/time.Second), 10) + "\r\n")
	return b.String()
}
