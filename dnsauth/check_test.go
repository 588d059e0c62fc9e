package dnsauth_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth"
	"github.com/mailblocks/mailblocks/dnsauth/authres"
	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/dmarc"
	"github.com/mailblocks/mailblocks/dnsauth/dmarcrpt"
	"github.com/mailblocks/mailblocks/dnsauth/dnsbl"
	"github.com/mailblocks/mailblocks/dnsauth/iprev"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
)

var signingKey = sync.OnceValue(func() dkim.SigningKey {
	key, err := dkim.GenerateKey("ed25519")
	if err != nil {
		panic(err)
	}
	return dkim.SigningKey{Domain: "example.org", Selector: "s1", Signer: key}
})

func zones(t testing.TB) *resolver.Zones {
	z := resolver.MustParseZones(`
		example.org.        TXT "v=spf1 ip4:192.0.2.1 -all"
		_dmarc.example.org. TXT "v=DMARC1; p=reject"
		mail.example.org.   A   192.0.2.1
		mail.example.org.   TXT "v=spf1 a -all"
		1.2.0.192.in-addr.arpa. PTR mail.example.org.
		9.2.0.192.bl.test.  A   127.0.0.2
	`)
	line, err := signingKey().ZoneLine()
	require.NoError(t, err)
	require.NoError(t, z.AddText(line))
	return z
}

const message = "From: Alice <alice@example.org>\r\nTo: bob@example.test\r\nSubject: hi\r\n\r\nHello.\r\n"

func signed(t testing.TB, msg string) string {
	s, err := dkim.NewSigner(dkim.SignOptions{Keys: []dkim.SigningKey{signingKey()}})
	require.NoError(t, err)
	s.Write([]byte(msg))
	field, err := s.Finish()
	require.NoError(t, err)
	return string(field) + msg
}

func run(t testing.TB, ctx context.Context, cfg dnsauth.Config, sess dnsauth.Session, msg string, size int) *dnsauth.Report {
	c := dnsauth.Start(ctx, cfg, sess)
	for len(msg) > 0 {
		n := min(size, len(msg))
		c.Write([]byte(msg[:n]))
		msg = msg[n:]
	}
	r, err := c.Finish()
	require.NoError(t, err)
	_, err = c.Finish()
	require.ErrorIs(t, err, dnsauth.ErrFinished)
	return r
}

func TestAllPass(t *testing.T) {
	msg := signed(t, message)
	for _, size := range []int{1, 7, 4096} {
		cfg := dnsauth.Config{Resolver: zones(t), ServID: "mx.test", CheckHelo: true, DNSBLs: []dnsbl.List{{Zone: "bl.test"}}}
		r := run(t, t.Context(), cfg, dnsauth.Session{IP: netip.MustParseAddr("192.0.2.1"), Helo: "mail.example.org", MailFrom: "<alice@example.org>"}, msg, size)
		assert.Equal(t, spf.Pass, r.SPF.Status)
		assert.Equal(t, spf.Pass, r.HeloSPF.Status)
		assert.Equal(t, iprev.Pass, r.IPRev.Status)
		assert.Equal(t, dnsbl.Clean, r.DNSBL[0].Status)
		assert.True(t, r.DKIMPass("example.org"))
		assert.False(t, r.DKIMPass("example.test"))
		assert.Equal(t, dmarc.Pass, r.DMARC.Status)
		assert.Equal(t, "example.org", r.FromDomain)
		assert.Equal(t, dnsauth.Accept, r.Disposition)
		assert.Contains(t, r.ReceivedSPF(), "Received-SPF: pass")

		field := r.AuthenticationResults
		b := field[strings.Index(field, "header.b=")+9:]
		b = b[:strings.IndexByte(b, ';')]
		assert.Equal(t, "Authentication-Results: mx.test;\r\n"+
			"\tiprev=pass (mail.example.org) policy.iprev=192.0.2.1;\r\n"+
			"\tspf=pass (ip4:192.0.2.1) smtp.mailfrom=alice@example.org;\r\n"+
			"\tspf=pass (a) smtp.helo=mail.example.org;\r\n"+
			"\tdkim=pass (256-bit key) header.d=example.org header.i=@example.org\r\n"+
			"\theader.s=s1 header.a=ed25519-sha256 header.b="+b+";\r\n"+
			"\tdmarc=pass (p=reject dis=none) header.from=example.org\r\n", field)
	}
}

