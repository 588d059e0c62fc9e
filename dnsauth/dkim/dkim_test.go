package dkim_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// testKeys are made once: RSA keys take a while.
var testKeys = sync.OnceValue(func() []dkim.SigningKey {
	var keys []dkim.SigningKey
	for _, typ := range []string{"rsa", "ed25519"} {
		key, err := dkim.GenerateKey(typ)
		if err != nil {
			panic(err)
		}
		keys = append(keys, dkim.SigningKey{Domain: "example.org", Selector: typ, Signer: key})
	}
	return keys
})

func keyZones(t testing.TB, keys []dkim.SigningKey) *resolver.Zones {
	z := new(resolver.Zones)
	for _, k := range keys {
		line, err := k.ZoneLine()
		require.NoError(t, err)
		require.NoError(t, z.AddText(line))
	}
	return z
}

func sign(t testing.TB, msg string, opt dkim.SignOptions) string {
	s, err := dkim.NewSigner(opt)
	require.NoError(t, err)
	writeChunks(s, []byte(msg), 100)
	field, err := s.Finish()
	require.NoError(t, err)
	return string(field) + msg
}

func verify(t testing.TB, z resolver.Resolver, msg string, opt *dkim.VerifyOptions) []dkim.Result {
	res, err := dkim.Verify(t.Context(), z, strings.NewReader(msg), opt)
	require.NoError(t, err)
	return res
}

const plain = "From: Alice <alice@example.org>\r\nTo: bob@example.test\r\nSubject: greetings\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\nHello,\r\n  this  is\t \r\na test.\r\n\r\n\r\n"

// awkward are messages that signers and verifiers tend to see differently.
var awkward = map[string]string{
	"plain":            plain,
	"no final newline": "From: a@example.org\r\n\r\ntext",
	"blank lines only": "From: a@example.org\r\n\r\n\r\n\r\n",
	"empty body":       "From: a@example.org\r\n\r\n",
	"no body":          "From: a@example.org\r\n",
	"bare CR and LF":   "From: a@example.org\r\n\r\na\rb\nc\r\r\n\n",
	"8-bit header":     "From: a@example.org\r\nSubject: gr\xfc\xdfe\r\n\r\ntext\r\n",
	"UTF-8 header":     "From: Jürgen <a@example.org>\r\nSubject: grüße\r\n\r\ntext\r\n",
	"long line":        "From: a@example.org\r\n\r\n" + strings.Repeat("long ", 1<<20/5) + "\r\n",
	"folded":           "From:\r\n a@example.org\r\nSubject:\r\n\ta\r\n  b\r\n\t \tc \r\n\r\ntext\r\n",
	"duplicates":       "From: a@example.org\r\nList-Id: 1\r\nList-Id: 2\r\nlist-id: 3\r\n\r\ntext\r\n",
	"empty fields":     "From: a@example.org\r\nSubject:\r\nTo: \r\nCc:\t\r\n\r\ntext\r\n",
	"space before :":   "From : a@example.org\r\nSubject\t: x\r\n\r\ntext\r\n",
	"not a field":      "From: a@example.org\r\nthis is no field\r\nSubject: x\r\n\r\ntext\r\n",
}

func TestSignVerify(t *testing.T) {
	keys := testKeys()
	z := keyZones(t, keys)
	for name, msg := range awkward {
		for _, hc := range []dkim.Canonicalization{dkim.Simple, dkim.Relaxed} {
			for _, bc := range []dkim.Canonicalization{dkim.Simple, dkim.Relaxed} {
				signed := sign(t, msg, dkim.SignOptions{Keys: keys, HeaderCanon: hc, BodyCanon: bc, Expiration: time.Hour})
				res := verify(t, z, signed, nil)
				require.Len(t, res, 2)
				for i, r := range res {
					assert.Equal(t, dkim.Pass, r.Status, "%s %s/%s: %s", name, hc, bc, r.Reason)
					assert.Equal(t, "example.org", r.Domain())
					assert.Equal(t, []int{2048, 256}[i], r.KeyBits)
				}
				field := strings.TrimSuffix(signed, msg)
				for line := range strings.SplitSeq(strings.TrimSuffix(field, "\r\n"), "\r\n") {
					assert.LessOrEqual(t, len(line), 78, "%q", line)
				}
			}
		}
	}
}

