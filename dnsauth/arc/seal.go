package arc

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/authres"
	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/internal/canon"
	"github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"
	"github.com/mailblocks/mailblocks/dnsauth/internal/signing"
	"github.com/mailblocks/mailblocks/dnsauth/internal/taglist"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// SealOptions says how to seal.
type SealOptions struct {
	// Key signs both fields of the set. Its Identity is not used.
	Key dkim.SigningKey

	// ServID is our name, as in the Authentication-Results fields that we wrote.
	ServID string

	// Results are what we found when the message arrived. Nil means what the
	// message's Authentication-Results fields of ServID say, all in one; fields
	// that others forged must have been stripped then.
	Results *authres.Header

	// Chain is what validation of the chain gave when the message arrived,
	// before anything was changed. Empty means the result of the method "arc"
	// among the Results. It does not matter for a message without a chain.
	Chain Status

	// Headers are the names of the fields to sign, all of them that the message
	// has. Nil means dkim.DefaultHeaders and DKIM-Signature. Authentication-Results
	// and ARC fields can not be among them (RFC 8617, 4.1.2).
	Headers []string

	// MaxHeader bounds the header, in octets. Zero means 1 MiB.
	MaxHeader int

	// Now is the clock for t=. Nil means time.Now.
	Now func() time.Time

	sorted bool // tags in alphabetical order, each field on one line
}

// Sealer seals one message: write the message to it as it will be sent, after
// all other changes, DKIM signatures included; then prepend what Finish returns.
// It is used by one goroutine.
type Sealer struct {
	opt      SealOptions
	alg      string
	in       *signing.Input
	header   *msgheader.Header // after Finish began
	bodyHash []byte
}

// Errors of Finish about the message.
var (
	ErrUnknownChain  = errors.New("arc: message has a chain, but whether it passed is not known")
	ErrHeaderTooLong = errors.New("arc: header too long")
	ErrNoFrom        = errors.New("arc: message has no From field")
)

// NewSealer returns a sealer for one message. It returns an error when the key
// or a name in opt can not be used.
func NewSealer(opt SealOptions) (*Sealer, error) {
	s := &Sealer{opt: opt}
	var err error
	if s.opt.Key.Domain, err = resolver.ToASCII(opt.Key.Domain); err != nil {
		return nil, fmt.Errorf("arc: domain: %w", err)
	}
	if s.opt.Key.Selector, err = resolver.ToASCII(opt.Key.Selector); err != nil {
		return nil, fmt.Errorf("arc: selector: %w", err)
	}
	if s.alg, err = signing.Algorithm(opt.Key.Signer); err != nil {
		return nil, fmt.Errorf("arc: %w", err)
	}
	if opt.ServID == "" && opt.Results == nil {
		return nil, errors.New("arc: no ServID")
	}
	if opt.Headers == nil {
		s.opt.Headers = defaultHeaders
	}
	for _, name := range s.opt.Headers {
		lower := strings.ToLower(name)
		if name == "" || strings.ContainsFunc(name, notFieldName) || lower == "authentication-results" || strings.HasPrefix(lower, "arc-") {
			return nil, fmt.Errorf("arc: can not sign a field called %q", name)
		}
	}
	if s.opt.MaxHeader <= 0 {
		s.opt.MaxHeader = maxHeader
	}
	if s.opt.Now == nil {
		s.opt.Now = time.Now
	}
	s.in = signing.NewInput(s.opt.MaxHeader, true)
	return s, nil
}

var defaultHeaders = append(slices.Clone(dkim.DefaultHeaders), "DKIM-Signature")

func notFieldName(r rune) bool { return r <= ' ' || r > '~' || r == ':' || r == ';' }

// Write takes the next part of the message. It never fails; Finish tells.
func (s *Sealer) Write(p []byte) (int, error) { return s.in.Write(p) }

// Finish ends the message and returns the three fields of our set, each line
// with its CRLF, to put in front of the message. It returns nothing when
// nothing is to be added: somebody has sealed the chain as failed already, or
// it has MaxSets sets (RFC 8617, 5.1).
func (s *Sealer) Finish() ([]byte, error) {
	var err error
	if s.bodyHash, err = s.in.Finish(); err != nil {
		return nil, ErrHeaderTooLong
	}
	s.header = s.in.Header
	results := s.opt.Results
	if results == nil {
		results = s.merge()
	}
	sets, collectErr := collect(s.header)
	highest, failed := s.latest()
	if failed || highest >= MaxSets {
		return nil, nil
	}
	status, err := s.status(sets, collectErr, results)
	if err != nil {
		return nil, err
	}
	if status == Fail {
		sets = nil // RFC 8617, 5.1.2
	}
	return s.seal(highest+1, status, sets, results)
}

// merge gathers the results in our own fields.
func (s *Sealer) merge() *authres.Header {
	all := &authres.Header{ServID: s.opt.ServID}
	for i := range s.header.Fields {
		if !strings.EqualFold(string(s.header.Name(i)), "Authentication-Results") {
			continue
		}
		h, err := authres.Parse(string(s.header.Value(i)))
		if err == nil && strings.EqualFold(h.ServID, s.opt.ServID) {
			all.Results = append(all.Results, h.Results...)
		}
	}
	return all
}

