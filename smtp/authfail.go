package smtp

import (
	"net/netip"
	"sync"
	"time"
)

const (
	failureWindow = 10 * time.Minute
	failureTable  = 10_000 // addresses remembered
)

// failureCounter counts failed AUTHs by address (IPv6: by /64) in windows of ten minutes.
type failureCounter struct {
	max int

	mu    sync.Mutex
	addrs map[netip.Addr]failureCount
}

type failureCount struct {
	n     int
	since time.Time
}

func failureKey(a netip.Addr) netip.Addr {
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return a
}

// blocked reports whether a has used up its failures.
func (f *failureCounter) blocked(a netip.Addr, now time.Time) bool {
	if !a.IsValid() {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.addrs[failureKey(a)]
	return c.n >= f.max && now.Sub(c.since) < failureWindow
}

func (f *failureCounter) add(a netip.Addr, now time.Time) {
	if !a.IsValid() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.addrs == nil {
		f.addrs = make(map[netip.Addr]failureCount)
	}
	if len(f.addrs) >= failureTable {
		for k, c := range f.addrs {
			if now.Sub(c.since) >= failureWindow {
				delete(f.addrs, k)
			}
		}
		if len(f.addrs) >= failureTable {
			clear(f.addrs) // under attack from everywhere: counting by address is no help
		}
	}
	k := failureKey(a)
	c := f.addrs[k]
	if now.Sub(c.since) >= failureWindow {
		c = failureCount{since: now}
	}
	c.n++
	f.addrs[k] = c
}
