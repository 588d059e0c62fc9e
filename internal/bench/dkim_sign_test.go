package bench

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	godkim "github.com/emersion/go-msgauth/dkim"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

const letter = "From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: a letter\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n"

func signer(b *testing.B, typ string) crypto.Signer {
	key, err := dkim.GenerateKey(typ)
	if err != nil {
		b.Fatal(err)
	}
	return key
}

// BenchmarkDKIMSign signs 4 KiB with either key and both, beside what the crypto alone costs.
func BenchmarkDKIMSign(b *testing.B) {
	text := []byte(letter + strings.Repeat(line, 4096/len(line)))
	r, e := signer(b, "rsa"), signer(b, "ed25519")
	keys := []dkim.SigningKey{
		{Domain: "example.org", Selector: "r", Signer: r},
		{Domain: "example.org", Selector: "e", Signer: e},
	}
	for _, c := range []struct {
		name string
		keys []dkim.SigningKey
	}{{"rsa", keys[:1]}, {"ed25519", keys[1:]}, {"both", keys}} {
		b.Run(c.name+"/mailblocks", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s, err := dkim.NewSigner(dkim.SignOptions{Keys: c.keys})
				if err != nil {
					b.Fatal(err)
				}
				_, _ = s.Write(text)
				if _, err := s.Finish(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("rsa/go-msgauth", func(b *testing.B) {
		b.ReportAllocs()
		var out bytes.Buffer
		for b.Loop() {
			out.Reset()
			opt := &godkim.SignOptions{Domain: "example.org", Selector: "r", Signer: r, HeaderCanonicalization: "relaxed", BodyCanonicalization: "relaxed"}
			if err := godkim.Sign(&out, bytes.NewReader(text), opt); err != nil {
				b.Fatal(err)
			}
		}
	})
	digest := sha256.Sum256(text)
	b.Run("rsa/crypto alone", func(b *testing.B) {
		for b.Loop() {
			if _, err := rsa.SignPKCS1v15(rand.Reader, r.(*rsa.PrivateKey), crypto.SHA256, digest[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ed25519/crypto alone", func(b *testing.B) {
		for b.Loop() {
			ed25519.Sign(e.(ed25519.PrivateKey), digest[:])
		}
	})
}

// BenchmarkDKIMSlowDNS verifies three signatures whose keys take 20 ms each to look up.
func BenchmarkDKIMSlowDNS(b *testing.B) {
	text := []byte(letter + strings.Repeat(line, 4096/len(line)))
	zones := &resolver.Zones{}
	records := make(map[string]string)
	var keys []dkim.SigningKey
	for _, sel := range []string{"a", "b", "c"} {
		key := signer(b, "ed25519")
		record, err := dkim.RecordText(key.Public())
		if err != nil {
			b.Fatal(err)
		}
		zones.AddTXT(sel+"._domainkey.example.org", record)
		records[sel+"._domainkey.example.org"] = record
		keys = append(keys, dkim.SigningKey{Domain: "example.org", Selector: sel, Signer: key})
	}
	s, err := dkim.NewSigner(dkim.SignOptions{Keys: keys})
	if err != nil {
		b.Fatal(err)
	}
	_, _ = s.Write(text)
	fields, err := s.Finish()
	if err != nil {
		b.Fatal(err)
	}
	text = append(fields, text...)
	const delay = 20 * time.Millisecond
	b.Run("mailblocks", func(b *testing.B) {
		slow := resolver.Func(func(ctx context.Context, name string, qtype uint16) (resolver.Answer, error) {
			<-time.After(delay)
			return zones.Resolve(ctx, name, qtype)
		})
		for b.Loop() {
			res, err := dkim.Verify(context.Background(), slow, bytes.NewReader(text), nil)
			if err != nil || len(res) != 3 || res[2].Status != dkim.Pass {
				b.Fatal(res, err)
			}
		}
	})
	b.Run("go-msgauth", func(b *testing.B) {
		for b.Loop() {
			res, err := godkim.VerifyWithOptions(bytes.NewReader(text), &godkim.VerifyOptions{
				LookupTXT: func(name string) ([]string, error) {
					<-time.After(delay)
					return []string{records[name]}, nil
				},
			})
			if err != nil || len(res) != 3 || res[2].Err != nil {
				b.Fatal(res, err)
			}
		}
	})
}

// BenchmarkRSAVerify is the part of BenchmarkDKIMVerify that is crypto alone.
func BenchmarkRSAVerify(b *testing.B) {
	key := signer(b, "rsa").(*rsa.PrivateKey)
	digest := sha256.Sum256([]byte(letter))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest[:], sig); err != nil {
			b.Fatal(err)
		}
	}
}