// latest returns the highest instance of the ARC fields, also of a chain that is
// not complete, and whether a seal of that instance says cv=fail.
func (s *Sealer) latest() (highest int, failed bool) {
	for i := range s.header.Fields {
		name := strings.ToLower(string(s.header.Name(i)))
		seal := name == "arc-seal"
		if !seal && name != "arc-message-signature" && name != "arc-authentication-results" {
			continue
		}
		value := string(s.header.Value(i))
		if !seal && name == "arc-authentication-results" {
			value, _, _ = strings.Cut(value, ";")
		}
		tags, err := taglist.Parse(value, true)
		if err != nil {
			continue
		}
		number, _ := tags.Get("i")
		n, err := strconv.Atoi(number)
		if err != nil || n < highest || n < 1 {
			continue
		}
		if n > highest {
			highest, failed = n, false
		}
		if cv, _ := tags.Get("cv"); seal && strings.EqualFold(cv, string(Fail)) {
			failed = true
		}
	}
	return highest, failed
}

// status is the value of cv=.
func (s *Sealer) status(sets []*Set, collectErr error, results *authres.Header) (Status, error) {
	switch {
	case collectErr != nil:
		return Fail, nil
	case len(sets) == 0:
		return None, nil
	}
	status := s.opt.Chain
	for i := range results.Results {
		if r := &results.Results[i]; status == "" && r.Method == "arc" {
			status = Status(r.Value)
		}
	}
	if status != Pass && status != Fail {
		return "", ErrUnknownChain
	}
	return status, nil
}

// names is the value of h=.
func (s *Sealer) names(index *canon.Fields) []string {
	var names []string
	for i, name := range s.opt.Headers {
		if slices.ContainsFunc(s.opt.Headers[:i], func(n string) bool { return strings.EqualFold(n, name) }) {
			continue
		}
		for range index.CountOf(name) {
			names = append(names, name)
		}
	}
	return names
}

// seal makes the fields. What a seal signs is RFC 8617, 5.1.1.
func (s *Sealer) seal(instance int, status Status, sets []*Set, results *authres.Header) ([]byte, error) {
	index := canon.NewFields(s.header)
	if index.CountOf("From") == 0 {
		return nil, ErrNoFrom
	}
	number := strconv.Itoa(instance)
	aar := signing.Field{NoFold: s.opt.sorted}
	aar.Begin("ARC-Authentication-Results")
	aar.Tag("i=", number, ";")
	aar.Tag(results.String())

	names := s.names(index)
	signed, _ := index.AppendSigned(nil, names, true)
	ams, err := s.field("ARC-Message-Signature", signed, []tag{
		{"i", number}, {"a", s.alg}, {"c", "relaxed/relaxed"}, {"d", s.opt.Key.Domain}, {"s", s.opt.Key.Selector},
		{"t", strconv.FormatInt(s.opt.Now().Unix(), 10)}, {"h", strings.Join(names, ":")},
		{"bh", base64.StdEncoding.EncodeToString(s.bodyHash)}, {"b", ""},
	})
	if err != nil {
		return nil, err
	}

	var chain []byte
	for _, set := range sets {
		for _, field := range []int{set.aarField, set.amsField, set.sealField} {
			chain = append(canon.AppendHeader(chain, s.header, field, true), "\r\n"...)
		}
	}
	for _, field := range [][]byte{aar.Buf, ams} {
		name, value, _ := strings.Cut(string(field), ":")
		chain = append(canon.AppendRelaxed(chain, []byte(name), []byte(value)), "\r\n"...)
	}
	seal, err := s.field("ARC-Seal", chain, []tag{
		{"i", number}, {"a", s.alg}, {"cv", string(status)}, {"d", s.opt.Key.Domain}, {"s", s.opt.Key.Selector},
		{"t", strconv.FormatInt(s.opt.Now().Unix(), 10)}, {"b", ""},
	})
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, field := range [][]byte{seal, ams, aar.Buf} {
		out = append(append(out, field...), "\r\n"...)
	}
	return out, nil
}

// tag is one tag of a signature.
type tag struct{ name, value string }

// field makes a signature's field over signed and itself.
func (s *Sealer) field(name string, signed []byte, tags []tag) ([]byte, error) {
	if s.opt.sorted {
		slices.SortFunc(tags, func(a, b tag) int { return strings.Compare(a.name, b.name) })
	}
	unsigned := s.write(name, tags, nil)
	data := canon.AppendRelaxed(slices.Clip(signed), []byte(name), unsigned[len(name)+1:])
	digest := sha256.Sum256(data)
	sig, err := signing.Sign(s.opt.Key.Signer, s.alg, digest[:])
	if err != nil {
		return nil, fmt.Errorf("arc: sign for %s with selector %s: %w", s.opt.Key.Domain, s.opt.Key.Selector, err)
	}
	return s.write(name, tags, sig), nil
}

// write writes a signature's field. Folds within b= don't change what is signed:
// it is taken out, with all whitespace around it.
func (s *Sealer) write(name string, tags []tag, sig []byte) []byte {
	w := signing.Field{NoFold: s.opt.sorted}
	w.Begin(name)
	for i, t := range tags {
		end := ";"
		if i == len(tags)-1 {
			end = ""
		}
		switch {
		case t.name == "b":
			w.Tag("b=")
			w.Base64(sig)
			w.Buf = append(w.Buf, end...)
		case t.name == "h" && !w.NoFold && strings.Contains(t.value, ":"):
			first, rest, _ := strings.Cut(t.value, ":")
			w.Tag("h=", first, ":")
			for more := true; more; {
				var next string
				next, rest, more = strings.Cut(rest, ":")
				sep := end
				if more {
					sep = ":"
				}
				w.Part(next, sep)
			}
		default:
			w.Tag(t.name, "=", t.value, end)
		}
	}
	return w.Buf
}