func TestForged(t *testing.T) {
	for name, c := range map[string]struct {
		msg         string
		dmarc       dmarc.Status
		disposition dnsauth.Disposition
	}{
		"unsigned":        {message, dmarc.Fail, dnsauth.Reject},
		"changed":         {signed(t, message) + "more", dmarc.Fail, dnsauth.Reject},
		"two From fields": {"From: x@evil.test\r\n" + message, dmarc.Fail, dnsauth.Reject},
		"no From":         {"Subject: x\r\n\r\n", dmarc.PermError, dnsauth.Quarantine},
		"nothing":         {"", dmarc.PermError, dnsauth.Quarantine},
		"endless header":  {strings.Repeat("x", 3<<20), dmarc.PermError, dnsauth.Quarantine},
		"no policy":       {"From: a@example.test\r\n\r\n", dmarc.None, dnsauth.Accept},
	} {
		cfg := dnsauth.Config{Resolver: zones(t), ServID: "mx.test"}
		r := run(t, t.Context(), cfg, dnsauth.Session{IP: netip.MustParseAddr("192.0.2.9"), Helo: "x", MailFrom: "a@evil.test"}, c.msg, 1000)
		assert.Equal(t, c.dmarc, r.DMARC.Status, "%s: %s", name, r.DMARC.Reason)
		assert.Equal(t, c.disposition, r.Disposition, name)
	}
}

// TestEarlySPF asks before the message.
func TestEarlySPF(t *testing.T) {
	c := dnsauth.Start(t.Context(), dnsauth.Config{Resolver: zones(t), ServID: "mx.test"}, dnsauth.Session{IP: netip.MustParseAddr("192.0.2.9"), MailFrom: "a@example.org"})
	assert.Equal(t, spf.Fail, c.SPF().Status)
	assert.Equal(t, spf.Fail, c.SPF().Status)
	r, err := c.Finish()
	require.NoError(t, err)
	assert.Equal(t, spf.Fail, r.SPF.Status)
}

// TestDeadline has a DNS that never answers.
func TestDeadline(t *testing.T) {
	signingKey() // made outside of the bubble, whose clock starts in 2000
	synctest.Test(t, func(t *testing.T) {
		msg := signed(t, message)
		silent := resolver.Func(func(ctx context.Context, name string, qtype uint16) (resolver.Answer, error) {
			<-ctx.Done()
			return resolver.Answer{}, &resolver.Error{Name: name, Type: qtype, Err: resolver.ErrTimeout}
		})
		cfg := dnsauth.Config{Resolver: silent, ServID: "mx.test", Timeout: 3 * time.Second, DNSBLs: []dnsbl.List{{Zone: "bl.test"}}}
		start := time.Now()
		r := run(t, context.Background(), cfg, dnsauth.Session{IP: netip.MustParseAddr("192.0.2.1"), Helo: "x", MailFrom: "a@example.org"}, msg, 100)
		assert.Equal(t, 3*time.Second, time.Since(start))
		assert.Equal(t, spf.TempError, r.SPF.Status)
		assert.Equal(t, dkim.TempError, r.DKIM[0].Status)
		assert.Equal(t, dmarc.TempError, r.DMARC.Status)
		assert.Equal(t, iprev.TempError, r.IPRev.Status)
		assert.Equal(t, dnsbl.Failed, r.DNSBL[0].Status)
		assert.Equal(t, dnsauth.Accept, r.Disposition)
	})
}

