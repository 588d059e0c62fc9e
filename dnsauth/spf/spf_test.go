package spf_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
)

var client = netip.MustParseAddr("192.0.2.3")

// zonesOf makes zones of "name text" lines, each a TXT record, and of records.
func zonesOf(t testing.TB, txt map[string]string, records string) *resolver.Zones {
	z := new(resolver.Zones)
	for name, text := range txt {
		z.AddTXT(name, text)
	}
	require.NoError(t, z.AddText(records))
	return z
}

// TestMacros is the table of RFC 7208, 7.4, seen through explanations.
func TestMacros(t *testing.T) {
	for _, c := range []struct{ ip, macro, want string }{
		{"192.0.2.3", "%{s}", "strong-bad@email.example.com"},
		{"192.0.2.3", "%{o}", "email.example.com"},
		{"192.0.2.3", "%{d}", "email.example.com"},
		{"192.0.2.3", "%{d4}", "email.example.com"},
		{"192.0.2.3", "%{d3}", "email.example.com"},
		{"192.0.2.3", "%{d2}", "example.com"},
		{"192.0.2.3", "%{d1}", "com"},
		{"192.0.2.3", "%{dr}", "com.example.email"},
		{"192.0.2.3", "%{d2r}", "example.email"},
		{"192.0.2.3", "%{l}", "strong-bad"},
		{"192.0.2.3", "%{l-}", "strong.bad"},
		{"192.0.2.3", "%{lr}", "strong-bad"},
		{"192.0.2.3", "%{lr-}", "bad.strong"},
		{"192.0.2.3", "%{l1r-}", "strong"},
		{"192.0.2.3", "%{ir}.%{v}._spf.%{d2}", "3.2.0.192.in-addr._spf.example.com"},
		{"192.0.2.3", "%{lr-}.lp._spf.%{d2}", "bad.strong.lp._spf.example.com"},
		{"192.0.2.3", "%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "bad.strong.lp.3.2.0.192.in-addr._spf.example.com"},
		{"192.0.2.3", "%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "3.2.0.192.in-addr.strong.lp._spf.example.com"},
		{"192.0.2.3", "%{d2}.trusted-domains.example.net", "example.com.trusted-domains.example.net"},
		{"192.0.2.3", "%{p} %{h} %{r} %{t} %{c}", "mx.example.org helo.test mx.test 1000 192.0.2.3"},
		{"2001:db8::cb01", "%{ir}.%{v}._spf.%{d2}", "1.0.b.c.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6._spf.example.com"},
		{"2001:db8::cb01", "%{c} %{p}", "2001:db8::cb01 unknown"},
		{"192.0.2.3", "%{S} 100%% a%_b%-c", "strong-bad%40email.example.com 100% a b%20c"},
		{"192.0.2.3", "%{d1000000000000000000000}", "email.example.com"},
		{"192.0.2.3", "%{d0}", ""},
		{"192.0.2.3", "%{x}", ""},
		{"192.0.2.3", "%", ""},
		{"192.0.2.3", "line one\r\nline two", ""},
	} {
		z := zonesOf(t, map[string]string{
			"email.example.com": "v=spf1 -all exp=why.example.com",
			"why.example.com":   c.macro,
		}, `
			3.2.0.192.in-addr.arpa. PTR mx.example.org.
			mx.example.org. A 192.0.2.3
		`)
		checker := &spf.Checker{Resolver: z, Receiver: "mx.test", Now: func() time.Time { return time.Unix(1000, 0) }}
		res := checker.MailFrom(t.Context(), netip.MustParseAddr(c.ip), "helo.test", "<strong-bad@email.example.com>")
		assert.Equal(t, spf.Fail, res.Status)
		assert.Equal(t, strings.ToLower(c.want), strings.ToLower(res.Explanation), c.macro)
	}
}

func TestLimits(t *testing.T) {
	includes := func(n int) string {
		var b strings.Builder
		b.WriteString("v=spf1")
		for i := range n {
			fmt.Fprintf(&b, " include:i%d.test", i)
		}
		return b.String() + " ~all"
	}
	txt := map[string]string{
		"ten.test":       includes(10),
		"eleven.test":    includes(11),
		"void2.test":     "v=spf1 a:n1.test mx:n2.test -all",
		"void3.test":     "v=spf1 a:n1.test mx:n2.test exists:n3.test -all",
		"loop.test":      "v=spf1 include:loop.test -all",
		"redirloop.test": "v=spf1 redirect=redirloop.test",
		"mx11.test":      "v=spf1 mx -all",
		"mxv4.test":      "v=spf1 mx -all",
	}
	for i := range 11 {
		txt[fmt.Sprintf("i%d.test", i)] = "v=spf1 ip4:198.51.100.1 -all"
	}
	var records strings.Builder
	for i := range 11 {
		fmt.Fprintf(&records, "mx11.test. MX %d h%d.test.\n", i, i)
		if i < 5 {
			fmt.Fprintf(&records, "mxv4.test. MX %d h%d.test.\n", i, i)
		}
		fmt.Fprintf(&records, "h%d.test. A 198.51.100.%d\n", i, i+1)
	}
	z := zonesOf(t, txt, records.String())
	for _, c := range []struct {
		domain        string
		ip            string
		checker       spf.Checker
		status        spf.Status
		lookups, void int
	}{
		{"ten.test", "192.0.2.3", spf.Checker{}, spf.SoftFail, 10, 0},
		{"eleven.test", "192.0.2.3", spf.Checker{}, spf.PermError, 11, 0},
		{"eleven.test", "192.0.2.3", spf.Checker{MaxLookups: -1}, spf.SoftFail, 11, 0},
		{"void2.test", "192.0.2.3", spf.Checker{}, spf.Fail, 2, 2},
		{"void3.test", "192.0.2.3", spf.Checker{}, spf.PermError, 3, 3},
		{"void3.test", "192.0.2.3", spf.Checker{MaxVoid: 3}, spf.Fail, 3, 3},
		{"loop.test", "192.0.2.3", spf.Checker{}, spf.PermError, 11, 0},
		{"redirloop.test", "192.0.2.3", spf.Checker{}, spf.PermError, 11, 0},
		{"mx11.test", "192.0.2.3", spf.Checker{}, spf.PermError, 1, 0},
		{"mx11.test", "198.51.100.11", spf.Checker{MaxMX: 11}, spf.Pass, 1, 0},
		{"mxv4.test", "2001:db8::3", spf.Checker{}, spf.Fail, 1, 0},
	} {
		c.checker.Resolver = z
		res := c.checker.MailFrom(t.Context(), netip.MustParseAddr(c.ip), "helo.test", "a@"+c.domain)
		assert.Equal(t, c.status, res.Status, "%s: %s", c.domain, res.Reason)
		assert.Equal(t, c.lookups, res.Lookups, c.domain)
		assert.Equal(t, c.void, res.VoidLookups, c.domain)
	}
}

func TestResult(t *testing.T) {
	z := zonesOf(t, map[string]string{
		"example.org":           "v=spf1 ip4:192.0.2.0/24 -all",
		"xn--bcher-kva.example": "v=spf1 a:%{d} -all",
		"bad.test":              "v=spf1 ip4:1.2.3.4 foo:bar -all",
		"two.test":              "v=spf1 -all",
		"slash.test":            `v=spf1 exists:%{l}.l.test -all`,
	}, `
		xn--bcher-kva.example. A 192.0.2.3
	`)
	z.AddTXT("two.test", "v=spf1 +all")
	z.Fail("down.test", 0, resolver.ErrServFail)
	checker := &spf.Checker{Resolver: z}
	for _, c := range []struct {
		helo, from string
		status     spf.Status
		identity   spf.Identity
		domain     string
		mechanism  string
		reason     string
	}{
		{"h.test", "a@example.org", spf.Pass, spf.MailFrom, "example.org", "ip4:192.0.2.0/24", ""},
		{"example.org", "", spf.Pass, spf.MailFrom, "example.org", "ip4:192.0.2.0/24", ""},
		{"example.org", "<>", spf.Pass, spf.MailFrom, "example.org", "ip4:192.0.2.0/24", ""},
		{"h.test", "a@bücher.example", spf.Pass, spf.MailFrom, "xn--bcher-kva.example", "a:%{d}", ""},
		{"h.test", "a@bad.test", spf.PermError, spf.MailFrom, "bad.test", "default", `bad.test: term "foo:bar": unknown mechanism`},
		{"h.test", "a@two.test", spf.PermError, spf.MailFrom, "two.test", "default", "two.test has several SPF records"},
		{"h.test", "a@down.test", spf.TempError, spf.MailFrom, "down.test", "default", "DNS: server failure"},
		{"h.test", "a@none.test", spf.None, spf.MailFrom, "none.test", "default", "domain does not exist"},
		{"h.test", `"a\"b c"@slash.test`, spf.Fail, spf.MailFrom, "slash.test", "-all", ""},
		{"[192.0.2.3]", "", spf.None, spf.MailFrom, "[192.0.2.3]", "default", "not a fully qualified domain name"},
		{"", "", spf.None, spf.MailFrom, "", "default", "not a fully qualified domain name"},
	} {
		res := checker.MailFrom(t.Context(), client, c.helo, c.from)
		assert.Equal(t, c.status, res.Status, c.from)
		assert.Equal(t, c.identity, res.Identity, c.from)
		assert.Equal(t, c.domain, res.Domain, c.from)
		assert.Equal(t, c.mechanism, res.Mechanism, c.from)
		assert.Equal(t, c.reason, res.Reason, c.from)
	}
	assert.True(t, checker.MailFrom(t.Context(), client, "example.org", "<>").Null)
	helo := checker.Helo(t.Context(), client, "example.org")
	assert.Equal(t, spf.Pass, helo.Status)
	assert.Equal(t, spf.Helo, helo.Identity)
	mapped := netip.MustParseAddr("::ffff:192.0.2.3")
	assert.Equal(t, spf.Pass, checker.MailFrom(t.Context(), mapped, "h.test", "a@example.org").Status)
}

// TestRoundTrips counts time at 20 ms for each answer.
func TestRoundTrips(t *testing.T) {
	z := zonesOf(t, map[string]string{
		"tree.test":  "v=spf1 include:a.test include:b.test include:c.test include:d.test -all",
		"a.test":     "v=spf1 ip4:198.51.100.1 -all",
		"b.test":     "v=spf1 ip4:198.51.100.2 -all",
		"c.test":     "v=spf1 ip4:198.51.100.3 -all",
		"d.test":     "v=spf1 ip4:192.0.2.0/24 -all",
		"deep.test":  "v=spf1 include:e.test redirect=d.test",
		"e.test":     "v=spf1 a:h1.test exists:%{i}.h2.test mx:hosts.test ?all",
		"hosts.test": "v=spf1 a:h1.test a:h2.test mx -all",
		"loop.test":  "v=spf1 include:loop.test include:a.test mx -all",
	}, `
		hosts.test. MX 10 h1.test.
		hosts.test. MX 20 h2.test.
		hosts.test. MX 30 h3.test.
		h1.test. A 198.51.100.1
		h2.test. A 198.51.100.2
		h3.test. A 192.0.2.3
	`)
	for domain, trips := range map[string]struct{ serial, ahead int }{"tree.test": {5, 2}, "hosts.test": {5, 3}, "deep.test": {6, 4}} {
		for _, prefetch := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				slow := resolver.Func(func(ctx context.Context, name string, qtype uint16) (resolver.Answer, error) {
					<-time.After(20 * time.Millisecond)
					return z.Resolve(ctx, name, qtype)
				})
				start := time.Now()
				res := (&spf.Checker{Resolver: slow, Prefetch: prefetch}).MailFrom(t.Context(), client, "h.test", "a@"+domain)
				assert.Equal(t, spf.Pass, res.Status, res.Reason)
				want := trips.serial
				if prefetch {
					want = trips.ahead
				}
				assert.Equal(t, time.Duration(want)*20*time.Millisecond, time.Since(start), "%s %v", domain, prefetch)
			})
		}
	}
	serial := (&spf.Checker{Resolver: z}).MailFrom(t.Context(), client, "h.test", "a@loop.test")
	before := len(z.Queries())
	assert.Equal(t, serial, (&spf.Checker{Resolver: z, Prefetch: true}).MailFrom(t.Context(), client, "h.test", "a@loop.test"))
	assert.Less(t, len(z.Queries())-before, 20)
}

func TestEndsAtDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := new(resolver.Zones)
		z.Hang("slow.test", 0)
		start := time.Now()
		res := (&spf.Checker{Resolver: z}).MailFrom(context.Background(), client, "h.test", "a@slow.test")
		assert.Equal(t, spf.TempError, res.Status)
		assert.Equal(t, 20*time.Second, time.Since(start))
	})
}

func TestReceivedSPF(t *testing.T) {
	z := zonesOf(t, map[string]string{"example.org": "v=spf1 ip4:192.0.2.0/24 -all"}, "")
	checker := &spf.Checker{Resolver: z}
	res := checker.MailFrom(t.Context(), client, "mail.example.org", "a@example.org")
	assert.Equal(t, "Received-SPF: pass\r\n"+
		" (mx.test: domain of a@example.org designates 192.0.2.3 as permitted sender)\r\n"+
		" receiver=mx.test;\r\n"+
		" identity=mailfrom;\r\n"+
		" client-ip=192.0.2.3;\r\n"+
		" envelope-from=\"a@example.org\";\r\n"+
		" helo=mail.example.org;\r\n"+
		" mechanism=\"ip4:192.0.2.0/24\"\r\n", res.ReceivedSPF("mx.test"))

	res = checker.MailFrom(t.Context(), client, "x\r\nBcc: all\r\n\r\n", "\"a\r\nB: c) (\"@"+strings.Repeat("long.", 400)+"test\\")
	for line := range strings.SplitSeq(strings.TrimSuffix(res.ReceivedSPF("mx.test"), "\r\n"), "\r\n") {
		assert.True(t, strings.HasPrefix(line, "Received-SPF: ") || strings.HasPrefix(line, " "), "%q", line)
		assert.Less(t, len(line), 998)
		assert.NotContains(t, line, "\n")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"v=spf1 +mx a:colo.example.com/28 -all",
		"v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 ~all exp=%{d}.x.example unknown=%{ir}",
		"V=SPF1 exists:%{ir}.%{l1r+-}._spf.%{d} redirect=_spf.%{o2}",
		"v=spf1 a//64 a/24//64 mx:%{d}/0 ptr ptr:example.org ?include:a.b -all",
		"v=spf1 ip6:::ffff:1.2.3.4/96 a:a/b.example/24",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := spf.Parse(s)
		if err != nil {
			return
		}
		again, err := spf.Parse(r.String())
		require.NoError(t, err, r.String())
		assert.Equal(t, r.String(), again.String())
		assert.Equal(t, len(r.Directives), len(again.Directives))
	})
}

