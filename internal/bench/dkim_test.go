package bench

import (
	"bytes"
	"context"
	"strings"
	"testing"

	godkim "github.com/emersion/go-msgauth/dkim"
	"github.com/miekg/dns"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// signed returns a signed message of about size octets, a cache that has the key, and the key's record.
func signed(b *testing.B, size int) ([]byte, resolver.Resolver, string) {
	key, err := dkim.GenerateKey("rsa")
	if err != nil {
		b.Fatal(err)
	}
	record, err := dkim.RecordText(key.Public())
	if err != nil {
		b.Fatal(err)
	}
	zones := &resolver.Zones{}
	zones.AddTXT("sel._domainkey.example.org.", record)
	text := "From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: a letter\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n" +
		strings.Repeat(line, size/len(line))
	s, err := dkim.NewSigner(dkim.SignOptions{Keys: []dkim.SigningKey{{Domain: "example.org", Selector: "sel", Signer: key}}})
	if err != nil {
		b.Fatal(err)
	}
	_, _ = s.Write([]byte(text))
	field, err := s.Finish()
	if err != nil {
		b.Fatal(err)
	}
	cache := &resolver.Cache{Next: zones}
	if _, err := cache.Resolve(b.Context(), "sel._domainkey.example.org.", dns.TypeTXT); err != nil {
		b.Fatal(err)
	}
	return append([]byte(field), text...), cache, record
}

func BenchmarkDKIMVerify(b *testing.B) {
	for name, size := range map[string]int{"4KiB": 4 << 10, "1MiB": 1 << 20} {
		text, cache, record := signed(b, size)
		b.Run(name+"/mailblocks", func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				res, err := dkim.Verify(context.Background(), cache, bytes.NewReader(text), nil)
				if err != nil || res[0].Status != dkim.Pass {
					b.Fatal(res, err)
				}
			}
		})
		b.Run(name+"/go-msgauth", func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				res, err := godkim.VerifyWithOptions(bytes.NewReader(text), &godkim.VerifyOptions{
					LookupTXT: func(string) ([]string, error) { return []string{record}, nil },
				})
				if err != nil || res[0].Err != nil {
					b.Fatal(res, err)
				}
			}
		})
	}
}