// TestBudget has domains that would make us ask and ask.
func TestBudget(t *testing.T) {
	z := zones(t)
	var record strings.Builder
	record.WriteString("v=spf1")
	for i := range 10 {
		fmt.Fprintf(&record, " mx:m%d.evil.test", i)
		for j := range 10 {
			require.NoError(t, z.AddText(fmt.Sprintf("m%d.evil.test. MX 1 h%d-%d.evil.test.\nh%d-%d.evil.test. A 198.51.100.1", i, i, j, i, j)))
		}
	}
	z.AddTXT("evil.test", record.String()+" -all")
	sess := dnsauth.Session{IP: netip.MustParseAddr("192.0.2.1"), Helo: "x", MailFrom: "a@evil.test"}
	r := run(t, t.Context(), dnsauth.Config{Resolver: z, ServID: "mx.test", MaxQueries: 40}, sess, message, 100)
	assert.Equal(t, spf.TempError, r.SPF.Status)
	assert.LessOrEqual(t, len(z.Queries()), 43)
	assert.Equal(t, dnsauth.Reject, r.Disposition, "the forged domain's policy is found all the same")
	r = run(t, t.Context(), dnsauth.Config{Resolver: z, ServID: "mx.test"}, sess, message, 100)
	assert.Equal(t, spf.Fail, r.SPF.Status)
}

// TestNoInjection has a peer that tries to write header fields of ours.
func TestNoInjection(t *testing.T) {
	evil := "x\r\n\r\nBcc: all; spf=pass \"()\\"
	z := zones(t)
	sig := "DKIM-Signature: v=1; a=rsa-sha256; d=evil.test; s=a\"b(c; i=\"x;\"@evil.test; h=From; bh=" + strings.Repeat("A", 43) + "=; b=" + strings.Repeat("A", 8) + "\r\n"
	r := run(t, t.Context(), dnsauth.Config{Resolver: z, ServID: "mx.test", CheckHelo: true},
		dnsauth.Session{IP: netip.MustParseAddr("192.0.2.1"), Helo: evil, MailFrom: evil + "@" + evil}, sig+"From: <a@\"x;y\"@example.org>\r\n\r\n", 100)
	for _, field := range []string{r.AuthenticationResults, r.ReceivedSPF()} {
		lines := strings.Split(strings.TrimSuffix(field, "\r\n"), "\r\n")
		for i, line := range lines {
			assert.True(t, i == 0 || line[0] == ' ' || line[0] == '\t', "%q", line)
			assert.NotContains(t, line, "\n")
			assert.NotContains(t, line, "\r")
		}
	}
	_, value, _ := strings.Cut(r.AuthenticationResults, ":")
	h, err := authres.Parse(value)
	require.NoError(t, err)
	for _, res := range h.Results {
		assert.False(t, res.Method == "spf" && res.Value == "pass")
	}
}

func TestMisuse(t *testing.T) {
	c := dnsauth.Start(t.Context(), dnsauth.Config{Resolver: zones(t)}, dnsauth.Session{})
	_, err := c.Finish()
	assert.ErrorContains(t, err, "ServID")
	c = dnsauth.Start(t.Context(), dnsauth.Config{ServID: "mx.test"}, dnsauth.Session{Helo: "a.test"})
	_, err = c.Finish()
	assert.ErrorContains(t, err, "Resolver")
}

