// Package signing is what makes signatures for DKIM and ARC: the choice of an
// algorithm for a key, and the text of a field, folded.
package signing

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
)

// MaxKeyBits bounds RSA keys, and with them the work of one verification.
const MaxKeyBits = 8192

// Algorithm returns the value of a= for signatures by s.
func Algorithm(s crypto.Signer) (string, error) {
	if s == nil {
		return "", errors.New("no private key")
	}
	switch pub := s.Public().(type) {
	case *rsa.PublicKey:
		if n := pub.N.BitLen(); n < 1024 || n > MaxKeyBits {
			return "", fmt.Errorf("RSA key of %d bits", n)
		}
		return "rsa-sha256", nil
	case ed25519.PublicKey:
		return "ed25519-sha256", nil
	default:
		return "", fmt.Errorf("can not sign with a %T", pub)
	}
}

// Sign signs a SHA-256 digest by an algorithm that Algorithm returned for s.
func Sign(s crypto.Signer, algorithm string, digest []byte) ([]byte, error) {
	hash := crypto.SHA256
	if algorithm == "ed25519-sha256" {
		hash = 0 // the digest is the message (RFC 8463, 3)
	}
	return s.Sign(rand.Reader, digest, hash)
}

// lineLength is where fields are folded (RFC 5322, 2.1.1).
const lineLength = 76

// Field writes a field and folds it between its parts.
type Field struct {
	Buf []byte

	// NoFold leaves the field on one line.
	NoFold bool

	col   int
	first bool // nothing stands behind the name yet
}

// Begin starts a field by its name behind what Buf holds.
func (f *Field) Begin(name string) {
	f.Buf = append(append(f.Buf, name...), ':')
	f.col = len(name) + 1
	f.first = true
}

func (f *Field) fold() {
	f.Buf = append(f.Buf, "\r\n\t"...)
	f.col = 8
}

// Tag writes parts, joined, behind a space or a fold.
func (f *Field) Tag(parts ...string) {
	n := length(parts)
	if !f.first && !f.NoFold && f.col+1+n > lineLength {
		f.fold()
	} else {
		f.Buf = append(f.Buf, ' ')
		f.col++
	}
	f.first = false
	f.append(parts, n)
}

// Part writes parts, joined, directly behind what is there, or behind a fold.
func (f *Field) Part(parts ...string) {
	n := length(parts)
	if !f.NoFold && f.col+n > lineLength {
		f.fold()
	}
	f.append(parts, n)
}

// Base64 writes data in base64, which may be folded anywhere.
func (f *Field) Base64(data []byte) {
	start := len(f.Buf)
	f.Buf = base64.StdEncoding.AppendEncode(f.Buf, data)
	n := len(f.Buf) - start
	if f.NoFold || f.col+n <= lineLength {
		f.col += n
		return
	}
	text := append([]byte(nil), f.Buf[start:]...)
	f.Buf = f.Buf[:start]
	for len(text) > 0 {
		n := min(len(text), max(lineLength-f.col, 0))
		if n == 0 {
			f.fold()
			continue
		}
		f.Buf = append(f.Buf, text[:n]...)
		f.col += n
		text = text[n:]
	}
}

func length(parts []string) int {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	return n
}

func (f *Field) append(parts []string, n int) {
	for _, p := range parts {
		f.Buf = append(f.Buf, p...)
	}
	f.col += n
}
