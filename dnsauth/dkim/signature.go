package dkim

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/internal/taglist"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// Signature is a parsed DKIM-Signature field (RFC 6376, 3.5).
type Signature struct {
	Algorithm   string // a=, lower-case, such as "rsa-sha256"
	Signature   []byte // b=
	BodyHash    []byte // bh=
	HeaderCanon Canonicalization
	BodyCanon   Canonicalization
	Domain      string    // d=, in A-labels, lower-case
	Selector    string    // s=, in A-labels, lower-case
	Identity    string    // i=, decoded; "@" and the domain where it was left out
	Headers     []string  // h=, as written
	BodyLength  int64     // l=; -1 without
	Time        time.Time // t=; zero without
	Expires     time.Time // x=; zero without

	hasIdentity bool // i= was given
	bStart      int  // of the b= value in the field's value
	bEnd        int  // behind it
	keyName     string
}

// KeyName returns the DNS name of the public key (RFC 6376, 3.6.2.1).
func (s *Signature) KeyName() string { return s.keyName }

// signatureError says what is wrong with a signature field.
type signatureError string

func (e signatureError) Error() string { return string(e) }

const errNoFrom = signatureError("From field not signed")

// ParseSignature parses the value of a DKIM-Signature field, folds included,
// without checking the signature. RFC 6376, 6.1.1, asks for no leniency here:
// anything irregular is an error, unknown tags are not.
func ParseSignature(value string) (*Signature, error) {
	tags, err := taglist.Parse(value, false)
	if err != nil {
		return nil, signatureError("signature syntax error: " + err.Error())
	}
	s := &Signature{BodyLength: -1, HeaderCanon: Simple, BodyCanon: Simple}
	for _, name := range []string{"v", "a", "b", "bh", "d", "h", "s"} {
		if v, ok := tags.Get(name); !ok || v == "" {
			return nil, signatureError("signature lacks tag " + name + "=")
		}
	}
	if v, _ := tags.Get("v"); v != "1" {
		return nil, signatureError("incompatible signature version")
	}
	for i := range tags {
		if err := s.set(&tags[i]); err != nil {
			return nil, fmt.Errorf("tag %s=: %w", tags[i].Name, err)
		}
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

var errValue = errors.New("malformed value")

func (s *Signature) set(t *taglist.Tag) (err error) {
	switch t.Name {
	case "a":
		s.Algorithm = strings.ToLower(t.Value)
	case "b":
		s.bStart, s.bEnd = t.Start, t.End
		s.Signature, err = decodeBase64(t.Value)
	case "bh":
		s.BodyHash, err = decodeBase64(t.Value)
	case "c":
		return s.setCanon(strings.ToLower(t.Value))
	case "d":
		s.Domain, err = resolver.ToASCII(t.Value)
		if err == nil && !strings.Contains(s.Domain, ".") {
			err = errValue
		}
	case "s":
		s.Selector, err = resolver.ToASCII(t.Value)
	case "h":
		s.Headers = taglist.Split(t.Value, ":")
		for _, name := range s.Headers {
			if !isFieldName(name) {
				return errValue
			}
		}
	case "i":
		s.hasIdentity = true
		s.Identity, err = decodeQP(t.Value)
	case "l":
		s.BodyLength, err = parseNumber(t.Value, 76)
	case "t":
		s.Time, err = parseTime(t.Value)
	case "x":
		s.Expires, err = parseTime(t.Value)
	case "q":
		for _, m := range taglist.Split(t.Value, ":") {
			if strings.EqualFold(m, "dns/txt") {
				return nil
			}
		}
		return errors.New("no known query method")
	}
	return err
}

func (s *Signature) setCanon(v string) error {
	header, body, both := strings.Cut(v, "/")
	s.HeaderCanon, s.BodyCanon = Canonicalization(header), Simple
	if both {
		s.BodyCanon = Canonicalization(body)
	}
	for _, c := range []Canonicalization{s.HeaderCanon, s.BodyCanon} {
		if c != Simple && c != Relaxed {
			return errors.New("unknown canonicalization")
		}
	}
	return nil
}

// check compares tags with each other.
func (s *Signature) check() error {
	if s.Identity == "" && !s.hasIdentity {
		s.Identity = "@" + s.Domain
	}
	at := strings.LastIndexByte(s.Identity, '@')
	if at < 0 {
		return signatureError("tag i=: no domain")
	}
	domain, err := resolver.ToASCII(s.Identity[at+1:])
	if err != nil || domain != s.Domain && !strings.HasSuffix(domain, "."+s.Domain) {
		return signatureError("domain mismatch: i= is not within d=")
	}
	if s.Identity[at+1:] != domain {
		s.Identity = s.Identity[:at+1] + domain
	}
	signed := false
	for _, h := range s.Headers {
		signed = signed || strings.EqualFold(h, "From")
	}
	if !signed {
		return errNoFrom
	}
	if !s.Expires.IsZero() && !s.Time.IsZero() && !s.Expires.After(s.Time) {
		return signatureError("expires before it was made")
	}
	s.keyName = s.Selector + "._domainkey." + s.Domain
	return nil
}

// identityDomain is the domain of i=.
func (s *Signature) identityDomain() string {
	return s.Identity[strings.LastIndexByte(s.Identity, '@')+1:]
}

func decodeBase64(v string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(taglist.Unspaced(v))
	if err != nil || len(b) == 0 {
		return nil, errors.New("malformed base64")
	}
	return b, nil
}

// parseNumber reads 1*digits DIGIT. Numbers too large for an int64 become the
// largest: they are lengths and times beyond any real one.
func parseNumber(v string, digits int) (int64, error) {
	if v == "" || len(v) > digits {
		return 0, errValue
	}
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return 0, errValue
		}
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		n = 1<<63 - 1
	}
	return n, nil
}

// parseTime reads a time in seconds. More than 12 digits count as infinity,
// for which 10^12 will do.
func parseTime(v string) (time.Time, error) {
	n, err := parseNumber(v, 76)
	return time.Unix(min(n, 1e12), 0).UTC(), err
}

func isFieldName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' || s[i] == ':' || s[i] == ';' {
			return false
		}
	}
	return s != ""
}

// decodeQP is dkim-quoted-printable (RFC 6376, 2.11): whitespace does not
// count, and =XX is an octet.
func decodeQP(s string) (string, error) {
	s = taglist.Unspaced(s)
	if !strings.Contains(s, "=") {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '=' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errValue
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", errValue
		}
		b = append(b, byte(n))
		i += 2
	}
	return string(b), nil
}

// encodeQP is the inverse of decodeQP.
func encodeQP(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c > ' ' && c < 0x7f && c != '=' && c != ';' && c != '|' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}