func FuzzCheck(f *testing.F) {
	f.Add("v=spf1 exists:%{ir}.%{l1r+-}._spf.%{d} -all exp=x.test", "%{s} %{p}", "helo.test", "a@x.test")
	f.Add("v=spf1 a:%{S}.%{h9r.-} ptr:%{p} include:%{d}", "%{t}", "[::1]", "\"a@b\"@x.test")
	f.Fuzz(func(t *testing.T, record, explanation, helo, from string) {
		z := new(resolver.Zones)
		z.AddTXT("x.test", record)
		if record != explanation {
			z.AddTXT("x.test", explanation)
		}
		res := (&spf.Checker{Resolver: z, Timeout: time.Minute}).MailFrom(t.Context(), client, helo, from)
		assert.NotEmpty(t, res.Status)
		assert.Less(t, res.Lookups, 12)
		field := res.ReceivedSPF("mx.test")
		assert.Equal(t, strings.Count(field, "\n"), strings.Count(field, "\r\n"))
		assert.Equal(t, strings.Count(field, "\r"), strings.Count(field, "\r\n"))
	})
}

func BenchmarkFlat(b *testing.B) {
	z := zonesOf(b, map[string]string{"example.org": "v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.7 ip6:2001:db8::/32 ip4:192.0.2.0/24 -all"}, "")
	bench(b, z, "a@example.org")
}

func BenchmarkTree(b *testing.B) {
	z := zonesOf(b, map[string]string{
		"example.org": "v=spf1 include:_spf1.test include:_spf2.test mx -all",
		"_spf1.test":  "v=spf1 include:_a.test include:_b.test ~all",
		"_spf2.test":  "v=spf1 ip4:198.51.100.1 a:h.test include:_c.test ~all",
		"_a.test":     "v=spf1 ip4:203.0.113.0/28 ip4:203.0.113.16/28 ~all",
		"_b.test":     "v=spf1 ip4:203.0.113.32/28 ip4:203.0.113.48/28 ~all",
		"_c.test":     "v=spf1 ip4:203.0.113.64/28 ip4:192.0.2.0/24 ~all",
	}, "h.test. A 198.51.100.77")
	bench(b, z, "a@example.org")
}

func bench(b *testing.B, z *resolver.Zones, from string) {
	cache := &resolver.Cache{Next: z}
	checker := &spf.Checker{Resolver: cache}
	b.ReportAllocs()
	for b.Loop() {
		if res := checker.MailFrom(context.Background(), client, "h.test", from); res.Status != spf.Pass {
			b.Fatal(res.Status, res.Reason)
		}
	}
}