// TestFlippedByte changes each octet of a signed message in turn: octets that
// are signed make it fail, whitespace that relaxed ignores does not.
func TestFlippedByte(t *testing.T) {
	keys := testKeys()[1:]
	z := keyZones(t, keys)
	msg := "From: a@example.org\r\nSubject: x y\r\n\r\nsome text\r\n"
	signed := sign(t, msg, dkim.SignOptions{Keys: keys, HeaderCanon: dkim.Simple, BodyCanon: dkim.Simple})
	for i := range len(signed) {
		b := []byte(signed)
		b[i] ^= 1
		for _, r := range verify(t, z, string(b), nil) {
			assert.NotEqual(t, dkim.Pass, r.Status, "octet %d %q", i, signed[max(i-10, 0):min(i+10, len(signed))])
		}
	}
}

func TestAddedFields(t *testing.T) {
	keys := testKeys()[1:]
	z := keyZones(t, keys)
	loose := dkim.SignOptions{Keys: keys, Oversign: []string{}}
	for _, c := range []struct {
		opt    dkim.SignOptions
		add    string
		verify *dkim.VerifyOptions
		want   dkim.Status
	}{
		{dkim.SignOptions{Keys: keys}, "Subject: other\r\n", nil, dkim.Fail},
		{dkim.SignOptions{Keys: keys}, "Cc: other\r\n", nil, dkim.Fail},
		{dkim.SignOptions{Keys: keys}, "Received: by x\r\n", nil, dkim.Pass},
		{loose, "Subject: other\r\n", nil, dkim.Policy},
		{loose, "From: other\r\n", nil, dkim.Policy},
		{loose, "Cc: other\r\n", nil, dkim.Pass},
		{loose, "Subject: other\r\n", &dkim.VerifyOptions{AllowDuplicates: true}, dkim.Pass},
	} {
		res := verify(t, z, c.add+sign(t, plain, c.opt), c.verify)
		assert.Equal(t, c.want, res[0].Status, "%q: %s", c.add, res[0].Reason)
	}
}

