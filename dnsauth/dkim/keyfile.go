package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// GenerateKey makes a private key: "rsa" of 2048 bits, which fits one TXT
// record everywhere, or "ed25519".
func GenerateKey(typ string) (crypto.Signer, error) {
	switch typ {
	case "rsa":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("dkim: can not make a key of type %q", typ)
}

// RecordText returns the text of the TXT record that publishes the public half
// of a key.
func RecordText(pub crypto.PublicKey) (string, error) {
	k := &Key{Public: pub}
	switch pub.(type) {
	case *rsa.PublicKey:
		k.Type = "rsa"
	case ed25519.PublicKey:
		k.Type = "ed25519"
	default:
		return "", fmt.Errorf("dkim: can not publish a %T", pub)
	}
	return k.String(), nil
}

// ZoneLine returns the record of a key as a line for a zone file: the name, and
// the text in strings of at most 255 octets.
func (k SigningKey) ZoneLine() (string, error) {
	k, err := k.check()
	if err != nil {
		return "", err
	}
	text, err := RecordText(k.Signer.Public())
	if err != nil {
		return "", err
	}
	var parts []string
	for len(text) > 255 {
		parts = append(parts, `"`+text[:255]+`"`)
		text = text[255:]
	}
	parts = append(parts, `"`+text+`"`)
	name := resolver.EscapeName(k.Selector + "._domainkey." + k.Domain)
	return name + ". IN TXT " + strings.Join(parts, " "), nil
}

// MarshalPrivateKey returns a key as PEM (PKCS #8).
func MarshalPrivateKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("dkim: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParsePrivateKey reads the first private key in PEM text: PKCS #8, or PKCS #1
// as older tools write RSA keys.
func ParsePrivateKey(text []byte) (crypto.Signer, error) {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, errors.New("dkim: no private key in the PEM text")
		}
		text = rest
		switch block.Type {
		case "RSA PRIVATE KEY":
			return x509.ParsePKCS1PrivateKey(block.Bytes)
		case "PRIVATE KEY":
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("dkim: %w", err)
			}
			if s, ok := key.(crypto.Signer); ok {
				return s, nil
			}
			return nil, fmt.Errorf("dkim: can not sign with a %T", key)
		}
	}
}

// LoadKey reads a key from a PEM file.
func LoadKey(path string) (crypto.Signer, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("dkim: load key: %w", err)
	}
	key, err := ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// SaveKey writes a key to a new PEM file that only its owner can read. An
// existing file is an error: keys are not overwritten.
func SaveKey(path string, key crypto.Signer) error {
	text, err := MarshalPrivateKey(key)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("dkim: save key: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(path)
		return fmt.Errorf("dkim: save key: %w", err)
	}
	return nil
}
