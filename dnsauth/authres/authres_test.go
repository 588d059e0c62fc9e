package authres_test

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/authres"
)

func TestString(t *testing.T) {
	h := &authres.Header{ServID: "mx.example.org", Results: []authres.Result{
		{Method: "spf", Value: "pass", Comment: "192.0.2.1 is (really) permitted", Props: []authres.Prop{{"smtp", "mailfrom", "alice@example.test"}}},
		{Method: "dkim", Value: "fail", Reason: `body hash "did not" verify`, Props: []authres.Prop{
			{"header", "d", "example.test"}, {"header", "i", "@example.test"}, {"header", "s", "sel"}, {"header", "b", "ab/c+d=="},
		}},
		{Method: "dmarc", Value: "none"},
	}}
	assert.Equal(t, "Authentication-Results: mx.example.org;\r\n"+
		"\tspf=pass (192.0.2.1 is \\(really\\) permitted)\r\n"+
		"\tsmtp.mailfrom=alice@example.test;\r\n"+
		"\tdkim=fail reason=\"body hash \\\"did not\\\" verify\" header.d=example.test\r\n"+
		"\theader.i=@example.test header.s=sel header.b=\"ab/c+d==\";\r\n"+
		"\tdmarc=none\r\n", h.Field())
	again, err := authres.Parse(h.String())
	require.NoError(t, err)
	assert.Equal(t, h, again)

	assert.Equal(t, "mx.example.org; none", (&authres.Header{ServID: "mx.example.org"}).String())
}

// TestNoInjection puts line ends, quotes and delimiters into each text.
func TestNoInjection(t *testing.T) {
	evil := "x\r\n\r\nBcc: all\r\n;\"'\\() spf=pass\x00\x85\u2028\xff" + strings.Repeat("y", 2000)
	h := &authres.Header{ServID: "mx.example.org", Results: []authres.Result{{
		Method: evil, Value: evil, Comment: evil, Reason: evil,
		Props: []authres.Prop{{evil, evil, evil}, {"smtp", "helo", evil}},
	}}}
	s := h.Field()
	for i, line := range strings.Split(strings.TrimSuffix(s, "\r\n"), "\r\n") {
		assert.True(t, i == 0 || strings.HasPrefix(line, "\t"), "%q", line)
		assert.NotContains(t, line, "\r")
		assert.NotContains(t, line, "\n")
		assert.Less(t, len(line), 998)
	}
	again, err := authres.Parse(h.String())
	require.NoError(t, err)
	require.Len(t, again.Results, 1)
	assert.Len(t, again.Results[0].Props, 2)
}

// TestParse has the examples of RFC 8601, appendix B, and what servers write.
func TestParse(t *testing.T) {
	for _, c := range []struct{ in, servID, want string }{
		{" example.org 1; none", "example.org", ""},
		{" example.com;\r\n spf=pass smtp.mailfrom=example.net", "example.com", "spf=pass smtp.mailfrom=example.net"},
		{" example.com;\r\n auth=pass (cram-md5) smtp.auth=sender@example.net;\r\n spf=pass smtp.mailfrom=example.net", "example.com",
			"auth=pass(cram-md5) smtp.auth=sender@example.net; spf=pass smtp.mailfrom=example.net"},
		{" example.com;\r\n sender-id=fail header.from=example.com;\r\n dkim=pass (good signature) header.d=example.com", "example.com",
			"sender-id=fail header.from=example.com; dkim=pass(good signature) header.d=example.com"},
		{" foo.example.net (foobar) 1 (baz);\r\n dkim (Because I like it) / 1 (One yay) = (wait for it) fail\r\n policy (A dot can go here) . (like that) expired\r\n (this surprised me) = (as I wasn't expecting it) 1362471462",
			"foo.example.net", "dkim/1=fail(Because I like it One yay wait for it A dot can go here like that this surprised me as I wasn't expecting it) policy.expired=1362471462"},
		{` mx.google.com; dkim=pass header.i=@example.org header.s=x header.b=AbC/+d=; spf=pass (google.com: domain of "a b"@c designates 1.2.3.4) smtp.mailfrom="a b"@c;`, "mx.google.com",
			`dkim=pass header.i=@example.org header.s=x header.b=AbC/+d=; spf=pass(google.com: domain of "a b"@c designates 1.2.3.4) smtp.mailfrom=a b@c`},
		{` x.test; dmarc=pass (p=none dis=none) header.from=a.test;;`, "x.test", "dmarc=pass(p=none dis=none) header.from=a.test"},
		{` x.test; dkim=none reason="no (signature); none"`, "x.test", "dkim=none{no (signature); none}"},
		{` x.test; compauth=pass reason=100`, "x.test", "compauth=pass{100}"},
		{` "x.test"; none`, "x.test", ""},
		{` x.test 2; spf=pass`, "x.test", "spf=pass"},
		{` x.test; spf=pass (unclosed`, "x.test", "spf=pass(unclosed)"},
		{` x.test; spf=pass smtp.helo=`, "x.test", "spf=pass smtp.helo="},
		{` x.test; dmarc=fail action=none header.from=a.test`, "x.test", "dmarc=fail policy.action=none header.from=a.test"},
		{``, "", "error"},
		{` x.test; =pass`, "x.test", "error"},
		{` x.test; spf`, "x.test", "error"},
		{` spf=pass; dkim=pass`, "spf=pass", "dkim=pass"},
		{` x.test; spf=pass; dkim=pass "loose"`, "x.test", "spf=pass; error"},
	} {
		h, err := authres.Parse(c.in)
		var parts []string
		if h != nil {
			assert.Equal(t, c.servID, h.ServID, c.in)
			for _, r := range h.Results {
				parts = append(parts, plain(r))
			}
		}
		if err != nil {
			parts = append(parts, "error")
		}
		assert.Equal(t, c.want, strings.Join(parts, "; "), c.in)
	}
}

