package checks_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/dnsbl"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/checks"
)

var codes = map[netip.Addr]string{netip.MustParseAddr("127.0.0.2"): "spam", netip.MustParseAddr("127.0.0.4"): "botnet"}

func zones() *resolver.Zones {
	return resolver.MustParseZones(`
		4.113.0.203.a.test.   A 127.0.0.2
		4.113.0.203.b.test.   A 127.0.0.4
		4.113.0.203.c.test.   A 127.0.0.9
		4.113.0.203.d.test.   A 127.0.0.2
		*.off.test.           A 127.255.255.254
		shop.example.uri.test. A 127.0.0.2
	`)
}

func TestDNSBL(t *testing.T) {
	w := &dnsbl.Watch{Resolver: zones(), Lists: []dnsbl.List{{Zone: "a.test", Codes: codes}, {Zone: "b.test", Codes: codes}, {Zone: "c.test", Codes: codes}, {Zone: "d.test"}, {Zone: "off.test"}}}
	c := checks.DNSBL(w, checks.Options{})
	assert.Equal(t, "dnsbl", c.Name())
	assert.Equal(t, spam.Connect, c.Stage())
	v, err := c.Check(t.Context(), &spam.Envelope{Remote: netip.MustParseAddr("203.0.113.4")}, nil)
	require.NoError(t, err)
	assert.EqualValues(t, 4, v.Score, "codes that the table does not name, and lists without one, count for nothing")
	require.Len(t, v.Reasons, 2)
	assert.Equal(t, "dnsbl(b.test botnet)=+2.00", v.Reasons[1].String())
	assert.False(t, v.Unsure)

	v, err = checks.DNSBL(w, checks.Options{Max: 3}).Check(t.Context(), &spam.Envelope{Remote: netip.MustParseAddr("::ffff:203.0.113.4")}, nil)
	require.NoError(t, err)
	assert.EqualValues(t, 3, v.Score)
	for _, e := range []spam.Envelope{{Remote: netip.MustParseAddr("203.0.113.5")}, {Identity: "alice", Remote: netip.MustParseAddr("203.0.113.4")}, {Remote: netip.MustParseAddr("10.0.0.1")}, {}} {
		v, err := c.Check(t.Context(), &e, nil)
		require.NoError(t, err)
		assert.True(t, v.Unsure)
		assert.Zero(t, v.Score)
	}
	off := &dnsbl.Watch{Resolver: zones(), Lists: []dnsbl.List{{Zone: "off.test"}}}
	_, err = checks.DNSBL(off, checks.Options{}).Check(t.Context(), &spam.Envelope{Remote: netip.MustParseAddr("203.0.113.5")}, nil)
	assert.ErrorContains(t, err, "off.test")
	_, err = checks.DNSBL(off, checks.Options{}).Check(t.Context(), &spam.Envelope{Remote: netip.MustParseAddr("203.0.113.5")}, nil)
	assert.NoError(t, err, "it is paused")
}

func TestURIBL(t *testing.T) {
	m, err := spam.Parse(strings.NewReader("Content-Type: text/html\r\n\r\n"+
		`<a href="https://www.shop.example/buy">x</a><a href="http://img.shop.example">y</a><a href="http://192.0.2.1/">z</a><a href="https://example.org">w</a><a href="::">v</a>`), spam.Limits{})
	require.NoError(t, err)
	assert.Equal(t, []string{"shop.example", "example.org"}, checks.Domains(m))
	c := checks.URIBL(&dnsbl.Watch{Resolver: zones(), Lists: []dnsbl.List{{Zone: "uri.test", Codes: codes}}, Kind: dnsbl.Domains}, checks.Options{})
	assert.Equal(t, spam.Data, c.Stage())
	v, err := c.Check(t.Context(), nil, m)
	require.NoError(t, err)
	assert.Equal(t, "uribl(shop.example in uri.test spam)=+2.00", v.Reasons[0].String())
	v, err = c.Check(t.Context(), nil, nil)
	require.NoError(t, err)
	assert.True(t, v.Unsure)
}
