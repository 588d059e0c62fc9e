package resolver_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/resolver/resolvertest"
)

const zoneText = `
$ORIGIN example.org.
@        MX   20 b
@        MX   10 a.example.org.
@        TXT  "v=spf1 " "-all"
a        A    192.0.2.1
a        AAAA 2001:db8::1
b        A    192.0.2.2
alias    CNAME other
other    CNAME a
loop1    CNAME loop2
loop2    CNAME loop1
gone     CNAME nowhere
null     MX   0 .
deep.ent A    192.0.2.3
*.wild   TXT  "any"
1.2.0.192.in-addr.arpa. PTR A.example.org.
`

// serve starts a DNS server for r and returns a client of it.
func serve(t *testing.T, r resolver.Resolver) (*resolver.Client, *resolvertest.Server) {
	t.Helper()
	s, err := resolvertest.Listen(r, "")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return &resolver.Client{Servers: []string{s.Addr}}, s
}

// both runs a test against the zones themselves and against a client that asks
// a server with the same zones: the answers must not differ.
func both(t *testing.T, f func(t *testing.T, r resolver.Resolver)) {
	z := resolver.MustParseZones(zoneText)
	z.Fail("broken.example.org", 0, resolver.ErrServFail)
	z.SetSecure("a.example.org")
	t.Run("zones", func(t *testing.T) { f(t, z) })
	client, _ := serve(t, z)
	t.Run("client", func(t *testing.T) { f(t, client) })
}

func TestLookups(t *testing.T) {
	both(t, func(t *testing.T, r resolver.Resolver) {
		ctx := t.Context()

		txt, err := resolver.LookupTXT(ctx, r, "example.org")
		require.NoError(t, err)
		assert.Equal(t, []string{"v=spf1 -all"}, txt)

		mxs, secure, err := resolver.LookupMX(ctx, r, "EXAMPLE.org.")
		require.NoError(t, err)
		assert.Equal(t, []resolver.MX{{"a.example.org", 10}, {"b.example.org", 20}}, mxs)
		assert.False(t, secure)

		mxs, _, err = resolver.LookupMX(ctx, r, "null.example.org")
		require.NoError(t, err)
		assert.Equal(t, []resolver.MX{{"", 0}}, mxs)

		addrs, err := resolver.LookupAddrs(ctx, r, "alias.example.org")
		require.NoError(t, err)
		assert.Equal(t, "[2001:db8::1 192.0.2.1]", strings.ReplaceAll(stringOf(addrs.Addrs), ",", ""))
		assert.Equal(t, "a.example.org", addrs.Name)
		assert.False(t, addrs.Secure, "the alias itself is not signed")

		addrs, err = resolver.LookupAddrs(ctx, r, "a.example.org")
		require.NoError(t, err)
		assert.True(t, addrs.Secure)

		names, err := resolver.LookupPTR(ctx, r, addrs.Addrs[1])
		require.NoError(t, err)
		assert.Equal(t, []string{"a.example.org"}, names)
	})
}

func stringOf[T interface{ String() string }](list []T) string {
	var s []string
	for _, v := range list {
		s = append(s, v.String())
	}
	return "[" + strings.Join(s, " ") + "]"
}

func TestKindsOfNothing(t *testing.T) {
	both(t, func(t *testing.T, r resolver.Resolver) {
		for _, c := range []struct {
			name string
			want error
		}{
			{"nowhere.example.org", resolver.ErrNXDomain},
			{"gone.example.org", resolver.ErrNXDomain},
			{"x.a.example.org", resolver.ErrNXDomain},
			{"a.example.org", resolver.ErrNoData},
			{"alias.example.org", resolver.ErrNoData},
			{"ent.example.org", resolver.ErrNoData},
			{"broken.example.org", resolver.ErrServFail},
			{"loop1.example.org", resolver.ErrServFail},
			{strings.Repeat("x", 64) + ".example.org", resolver.ErrName},
		} {
			_, err := resolver.LookupTXT(t.Context(), r, c.name)
			assert.ErrorIs(t, err, c.want, c.name)
			var e *resolver.Error
			if assert.ErrorAs(t, err, &e) {
				assert.Equal(t, c.name, e.Name)
			}
			assert.Equal(t, errors.Is(c.want, resolver.ErrServFail), resolver.Temporary(err), c.name)
		}
		txt, err := resolver.LookupTXT(t.Context(), r, "some.thing.wild.example.org")
		require.NoError(t, err)
		assert.Equal(t, []string{"any"}, txt)
	})
}

