package dmarc_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/dmarc"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
)

func zones(txt ...string) *resolver.Zones {
	z := new(resolver.Zones)
	for _, line := range txt {
		name, text, _ := strings.Cut(line, " ")
		z.AddTXT(name, text)
	}
	return z
}

func TestAuthorDomains(t *testing.T) {
	for from, want := range map[string]string{
		"a@example.org":                             "example.org",
		" Alice <a@Example.ORG>\r\n":                "example.org",
		`"Evil <x@evil.test>" <a@example.org>`:      "example.org",
		"(c (d) <x@evil.test>) a@example.org (e)":   "example.org",
		"a@example.org, b@example.org":              "example.org",
		"a@example.org, B <b@example.test>":         "example.org example.test",
		"Group: a@example.org, b@x.test;":           "example.org x.test",
		"<@relay.test,@other.test:a@example.org>":   "example.org",
		`"a@b"@example.org`:                         "example.org",
		`"a, b" <a@example.org>`:                    "example.org",
		"a @ example . org":                         "example.org",
		"x@evil.test <a@example.org>":               "example.org",
		"a@evil.test@example.org":                   "example.org",
		"<a@example.org> x@evil.test":               "example.org",
		"=?utf-8?q?x=40evil.test?= <a@example.org>": "example.org",
		"a@bücher.example":                          "xn--bcher-kva.example",
		"a@example.org.":                            "example.org",
		"":                                          "!none",
		"undisclosed:;":                             "!none",
		"Alice":                                     "!bad",
		"a@[192.0.2.1]":                             "!bad",
		"a@":                                        "!bad",
		"a@b..c":                                    "!bad",
		"<a@example.org":                            "example.org",
		"a@example.org, nobody":                     "!bad example.org",
	} {
		got, err := dmarc.AuthorDomains(from)
		s := strings.Join(got, " ")
		switch err {
		case dmarc.ErrNoAuthor:
			s = "!none"
		case dmarc.ErrBadAuthor:
			s = strings.TrimSpace("!bad " + s)
		}
		assert.Equal(t, want, s, from)
	}
}

func TestEvaluate(t *testing.T) {
	pass := func(d string) *spf.Result {
		return &spf.Result{Status: spf.Pass, Identity: spf.MailFrom, Domain: d}
	}
	sig := func(s dkim.Status, d string) []dkim.Result {
		return []dkim.Result{{Status: s, Signature: &dkim.Signature{Domain: d}}}
	}
	broken := zones("_dmarc.example.org v=DMARC1; p=reject")
	broken.Fail("_dmarc.org", 0, resolver.ErrServFail)
	evil := zones("_dmarc.example.org v=DMARC1; p=reject")
	evil.Fail("_dmarc.evil.org", 0, resolver.ErrServFail)
	for name, c := range map[string]struct {
		z      *resolver.Zones
		from   string
		spf    *spf.Result
		dkim   []dkim.Result
		status dmarc.Status
		policy dmarc.Policy
	}{
		"HELO is no identifier": {zones("_dmarc.example.org v=DMARC1; p=reject"), "a@example.org",
			&spf.Result{Status: spf.Pass, Identity: spf.Helo, Domain: "example.org"}, nil, dmarc.Fail, dmarc.PolicyReject},
		"failed signature beside pass": {zones("_dmarc.example.org v=DMARC1; p=reject"), "a@example.org",
			nil, append(sig(dkim.Fail, "example.org"), sig(dkim.Pass, "mail.example.org")...), dmarc.Pass, dmarc.PolicyReject},
		"aligned temperror": {zones("_dmarc.example.org v=DMARC1; p=reject"), "a@example.org",
			nil, sig(dkim.TempError, "example.org"), dmarc.TempError, dmarc.PolicyReject},
		"someone else's temperror": {zones("_dmarc.example.org v=DMARC1; p=reject"), "a@example.org",
			nil, sig(dkim.TempError, "evil.test"), dmarc.Fail, dmarc.PolicyReject},
		"pass of a domain with broken DNS": {evil, "a@example.org",
			pass("evil.org"), sig(dkim.Pass, "evil.org"), dmarc.Fail, dmarc.PolicyReject},
		"two authors, one forged": {zones("_dmarc.example.org v=DMARC1; p=reject", "_dmarc.evil.test v=DMARC1; p=none"), "a@evil.test, b@example.org",
			pass("evil.test"), nil, dmarc.Fail, dmarc.PolicyReject},
		"five authors":                         {zones(), "a@a.test, a@b.test, a@c.test, a@d.test, a@e.test", nil, nil, dmarc.PermError, ""},
		"no author":                            {zones(), "", nil, nil, dmarc.PermError, ""},
		"a level above fails, exact alignment": {broken, "a@example.org", pass("example.org"), nil, dmarc.Pass, dmarc.PolicyReject},
		"a level above fails, relaxed":         {broken, "a@example.org", pass("x.example.org"), nil, dmarc.TempError, dmarc.PolicyReject},
		"strict":                               {zones("_dmarc.example.org v=DMARC1; p=reject; aspf=s"), "a@example.org", pass("x.example.org"), nil, dmarc.Fail, dmarc.PolicyReject},
		"psd for a domain without record": {zones("_dmarc.bank v=DMARC1; p=none; sp=quarantine; np=reject; psd=y"), "a@mega.bank",
			nil, nil, dmarc.Fail, dmarc.PolicyReject},
		"siblings under a psd": {zones("_dmarc.bank v=DMARC1; p=reject; psd=y"), "a@mega.bank",
			pass("giga.bank"), nil, dmarc.Fail, dmarc.PolicyReject},
		"bad sp with rua":    {zones("_dmarc.example.org v=DMARC1; p=reject; sp=x; rua=mailto:a@example.org"), "a@example.org", nil, nil, dmarc.Fail, dmarc.PolicyNone},
		"bad sp without rua": {zones("_dmarc.example.org v=DMARC1; p=reject; sp=x; rua=nonsense"), "a@example.org", nil, nil, dmarc.None, ""},
	} {
		res := dmarc.Evaluate(t.Context(), c.z, c.from, c.spf, c.dkim, nil)
		assert.Equal(t, c.status, res.Status, "%s: %s", name, res.Reason)
		assert.Equal(t, c.policy, res.Policy, name)
	}
}

