package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Record is a parsed SPF record (RFC 7208, 3).
type Record struct {
	Directives []Directive
	Redirect   string     // domain-spec of redirect=, empty without
	Exp        string     // domain-spec of exp=, empty without
	Unknown    []Modifier // other modifiers, in order

	redirect, exp macroString
	all           bool // a directive is "all": redirect is ignored (5.1)
}

// Qualifier says what a directive's match means: '+', '-', '~' or '?'.
type Qualifier byte

// The qualifiers of RFC 7208, 4.6.2.
const (
	QualifierPass     Qualifier = '+'
	QualifierFail     Qualifier = '-'
	QualifierSoftFail Qualifier = '~'
	QualifierNeutral  Qualifier = '?'
)

// Directive is a mechanism with its qualifier.
type Directive struct {
	Qualifier Qualifier
	Mechanism string       // lower-case name: "all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"
	Domain    string       // domain-spec as published; empty where it was left out
	Network   netip.Prefix // of ip4 and ip6
	Len4      int          // prefix lengths of a and mx; 32 and 128 where left out
	Len6      int

	spec macroString
	text string // String's, as parsed: asked for in each result
}

// Modifier is a name=value term that RFC 7208 does not know.
type Modifier struct{ Name, Value string }

// SyntaxError is what Parse returns for a record that has a version but can
// not be parsed: a permerror.
type SyntaxError struct {
	Term   string // the term at fault
	Reason string
}

// Error implements error.
func (e *SyntaxError) Error() string { return fmt.Sprintf("spf: term %q: %s", e.Term, e.Reason) }

// IsRecord reports whether a TXT record's text begins with the version section
// of RFC 7208, 4.5. All others are none of SPF's business.
func IsRecord(text string) bool {
	const version = "v=spf1"
	if len(text) < len(version) || !strings.EqualFold(text[:len(version)], version) {
		return false
	}
	return len(text) == len(version) || text[len(version)] == ' '
}

// Parse parses the text of a TXT record for which [IsRecord] holds. The error
// is a *SyntaxError.
func Parse(text string) (*Record, error) {
	if !IsRecord(text) {
		return nil, &SyntaxError{Term: firstWord(text), Reason: "not an SPF record"}
	}
	r := &Record{Directives: make([]Directive, 0, min(strings.Count(text, " "), 64))}
	for term := range strings.SplitSeq(text[len("v=spf1"):], " ") {
		if term == "" {
			continue
		}
		if err := r.add(term); err != nil {
			return nil, &SyntaxError{Term: term, Reason: err.Error()}
		}
	}
	return r, nil
}

func firstWord(s string) string {
	if i := strings.IndexByte(s, ' '); i >= 0 {
		s = s[:i]
	}
	return s[:min(len(s), 64)]
}

func (r *Record) add(term string) error {
	if i := strings.IndexByte(term, '='); i >= 0 && isModifierName(term[:i]) {
		return r.addModifier(strings.ToLower(term[:i]), term[i+1:])
	}
	d, err := parseDirective(term)
	if err != nil {
		return err
	}
	d.text = d.String()
	r.all = r.all || d.Mechanism == "all"
	r.Directives = append(r.Directives, d)
	return nil
}