// TestPolicy edits the signature's tags and its key record.
func TestPolicy(t *testing.T) {
	keys := testKeys()[1:]
	record, err := dkim.RecordText(keys[0].Signer.Public())
	require.NoError(t, err)
	now := time.Unix(1_800_000_000, 0)
	base := sign(t, plain, dkim.SignOptions{Keys: keys, Now: func() time.Time { return now }, Expiration: time.Hour})
	replace := func(old, new string) func(string, *resolver.Zones) string {
		return func(msg string, _ *resolver.Zones) string {
			require.Contains(t, msg, old)
			return strings.Replace(msg, old, new, 1)
		}
	}
	publish := func(texts ...string) func(string, *resolver.Zones) string {
		return func(msg string, z *resolver.Zones) string {
			for _, text := range texts {
				z.AddTXT("ed25519._domainkey.example.org", text)
			}
			return msg
		}
	}
	const key = "ed25519._domainkey.example.org"
	for name, c := range map[string]struct {
		edit   func(string, *resolver.Zones) string
		at     time.Duration
		status dkim.Status
		reason string
	}{
		"good":           {publish(record), 0, dkim.Pass, ""},
		"second record":  {publish("v=spf1 -all", record), 0, dkim.Pass, ""},
		"testing":        {publish(record + "; t=y"), 0, dkim.Pass, ""},
		"expired":        {publish(record), 66 * time.Minute, dkim.PermError, "signature expired"},
		"within skew":    {publish(record), 64 * time.Minute, dkim.Pass, ""},
		"future":         {publish(record), -6 * time.Minute, dkim.Policy, "signature made in the future"},
		"no key":         {publish(), 0, dkim.PermError, "no key for signature"},
		"revoked":        {publish("v=DKIM1; k=ed25519; p="), 0, dkim.PermError, "key revoked"},
		"wrong version":  {publish("v=DKIM2; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="), 0, dkim.PermError, `key syntax error: version "DKIM2"`},
		"other key":      {publish("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="), 0, dkim.Fail, "signature did not verify"},
		"other service":  {publish(record + "; s=other"), 0, dkim.PermError, "key is not for mail"},
		"other hash":     {publish(record + "; h=sha1"), 0, dkim.PermError, "inappropriate hash algorithm"},
		"unknown type":   {publish("v=DKIM1; k=dsa; p=YWJj"), 0, dkim.PermError, "inappropriate key algorithm: k=dsa"},
		"server failure": {func(m string, z *resolver.Zones) string { z.Fail(key, 0, resolver.ErrServFail); return m }, 0, dkim.TempError, "key unavailable"},
		"sha1":           {replace("a=ed25519-sha256", "a=rsa-sha1"), 0, dkim.Policy, "rsa-sha1 is not acceptable"},
		"algorithm":      {replace("a=ed25519-sha256", "a=gost-x"), 0, dkim.PermError, "unknown algorithm gost-x"},
		"version":        {replace("v=1", "v=2"), 0, dkim.PermError, "incompatible signature version"},
		"twice":          {replace("v=1;", "v=1; v=1;"), 0, dkim.PermError, "signature syntax error: tag appears twice"},
		"no selector":    {replace("s=ed25519;", "z=x;"), 0, dkim.PermError, "signature lacks tag s="},
		"identity":       {replace("v=1;", "v=1; i=@example.com;"), 0, dkim.PermError, "domain mismatch: i= is not within d="},
		"query":          {replace("v=1;", "v=1; q=http;"), 0, dkim.PermError, "tag q=: no known query method"},
		"long l": {func(m string, z *resolver.Zones) string {
			publish(record)(m, z)
			return strings.Replace(m, "v=1;", "v=1; l=9999999999999999999999999;", 1)
		}, 0, dkim.PermError, "l= is longer than the body"},
		"short l": {func(m string, z *resolver.Zones) string {
			publish(record)(m, z)
			return strings.Replace(m, "v=1;", "v=1; l=3;", 1)
		}, 0, dkim.Policy, "l= leaves a part of the body unsigned"},
		"body":            {func(m string, z *resolver.Zones) string { publish(record)(m, z); return m + "more" }, 0, dkim.Fail, "body hash did not verify"},
		"header injected": {replace("v=1;", "v=1; a\x01=2;"), 0, dkim.PermError, "signature syntax error: malformed tag list"},
	} {
		z := new(resolver.Zones)
		msg := c.edit(base, z)
		res := verify(t, z, msg, &dkim.VerifyOptions{Now: func() time.Time { return now.Add(c.at) }})
		if assert.Len(t, res, 1, name) {
			assert.Equal(t, c.status, res[0].Status, "%s: %s", name, res[0].Reason)
			assert.Equal(t, c.reason, res[0].Reason, name)
			assert.Equal(t, name == "testing", res[0].Testing, name)
		}
	}
}

// TestStrictIdentity is t=s (RFC 6376, 3.6.1).
func TestStrictIdentity(t *testing.T) {
	key := testKeys()[1]
	key.Identity = "a@sub.example.org"
	record, err := dkim.RecordText(key.Signer.Public())
	require.NoError(t, err)
	msg := sign(t, plain, dkim.SignOptions{Keys: []dkim.SigningKey{key}})
	for flags, want := range map[string]dkim.Status{"": dkim.Pass, "; t=s": dkim.PermError, "; t=y:s": dkim.PermError} {
		z := new(resolver.Zones)
		z.AddTXT("ed25519._domainkey.example.org", record+flags)
		assert.Equal(t, want, verify(t, z, msg, nil)[0].Status, flags)
	}
}

