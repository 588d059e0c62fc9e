// Package authfail counts failed logins by address, so that who guesses passwords over many
// connections is refused for a while.
package authfail

import (
	"net/netip"
	"sync"
	"time"
)

const (
	window = 10 * time.Minute
	table  = 10_000 // addresses remembered
)

// A Counter counts failures by address (IPv6: by /64) in windows of ten minutes. The zero
// value is ready. Safe for concurrent use.
type Counter struct {
	mu    sync.Mutex
	addrs map[netip.Addr]count
}

type count struct {
	n     int
	since time.Time
}

func key(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// Blocked reports whether a has failed max times or more. A max below zero, or an address
// that is not known, is never blocked.
func (c *Counter) Blocked(a netip.Addr, max int, now time.Time) bool {
	if max < 0 || !a.IsValid() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.addrs[key(a)]
	return f.n >= max && now.Sub(f.since) < window
}

// Add counts a failure of a.
func (c *Counter) Add(a netip.Addr, now time.Time) {
	if !a.IsValid() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.addrs == nil {
		c.addrs = make(map[netip.Addr]count)
	}
	if len(c.addrs) >= table {
		for k, f := range c.addrs {
			if now.Sub(f.since) >= window {
				delete(c.addrs, k)
			}
		}
		if len(c.addrs) >= table {
			clear(c.addrs) // under attack from everywhere: counting by address is no help
		}
	}
	k := key(a)
	f := c.addrs[k]
	if now.Sub(f.since) >= window {
		f = count{since: now}
	}
	f.n++
	c.addrs[k] = f
}
