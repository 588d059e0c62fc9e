package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/internal/signing"
	"github.com/mailblocks/mailblocks/dnsauth/internal/taglist"
)

// Key is a parsed public key record (RFC 6376, 3.6.1).
type Key struct {
	Type     string           // k=, "rsa" or "ed25519"
	Public   crypto.PublicKey // p=: *rsa.PublicKey or ed25519.PublicKey; nil when revoked
	Hashes   []string         // h=; nil allows all
	Services []string         // s=; nil means "*"
	Flags    []string         // t=
	Notes    string           // n=, as published
}

// Errors about key records. What ParseKey returns wraps one of them.
var (
	ErrKeySyntax = errors.New("key syntax error")
	ErrKeyType   = errors.New("inappropriate key algorithm")
)

// ParseKey parses the text of a key record. A record whose v= is not "DKIM1",
// or that has no p=, is an error, as are unknown key types and keys that can
// not be read; an empty p= is a revoked key.
func ParseKey(text string) (*Key, error) {
	tags, err := taglist.Parse(text, true)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeySyntax, err)
	}
	if v, ok := tags.Get("v"); ok && (v != "DKIM1" || tags[0].Name != "v") {
		return nil, fmt.Errorf("%w: version %q", ErrKeySyntax, v)
	}
	p, ok := tags.Get("p")
	if !ok {
		return nil, fmt.Errorf("%w: no p=", ErrKeySyntax)
	}
	k := &Key{Type: "rsa"}
	if v, ok := tags.Get("k"); ok {
		k.Type = strings.ToLower(v)
	}
	if v, ok := tags.Get("h"); ok {
		k.Hashes = taglist.Split(strings.ToLower(v), ":")
	}
	if v, ok := tags.Get("s"); ok {
		k.Services = taglist.Split(strings.ToLower(v), ":")
	}
	if v, ok := tags.Get("t"); ok {
		k.Flags = taglist.Split(strings.ToLower(v), ":")
	}
	k.Notes, _ = tags.Get("n")
	if k.Type != "rsa" && k.Type != "ed25519" {
		return nil, fmt.Errorf("%w: k=%s", ErrKeyType, clean(k.Type))
	}
	if p == "" {
		return k, nil
	}
	der, err := base64.StdEncoding.DecodeString(taglist.Unspaced(p))
	if err != nil {
		return nil, fmt.Errorf("%w: p= is not base64", ErrKeySyntax)
	}
	k.Public, err = parsePublic(k.Type, der)
	if err != nil {
		return nil, err
	}
	return k, nil
}

func parsePublic(typ string, der []byte) (crypto.PublicKey, error) {
	if typ == "ed25519" {
		if len(der) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("%w: p= has %d octets, an Ed25519 key has 32", ErrKeySyntax, len(der))
		}
		return ed25519.PublicKey(der), nil
	}
	// RFC 6376 says RSAPublicKey, most domains publish SubjectPublicKeyInfo
	// (RFC 6376 erratum 3017).
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		pub, err = x509.ParsePKCS1PublicKey(der)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: p= is no public key", ErrKeySyntax)
	}
	key, ok := pub.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: p= is no RSA key", ErrKeyType)
	}
	if key.N.BitLen() > signing.MaxKeyBits {
		return nil, fmt.Errorf("%w: RSA key of %d bits", ErrKeyType, key.N.BitLen())
	}
	return key, nil
}

// Revoked reports whether p= was empty.
func (k *Key) Revoked() bool { return k.Public == nil }

// Testing reports whether the domain is testing DKIM (t=y).
func (k *Key) Testing() bool { return slices.Contains(k.Flags, "y") }

// Strict reports whether the domain of i= must be that of d= (t=s).
func (k *Key) Strict() bool { return slices.Contains(k.Flags, "s") }

// forMail reports whether the key may be used for mail (s=).
func (k *Key) forMail() bool {
	return k.Services == nil || slices.Contains(k.Services, "*") || slices.Contains(k.Services, "email")
}

func (k *Key) allowsSHA256() bool {
	return k.Hashes == nil || slices.Contains(k.Hashes, "sha256")
}

// Bits returns the size of the key, 0 when it is revoked.
func (k *Key) Bits() int {
	switch p := k.Public.(type) {
	case *rsa.PublicKey:
		return p.N.BitLen()
	case ed25519.PublicKey:
		return 8 * len(p)
	}
	return 0
}

// Verify reports whether sig is the key's signature of a SHA-256 digest, in the
// form of rsa-sha256 or ed25519-sha256. It does not look at the record's tags.
func (k *Key) Verify(digest, sig []byte) bool {
	switch p := k.Public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(p, crypto.SHA256, digest, sig) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(p, digest, sig)
	}
	return false
}

// String returns the record's text, RSA keys as SubjectPublicKeyInfo.
func (k *Key) String() string {
	var b strings.Builder
	b.WriteString("v=DKIM1; k=" + k.Type)
	list := func(tag string, values []string) {
		if values != nil {
			b.WriteString("; " + tag + "=" + strings.Join(values, ":"))
		}
	}
	list("h", k.Hashes)
	list("s", k.Services)
	list("t", k.Flags)
	if k.Notes != "" {
		b.WriteString("; n=" + k.Notes)
	}
	b.WriteString("; p=")
	switch p := k.Public.(type) {
	case *rsa.PublicKey:
		if der, err := x509.MarshalPKIXPublicKey(p); err == nil {
			b.WriteString(base64.StdEncoding.EncodeToString(der))
		}
	case ed25519.PublicKey:
		b.WriteString(base64.StdEncoding.EncodeToString(p))
	}
	return b.String()
}

// clean reduces text of the peer to printable ASCII for our reasons.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), 100)])
}
