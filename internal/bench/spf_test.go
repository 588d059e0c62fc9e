package bench

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	gospf "blitiri.com.ar/go/spf"
	"github.com/miekg/dns"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
)

// peerResolver answers the peer's questions from the same source.
type peerResolver struct{ r resolver.Resolver }

func (p peerResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	return resolver.LookupTXT(ctx, p.r, name)
}

func (p peerResolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	mxs, _, err := resolver.LookupMX(ctx, p.r, name)
	var out []*net.MX
	for _, mx := range mxs {
		out = append(out, &net.MX{Host: mx.Host, Pref: mx.Preference})
	}
	return out, err
}

func (p peerResolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	a, err := p.r.Resolve(ctx, host, dns.TypeA)
	var out []net.IPAddr
	for _, ip := range resolver.AddrsOf(a) {
		out = append(out, net.IPAddr{IP: ip.AsSlice()})
	}
	return out, err
}

func (p peerResolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, err
	}
	return resolver.LookupPTR(ctx, p.r, ip)
}

// BenchmarkSPF evaluates records from memory, and over DNS of 20 ms an answer.
func BenchmarkSPF(b *testing.B) {
	zones := resolver.MustParseZones(`
		flat.test.  TXT "v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.7 ip6:2001:db8::/32 ip4:192.0.2.0/24 -all"
		tree.test.  TXT "v=spf1 include:a.test include:b.test include:c.test include:d.test -all"
		a.test.     TXT "v=spf1 ip4:203.0.113.0/28 ip4:203.0.113.16/28 ~all"
		b.test.     TXT "v=spf1 ip4:203.0.113.32/28 ip4:203.0.113.48/28 ~all"
		c.test.     TXT "v=spf1 ip4:203.0.113.64/28 ip4:198.51.100.1 ~all"
		d.test.     TXT "v=spf1 ip4:203.0.113.80/28 ip4:192.0.2.0/24 ~all"
		hosts.test. TXT "v=spf1 a:h1.test a:h2.test mx -all"
		hosts.test. MX 10 h1.test.
		hosts.test. MX 20 h2.test.
		hosts.test. MX 30 h3.test.
		h1.test. A 198.51.100.1
		h2.test. A 198.51.100.2
		h3.test. A 192.0.2.3
	`)
	slow := resolver.Func(func(ctx context.Context, name string, qtype uint16) (resolver.Answer, error) {
		<-time.After(20 * time.Millisecond)
		return zones.Resolve(ctx, name, qtype)
	})
	ip := netip.MustParseAddr("192.0.2.3")
	for _, c := range []struct {
		name, domain string
		r            resolver.Resolver
		prefetch     bool
	}{
		{"flat", "flat.test", &resolver.Cache{Next: zones}, false},
		{"tree", "tree.test", &resolver.Cache{Next: zones}, false},
		{"tree 20 ms", "tree.test", slow, true},
		{"hosts 20 ms", "hosts.test", slow, true},
	} {
		b.Run(c.name+"/mailblocks", func(b *testing.B) {
			checker := &spf.Checker{Resolver: c.r, Prefetch: c.prefetch}
			b.ReportAllocs()
			for b.Loop() {
				if res := checker.MailFrom(context.Background(), ip, "h.test", "a@"+c.domain); res.Status != spf.Pass {
					b.Fatal(res.Status, res.Reason)
				}
			}
		})
		b.Run(c.name+"/blitiri", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				res, err := gospf.CheckHostWithSender(ip.AsSlice(), "h.test", "a@"+c.domain, gospf.WithResolver(peerResolver{c.r}))
				if res != gospf.Pass {
					b.Fatal(res, err)
				}
			}
		})
	}
}