// TestBodyLength signs by hand, since Signer does not make l=.
func TestBodyLength(t *testing.T) {
	key := testKeys()[1]
	z := keyZones(t, []dkim.SigningKey{key})
	body := sha256.Sum256([]byte("one\r\n"))
	for _, c := range []struct {
		l    string
		rest string
		opt  *dkim.VerifyOptions
		want dkim.Status
	}{
		{"5", "", nil, dkim.Pass},
		{"5", "two\r\n", nil, dkim.Policy},
		{"5", "two\r\n", &dkim.VerifyOptions{AllowBodyLength: true}, dkim.Pass},
		{"6", "", &dkim.VerifyOptions{AllowBodyLength: true}, dkim.PermError},
		{"4", "", &dkim.VerifyOptions{AllowBodyLength: true}, dkim.Fail},
	} {
		value := fmt.Sprintf("v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.org; s=ed25519; h=From; l=%s; bh=%s; b=", c.l, base64of(body[:]))
		digest := sha256.Sum256([]byte("from:a@example.org\r\ndkim-signature:" + value))
		sig, err := key.Signer.Sign(nil, digest[:], crypto.Hash(0))
		require.NoError(t, err)
		msg := "DKIM-Signature: " + value + base64of(sig) + "\r\nFrom: a@example.org\r\n\r\none\r\n" + c.rest
		res := verify(t, z, msg, c.opt)
		assert.Equal(t, c.want, res[0].Status, "l=%s %q: %s", c.l, c.rest, res[0].Reason)
	}
}

func TestManySignatures(t *testing.T) {
	keys := testKeys()[1:]
	z := keyZones(t, keys)
	good := strings.TrimSuffix(sign(t, plain, dkim.SignOptions{Keys: keys}), plain)
	var many strings.Builder
	for i := range 200 {
		many.WriteString(strings.Replace(good, "s=ed25519", fmt.Sprintf("s=s%d", i), 1))
	}
	v := dkim.NewVerifier(t.Context(), z, nil)
	writeChunks(v, []byte(many.String()+plain), 4096)
	res := v.Finish()
	assert.Len(t, res, 10)
	assert.Equal(t, 190, v.Skipped())
	assert.Len(t, z.Queries(), 10)

	z = keyZones(t, keys)
	res = verify(t, z, good+good+good+plain, nil)
	assert.Len(t, res, 3)
	assert.Len(t, z.Queries(), 1, "one look-up for one key")
}

func TestHostileHeader(t *testing.T) {
	z := new(resolver.Zones)
	sig := "DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=x; bh=" + base64of(make([]byte, 32)) + "; b=YWJj; h=From"
	for name, msg := range map[string]string{
		"folds":          sig + strings.Repeat("\r\n ", 128<<10) + "\r\nFrom: a\r\n\r\nx",
		"h= of 100,000":  sig + strings.Repeat(":a", 100_000) + "\r\nFrom: a\r\n" + strings.Repeat("A: b\r\n", 50_000) + "\r\nx",
		"1 MiB of field": strings.Repeat("x", 2<<20),
		"NULs":           sig + "\x00\r\nFrom: a\r\n\r\nx",
		"nothing":        "",
	} {
		for _, r := range verify(t, z, msg, nil) {
			assert.NotEqual(t, dkim.Pass, r.Status, name)
			assert.NotEmpty(t, r.Reason, name)
		}
	}
}

func TestEndsWithContext(t *testing.T) {
	keys := testKeys()[1:]
	z := new(resolver.Zones)
	z.Hang("ed25519._domainkey.example.org", 0)
	ctx, cancel := context.WithCancel(t.Context())
	v := dkim.NewVerifier(ctx, z, nil)
	writeChunks(v, []byte(sign(t, plain, dkim.SignOptions{Keys: keys})), 1000)
	cancel()
	res := v.Finish()
	require.Len(t, res, 1)
	assert.Equal(t, dkim.TempError, res[0].Status)
}

