package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/resolver/resolvertest"
)

func mailauth(t *testing.T, in string, args ...string) (int, string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(in), &out, &errOut)
	return code, out.String() + errOut.String()
}

// TestRoundTrip makes a key, publishes it, signs and verifies.
func TestRoundTrip(t *testing.T) {
	z := resolver.MustParseZones(`
		example.org.        MX  10 mail.example.org.
		example.org.        TXT "v=spf1 mx -all"
		_dmarc.example.org. TXT "v=DMARC1; p=reject; rua=mailto:d@example.org"
		mail.example.org.   A   192.0.2.1
		1.2.0.192.in-addr.arpa. PTR mail.example.org.
		bad.test.           TXT "v=spf1 foo"
		_dmarc.bad.test.    TXT "v=DMARC1; p=x"
	`)
	server, err := resolvertest.Listen(z, "")
	require.NoError(t, err)
	defer server.Close()

	key := filepath.Join(t.TempDir(), "key.pem")
	code, line := mailauth(t, "", "keygen", "-type", "ed25519", "-domain", "example.org", "-selector", "s1", "-key", key)
	require.Equal(t, 0, code, line)
	require.NoError(t, z.AddText(line))

	message := "From: alice@example.org\nSubject: hi\n\nHello.\n"
	code, signed := mailauth(t, message, "sign", "-domain", "example.org", "-selector", "s1", "-key", key)
	require.Equal(t, 0, code, signed)
	assert.Contains(t, signed, "\r\n\r\nHello.\r\n")

	peer := []string{"-dns", server.Addr, "-helo", "mail.example.org", "-from", "alice@example.org"}
	code, text := mailauth(t, signed, append([]string{"verify", "-json", "-ip", "192.0.2.1"}, peer...)...)
	assert.Equal(t, 0, code, text)
	var o output
	require.NoError(t, json.Unmarshal([]byte(text), &o))
	assert.Equal(t, "pass", o.SPF.Result)
	assert.Equal(t, "pass", o.DKIM[0].Result)
	assert.Equal(t, "pass", o.DMARC.Result)
	assert.Equal(t, "pass", o.IPRev.Result)
	assert.Equal(t, "none", o.Disposition)

	code, text = mailauth(t, strings.ReplaceAll(signed, "\r\n", "\n"), "dkim", "-dns", server.Addr)
	assert.Equal(t, 0, code, text)
	assert.Equal(t, "dkim=pass domain=\"example.org\" selector=\"s1\"\n", text)

	code, text = mailauth(t, message, append([]string{"verify", "-ip", "198.51.100.1"}, peer...)...)
	assert.Equal(t, 1, code, text)
	assert.Contains(t, text, "disposition=reject")

	code, text = mailauth(t, "", append([]string{"spf", "-ip", "198.51.100.1"}, peer...)...)
	assert.Equal(t, 1, code)
	assert.Equal(t, "spf=fail domain=\"example.org\" mechanism=\"-all\"\n", text)

	code, text = mailauth(t, "", "dmarc", "-dns", server.Addr, "-author", "x@news.example.org", "-dkim-pass", "example.org")
	assert.Equal(t, 0, code, text)

	code, text = mailauth(t, "", "check-domain", "-dns", server.Addr, "-selector", "s1", "example.org")
	assert.Equal(t, 0, code, text)
	assert.Equal(t, 4, strings.Count(text, "=ok "), text)
	code, text = mailauth(t, "", "check-domain", "-dns", server.Addr, "-selector", "s1", "bad.test")
	assert.Equal(t, 1, code)
	assert.Equal(t, 4, strings.Count(text, "=wrong "), text)
}

// TestCheckOptional has what a domain need not publish.
func TestCheckOptional(t *testing.T) {
	z := resolver.MustParseZones(`
		example.org.            MX  10 mail.example.org.
		example.org.            TXT "v=spf1 mx -all"
		_dmarc.example.org.     TXT "v=DMARC1; p=reject; rua=mailto:d@example.org"
		mail.example.org.       A   192.0.2.1
		_smtp._tls.example.org. TXT "v=TLSRPTv1; rua=mailto:t@example.org"
		default._bimi.example.org. TXT "v=BIMI1; l=https://example.org/a.svg"
		_mta-sts.example.org.   TXT "v=STSv1; id=1"
		_25._tcp.mail.example.org. TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
	`)
	z.SetSecure("example.org", "mail.example.org", "_25._tcp.mail.example.org")
	server, err := resolvertest.Listen(z, "")
	require.NoError(t, err)
	defer server.Close()
	code, text := mailauth(t, "", "check-domain", "-dns", server.Addr, "example.org")
	assert.Equal(t, 1, code, text)
	assert.Contains(t, text, "tls-rpt=ok ")
	assert.Contains(t, text, "bimi=ok ")
	assert.Contains(t, text, "mta-sts=wrong ", "there is no policy host")
	assert.Contains(t, text, "dane=ok ")
}

func TestWrongUse(t *testing.T) {
	for _, args := range [][]string{{}, {"nothing"}, {"verify"}, {"spf", "-ip", "x"}, {"sign"}, {"keygen"}, {"dmarc"}, {"check-domain"}, {"dkim", "-nonsense"}} {
		code, _ := mailauth(t, "", args...)
		assert.Equal(t, 2, code, "%q", args)
	}
}

func TestCopyMessage(t *testing.T) {
	for in, want := range map[string]string{
		"":              "",
		"a":             "a",
		"a\nb\r\nc\n\n": "a\r\nb\r\nc\r\n\r\n",
		"a\r\nb\nc\r\n": "a\r\nb\nc\r\n",
		"\nbody\n":      "\r\nbody\r\n",
		"a\n" + strings.Repeat("x", 70000) + "\n": "a\r\n" + strings.Repeat("x", 70000) + "\r\n",
	} {
		var out bytes.Buffer
		require.NoError(t, copyMessage(&out, strings.NewReader(in)))
		assert.Equal(t, want, out.String())
	}
}
