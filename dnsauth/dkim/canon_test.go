package dkim

import (
	"bytes"
	"crypto/sha256"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"
)

// recorder stands in for a hash and keeps what is hashed.
type recorder struct {
	bytes.Buffer
}

func (r *recorder) Sum(b []byte) []byte { s := sha256.Sum256(r.Bytes()); return append(b, s[:]...) }
func (r *recorder) Size() int           { return sha256.Size }
func (r *recorder) BlockSize() int      { return sha256.BlockSize }

func canonicalBody(c Canonicalization, body string, size int) string {
	b := newBodyHash(c)
	rec := new(recorder)
	b.sinks = append(b.sinks, &sink{hash: rec, limit: -1})
	for len(body) > 0 {
		n := min(size, len(body))
		b.write([]byte(body[:n]))
		body = body[n:]
	}
	b.finish()
	return rec.String()
}

var (
	wspRun      = regexp.MustCompile(`[ \t]+`)
	trailingWSP = regexp.MustCompile(`[ \t]+\r\n`)
	emptyLines  = regexp.MustCompile(`(\r\n)*$`)
)

// slowBody is RFC 6376, 3.4.3 and 3.4.4, word for word.
func slowBody(c Canonicalization, body string) string {
	if c == Relaxed {
		body = strings.TrimRight(body, " \t")
		body = trailingWSP.ReplaceAllString(body, "\r\n")
		body = wspRun.ReplaceAllString(body, " ")
		body = emptyLines.ReplaceAllString(body, "")
		if body != "" {
			body += "\r\n"
		}
		return body
	}
	return emptyLines.ReplaceAllString(body, "") + "\r\n"
}

func TestBodyCanonicalization(t *testing.T) {
	for _, c := range []struct{ body, simple, relaxed string }{
		// RFC 6376, 3.4.5
		{" C \r\nD \t E\r\n\r\n\r\n", " C \r\nD \t E\r\n", " C\r\nD E\r\n"},
		{"", "\r\n", ""},
		{"\r\n\r\n", "\r\n", ""},
		{" \r\n", " \r\n", ""},
		{"text", "text\r\n", "text\r\n"},
		{"a\r\n\r\n\r\nb", "a\r\n\r\n\r\nb\r\n", "a\r\n\r\n\r\nb\r\n"},
		{"a \r\n \t\r\nb", "a \r\n \t\r\nb\r\n", "a\r\n\r\nb\r\n"},
		{"a\r", "a\r\r\n", "a\r\r\n"},
		{"a\rb\nc", "a\rb\nc\r\n", "a\rb\nc\r\n"},
		{"a \rb", "a \rb\r\n", "a \rb\r\n"},
		{"a\r\r\n", "a\r\r\n", "a\r\r\n"},
		{"\tx  y\t\tz", "\tx  y\t\tz\r\n", " x y z\r\n"},
	} {
		for size := 1; size <= len(c.body)+1; size++ {
			assert.Equal(t, c.simple, canonicalBody(Simple, c.body, size), "simple %q by %d", c.body, size)
			assert.Equal(t, c.relaxed, canonicalBody(Relaxed, c.body, size), "relaxed %q by %d", c.body, size)
		}
	}
}

func TestHeaderCanonicalization(t *testing.T) {
	// RFC 6376, 3.4.5
	h := msgheader.Parse([]byte("A: X\r\nB : Y\t\r\n\tZ  \r\nEmpty:\r\nC:\r\n D\r\n"))
	var relaxed, simple []string
	for i := range h.Fields {
		relaxed = append(relaxed, string(appendHeader(nil, h, i, Relaxed)))
		simple = append(simple, string(appendHeader(nil, h, i, Simple)))
	}
	assert.Equal(t, []string{"a:X", "b:Y Z", "empty:", "c:D"}, relaxed)
	assert.Equal(t, []string{"A: X", "B : Y\t\r\n\tZ  ", "Empty:", "C:\r\n D"}, simple)
}

func FuzzBody(f *testing.F) {
	for _, s := range []string{" C \r\nD \t E\r\n\r\n\r\n", "a \r\n \t\r\nb\r\r\n \r", "\r\n\r\n x", "a \rb  \t"} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, body string, size int) {
		size = max(size%64, 1)
		for _, c := range []Canonicalization{Simple, Relaxed} {
			want := slowBody(c, body)
			assert.Equal(t, want, canonicalBody(c, body, len(body)+1), "%s %q", c, body)
			assert.Equal(t, want, canonicalBody(c, body, size), "%s %q by %d", c, body, size)
		}
	})
}

func FuzzSignature(f *testing.F) {
	f.Add("v=1; a=rsa-sha256; c=relaxed/simple; d=example.org; s=s1; i=a=20b@x.example.org; l=10; t=1; x=2; q=dns/txt; h=From : To; bh=YWJj; b=YWJj")
	f.Fuzz(func(t *testing.T, s string) {
		sig, err := ParseSignature(s)
		if err != nil {
			return
		}
		assert.NotEmpty(t, sig.Headers)
		assert.NotEmpty(t, sig.Signature)
		assert.Equal(t, sig.Domain, strings.ToLower(sig.Domain))
		assert.LessOrEqual(t, sig.bEnd, len(s))
		id, err := decodeQP(encodeQP(sig.Identity))
		assert.NoError(t, err)
		assert.Equal(t, sig.Identity, id)
	})
}

func FuzzKey(f *testing.F) {
	f.Add("v=DKIM1; k=ed25519; h=sha256:sha1; s=email; t=y:s; n=note; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	f.Add("k=rsa; p=")
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKey(s)
		if err != nil {
			return
		}
		again, err := ParseKey(k.String())
		if assert.NoError(t, err, k.String()) {
			assert.Equal(t, k, again)
		}
	})
}