func isModifierName(s string) bool {
	if s == "" || !isAlpha(s[0]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlpha(c) && !isDigit(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

func (r *Record) addModifier(name, value string) error {
	m, err := parseMacro(value, false)
	if err != nil {
		return err
	}
	var text *string
	var spec *macroString
	switch name {
	case "redirect":
		text, spec = &r.Redirect, &r.redirect
	case "exp":
		text, spec = &r.Exp, &r.exp
	default:
		r.Unknown = append(r.Unknown, Modifier{name, value})
		return nil
	}
	if *text != "" {
		return errors.New("modifier appears twice")
	}
	if !m.isDomainSpec() {
		return errBadDomain
	}
	*text, *spec = value, m
	return nil
}

var errBadDomain = errors.New("bad domain-spec")

func parseDirective(term string) (Directive, error) {
	d := Directive{Qualifier: QualifierPass, Len4: 32, Len6: 128}
	if strings.IndexByte("+-~?", term[0]) >= 0 {
		d.Qualifier = Qualifier(term[0])
		term = term[1:]
	}
	name, arg := term, ""
	if i := strings.IndexAny(term, ":/"); i >= 0 {
		name, arg = term[:i], term[i:]
	}
	d.Mechanism = strings.ToLower(name)
	switch d.Mechanism {
	case "all":
		if arg != "" {
			return d, errors.New("all takes no argument")
		}
		return d, nil
	case "include", "exists":
		if arg == "" || arg[0] != ':' {
			return d, errors.New("domain-spec missing")
		}
		return d, d.setDomain(arg[1:])
	case "ptr":
		if arg == "" {
			return d, nil
		}
		if arg[0] != ':' {
			return d, errBadDomain
		}
		return d, d.setDomain(arg[1:])
	case "a", "mx":
		rest, err := d.cutLengths(arg)
		if err != nil || rest == "" {
			return d, err
		}
		if rest[0] != ':' {
			return d, errBadDomain
		}
		return d, d.setDomain(rest[1:])
	case "ip4", "ip6":
		if arg == "" || arg[0] != ':' {
			return d, errors.New("network missing")
		}
		return d, d.setNetwork(arg[1:])
	}
	return d, errors.New("unknown mechanism")
}

func (d *Directive) setDomain(spec string) error {
	m, err := parseMacro(spec, false)
	if err != nil {
		return err
	}
	if !m.isDomainSpec() {
		return errBadDomain
	}
	d.Domain, d.spec = spec, m
	return nil
}

// cutLengths takes the dual-cidr-length off the end of arg. A slash belongs to
// it only when nothing but digits, or a second slash, follows: slashes may
// stand in a domain-spec too.
func (d *Directive) cutLengths(arg string) (rest string, err error) {
	rest = arg
	if i := strings.LastIndex(rest, "//"); i >= 0 && isDigits(rest[i+2:]) {
		if d.Len6, err = parseLength(rest[i+2:], 128); err != nil {
			return "", err
		}
		rest = rest[:i]
	}
	if i := strings.LastIndexByte(rest, '/'); i >= 0 && isDigits(rest[i+1:]) {
		if d.Len4, err = parseLength(rest[i+1:], 32); err != nil {
			return "", err
		}
		rest = rest[:i]
	}
	return rest, nil
}

func isDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

func parseLength(s string, limit int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n > limit || !isDigits(s) || s[0] == '0' && len(s) > 1 {
		return 0, errors.New("bad prefix length")
	}
	return n, nil
}

func (d *Directive) setNetwork(s string) error {
	v4 := d.Mechanism == "ip4"
	bits, limit := 128, 128
	if v4 {
		bits, limit = 32, 32
	}
	if i := strings.IndexByte(s, '/'); i >= 0 {
		n, err := parseLength(s[i+1:], limit)
		if err != nil {
			return err
		}
		s, bits = s[:i], n
	}
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Is4() != v4 || ip.Zone() != "" {
		return errors.New("bad network address")
	}
	d.Network = netip.PrefixFrom(ip, bits)
	return nil
}

// String returns the directive in its shortest published form, without a '+'.
func (d Directive) String() string {
	var b strings.Builder
	if d.Qualifier != QualifierPass {
		b.WriteByte(byte(d.Qualifier))
	}
	b.WriteString(d.Mechanism)
	switch d.Mechanism {
	case "ip4", "ip6":
		b.WriteByte(':')
		if d.Network.Bits() == d.Network.Addr().BitLen() {
			b.WriteString(d.Network.Addr().String())
		} else {
			b.WriteString(d.Network.String())
		}
		return b.String()
	}
	if d.Domain != "" {
		b.WriteString(":" + d.Domain)
	}
	if d.Len4 != 32 {
		b.WriteString("/" + strconv.Itoa(d.Len4))
	}
	if d.Len6 != 128 {
		b.WriteString("//" + strconv.Itoa(d.Len6))
	}
	return b.String()
}

// String returns the record's text. Parse of it gives an equal record.
func (r *Record) String() string {
	var b strings.Builder
	b.WriteString("v=spf1")
	for _, d := range r.Directives {
		b.WriteString(" " + d.String())
	}
	for _, m := range r.Unknown {
		b.WriteString(" " + m.Name + "=" + m.Value)
	}
	if r.Redirect != "" {
		b.WriteString(" redirect=" + r.Redirect)
	}
	if r.Exp != "" {
		b.WriteString(" exp=" + r.Exp)
	}
	return b.String()
}
