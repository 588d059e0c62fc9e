package arc_test

import (
	"bytes"
	"crypto/ed25519"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/mailblocks/mailblocks/dnsauth/arc"
	"github.com/mailblocks/mailblocks/dnsauth/authres"
	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/internal/shared"
)

// TestSealSuite runs the published cases for sealing, of which the signatures are
// compared too: RSA as DKIM uses it has no random part.
func TestSealSuite(t *testing.T) {
	data, err := os.ReadFile(shared.Path(t, "conformance", "dnsauth", "arc", "arc-draft-sign-tests.yml"))
	require.NoError(t, err)
	dec := yaml.NewDecoder(bytes.NewReader(data))
	cases := 0
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		top := doc.Content[0]
		key, err := dkim.ParsePrivateKey([]byte(get(top, "privatekey").Value))
		require.NoError(t, err)
		record, err := dkim.RecordText(key.Public())
		require.NoError(t, err)
		z := new(resolver.Zones)
		z.AddTXT(get(top, "sel").Value+"._domainkey."+get(top, "domain").Value, record)
		for name, c := range pairs(get(top, "tests")) {
			cases++
			t.Run(name, func(t *testing.T) {
				seconds, err := strconv.ParseInt(get(c, "t").Value, 10, 64)
				require.NoError(t, err)
				opt := arc.SealOptions{
					Key:     dkim.SigningKey{Domain: get(top, "domain").Value, Selector: get(top, "sel").Value, Signer: key},
					ServID:  get(c, "srv-id").Value,
					Headers: strings.Split(get(c, "sig-headers").Value, ":"),
					Now:     func() time.Time { return time.Unix(seconds, 0) },
				}
				msg := strings.ReplaceAll(get(c, "message").Value, "\n", "\r\n")
				want := strings.TrimSpace(get(c, "AS").Value)

				plain := seal(t, opt, msg, len(msg))
				for _, size := range []int{1, 7, 4096} {
					assert.Equal(t, plain, seal(t, opt, msg, size))
				}
				opt.SortTags()
				fields := seal(t, opt, msg, len(msg))
				if want == "" {
					assert.Empty(t, fields)
					assert.Empty(t, plain)
					return
				}
				assert.Equal(t, unspaced(get(c, "AS").Value), unspaced(value(fields, "ARC-Seal")))
				assert.Equal(t, unspaced(get(c, "AMS").Value), unspaced(value(fields, "ARC-Message-Signature")))
				assert.Equal(t, unspaced(get(c, "AAR").Value), unspaced(value(fields, "ARC-Authentication-Results")))

				status := arc.Pass
				if strings.Contains(want, "cv=fail") {
					status = arc.Fail
				}
				for _, f := range []string{fields, plain} {
					res, err := arc.Verify(t.Context(), z, strings.NewReader(f+msg))
					require.NoError(t, err)
					assert.Equal(t, status, res.Status, res.Reason)
				}
			})
		}
	}
	assert.Equal(t, 17, cases)
}

func seal(t *testing.T, opt arc.SealOptions, msg string, size int) string {
	t.Helper()
	s, err := arc.NewSealer(opt)
	require.NoError(t, err)
	for rest := msg; rest != ""; {
		n, err := s.Write([]byte(rest[:min(size, len(rest))]))
		require.NoError(t, err)
		rest = rest[n:]
	}
	fields, err := s.Finish()
	require.NoError(t, err)
	return string(fields)
}

// value returns the value of one of the fields of a set.
func value(fields, name string) string {
	for field := range strings.SplitSeq(strings.ReplaceAll(fields, "\r\n\t", " "), "\r\n") {
		if n, v, ok := strings.Cut(field, ":"); ok && n == name {
			return v
		}
	}
	return ""
}

func unspaced(s string) string { return strings.Join(strings.Fields(s), "") }

