package authfail

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestCounter(t *testing.T) {
	var c Counter
	now := time.Unix(1e9, 0)
	a := netip.MustParseAddr("192.0.2.1")
	for range 3 {
		assert.False(t, c.Blocked(a, 3, now))
		c.Add(a, now)
	}
	assert.True(t, c.Blocked(a, 3, now))
	assert.True(t, c.Blocked(netip.MustParseAddr("::ffff:192.0.2.1"), 3, now))
	assert.False(t, c.Blocked(a, -1, now), "no limit")
	assert.False(t, c.Blocked(netip.MustParseAddr("192.0.2.2"), 3, now))
	assert.False(t, c.Blocked(a, 3, now.Add(window)), "it passes")
	c.Add(a, now.Add(window))
	assert.False(t, c.Blocked(a, 3, now.Add(window)), "and begins anew")

	c.Add(netip.MustParseAddr("2001:db8::1"), now)
	assert.True(t, c.Blocked(netip.MustParseAddr("2001:db8::ffff"), 1, now), "a /64 is one")
	c.Add(netip.Addr{}, now)
	assert.False(t, c.Blocked(netip.Addr{}, 0, now), "a unix socket has no address")
}

func TestTableIsBounded(t *testing.T) {
	var c Counter
	now := time.Unix(1e9, 0)
	addr := netip.MustParseAddr("10.0.0.1")
	for range 3 * table {
		c.Add(addr, now)
		addr = addr.Next()
	}
	assert.LessOrEqual(t, len(c.addrs), table)
}