func TestSignerRefuses(t *testing.T) {
	key := testKeys()[1]
	for name, opt := range map[string]dkim.SignOptions{
		"no key":    {},
		"no signer": {Keys: []dkim.SigningKey{{Domain: "example.org", Selector: "s"}}},
		"domain":    {Keys: []dkim.SigningKey{{Domain: "a..b", Selector: "s", Signer: key.Signer}}},
		"selector":  {Keys: []dkim.SigningKey{{Domain: "example.org", Signer: key.Signer}}},
		"identity":  {Keys: []dkim.SigningKey{{Domain: "example.org", Selector: "s", Signer: key.Signer, Identity: "a@example.com"}}},
		"field":     {Keys: []dkim.SigningKey{key}, Headers: []string{"a:b"}},
		"itself":    {Keys: []dkim.SigningKey{key}, Headers: []string{"dkim-signature"}},
		"canon":     {Keys: []dkim.SigningKey{key}, BodyCanon: "nofws"},
	} {
		_, err := dkim.NewSigner(opt)
		assert.Error(t, err, name)
	}
	s, err := dkim.NewSigner(dkim.SignOptions{Keys: []dkim.SigningKey{key}})
	require.NoError(t, err)
	s.Write([]byte("Subject: no author\r\n\r\n"))
	_, err = s.Finish()
	assert.ErrorIs(t, err, dkim.ErrNoFrom)
}

func TestKeyFiles(t *testing.T) {
	for _, k := range testKeys() {
		path := filepath.Join(t.TempDir(), "key.pem")
		require.NoError(t, dkim.SaveKey(path, k.Signer))
		assert.Error(t, dkim.SaveKey(path, k.Signer), "not overwritten")
		got, err := dkim.LoadKey(path)
		require.NoError(t, err)
		assert.Equal(t, k.Signer.Public(), got.Public())
	}
}

func base64of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func benchMessage(size int) string {
	var b strings.Builder
	b.WriteString("Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\n" + strings.TrimSuffix(plain, "Hello,\r\n  this  is\t \r\na test.\r\n\r\n\r\n"))
	rnd := rand.New(rand.NewPCG(1, 2))
	for b.Len() < size {
		for range 8 + rnd.IntN(6) {
			b.WriteString("lorem"[:3+rnd.IntN(3)])
			b.WriteByte(' ')
		}
		b.WriteString("ipsum.\r\n")
	}
	return b.String()
}

func BenchmarkVerify(b *testing.B) {
	for _, key := range testKeys() {
		for _, size := range []int{4 << 10, 1 << 20} {
			keys := []dkim.SigningKey{key}
			msg := []byte(sign(b, benchMessage(size), dkim.SignOptions{Keys: keys}))
			cache := &resolver.Cache{Next: keyZones(b, keys)}
			b.Run(fmt.Sprintf("%s/%dKiB", key.Selector, size>>10), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(msg)))
				for b.Loop() {
					res, _ := dkim.Verify(context.Background(), cache, bytes.NewReader(msg), nil)
					if res[0].Status != dkim.Pass {
						b.Fatal(res[0].Reason)
					}
				}
			})
		}
	}
}

// BenchmarkBareCrypto is the part of BenchmarkVerify that nobody can save.
func BenchmarkBareCrypto(b *testing.B) {
	digest := sha256.Sum256([]byte("x"))
	rsaKey, edKey := testKeys()[0].Signer, testKeys()[1].Signer
	rsaSig, _ := rsaKey.Sign(nil, digest[:], crypto.SHA256)
	edSig, _ := edKey.Sign(nil, digest[:], crypto.Hash(0))
	msg := []byte(benchMessage(1 << 20))
	b.Run("rsa2048", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			rsa.VerifyPKCS1v15(rsaKey.Public().(*rsa.PublicKey), crypto.SHA256, digest[:], rsaSig)
		}
	})
	b.Run("ed25519", func(b *testing.B) {
		for b.Loop() {
			ed25519.Verify(edKey.Public().(ed25519.PublicKey), digest[:], edSig)
		}
	})
	b.Run("sha256-1MiB", func(b *testing.B) {
		b.SetBytes(int64(len(msg)))
		for b.Loop() {
			sha256.Sum256(msg)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	msg := []byte(benchMessage(4 << 10))
	for name, keys := range map[string][]dkim.SigningKey{"rsa": testKeys()[:1], "ed25519": testKeys()[1:], "both": testKeys()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s, err := dkim.NewSigner(dkim.SignOptions{Keys: keys})
				if err != nil {
					b.Fatal(err)
				}
				s.Write(msg)
				if _, err := s.Finish(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
