package main

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/testcert"
)

// loadTLS returns the certificate of the command line, or the self-signed one of the data
// folder, made at the first start.
func loadTLS(cfg *config) (*tls.Config, error) {
	certFile, keyFile := cfg.tlsCert, cfg.tlsKey
	if certFile == "" {
		certFile, keyFile = filepath.Join(cfg.data, "tls-cert.pem"), filepath.Join(cfg.data, "tls-key.pem")
		if _, err := os.Stat(certFile); errors.Is(err, fs.ErrNotExist) {
			cert, key, err := testcert.PEM(cfg.hostname, "localhost", "127.0.0.1", "::1")
			if err != nil {
				return nil, err
			}
			if err := atomicfile.Write(keyFile, key, 0o600); err != nil {
				return nil, err
			}
			if err := atomicfile.Write(certFile, cert, 0o644); err != nil {
				return nil, err
			}
		}
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// A dkimKey signs for one domain. Each domain has two: verifiers that do not know Ed25519
// yet take the other signature.
type dkimKey struct {
	domain, selector string
	signer           crypto.Signer
}

// loadDKIM returns the keys of all domains, made at the first start.
func loadDKIM(cfg *config) (map[string][]dkimKey, error) {
	keys := make(map[string][]dkimKey)
	for _, domain := range cfg.domains {
		for _, kind := range []string{"rsa", "ed25519"} {
			path := filepath.Join(cfg.data, "dkim", fileName(domain)+"."+kind+".pem")
			key, err := dkim.LoadKey(path)
			if errors.Is(err, fs.ErrNotExist) {
				if key, err = dkim.GenerateKey(kind); err != nil {
					return nil, err
				}
				if err = atomicfile.MkdirAll(filepath.Dir(path), 0o700); err == nil {
					err = dkim.SaveKey(path, key)
				}
			}
			if err != nil {
				return nil, err
			}
			keys[domain] = append(keys[domain], dkimKey{domain, kind, key})
		}
	}
	return keys, nil
}

// records returns the DNS records a domain publishes so that others accept its mail.
func records(domain, hostname string, keys []dkimKey) ([]string, error) {
	lines := []string{
		fmt.Sprintf("%s. MX 10 %s.", domain, hostname),
		fmt.Sprintf(`%s. TXT "v=spf1 mx -all"`, domain),
		fmt.Sprintf(`_dmarc.%s. TXT "v=DMARC1; p=quarantine"`, domain),
	}
	for _, k := range keys {
		text, err := dkim.RecordText(k.signer.Public())
		if err != nil {
			return nil, err
		}
		// A TXT string holds 255 octets; a longer text is several of them.
		quoted := ""
		for len(text) > 255 {
			quoted, text = quoted+`"`+text[:255]+`" `, text[255:]
		}
		lines = append(lines, fmt.Sprintf(`%s._domainkey.%s. TXT %s"%s"`, k.selector, domain, quoted, text))
	}
	return lines, nil
}
