package dane

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Errors of Verify, to test for with errors.Is.
var (
	ErrNoMatch = errors.New("dane: certificate does not match the TLSA records")
	ErrNoCert  = errors.New("dane: host showed no certificate")
)

// Verify checks the certificates that a host showed, its own first, against the
// records, and returns the one that matches. For DANE-EE neither names nor dates
// matter (RFC 7672, 3.1.1). For DANE-TA the chain must lead to the anchor, be
// valid at that time, and the host's certificate have one of the set's Names
// (RFC 7672, 3.1.2). A set that is not Usable matches nothing.
func (s *Set) Verify(chain []*x509.Certificate, at time.Time) (Record, error) {
	if len(chain) == 0 {
		return Record{}, ErrNoCert
	}
	why := ErrNoMatch
	for _, r := range s.Records {
		if r.Usage == DANEEE && r.matches(selected(chain[0], r.Selector)) {
			return r, nil
		}
	}
	for _, r := range s.Records {
		if r.Usage != DANETA {
			continue
		}
		for _, anchor := range r.anchors(chain) {
			err := s.verifyPath(chain, anchor, at)
			if err == nil {
				return r, nil
			}
			why = fmt.Errorf("%w: %w", ErrNoMatch, err)
		}
	}
	return Record{}, why
}

// selected is the part of a certificate that is compared.
func selected(c *x509.Certificate, s Selector) []byte {
	if s == SPKI {
		return c.RawSubjectPublicKeyInfo
	}
	return c.Raw
}

// anchors returns the trust anchors that a DANE-TA record stands for: the
// certificates of the chain that match; and for full data, which need not be in
// the chain, that certificate, or those that the key has signed.
func (r Record) anchors(chain []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for i, c := range chain {
		// A host's own certificate is its anchor only if it signed itself.
		if (i > 0 || bytes.Equal(c.RawIssuer, c.RawSubject)) && r.matches(selected(c, r.Selector)) {
			out = append(out, c)
		}
	}
	if r.Matching != Full || len(out) > 0 {
		return out
	}
	if r.Selector == Cert {
		if c, err := x509.ParseCertificate(r.Data); err == nil {
			out = append(out, c)
		}
		return out
	}
	pub, err := x509.ParsePKIXPublicKey(r.Data)
	if err != nil {
		return nil
	}
	signer := &x509.Certificate{PublicKey: pub}
	for _, c := range chain {
		if signer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			out = append(out, c)
		}
	}
	return out
}

// verifyPath verifies the chain up to an anchor.
func (s *Set) verifyPath(chain []*x509.Certificate, anchor *x509.Certificate, at time.Time) error {
	opt := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at}
	opt.Roots.AddCert(anchor)
	for _, c := range chain[1:] {
		opt.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(opt); err != nil {
		return err
	}
	var first error
	for _, name := range s.Names {
		err := chain[0].VerifyHostname(name)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// Config returns a copy of base, which may be nil, for connections to the host:
// its name for SNI, and for a Usable set a VerifyConnection that takes the place
// of the usual verification. After a failed handshake errors.Is tells ErrNoMatch.
// base.Time is the clock, if set; a VerifyConnection of base runs afterwards.
func (s *Set) Config(base *tls.Config) *tls.Config {
	cfg := base.Clone()
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.ServerName = s.Base
	cfg.InsecureSkipVerify = true
	if s.Status != Usable {
		return cfg
	}
	now, next := cfg.Time, cfg.VerifyConnection
	if now == nil {
		now = time.Now
	}
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		if _, err := s.Verify(state.PeerCertificates, now()); err != nil {
			return err
		}
		if next != nil {
			return next(state)
		}
		return nil
	}
	return cfg
}

// RecordFor returns the record to publish for a certificate, or for that of the
// authority that issued it: "3 1 1", a digest of the key, is what RFC 7672,
// 3.1.1, recommends.
func RecordFor(c *x509.Certificate, u Usage, s Selector, m Matching) Record {
	r := Record{Usage: u, Selector: s, Matching: m}
	r.Data = bytes.Clone(r.digest(selected(c, s)))
	return r
}
