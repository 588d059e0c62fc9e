package dkim

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/mailblocks/mailblocks/dnsauth/internal/canon"
	"github.com/mailblocks/mailblocks/dnsauth/internal/memo"
	"github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// Status is the outcome for one signature (RFC 8601, 2.7.1).
type Status string

// The outcomes. "none", for a message without signatures, is an empty list of
// results.
const (
	Pass      Status = "pass"
	Fail      Status = "fail"      // body hash or signature don't match
	Policy    Status = "policy"    // it may well match, but we don't accept such signatures
	TempError Status = "temperror" // the key could not be had now
	PermError Status = "permerror" // malformed signature, or no usable key
)

// Result is the outcome for one signature.
type Result struct {
	Status    Status
	Reason    string     // for everything but a pass: our words, printable ASCII
	Signature *Signature // nil when it could not be parsed
	KeyBits   int        // 0 when no key was found
	Testing   bool       // the key says t=y: treat a failure as no signature
	Secure    bool       // the key came with DNSSEC
}

// Domain returns d=, empty when the signature could not be parsed.
func (r *Result) Domain() string {
	if r.Signature == nil {
		return ""
	}
	return r.Signature.Domain
}

// VerifyOptions changes what a Verifier accepts. The zero value is the policy
// of the RFCs with safe limits; nil means the same.
type VerifyOptions struct {
	// MaxSignatures is how many signatures are looked at, from the top.
	// Zero means 10.
	MaxSignatures int

	// MaxHeader bounds the header, in octets. Zero means 1 MiB.
	MaxHeader int

	// MinRSABits is the smallest RSA key accepted. Zero means 1024 (RFC 8301, 3.2).
	MinRSABits int

	// AllowBodyLength accepts an l= that leaves a part of the body unsigned.
	AllowBodyLength bool

	// AllowDuplicates accepts a message that has more fields of a name than
	// were signed, although RFC 5322, 3.6, allows one of that name: somebody
	// may have added a second From or Subject for people to see.
	AllowDuplicates bool

	// Skew is how far clocks may differ, for t= and x=. Zero means 5 min.
	Skew time.Duration

	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Verifier checks the signatures of one message: write the message to it, then
// call Finish. Look-ups of keys begin, all at once, when the header is complete.
// A Verifier is used by one goroutine.
type Verifier struct {
	ctx      context.Context // of the message: Write begins the look-ups
	resolver resolver.Resolver
	opt      VerifyOptions

	collect msgheader.Collector
	header  *msgheader.Header
	failure string // why nothing could be checked
	checks  []*check
	few     [3]*check // room for as many as messages usually have
	skipped int
	body    [2]*canon.Body // simple and relaxed; nil when no signature needs it
	scratch []byte
	now     time.Time
}

// check is one signature under way.
type check struct {
	res   Result
	field int
	hash  [sha256.Size]byte // of the header
	body  *canon.Body
	sink  *canon.Sink
	keys  *resolver.Pending // shared with the checks before that have the same key
}

// NewVerifier returns a verifier for one message. When ctx ends, signatures whose
// keys are not there yet become temperror.
func NewVerifier(ctx context.Context, r resolver.Resolver, opt *VerifyOptions) *Verifier {
	v := &Verifier{ctx: ctx, resolver: r}
	if opt != nil {
		v.opt = *opt
	}
	if v.opt.MaxSignatures <= 0 {
		v.opt.MaxSignatures = 10
	}
	if v.opt.MaxHeader <= 0 {
		v.opt.MaxHeader = 1 << 20
	}
	if v.opt.MinRSABits <= 0 {
		v.opt.MinRSABits = 1024
	}
	if v.opt.Skew <= 0 {
		v.opt.Skew = 5 * time.Minute
	}
	v.collect.Max = v.opt.MaxHeader
	return v
}

// Verify checks the signatures of the message that msg reads. The error is
// msg's.
func Verify(ctx context.Context, r resolver.Resolver, msg io.Reader, opt *VerifyOptions) ([]Result, error) {
	v := NewVerifier(ctx, r, opt)
	_, err := io.Copy(v, msg)
	res := v.Finish()
	return res, err
}

// Write takes the next part of the message. It never fails.
func (v *Verifier) Write(p []byte) (int, error) {
	n := len(p)
	if v.header == nil && v.failure == "" {
		used, done, err := v.collect.Write(p)
		if err != nil {
			v.failure = "header longer than " + fmt.Sprint(v.opt.MaxHeader) + " octets"
			return n, nil
		}
		if !done {
			return n, nil
		}
		v.begin()
		p = p[used:]
	}
	for _, b := range v.body {
		if b != nil {
			b.Write(p)
		}
	}
	return n, nil
}

// Header returns the message's header, without the empty line behind it, once
// it is complete, and nil before. It stays valid and must not be changed.
func (v *Verifier) Header() []byte {
	if v.header == nil {
		return nil
	}
	return v.header.Raw
}

// Signatures returns the signatures that will be checked, those that could be
// parsed, once the header is complete. They must not be changed.
func (v *Verifier) Signatures() []*Signature {
	var out []*Signature
	for _, c := range v.checks {
		if c.res.Signature != nil {
			out = append(out, c.res.Signature)
		}
	}
	return out
}

// Skipped returns how many signatures were left out because there were more
// than MaxSignatures.
func (v *Verifier) Skipped() int { return v.skipped }

var signatureField = []byte("dkim-signature")

// begin parses the header, starts the look-ups and hashes the signed fields.
func (v *Verifier) begin() {
	raw := v.collect.Header()
	if raw == nil {
		raw = []byte{}
	}
	v.header = msgheader.Parse(raw)
	v.now = time.Now()
	if v.opt.Now != nil {
		v.now = v.opt.Now()
	}
	v.checks = v.few[:0]
	for i := range v.header.Fields {
		if !canon.EqualFold(v.header.Name(i), signatureField) {
			continue
		}
		if len(v.checks) == v.opt.MaxSignatures {
			v.skipped++
			continue
		}
		v.checks = append(v.checks, v.start(i))
	}
	if len(v.checks) == 0 {
		return
	}
	index := canon.NewFields(v.header)
	v.scratch = make([]byte, 0, len(raw)+256)
	for _, c := range v.checks {
		if c.res.Status != "" {
			continue
		}
		v.hashHeader(c, index)
		v.addBody(c)
	}
}

// start parses a signature and begins to look for its key, unless the
// signature alone shows that there is no use.
func (v *Verifier) start(field int) *check {
	c := &check{field: field}
	sig, err := ParseSignature(string(v.header.Value(field)))
	if err != nil {
		c.res.Status, c.res.Reason = PermError, clean(err.Error())
		return c
	}
	c.res.Signature = sig
	switch sig.Algorithm {
	case "rsa-sha256", "ed25519-sha256":
	case "rsa-sha1":
		c.res.Status, c.res.Reason = Policy, "rsa-sha1 is not acceptable"
		return c
	default:
		c.res.Status, c.res.Reason = PermError, "unknown algorithm "+clean(sig.Algorithm)
		return c
	}
	switch {
	case len(sig.BodyHash) != sha256.Size:
		c.res.Status, c.res.Reason = PermError, "tag bh=: wrong length for the algorithm"
		return c
	case !sig.Expires.IsZero() && v.now.After(sig.Expires.Add(v.opt.Skew)):
		c.res.Status, c.res.Reason = PermError, "signature expired"
		return c
	case sig.Time.After(v.now.Add(v.opt.Skew)):
		c.res.Status, c.res.Reason = Policy, "signature made in the future"
		return c
	}
	for _, other := range v.checks {
		if other.keys != nil && other.res.Signature.KeyName() == sig.KeyName() {
			c.keys = other.keys
			return c
		}
	}
	c.keys = resolver.Ask(v.ctx, v.resolver, resolver.EscapeName(sig.KeyName()), dns.TypeTXT)
	return c
}

// hashHeader computes the hash of RFC 6376, 3.7 over the signed fields.
func (v *Verifier) hashHeader(c *check, index *canon.Fields) {
	sig := c.res.Signature
	buf := v.scratch[:0]
	buf, extra := index.AppendSigned(buf, sig.Headers, sig.HeaderCanon == Relaxed)
	if extra != "" && !v.opt.AllowDuplicates {
		c.res.Status = Policy
		c.res.Reason = "there are more " + extra + " fields than were signed"
	}
	// The signature's own field comes last, with an empty b=.
	value := v.header.Value(c.field)
	if sig.HeaderCanon == Simple {
		f := v.header.Fields[c.field]
		buf = append(buf, v.header.Raw[f.Start:f.Colon+1]...)
		buf = append(buf, value[:sig.bStart]...)
		buf = append(buf, value[sig.bEnd:]...)
	} else {
		// Around the gap stand "=" and ";" or the end, no whitespace, so the
		// two halves can be taken one by one.
		buf = canon.AppendRelaxed(buf, v.header.Name(c.field), value[:sig.bStart])
		buf = canon.AppendRelaxedValue(buf, value[sig.bEnd:])
	}
	c.hash = sha256.Sum256(buf)
	v.scratch = buf
}

// addBody registers the body hash that the signature needs.
func (v *Verifier) addBody(c *check) {
	sig := c.res.Signature
	slot := 0
	if sig.BodyCanon == Relaxed {
		slot = 1
	}
	if v.body[slot] == nil {
		v.body[slot] = canon.NewBody(sig.BodyCanon == Relaxed)
	}
	c.body = v.body[slot]
	limit := int64(-1)
	if v.opt.AllowBodyLength {
		limit = sig.BodyLength
	}
	c.sink = c.body.Sink(limit)
}

// Finish ends the message, waits for the keys and returns a result for each
// signature, in the order of the header. Without signatures it is empty.
func (v *Verifier) Finish() []Result {
	if v.header == nil && v.failure == "" {
		v.begin() // a message that ends within its header has an empty body
	}
	if v.failure != "" {
		return []Result{{Status: PermError, Reason: v.failure}}
	}
	for _, b := range v.body {
		if b != nil {
			b.Finish()
		}
	}
	results := make([]Result, len(v.checks))
	for i, c := range v.checks {
		v.finish(c)
		results[i] = c.res
	}
	return results
}

// outcomeError is a failed step with the status it leads to.
type outcomeError struct {
	status Status
	reason string
}

func (e *outcomeError) Error() string { return e.reason }

func (v *Verifier) finish(c *check) {
	if c.keys == nil {
		return
	}
	answer, err := c.keys.Answer(v.ctx)
	c.res.Secure = answer.Secure
	policy := c.res.Reason // set when the header alone is unacceptable
	if err == nil {
		err = v.evaluate(c, answer)
	} else {
		err = noKey(err)
	}
	var o *outcomeError
	switch {
	case errors.As(err, &o):
		c.res.Status, c.res.Reason = o.status, o.reason
	case policy != "":
		c.res.Status, c.res.Reason = Policy, policy
	default:
		c.res.Status = Pass
	}
}

// maxKeyRecords bounds the TXT records tried at one name.
const maxKeyRecords = 4

func noKey(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &outcomeError{TempError, "key unavailable: time limit reached"}
	case resolver.Temporary(err):
		return &outcomeError{TempError, "key unavailable"}
	}
	return &outcomeError{PermError, "no key for signature"}
}

