package dkim

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/internal/canon"
	"github.com/mailblocks/mailblocks/dnsauth/internal/signing"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// SigningKey is a private key with the names under which its public half is
// published, at Selector._domainkey.Domain.
type SigningKey struct {
	Domain   string // d=
	Selector string // s=

	// Signer is the key: RSA of 1024 to 8192 bits, or Ed25519, in memory or
	// behind a crypto.Signer. Signers call it without locking.
	Signer crypto.Signer

	// Identity is i=, an address whose domain is Domain or below it. Empty
	// leaves the tag out.
	Identity string
}

// SignOptions says how to sign.
type SignOptions struct {
	// Keys each make a signature of their own over the message, in one pass.
	// RSA beside Ed25519 serves verifiers that know only one of them.
	Keys []SigningKey

	// HeaderCanon and BodyCanon; empty means relaxed.
	HeaderCanon, BodyCanon Canonicalization

	// Headers are the names of the fields to sign, all of them that the
	// message has. Nil means DefaultHeaders. From is always signed.
	Headers []string

	// Oversign are names to list once more than there are such fields, so that
	// none can be added. Nil means DefaultOversign, an empty slice nothing.
	Oversign []string

	// Expiration is the time until x=. Zero leaves the tag out.
	Expiration time.Duration

	// MaxHeader bounds the header, in octets. Zero means 1 MiB.
	MaxHeader int

	// Now is the clock for t=. Nil means time.Now.
	Now func() time.Time
}

// DefaultHeaders are the fields of RFC 6376, 5.4.1 that carry the content, and
// those that mailing lists are judged by. Fields that relays add or change
// (Received, Return-Path) are not among them.
var DefaultHeaders = []string{
	"From", "Sender", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Content-ID", "Content-Description",
	"Resent-From", "Resent-Sender", "Resent-To", "Resent-Cc", "Resent-Date", "Resent-Message-ID",
	"List-Id", "List-Help", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Subscribe", "List-Post", "List-Owner", "List-Archive",
	"Auto-Submitted", "Feedback-ID",
}

// DefaultOversign are the fields that readers see or that decide how they see
// the rest, of which a second one must not slip in.
var DefaultOversign = []string{
	"From", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding",
}

// Signer signs one message: write the message to it, with CRLF line ends as it
// will be sent, then prepend what Finish returns. It is used by one goroutine.
type Signer struct {
	opt      SignOptions
	in       *signing.Input
	bodyHash []byte
}

// Errors of Finish about the message.
var (
	ErrNoFrom        = errors.New("dkim: message has no From field")
	ErrHeaderTooLong = errors.New("dkim: header too long")
)

// NewSigner returns a signer for one message. It returns an error when a key
// or a name in opt can not be used.
func NewSigner(opt SignOptions) (*Signer, error) {
	s := &Signer{opt: opt}
	if len(opt.Keys) == 0 {
		return nil, errors.New("dkim: no key to sign with")
	}
	s.opt.Keys = make([]SigningKey, len(opt.Keys))
	for i, k := range opt.Keys {
		k, err := k.check()
		if err != nil {
			return nil, err
		}
		s.opt.Keys[i] = k
	}
	for _, c := range []*Canonicalization{&s.opt.HeaderCanon, &s.opt.BodyCanon} {
		switch *c {
		case "":
			*c = Relaxed
		case Simple, Relaxed:
		default:
			return nil, fmt.Errorf("dkim: unknown canonicalization %q", *c)
		}
	}
	if s.opt.Headers == nil {
		s.opt.Headers = DefaultHeaders
	}
	if s.opt.Oversign == nil {
		s.opt.Oversign = DefaultOversign
	}
	for _, list := range [][]string{s.opt.Headers, s.opt.Oversign} {
		for _, name := range list {
			if !isFieldName(name) || strings.EqualFold(name, "DKIM-Signature") {
				return nil, fmt.Errorf("dkim: can not sign a field called %q", name)
			}
		}
	}
	if s.opt.MaxHeader <= 0 {
		s.opt.MaxHeader = 1 << 20
	}
	if s.opt.Now == nil {
		s.opt.Now = time.Now
	}
	s.in = signing.NewInput(s.opt.MaxHeader, s.opt.BodyCanon == Relaxed)
	return s, nil
}

