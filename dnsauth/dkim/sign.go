package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/internal/canon"
	"github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"
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
	opt     SignOptions
	collect msgheader.Collector
	header  *msgheader.Header
	err     error
	body    *canon.Body
	sink    *canon.Sink
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
	s.collect.Max = s.opt.MaxHeader
	s.body = canon.NewBody(s.opt.BodyCanon == Relaxed)
	s.sink = s.body.Sink(-1)
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
	if k.Signer == nil {
		return "", errors.New("dkim: no private key")
	}
	switch pub := k.Signer.Public().(type) {
	case *rsa.PublicKey:
		if n := pub.N.BitLen(); n < 1024 || n > maxKeyBits {
			return "", fmt.Errorf("dkim: RSA key of %d bits", n)
		}
		return "rsa-sha256", nil
	case ed25519.PublicKey:
		return "ed25519-sha256", nil
	default:
		return "", fmt.Errorf("dkim: can not sign with a %T", pub)
	}
}

// Write takes the next part of the message. It never fails; Finish tells.
func (s *Signer) Write(p []byte) (int, error) {
	n := len(p)
	if s.err != nil {
		return n, nil
	}
	if s.header == nil {
		used, done, err := s.collect.Write(p)
		if err != nil {
			s.err = ErrHeaderTooLong
			return n, nil
		}
		if !done {
			return n, nil
		}
		s.header = msgheader.Parse(s.collect.Header())
		p = p[used:]
	}
	s.body.Write(p)
	return n, nil
}

// Finish ends the message and returns one DKIM-Signature field for each key, in
// the order of the keys, each line with its CRLF, to put in front of the message.
func (s *Signer) Finish() ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	if s.header == nil {
		s.header = msgheader.Parse(s.collect.Header())
	}
	s.body.Finish()
	index := canon.NewFields(s.header)
	if index.CountOf("From") == 0 {
		return nil, ErrNoFrom
	}
	names := s.names(index)
	signed, _ := index.AppendSigned(nil, names, s.opt.HeaderCanon == Relaxed)
	now := s.opt.Now()

	var out []byte
	for _, k := range s.opt.Keys {
		field, err := s.sign(k, names, signed, now)
		if err != nil {
			return nil, err
		}
		out = append(out, field...)
	}
	return out, nil
}

// names is the value of h=: each field as often as it is there, and once more
// where it is oversigned.
func (s *Signer) names(index *canon.Fields) []string {
	var names []string
	listed := make(map[string]bool)
	add := func(name string, times int) {
		if key := strings.ToLower(name); !listed[key] {
			listed[key] = true
			for range times {
				names = append(names, name)
			}
		}
	}
	over := make(map[string]bool, len(s.opt.Oversign))
	for _, name := range s.opt.Oversign {
		over[strings.ToLower(name)] = true
	}
	for _, list := range [][]string{{"From"}, s.opt.Headers, s.opt.Oversign} {
		for _, name := range list {
			times := index.CountOf(name)
			if over[strings.ToLower(name)] {
				times++
			}
			add(name, times)
		}
	}
	return names
}

// sign makes the field for one key.
func (s *Signer) sign(k SigningKey, names []string, signed []byte, now time.Time) ([]byte, error) {
	algorithm, err := k.algorithm()
	if err != nil {
		return nil, err
	}
	w := folder{}
	w.b.WriteString("DKIM-Signature: ")
	w.col = w.b.Len()
	w.tag("v=1;")
	w.tag("a=" + algorithm + ";")
	w.tag("c=" + string(s.opt.HeaderCanon) + "/" + string(s.opt.BodyCanon) + ";")
	w.tag("d=" + k.Domain + ";")
	w.tag("s=" + k.Selector + ";")
	if k.Identity != "" {
		w.tag("i=" + encodeQP(k.Identity) + ";")
	}
	w.tag("t=" + strconv.FormatInt(now.Unix(), 10) + ";")
	if s.opt.Expiration > 0 {
		w.tag("x=" + strconv.FormatInt(now.Add(s.opt.Expiration).Unix(), 10) + ";")
	}
	for i, name := range names {
		switch {
		case i == 0 && len(names) == 1:
			w.tag("h=" + name + ";")
		case i == 0:
			w.tag("h=" + name + ":")
		case i < len(names)-1:
			w.part(name + ":")
		default:
			w.part(name + ";")
		}
	}
	w.tag("bh=" + base64.StdEncoding.EncodeToString(s.sink.Sum[:]) + ";")
	w.tag("b=")

	// The field is signed with nothing behind "b=", and relaxed drops the
	// whitespace there, so the signature can be folded in afterwards.
	field := w.b.String()
	data := append([]byte(nil), signed...)
	if s.opt.HeaderCanon == Simple {
		data = append(data, field...)
	} else {
		name, value, _ := strings.Cut(field, ":")
		data = canon.AppendRelaxed(data, []byte(name), []byte(value))
	}
	digest := sha256.Sum256(data)
	hash := crypto.SHA256
	if algorithm == "ed25519-sha256" {
		hash = 0 // the digest is the message (RFC 8463, 3)
	}
	sig, err := k.Signer.Sign(rand.Reader, digest[:], hash)
	if err != nil {
		return nil, fmt.Errorf("dkim: sign for %s with selector %s: %w", k.Domain, k.Selector, err)
	}
	for text := base64.StdEncoding.EncodeToString(sig); text != ""; {
		n := min(len(text), max(lineLength-w.col, 0))
		if n == 0 {
			w.fold()
			continue
		}
		w.b.WriteString(text[:n])
		w.col += n
		text = text[n:]
	}
	w.b.WriteString("\r\n")
	return []byte(w.b.String()), nil
}

// lineLength is where fields are folded (RFC 5322, 2.1.1).
const lineLength = 76

// folder writes a field and folds it between its parts.
type folder struct {
	b   strings.Builder
	col int
}

func (w *folder) fold() {
	w.b.WriteString("\r\n\t")
	w.col = 8
}

// tag writes s behind a space or a fold.
func (w *folder) tag(s string) {
	switch {
	case w.col+1+len(s) > lineLength:
		w.fold()
	case w.b.Len() > len("DKIM-Signature: "):
		w.b.WriteByte(' ')
		w.col++
	}
	w.b.WriteString(s)
	w.col += len(s)
}

// part writes s directly behind what is there, or behind a fold.
func (w *folder) part(s string) {
	if w.col+len(s) > lineLength {
		w.fold()
	}
	w.b.WriteString(s)
	w.col += len(s)
}