// TestChain seals again and again, changing the message on the way.
func TestChain(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	record, err := dkim.RecordText(key.Public())
	require.NoError(t, err)
	z := new(resolver.Zones)
	z.AddTXT("s._domainkey.example.org", record)
	opt := arc.SealOptions{
		Key:     dkim.SigningKey{Domain: "example.org", Selector: "s", Signer: key},
		Results: &authres.Header{ServID: "mx.example.org", Results: []authres.Result{{Method: "spf", Value: "pass", Comment: "a\r\nb: c"}}},
	}
	msg := "From: a@example.net\r\nSubject: x\r\n\r\nbody\r\n"
	for i := 1; i <= arc.MaxSets; i++ {
		res, err := arc.Verify(t.Context(), z, strings.NewReader(msg))
		require.NoError(t, err)
		require.Len(t, res.Sets, i-1)
		opt.Chain = res.Status
		if i > 1 {
			require.Equal(t, arc.Pass, res.Status, res.Reason)
			require.Equal(t, 0, res.OldestPass)
		}
		fields := seal(t, opt, msg, 100)
		for line := range strings.SplitSeq(strings.TrimSuffix(fields, "\r\n"), "\r\n") {
			require.LessOrEqual(t, len(line), 78)
			require.NotContains(t, line, "\n")
		}
		msg = fields + msg
	}
	assert.Empty(t, seal(t, opt, msg, 100), "there is no set 51")

	// One that changes the body leaves a chain that passes from there on.
	msg = seal(t, opt, "From: a@example.net\r\n\r\nx\r\n", 9) + "From: a@example.net\r\n\r\nx\r\nfooter\r\n"
	opt.Chain = arc.Pass
	msg = seal(t, opt, msg, 9) + msg
	res, err := arc.Verify(t.Context(), z, strings.NewReader(msg))
	require.NoError(t, err)
	assert.Equal(t, arc.Pass, res.Status, res.Reason)
	assert.Equal(t, 2, res.OldestPass)

	// A chain that failed is sealed as such, once.
	opt.Chain = arc.Fail
	msg = seal(t, opt, msg, 9) + msg
	assert.Contains(t, msg, "cv=fail")
	assert.Empty(t, seal(t, opt, msg, 9))
}

func TestSealErrors(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	good := arc.SealOptions{Key: dkim.SigningKey{Domain: "example.org", Selector: "s", Signer: key}, ServID: "mx.test"}
	for name, change := range map[string]func(*arc.SealOptions){
		"no key":    func(o *arc.SealOptions) { o.Key.Signer = nil },
		"domain":    func(o *arc.SealOptions) { o.Key.Domain = "" },
		"selector":  func(o *arc.SealOptions) { o.Key.Selector = "a..b" },
		"no name":   func(o *arc.SealOptions) { o.ServID = "" },
		"arc field": func(o *arc.SealOptions) { o.Headers = []string{"From", "ARC-Seal"} },
		"results":   func(o *arc.SealOptions) { o.Headers = []string{"From", "authentication-results"} },
		"injection": func(o *arc.SealOptions) { o.Headers = []string{"From", "a: b\r\nc"} },
	} {
		opt := good
		change(&opt)
		_, err := arc.NewSealer(opt)
		assert.Error(t, err, name)
	}
	for msg, want := range map[string]error{
		"Subject: x\r\n\r\n":                           arc.ErrNoFrom,
		set(1, "none") + "From: a@example.org\r\n\r\n": arc.ErrUnknownChain,
	} {
		s, err := arc.NewSealer(good)
		require.NoError(t, err)
		_, _ = s.Write([]byte(msg))
		_, err = s.Finish()
		assert.ErrorIs(t, err, want)
	}
}

func FuzzSeal(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	record, err := dkim.RecordText(key.Public())
	require.NoError(f, err)
	z := new(resolver.Zones)
	z.AddTXT("s._domainkey.example.org", record)
	opt := arc.SealOptions{Key: dkim.SigningKey{Domain: "example.org", Selector: "s", Signer: key}, ServID: "x.test", Chain: arc.Fail}
	f.Add("From: a@example.org\r\nAuthentication-Results: x.test; spf=pass\r\n", "body\r\n")
	f.Add(set(2, "pass")+set(1, "none")+"From: a@example.org\r\n", " b \t\r\n\r\n")
	f.Fuzz(func(t *testing.T, header, body string) {
		msg := header + "\r\n" + body
		s, err := arc.NewSealer(opt)
		require.NoError(t, err)
		_, _ = s.Write([]byte(msg))
		fields, err := s.Finish()
		if err != nil || len(fields) == 0 {
			return
		}
		res, err := arc.Verify(t.Context(), z, strings.NewReader(string(fields)+msg))
		require.NoError(t, err)
		want := arc.Pass
		if strings.Contains(string(fields), "cv=fail") {
			want = arc.Fail
		}
		assert.Equal(t, want, res.Status, res.Reason)
	})
}
