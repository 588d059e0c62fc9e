package canon

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

func canonicalBody(relaxed bool, body string, size int) string {
	b := NewBody(relaxed)
	rec := new(recorder)
	b.sinks = append(b.sinks, &Sink{hash: rec, limit: -1})
	for len(body) > 0 {
		n := min(size, len(body))
		b.Write([]byte(body[:n]))
		body = body[n:]
	}
	b.Finish()
	return rec.String()
}

var (
	wspRun      = regexp.MustCompile(`[ \t]+`)
	trailingWSP = regexp.MustCompile(`[ \t]+\r\n`)
	emptyLines  = regexp.MustCompile(`(\r\n)*$`)
)

// slowBody is RFC 6376, 3.4.3 and 3.4.4, word for word.
func slowBody(relaxed bool, body string) string {
	if relaxed {
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
			assert.Equal(t, c.simple, canonicalBody(false, c.body, size), "simple %q by %d", c.body, size)
			assert.Equal(t, c.relaxed, canonicalBody(true, c.body, size), "relaxed %q by %d", c.body, size)
		}
	}
}

func TestHeaderCanonicalization(t *testing.T) {
	// RFC 6376, 3.4.5
	h := msgheader.Parse([]byte("A: X\r\nB : Y\t\r\n\tZ  \r\nEmpty:\r\nC:\r\n D\r\n"))
	var relaxed, simple []string
	for i := range h.Fields {
		relaxed = append(relaxed, string(AppendHeader(nil, h, i, true)))
		simple = append(simple, string(AppendHeader(nil, h, i, false)))
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
		for _, c := range []bool{false, true} {
			want := slowBody(c, body)
			assert.Equal(t, want, canonicalBody(c, body, len(body)+1), "relaxed %v %q", c, body)
			assert.Equal(t, want, canonicalBody(c, body, size), "relaxed %v %q by %d", c, body, size)
		}
	})
}
