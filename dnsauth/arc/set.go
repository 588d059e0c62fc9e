package arc

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/authres"
	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"
	"github.com/mailblocks/mailblocks/dnsauth/internal/taglist"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// Set is the three fields that one server added (RFC 8617, 4.2).
type Set struct {
	Instance int             // 1 for the oldest
	Results  *authres.Header // of ARC-Authentication-Results, as far as it could be read
	Message  *Signature      // ARC-Message-Signature
	Seal     *Signature      // ARC-Seal

	aarField, amsField, sealField int // in the header
}

// Signature is a parsed ARC-Message-Signature or ARC-Seal.
type Signature struct {
	Algorithm   string // a=, lower-case
	Domain      string // d=, in A-labels
	Selector    string // s=
	Chain       string // cv= of a seal: "none", "pass" or "fail"
	Headers     []string
	HeaderCanon dkim.Canonicalization
	BodyCanon   dkim.Canonicalization
	BodyLength  int64 // l=; -1 without

	signature    []byte
	bodyHash     []byte
	instance     int
	bStart, bEnd int // of the b= value in the field's value
}

// MaxSets is how many sets a chain may have (RFC 8617, 4.2.1).
const MaxSets = 50

var (
	errSyntax    = errors.New("malformed field")
	errInstance  = errors.New("bad instance")
	errTwice     = errors.New("two fields of one kind in a set")
	errTooMany   = errors.New("more than 50 sets")
	errGap       = errors.New("a set is missing or not complete")
	errAlgorithm = errors.New("unacceptable algorithm")
)

// collect gathers the sets of a header, oldest first. Without ARC fields it
// returns none and no error.
func collect(h *msgheader.Header) ([]*Set, error) {
	byInstance := make(map[int]*Set)
	at := func(instance int) *Set {
		s := byInstance[instance]
		if s == nil {
			s = &Set{Instance: instance, aarField: -1, amsField: -1, sealField: -1}
			byInstance[instance] = s
		}
		return s
	}
	for i := range h.Fields {
		name := strings.ToLower(string(h.Name(i)))
		if !strings.HasPrefix(name, "arc-") {
			continue
		}
		value := string(h.Value(i))
		var field *int
		switch name {
		case "arc-authentication-results":
			instance, results, err := parseResults(value)
			if err != nil {
				return nil, err
			}
			s := at(instance)
			s.Results, field = results, &s.aarField
		case "arc-message-signature":
			sig, err := parseSignature(value, false)
			if err != nil {
				return nil, err
			}
			s := at(sig.instance)
			s.Message, field = sig, &s.amsField
		case "arc-seal":
			sig, err := parseSignature(value, true)
			if err != nil {
				return nil, err
			}
			s := at(sig.instance)
			s.Seal, field = sig, &s.sealField
		default:
			continue
		}
		if *field >= 0 {
			return nil, errTwice
		}
		*field = i
	}
	sets := make([]*Set, len(byInstance))
	for instance, s := range byInstance {
		if instance > len(sets) || s.aarField < 0 || s.amsField < 0 || s.sealField < 0 {
			return nil, errGap
		}
		sets[instance-1] = s
	}
	return sets, nil
}

func parseInstance(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || s[0] == '+' {
		return 0, errInstance
	}
	if n > MaxSets {
		return 0, errTooMany
	}
	return n, nil
}

// parseResults reads ARC-Authentication-Results: "i=1;" and results.
func parseResults(value string) (int, *authres.Header, error) {
	first, rest, ok := strings.Cut(value, ";")
	name, number, eq := strings.Cut(first, "=")
	if !ok || !eq || strings.TrimSpace(name) != "i" {
		return 0, nil, errInstance
	}
	instance, err := parseInstance(strings.TrimSpace(number))
	if err != nil {
		return 0, nil, err
	}
	results, _ := authres.Parse(rest) // what can't be read is not for us to judge
	return instance, results, nil
}

func parseSignature(value string, seal bool) (*Signature, error) {
	tags, err := taglist.Parse(value, false)
	if err != nil {
		return nil, errSyntax
	}
	required := []string{"i", "a", "b", "d", "s", "bh", "h"}
	if seal {
		required = []string{"i", "a", "b", "d", "s", "cv"}
	}
	for _, name := range required {
		if v, ok := tags.Get(name); !ok || v == "" && name != "h" {
			return nil, errSyntax
		}
	}
	// The published suite expects relaxed where c= is left out.
	s := &Signature{BodyLength: -1, HeaderCanon: dkim.Relaxed, BodyCanon: dkim.Relaxed}
	for i := range tags {
		if err := s.set(&tags[i], seal); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Signature) set(t *taglist.Tag, seal bool) (err error) {
	switch t.Name {
	case "i":
		s.instance, err = parseInstance(t.Value)
		return err
	case "a":
		s.Algorithm = strings.ToLower(t.Value)
		if s.Algorithm != "rsa-sha256" && s.Algorithm != "ed25519-sha256" {
			return errAlgorithm
		}
	case "b":
		s.bStart, s.bEnd = t.Start, t.End
		s.signature, err = base64.StdEncoding.DecodeString(taglist.Unspaced(t.Value))
	case "bh":
		s.bodyHash, err = base64.StdEncoding.DecodeString(taglist.Unspaced(t.Value))
	case "d":
		s.Domain, err = resolver.ToASCII(t.Value)
	case "s":
		s.Selector, err = resolver.ToASCII(t.Value)
	case "cv":
		s.Chain = strings.ToLower(t.Value)
	case "h":
		if seal {
			return errSyntax // RFC 8617, 4.1.3
		}
		s.Headers = taglist.Split(t.Value, ":")
		for _, name := range s.Headers {
			if strings.EqualFold(name, "ARC-Seal") {
				return errSyntax
			}
		}
	case "c":
		if !seal {
			return s.setCanon(strings.ToLower(t.Value))
		}
	case "l":
		s.BodyLength, err = strconv.ParseInt(t.Value, 10, 64)
		if s.BodyLength < 0 {
			return errSyntax
		}
	case "t", "x":
		if t.Value == "" || strings.Trim(t.Value, "0123456789") != "" {
			return errSyntax
		}
	}
	if err != nil {
		return errSyntax
	}
	return nil
}

func (s *Signature) setCanon(v string) error {
	header, body, both := strings.Cut(v, "/")
	if !both {
		body = "simple"
	}
	s.HeaderCanon, s.BodyCanon = dkim.Canonicalization(header), dkim.Canonicalization(body)
	for _, c := range []dkim.Canonicalization{s.HeaderCanon, s.BodyCanon} {
		if c != dkim.Simple && c != dkim.Relaxed {
			return errSyntax
		}
	}
	return nil
}

// keyName is the DNS name of the public key.
func (s *Signature) keyName() string { return s.Selector + "._domainkey." + s.Domain }