func plain(r authres.Result) string {
	s := r.Method
	if r.MethodVersion > 0 {
		s += "/1"
	}
	s += "=" + r.Value
	if r.Comment != "" {
		s += "(" + r.Comment + ")"
	}
	if r.Reason != "" {
		s += "{" + r.Reason + "}"
	}
	for _, p := range r.Props {
		s += " " + p.Type + "." + p.Name + "=" + p.Value
	}
	return s
}

func TestStrip(t *testing.T) {
	const header = "Received: x\r\n" +
		"Authentication-Results: mx.example.org; spf=pass\r\n" +
		"authentication-results : (comment)\r\n MX.Example.ORG. 1;\r\n\tdkim=pass\r\n" +
		"Authentication-Results: other.test; spf=fail\r\n" +
		"Authentication-Results: \"mx.example.org\"; none\r\n" +
		"Authentication-Results: x y mx.example.org; none\r\n" +
		"X-Authentication-Results: mx.example.org; spf=pass\r\n" +
		"Subject: Authentication-Results: mx.example.org; none\r\n"
	const want = "Received: x\r\n" +
		"Authentication-Results: other.test; spf=fail\r\n" +
		"X-Authentication-Results: mx.example.org; spf=pass\r\n" +
		"Subject: Authentication-Results: mx.example.org; none\r\n"
	got, n := authres.Strip([]byte(header), "mx.example.org")
	assert.Equal(t, want, string(got))
	assert.Equal(t, 4, n)

	for _, rest := range []string{"", "\r\n", "\r\nbody\r\n", "\nbody\n", "\r\n\r\n" + strings.Repeat("body ", 9000)} {
		for _, wrap := range []func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader,
		} {
			got, err := io.ReadAll(authres.StripReader(wrap(strings.NewReader(header+rest)), "mx.example.org"))
			require.NoError(t, err)
			assert.Equal(t, want+rest, string(got))
		}
	}
	_, err := io.ReadAll(authres.StripReader(strings.NewReader(strings.Repeat("x", 2<<20)), "mx.example.org"))
	assert.ErrorIs(t, err, authres.ErrHeaderTooLong)
}

func FuzzParse(f *testing.F) {
	f.Add(` foo.example.net (foobar) 1 (baz); dkim (x) / 1 (y) = (z) fail policy (a) . (b) expired = 13 reason="x\"y"; spf=pass smtp.mailfrom="a b"@c.test`)
	f.Add(" x; none")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := authres.Parse(s)
		if err != nil {
			return
		}
		text := h.String()
		again, err := authres.Parse(text)
		require.NoError(t, err, text)
		assert.Equal(t, text, again.String())
		require.Len(t, again.Results, len(h.Results))
	})
}