func TestTextOctetsSurvive(t *testing.T) {
	z := new(resolver.Zones)
	want := "a \"quoted\" back\\slash \x00\xff; 200 " + strings.Repeat("y", 300)
	z.AddTXT("t.example.org", want)
	client, _ := serve(t, z)
	for _, r := range []resolver.Resolver{z, client} {
		got, err := resolver.LookupTXT(t.Context(), r, "t.example.org")
		require.NoError(t, err)
		assert.Equal(t, []string{want}, got)
	}
}

func TestClientFallsBackToTCP(t *testing.T) {
	z := new(resolver.Zones)
	for i := range 100 {
		z.AddTXT("big.example.org", strings.Repeat("x", 200)+string(rune('a'+i%26)))
	}
	client, _ := serve(t, z)
	txt, err := resolver.LookupTXT(t.Context(), client, "big.example.org")
	require.NoError(t, err)
	assert.Len(t, txt, 100)
}

func TestClientTriesTheNextServer(t *testing.T) {
	bad := new(resolver.Zones)
	bad.Fail("example.org", 0, resolver.ErrServFail)
	good := resolver.MustParseZones(zoneText)
	_, s1 := serve(t, bad)
	_, s2 := serve(t, good)
	client := &resolver.Client{Servers: []string{s1.Addr, s2.Addr}}
	_, err := resolver.LookupTXT(t.Context(), client, "example.org")
	require.NoError(t, err)
	assert.Len(t, bad.Queries(), 1)
}

func TestClientTimeoutAndCancel(t *testing.T) {
	z := new(resolver.Zones)
	z.Hang("slow.example.org", 0)
	client, _ := serve(t, z)
	client.Timeout, client.Attempts = 20*time.Millisecond, 2
	_, err := client.Resolve(t.Context(), "slow.example.org", dns.TypeA)
	assert.ErrorIs(t, err, resolver.ErrTimeout)
	assert.True(t, resolver.Temporary(err))

	client2 := &resolver.Client{Servers: client.Servers}
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	_, err = client2.Resolve(ctx, "slow.example.org", dns.TypeA)
	assert.ErrorIs(t, err, context.Canceled)
}

func TestClientBogus(t *testing.T) {
	z := new(resolver.Zones)
	z.Fail("bad.example.org", 0, resolver.ErrBogus)
	client, _ := serve(t, z)
	_, err := client.Resolve(t.Context(), "bad.example.org", dns.TypeA)
	assert.ErrorIs(t, err, resolver.ErrBogus)
	assert.ErrorIs(t, err, resolver.ErrServFail)
}

// TestClientIgnoresForgeries has a server that sends three wrong answers
// before the right one: another id, another question, no DNS at all.
func TestClientIgnoresForgeries(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	t.Cleanup(func() { pc.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		q := new(dns.Msg)
		if q.Unpack(buf[:n]) != nil {
			return
		}
		send := func(change func(m *dns.Msg)) {
			m := new(dns.Msg)
			m.SetReply(q)
			rr, _ := dns.NewRR("a.example.org. 60 A 203.0.113.66")
			m.Answer = append(m.Answer, rr)
			change(m)
			b, _ := m.Pack()
			pc.WriteTo(b, from)
		}
		send(func(m *dns.Msg) { m.Id++ })
		send(func(m *dns.Msg) { m.Question[0].Name = "b.example.org." })
		pc.WriteTo([]byte("not DNS"), from)
		send(func(m *dns.Msg) {
			rr, _ := dns.NewRR("other.example.org. 60 A 203.0.113.67") // off the chain
			m.Answer = append(m.Answer, rr)
			m.Answer[0].(*dns.A).A = net.IPv4(192, 0, 2, 1)
		})
	}()
	client := &resolver.Client{Servers: []string{pc.LocalAddr().String()}}
	a, err := client.Resolve(t.Context(), "a.example.org", dns.TypeA)
	require.NoError(t, err)
	assert.Equal(t, "[192.0.2.1]", stringOf(resolver.AddrsOf(a)))
}
