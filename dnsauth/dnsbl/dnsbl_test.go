package dnsbl_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mailblocks/mailblocks/dnsauth/dnsbl"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

func zones() *resolver.Zones {
	z := resolver.MustParseZones(`
		2.0.0.127.bl.test. A 127.0.0.2
		1.2.0.192.bl.test. A 127.0.0.4
		1.2.0.192.bl.test. A 127.0.0.10
		3.2.0.192.bl.test. A 127.255.255.254
		4.2.0.192.bl.test. A 203.0.113.1
		5.2.0.192.bl.test. A 127.0.0.1
		1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test. A 127.0.0.2
		evil.example.dbl.test. A 127.0.1.2
	`)
	z.Fail("6.2.0.192.bl.test", 0, resolver.ErrTimeout)
	return z
}

func TestCheck(t *testing.T) {
	z := zones()
	plain := dnsbl.List{Zone: "bl.test"}
	table := dnsbl.List{Zone: "bl.test", Codes: map[netip.Addr]string{netip.MustParseAddr("127.0.0.10"): "dynamic"}}
	for _, c := range []struct {
		ip      string
		list    dnsbl.List
		status  dnsbl.Status
		meaning string
	}{
		{"127.0.0.2", plain, dnsbl.Listed, ""},
		{"127.0.0.2", table, dnsbl.Clean, ""},
		{"192.0.2.1", plain, dnsbl.Listed, ""},
		{"192.0.2.1", table, dnsbl.Listed, "dynamic"},
		{"192.0.2.2", plain, dnsbl.Clean, ""},
		{"192.0.2.3", plain, dnsbl.Failed, ""},
		{"192.0.2.4", plain, dnsbl.Failed, ""},
		{"192.0.2.5", plain, dnsbl.Clean, ""},
		{"192.0.2.6", plain, dnsbl.Failed, ""},
		{"2001:db8::1", plain, dnsbl.Listed, ""},
	} {
		res := dnsbl.CheckAddr(t.Context(), z, netip.MustParseAddr(c.ip), c.list)
		assert.Equal(t, c.status, res[0].Status, c.ip)
		assert.Equal(t, c.meaning, res[0].Meaning, c.ip)
	}
	res := dnsbl.CheckDomain(t.Context(), z, "Evil.Example.", dnsbl.List{Zone: "dbl.test"}, plain)
	assert.Equal(t, dnsbl.Listed, res[0].Status)
	assert.Equal(t, dnsbl.Clean, res[1].Status)
	assert.Empty(t, dnsbl.CheckDomain(t.Context(), z, "a..b", plain))
}

func ExampleCheckAddr() {
	list := dnsbl.List{Zone: "bl.test", Codes: map[netip.Addr]string{netip.MustParseAddr("127.0.0.10"): "dynamic"}}
	for _, res := range dnsbl.CheckAddr(context.Background(), zones(), netip.MustParseAddr("192.0.2.1"), list) {
		fmt.Println(res.Zone, res.Status, res.Meaning)
	}
	// Output: bl.test listed dynamic
}
