package arc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/miekg/dns"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/internal/canon"
	"github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// Status is the Chain Validation Status (RFC 8617, 4.4).
type Status string

// The states of RFC 8617, 4.4. All failures are permanent, those of DNS too.
const (
	None Status = "none" // there is no chain
	Pass Status = "pass"
	Fail Status = "fail"
)

// Result is the outcome of a validation.
type Result struct {
	Status     Status
	Reason     string // for a fail: our words, printable ASCII
	Sets       []*Set // oldest first; empty when the chain's structure is broken
	OldestPass int    // lowest instance since which the message is unchanged; 0 = since the first (RFC 8617, 5.2)
}

// Verifier validates the chain of one message: write the message to it, with
// CRLF line ends, then call Finish. Look-ups of keys begin when the header is
// complete. A Verifier is used by one goroutine.
type Verifier struct {
	ctx      context.Context // of the message: Write begins the look-ups
	resolver resolver.Resolver
	collect  msgheader.Collector
	header   *msgheader.Header
	res      Result
	bodies   [2]*canon.Body // simple and relaxed; nil when no signature needs it
	messages []messageCheck // by instance
	seals    [][sha256.Size]byte
	keys     map[string]*resolver.Pending
}

type messageCheck struct {
	hash [sha256.Size]byte // of the header
	body *canon.Body
	sink *canon.Sink
}

// maxHeader bounds the header, in octets.
const maxHeader = 1 << 20

// minRSABits is RFC 8301, 3.2.
const minRSABits = 1024

// NewVerifier returns a verifier for one message, whose look-ups end with ctx.
func NewVerifier(ctx context.Context, r resolver.Resolver) *Verifier {
	return &Verifier{ctx: ctx, resolver: r, collect: msgheader.Collector{Max: maxHeader}}
}

// Verify validates the chain of the message that msg reads. The error is msg's.
func Verify(ctx context.Context, r resolver.Resolver, msg io.Reader) (*Result, error) {
	v := NewVerifier(ctx, r)
	_, err := io.Copy(v, msg)
	return v.Finish(), err
}

// Write takes the next part of the message. It never fails.
func (v *Verifier) Write(p []byte) (int, error) {
	n := len(p)
	if v.res.Status != "" { // known from the header
		return n, nil
	}
	if v.header == nil {
		used, done, err := v.collect.Write(p)
		if err != nil {
			v.fail("header too long")
			return n, nil
		}
		if !done {
			return n, nil
		}
		v.begin()
		p = p[used:]
	}
	for _, b := range v.bodies {
		if b != nil {
			b.Write(p)
		}
	}
	return n, nil
}

func (v *Verifier) fail(reason string) {
	v.res.Status, v.res.Reason = Fail, reason
}

// begin goes as far as the header allows: structure, cv=, hashes, look-ups.
func (v *Verifier) begin() {
	v.header = msgheader.Parse(v.collect.Header())
	sets, err := collect(v.header)
	switch {
	case err != nil:
		v.fail(err.Error())
		return
	case len(sets) == 0:
		v.res.Status = None
		return
	}
	v.res.Sets = sets
	for i, s := range sets {
		want := "pass"
		if i == 0 {
			want = "none"
		}
		if s.Seal.Chain != want {
			v.fail(fmt.Sprintf("cv= of seal %d is not %s", s.Instance, want))
			return
		}
	}
	v.hashSeals(sets)
	index := canon.NewFields(v.header)
	v.messages = make([]messageCheck, len(sets))
	v.keys = make(map[string]*resolver.Pending)
	for i, s := range sets {
		v.startLookup(s.Seal.keyName())
		v.startLookup(s.Message.keyName())
		v.hashMessage(&v.messages[i], s, index)
	}
}

func (v *Verifier) startLookup(name string) {
	if v.keys[name] == nil {
		v.keys[name] = resolver.Ask(v.ctx, v.resolver, resolver.EscapeName(name), dns.TypeTXT)
	}
}