func TestPublicSuffixOption(t *testing.T) {
	z := zones("_dmarc.example.co.uk v=DMARC1; p=reject; sp=quarantine")
	opt := &dmarc.Options{OrganizationalDomain: dmarc.ByPublicSuffix}
	ok := &spf.Result{Status: spf.Pass, Identity: spf.MailFrom, Domain: "bounce.example.co.uk"}
	res := dmarc.Evaluate(t.Context(), z, "a@news.example.co.uk", ok, nil, opt)
	assert.Equal(t, dmarc.Pass, res.Status)
	assert.Equal(t, dmarc.PolicyQuarantine, res.Policy)
	assert.Equal(t, "example.co.uk", res.OrgDomain)
	assert.Len(t, z.Queries(), 2)
	ok.Domain = "other.co.uk"
	assert.Equal(t, dmarc.Fail, dmarc.Evaluate(t.Context(), z, "a@example.co.uk", ok, nil, opt).Status)
}

// TestOneRoundTrip has a resolver that takes 20 ms for each answer.
func TestOneRoundTrip(t *testing.T) {
	z := zones("_dmarc.example.org v=DMARC1; p=reject")
	synctest.Test(t, func(t *testing.T) {
		slow := slowly(z, 20*time.Millisecond)
		start := time.Now()
		e := dmarc.Start(t.Context(), slow, "a@x.y.z.example.org", nil)
		e.Prefetch("mail.example.org")
		res := e.Finish(&spf.Result{Status: spf.Pass, Identity: spf.MailFrom, Domain: "mail.example.org"}, nil)
		assert.Equal(t, dmarc.Pass, res.Status)
		assert.Equal(t, 20*time.Millisecond, time.Since(start))
	})
}

func FuzzRecord(f *testing.F) {
	f.Add("v=DMARC1; p=reject; sp=none; np=quarantine; adkim=s; aspf=r; psd=n; t=y; rua=mailto:a@b.test!10m,https://x.test/y; ruf=mailto:c@d.test; fo=1:d:s; pct=5")
	f.Add(" V = DMARC1 ;; p=; ; p=none; x")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := dmarc.Parse(s)
		if err != nil {
			return
		}
		effective, ok := r.Usable()
		if !ok {
			return
		}
		again, err := dmarc.Parse(effective.String())
		require.NoError(t, err)
		assert.Equal(t, effective, again)
	})
}

func FuzzAuthorDomains(f *testing.F) {
	f.Add(`"a\"b" (x(y)z) <@r.test:a@example.org>, g: b@[1.2.3.4];`)
	f.Fuzz(func(t *testing.T, s string) {
		domains, _ := dmarc.AuthorDomains(s)
		for _, d := range domains {
			again, err := dmarc.AuthorDomains("x@" + d)
			assert.NoError(t, err)
			assert.Equal(t, []string{d}, again)
		}
	})
}