func TestAggregate(t *testing.T) {
	z := resolver.MustParseZones(`
		_dmarc.strict.test. TXT "v=DMARC1; p=reject; sp=quarantine; aspf=s; fo=1; ruf=mailto:d@strict.test"
		_dmarc.lenient.test. TXT "v=DMARC1; p=reject; t=y"
		_dmarc.watching.test. TXT "v=DMARC1; p=none"
		strict.test. TXT "v=spf1 ip4:192.0.2.1 -all"
		watching.test. TXT "v=spf1 ip4:192.0.2.1 -all"
	`)
	line, err := signingKey().ZoneLine()
	require.NoError(t, err)
	require.NoError(t, z.AddText(line))
	get := func(ip, from, msg string, applied dnsauth.Disposition, why dmarcrpt.Reason) (dmarcrpt.Policy, dmarcrpt.Record, bool) {
		r := run(t, t.Context(), dnsauth.Config{Resolver: z, ServID: "mx.test"}, dnsauth.Session{IP: netip.MustParseAddr(ip), Helo: "h.test", MailFrom: from}, msg, 4096)
		return r.Aggregate(applied, why)
	}
	p, rec, ok := get("192.0.2.1", "a@strict.test", signed(t, "From: a@strict.test\r\n\r\nx\r\n"), dnsauth.Accept, dmarcrpt.Reason{})
	require.True(t, ok)
	assert.Equal(t, dmarcrpt.Policy{Domain: "strict.test", Policy: "reject", Subdomains: "quarantine", Nonexistent: "quarantine", AlignDKIM: "r", AlignSPF: "s",
		DiscoveryMethod: "treewalk", Options: "1", Testing: "n"}, p)
	assert.Equal(t, dmarcrpt.Evaluated{Disposition: "pass", DKIM: "fail", SPF: "pass"}, rec.Row.Evaluated)
	assert.Equal(t, dmarcrpt.Identifiers{HeaderFrom: "strict.test", EnvelopeFrom: "strict.test"}, rec.Identifiers)
	assert.Equal(t, []dmarcrpt.DKIMResult{{Domain: "example.org", Selector: "s1", Result: "pass"}}, rec.Auth.DKIM)
	assert.Equal(t, []dmarcrpt.SPFResult{{Domain: "strict.test", Scope: "mfrom", Result: "pass"}}, rec.Auth.SPF)
	assert.Equal(t, "192.0.2.1", rec.Row.SourceIP)

	for name, c := range map[string]struct {
		ip, from, domain string
		applied          dnsauth.Disposition
		why              dmarcrpt.Reason
		want             string
		reasons          []dmarcrpt.Reason
	}{
		"policy followed":     {"192.0.2.9", "a@strict.test", "strict.test", dnsauth.Reject, dmarcrpt.Reason{}, "reject", nil},
		"subdomain":           {"192.0.2.9", "a@strict.test", "sub.strict.test", dnsauth.Quarantine, dmarcrpt.Reason{}, "quarantine", nil},
		"not followed":        {"192.0.2.9", "a@strict.test", "strict.test", dnsauth.Accept, dmarcrpt.Reason{}, "none", []dmarcrpt.Reason{{Type: "local_policy"}}},
		"a list":              {"192.0.2.9", "a@strict.test", "strict.test", dnsauth.Accept, dmarcrpt.Reason{Type: "mailing_list", Comment: "l"}, "none", []dmarcrpt.Reason{{Type: "mailing_list", Comment: "l"}}},
		"testing":             {"192.0.2.9", "a@lenient.test", "lenient.test", dnsauth.Quarantine, dmarcrpt.Reason{}, "quarantine", []dmarcrpt.Reason{{Type: "policy_test_mode"}}},
		"nothing asked for":   {"192.0.2.1", "a@watching.test", "watching.test", dnsauth.Accept, dmarcrpt.Reason{}, "none", nil},
		"refused for another": {"192.0.2.1", "a@watching.test", "watching.test", dnsauth.Reject, dmarcrpt.Reason{}, "reject", []dmarcrpt.Reason{{Type: "local_policy"}}},
	} {
		_, rec, ok := get(c.ip, c.from, "From: a@"+c.domain+"\r\n\r\nx\r\n", c.applied, c.why)
		if assert.True(t, ok, name) {
			assert.Equal(t, c.want, rec.Row.Evaluated.Disposition, name)
			assert.Equal(t, c.reasons, rec.Row.Evaluated.Reasons, name)
			assert.Equal(t, c.domain, rec.Identifiers.HeaderFrom, name)
		}
	}
	_, rec, ok = get("192.0.2.1", "", "From: a@strict.test\r\n\r\nx\r\n", dnsauth.Reject, dmarcrpt.Reason{})
	assert.True(t, ok)
	assert.Empty(t, rec.Identifiers.EnvelopeFrom)
	_, _, ok = get("192.0.2.1", "a@none.test", "From: a@none.test\r\n\r\nx\r\n", dnsauth.Accept, dmarcrpt.Reason{})
	assert.False(t, ok, "no record")
}