// evaluate goes through the key records (RFC 6376, 6.1.2) and verifies with
// the first that fits.
func (v *Verifier) evaluate(c *check, answer resolver.Answer) error {
	texts := resolver.Texts(answer)
	if len(texts) == 0 {
		return &outcomeError{PermError, "no key for signature"}
	}
	var first error
	for _, text := range texts[:min(len(texts), maxKeyRecords)] {
		err := v.evaluateKey(c, text)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// keys remembers parsed keys. At most 4 MiB of text stand for them.
var keys = memo.Memo[keyResult]{Max: 1024, MaxLen: 4096}

type keyResult struct {
	key *Key
	err error
}

// parsedKey is ParseKey from memory.
func parsedKey(text string) (*Key, error) {
	k := keys.Get(text, func(text string) keyResult {
		key, err := ParseKey(text)
		return keyResult{key, err}
	})
	return k.key, k.err
}

func (v *Verifier) evaluateKey(c *check, text string) error {
	sig := c.res.Signature
	key, err := parsedKey(text)
	if err != nil {
		return &outcomeError{PermError, clean(err.Error())}
	}
	c.res.Testing = key.Testing()
	c.res.KeyBits = key.Bits()
	typ, _, _ := strings.Cut(sig.Algorithm, "-")
	switch {
	case key.Revoked():
		return &outcomeError{PermError, "key revoked"}
	case !key.allowsSHA256():
		return &outcomeError{PermError, "inappropriate hash algorithm"}
	case !key.forMail():
		return &outcomeError{PermError, "key is not for mail"}
	case key.Type != typ:
		return &outcomeError{PermError, "inappropriate key algorithm"}
	case key.Strict() && sig.identityDomain() != sig.Domain:
		return &outcomeError{PermError, "domain mismatch: the key does not allow subdomains in i="}
	case typ == "rsa" && key.Bits() < v.opt.MinRSABits:
		return &outcomeError{Policy, fmt.Sprintf("RSA key of %d bits", key.Bits())}
	}
	if err := v.compareBody(c); err != nil {
		return err
	}
	if !key.Verify(c.hash[:], sig.Signature) {
		return &outcomeError{Fail, "signature did not verify"}
	}
	return nil
}

func (v *Verifier) compareBody(c *check) error {
	sig := c.res.Signature
	switch l := sig.BodyLength; {
	case l > c.body.Length:
		return &outcomeError{PermError, "l= is longer than the body"}
	case l >= 0 && l < c.body.Length && !v.opt.AllowBodyLength:
		return &outcomeError{Policy, "l= leaves a part of the body unsigned"}
	}
	if subtle.ConstantTimeCompare(c.sink.Sum[:], sig.BodyHash) != 1 {
		return &outcomeError{Fail, "body hash did not verify"}
	}
	return nil
}