// check returns the key with its names in A-labels.
func (k SigningKey) check() (SigningKey, error) {
	var err error
	if k.Domain, err = resolver.ToASCII(k.Domain); err != nil {
		return k, fmt.Errorf("dkim: domain: %w", err)
	}
	if k.Selector, err = resolver.ToASCII(k.Selector); err != nil {
		return k, fmt.Errorf("dkim: selector: %w", err)
	}
	if _, err := k.algorithm(); err != nil {
		return k, err
	}
	if k.Identity != "" {
		at := strings.LastIndexByte(k.Identity, '@')
		domain, err := resolver.ToASCII(k.Identity[at+1:])
		if at < 0 || err != nil || domain != k.Domain && !strings.HasSuffix(domain, "."+k.Domain) {
			return k, fmt.Errorf("dkim: identity %q is not within %s", k.Identity, k.Domain)
		}
		k.Identity = k.Identity[:at+1] + domain
	}
	return k, nil
}

func (k SigningKey) algorithm() (string, error) {
	algorithm, err := signing.Algorithm(k.Signer)
	if err != nil {
		return "", fmt.Errorf("dkim: %w", err)
	}
	return algorithm, nil
}

// Write takes the next part of the message. It never fails; Finish tells.
func (s *Signer) Write(p []byte) (int, error) { return s.in.Write(p) }

// Finish ends the message and returns one DKIM-Signature field for each key, in
// the order of the keys, each line with its CRLF, to put in front of the message.
func (s *Signer) Finish() ([]byte, error) {
	var err error
	if s.bodyHash, err = s.in.Finish(); err != nil {
		return nil, ErrHeaderTooLong
	}
	index := canon.NewFields(s.in.Header)
	if index.CountOf("From") == 0 {
		return nil, ErrNoFrom
	}
	names := s.names(index)
	signed, _ := index.AppendSigned(make([]byte, 0, len(s.in.Header.Raw)+1024), names, s.opt.HeaderCanon == Relaxed)
	now := s.opt.Now()

	out := make([]byte, 0, 1024*len(s.opt.Keys))
	signed = slices.Grow(signed, 1024)
	for _, k := range s.opt.Keys {
		var err error
		if out, err = s.sign(out, k, names, signed, now); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// names is the value of h=: each field as often as it is there, and once more
// where it is oversigned.
func (s *Signer) names(index *canon.Fields) []string {
	names := make([]string, 0, 40)
	lists := [...][]string{fromAlone, s.opt.Headers, s.opt.Oversign}
	for i, list := range lists {
		for j, name := range list {
			if contains(lists[:i], name) || containsFold(list[:j], name) {
				continue
			}
			times := index.CountOf(name)
			if containsFold(s.opt.Oversign, name) {
				times++
			}
			for range times {
				names = append(names, name)
			}
		}
	}
	return names
}

var fromAlone = []string{"From"}

func contains(lists [][]string, name string) bool {
	return slices.ContainsFunc(lists, func(list []string) bool { return containsFold(list, name) })
}

func containsFold(list []string, name string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return len(s) == len(name) && strings.EqualFold(s, name) })
}

// sign appends the field for one key to out. data is scratch space behind
// what all keys sign.
func (s *Signer) sign(out []byte, k SigningKey, names []string, data []byte, now time.Time) ([]byte, error) {
	algorithm, err := k.algorithm()
	if err != nil {
		return nil, err
	}
	const name = "DKIM-Signature"
	start := len(out)
	w := signing.Field{Buf: out}
	w.Begin(name)
	w.Tag("v=1;")
	w.Tag("a=", algorithm, ";")
	w.Tag("c=", string(s.opt.HeaderCanon), "/", string(s.opt.BodyCanon), ";")
	w.Tag("d=", k.Domain, ";")
	w.Tag("s=", k.Selector, ";")
	if k.Identity != "" {
		w.Tag("i=", encodeQP(k.Identity), ";")
	}
	w.Tag("t=", strconv.FormatInt(now.Unix(), 10), ";")
	if s.opt.Expiration > 0 {
		w.Tag("x=", strconv.FormatInt(now.Add(s.opt.Expiration).Unix(), 10), ";")
	}
	for i, name := range names {
		end := ":"
		if i == len(names)-1 {
			end = ";"
		}
		if i == 0 {
			w.Tag("h=", name, end)
		} else {
			w.Part(name, end)
		}
	}
	w.Tag("bh=", base64.StdEncoding.EncodeToString(s.bodyHash), ";")
	w.Tag("b=")

	// The field is signed with nothing behind "b=", and relaxed drops the
	// whitespace there, so the signature can be folded in afterwards.
	field := w.Buf[start:]
	if s.opt.HeaderCanon == Simple {
		data = append(data, field...)
	} else {
		data = canon.AppendRelaxed(data, field[:len(name)], field[len(name)+1:])
	}
	digest := sha256.Sum256(data)
	sig, err := signing.Sign(k.Signer, algorithm, digest[:])
	if err != nil {
		return nil, fmt.Errorf("dkim: sign for %s with selector %s: %w", k.Domain, k.Selector, err)
	}
	w.Base64(sig)
	return append(w.Buf, "\r\n"...), nil
}