// hashSeals computes what each seal signs: all sets up to its own, in order
// (RFC 8617, 5.1.1). The hash of the sets before is computed once.
func (v *Verifier) hashSeals(sets []*Set) {
	running := sha256.New()
	v.seals = make([][sha256.Size]byte, len(sets))
	var buf []byte
	for i, s := range sets {
		buf = canon.AppendHeader(buf[:0], v.header, s.aarField, true)
		buf = append(buf, "\r\n"...)
		buf = canon.AppendHeader(buf, v.header, s.amsField, true)
		buf = append(buf, "\r\n"...)
		running.Write(buf)

		var own hash.Hash = sha256.New()
		if c, ok := running.(hash.Cloner); ok {
			if clone, err := c.Clone(); err == nil {
				own = clone
			}
		}
		own.Write(v.appendUnsigned(buf[:0], s.sealField, s.Seal, true))
		own.Sum(v.seals[i][:0])

		buf = canon.AppendHeader(buf[:0], v.header, s.sealField, true)
		running.Write(append(buf, "\r\n"...))
	}
}

// appendUnsigned appends a signature's field with an empty b=.
func (v *Verifier) appendUnsigned(dst []byte, field int, s *Signature, relaxed bool) []byte {
	value := v.header.Value(field)
	if relaxed {
		dst = canon.AppendRelaxed(dst, v.header.Name(field), value[:s.bStart])
		return canon.AppendRelaxedValue(dst, value[s.bEnd:])
	}
	f := v.header.Fields[field]
	dst = append(dst, v.header.Raw[f.Start:f.Colon+1]...)
	return append(append(dst, value[:s.bStart]...), value[s.bEnd:]...)
}

// hashMessage computes the header hash of an ARC-Message-Signature and
// registers its body hash.
func (v *Verifier) hashMessage(m *messageCheck, s *Set, index *canon.Fields) {
	relaxed := s.Message.HeaderCanon == dkim.Relaxed
	buf, _ := index.AppendSigned(nil, s.Message.Headers, relaxed)
	m.hash = sha256.Sum256(v.appendUnsigned(buf, s.amsField, s.Message, relaxed))
	slot := 0
	if s.Message.BodyCanon == dkim.Relaxed {
		slot = 1
	}
	if v.bodies[slot] == nil {
		v.bodies[slot] = canon.NewBody(slot == 1)
	}
	m.body = v.bodies[slot]
	m.sink = m.body.Sink(-1)
}

// Finish ends the message and returns the result.
func (v *Verifier) Finish() *Result {
	if v.header == nil && v.res.Status == "" {
		v.begin()
	}
	if v.res.Status != "" {
		return &v.res
	}
	for _, b := range v.bodies {
		if b != nil {
			b.Finish()
		}
	}
	sets := v.res.Sets
	last := len(sets) - 1
	if reason := v.checkMessage(last); reason != "" {
		v.fail(fmt.Sprintf("message signature %d: %s", last+1, reason))
		return &v.res
	}
	for i := last; i >= 0; i-- {
		if reason := v.checkSignature(sets[i].Seal, v.seals[i][:]); reason != "" {
			v.fail(fmt.Sprintf("seal %d: %s", i+1, reason))
			return &v.res
		}
	}
	v.res.Status = Pass
	for i := last - 1; i >= 0; i-- {
		if v.checkMessage(i) != "" {
			v.res.OldestPass = i + 2
			break
		}
	}
	return &v.res
}

// checkMessage verifies the message signature of a set.
func (v *Verifier) checkMessage(i int) (reason string) {
	s, m := v.res.Sets[i].Message, &v.messages[i]
	switch {
	case s.BodyLength >= 0 && s.BodyLength != m.body.Length:
		return "l= is not the length of the body"
	case !bytes.Equal(m.sink.Sum[:], s.bodyHash):
		return "body hash did not verify"
	}
	return v.checkSignature(s, m.hash[:])
}

// checkSignature gets the key and verifies.
func (v *Verifier) checkSignature(s *Signature, digest []byte) (reason string) {
	answer, err := v.keys[s.keyName()].Answer(v.ctx)
	texts := resolver.Texts(answer)
	switch {
	case v.ctx.Err() != nil && err != nil:
		return "no key in time"
	case len(texts) == 0:
		return "no key"
	}
	key, err := dkim.ParseKey(texts[0])
	if err != nil {
		return "key can not be used"
	}
	typ, _, _ := strings.Cut(s.Algorithm, "-")
	switch {
	case key.Revoked():
		return "key revoked"
	case key.Type != typ:
		return "inappropriate key algorithm"
	case typ == "rsa" && key.Bits() < minRSABits:
		return fmt.Sprintf("RSA key of %d bits", key.Bits())
	case !key.Verify(digest, s.signature):
		return "signature did not verify"
	}
	return ""
}
