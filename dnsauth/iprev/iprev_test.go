package iprev_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/mailblocks/mailblocks/dnsauth/iprev"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

func zones() *resolver.Zones {
	z := resolver.MustParseZones(`
		1.2.0.192.in-addr.arpa. PTR liar.test.
		1.2.0.192.in-addr.arpa. PTR mail.example.org.
		2.2.0.192.in-addr.arpa. PTR liar.test.
		3.2.0.192.in-addr.arpa. PTR broken.test.
		1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR mail.example.org.
		mail.example.org. A 192.0.2.1
		mail.example.org. AAAA 2001:db8::1
		liar.test. A 198.51.100.1
	`)
	z.Fail("broken.test", 0, resolver.ErrServFail)
	z.Fail("4.2.0.192.in-addr.arpa", 0, resolver.ErrTimeout)
	return z
}

func TestCheck(t *testing.T) {
	z := zones()
	for _, c := range []struct {
		ip     string
		status iprev.Status
		name   string
	}{
		{"192.0.2.1", iprev.Pass, "mail.example.org"},
		{"::ffff:192.0.2.1", iprev.Pass, "mail.example.org"},
		{"2001:db8::1", iprev.Pass, "mail.example.org"},
		{"192.0.2.2", iprev.Fail, "liar.test"},
		{"192.0.2.3", iprev.TempError, "broken.test"},
		{"192.0.2.4", iprev.TempError, ""},
		{"192.0.2.5", iprev.PermError, ""},
	} {
		res := iprev.Check(t.Context(), z, netip.MustParseAddr(c.ip))
		assert.Equal(t, c.status, res.Status, c.ip)
		assert.Equal(t, c.name, res.Name, c.ip)
	}
	assert.Equal(t, iprev.PermError, iprev.Check(t.Context(), z, netip.Addr{}).Status)
}

func ExampleCheck() {
	res := iprev.Check(context.Background(), zones(), netip.MustParseAddr("192.0.2.1"))
	fmt.Println(res.Status, res.Name)
	// Output: pass mail.example.org
}
