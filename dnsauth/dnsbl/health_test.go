package dnsbl_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/dnsbl"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

const health = `
	2.0.0.127.good.test.    A 127.0.0.2
	9.2.0.192.good.test.    A 127.0.0.2
	*.all.test.             A 127.0.0.2
	*.blocked.test.         A 127.255.255.254
	*.parked.test.          A 192.0.2.80
	test.uri.test.          A 127.0.0.2
	shop.example.uri.test.  A 127.0.0.4
	2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.six.test. A 127.0.0.2
`

func TestProbe(t *testing.T) {
	z := resolver.MustParseZones(health)
	for _, c := range []struct {
		zone string
		kind dnsbl.Kind
		want error
	}{
		{"good.test", dnsbl.Addr4, nil},
		{"gone.test", dnsbl.Addr4, dnsbl.ErrSilent},
		{"all.test", dnsbl.Addr4, dnsbl.ErrListsAll},
		{"blocked.test", dnsbl.Addr4, dnsbl.ErrUnanswered},
		{"parked.test", dnsbl.Addr4, dnsbl.ErrUnanswered},
		{"six.test", dnsbl.Addr6, nil},
		{"good.test", dnsbl.Addr6, dnsbl.ErrSilent},
		{"uri.test", dnsbl.Domains, nil},
		{"good.test", dnsbl.Domains, dnsbl.ErrSilent},
	} {
		err := dnsbl.Probe(t.Context(), z, dnsbl.List{Zone: c.zone}, c.kind)
		if c.want == nil {
			assert.NoError(t, err, c.zone)
		} else {
			assert.ErrorIs(t, err, c.want, c.zone)
		}
	}
}

func TestWatch(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var paused []string
	w := &dnsbl.Watch{
		Resolver: resolver.MustParseZones(health),
		Lists:    []dnsbl.List{{Zone: "good.test"}, {Zone: "all.test"}, {Zone: "blocked.test"}, {Zone: "gone.test"}},
		Now:      func() time.Time { return now },
		Report:   func(zone string, why error) { paused = append(paused, zone); assert.Error(t, why) },
	}
	ip := netip.MustParseAddr("192.0.2.9")
	zones := func() (all []string) {
		for _, r := range w.Addr(t.Context(), ip) {
			all = append(all, r.Zone+" "+string(r.Status))
		}
		return all
	}
	require.Equal(t, []string{"good.test listed", "all.test listed", "blocked.test failed", "gone.test clean"}, zones())
	assert.Equal(t, []string{"blocked.test"}, paused, "an answer that is a refusal pauses the list")
	assert.Equal(t, []string{"good.test listed", "all.test listed", "gone.test clean"}, zones())
	w.Probe(t.Context())
	assert.Equal(t, []string{"blocked.test", "all.test", "gone.test"}, paused)
	assert.Equal(t, []string{"good.test listed"}, zones())
	now = now.Add(time.Hour)
	assert.Len(t, zones(), 4, "they have another chance")

	uri := &dnsbl.Watch{Resolver: w.Resolver, Lists: []dnsbl.List{{Zone: "uri.test"}}, Kind: dnsbl.Domains}
	uri.Probe(t.Context())
	res := uri.Domain(t.Context(), "shop.example")
	require.Len(t, res, 1)
	assert.Equal(t, dnsbl.Listed, res[0].Status)
}
