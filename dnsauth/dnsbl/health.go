package dnsbl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// What Probe finds wrong with a list.
var (
	ErrSilent     = errors.New("dnsbl: the test entry is not listed: the zone is gone, or does not answer us")
	ErrListsAll   = errors.New("dnsbl: an entry is listed that never is: the zone lists everything")
	ErrUnanswered = errors.New("dnsbl: the zone refuses us, or can not be asked")
)

// Kind says what a list lists.
type Kind uint8

// The kinds of lists.
const (
	Addr4   Kind = iota // IPv4 addresses
	Addr6               // IPv6 addresses
	Domains             // domain names
)

// Probe asks a list about its test entries (RFC 5782, 5): 127.0.0.2, ::FFFF:7F00:2 or TEST must be
// listed, 127.0.0.1, ::FFFF:7F00:1 or INVALID must not. The error wraps ErrSilent, ErrListsAll or ErrUnanswered.
func Probe(ctx context.Context, r resolver.Resolver, l List, kind Kind) error {
	listed, unlisted := "2.0.0.127", "1.0.0.127"
	switch kind {
	case Addr6:
		rest := "0.0.0.0.0.f.7.f.f.f.f" + strings.Repeat(".0", 20)
		listed, unlisted = "2."+rest, "1."+rest
	case Domains:
		listed, unlisted = "test", "invalid"
	}
	ask := func(labels string) (Status, error) {
		res := l.ask(ctx, r, labels)
		if res.Status == Failed {
			return Failed, fmt.Errorf("%w: %s", ErrUnanswered, l.Zone)
		}
		return res.Status, nil
	}
	status, err := ask(listed)
	switch {
	case err != nil:
		return err
	case status != Listed:
		return fmt.Errorf("%w: %s", ErrSilent, l.Zone)
	}
	if status, err = ask(unlisted); err == nil && status == Listed {
		err = fmt.Errorf("%w: %s", ErrListsAll, l.Zone)
	}
	return err
}

// Watch keeps lists in use, and those out of it that are not fit for it: a list that refuses us (127.255.255.0/24, or
// an answer outside 127.0.0.0/8), or whose test entries are wrong, is not asked for a while. It is safe for
// concurrent use while its fields stay as they are.
type Watch struct {
	Resolver resolver.Resolver
	Lists    []List
	Kind     Kind

	// Pause is how long an unfit list is left alone. Zero means 1 h.
	Pause time.Duration

	// Report is told when a list is paused, and why. Nil means nobody is.
	Report func(zone string, why error)

	// Now is the clock. Nil means time.Now.
	Now func() time.Time

	mu     sync.Mutex
	paused map[string]time.Time // zone: until
}

// Addr is CheckAddr of the lists in use.
func (w *Watch) Addr(ctx context.Context, ip netip.Addr) []Result {
	return w.judge(CheckAddr(ctx, w.Resolver, ip, w.inUse()...))
}

// Domain is CheckDomain of the lists in use.
func (w *Watch) Domain(ctx context.Context, domain string) []Result {
	return w.judge(CheckDomain(ctx, w.Resolver, domain, w.inUse()...))
}

// Probe asks all lists about their test entries and pauses those that are unfit. Call it at start
// and now and then: a list that was given up may list the world. A list that could not be asked for trouble of
// the DNS is left in use.
func (w *Watch) Probe(ctx context.Context) {
	for _, l := range w.Lists {
		if err := Probe(ctx, w.Resolver, l, w.Kind); errors.Is(err, ErrSilent) || errors.Is(err, ErrListsAll) {
			w.pause(l.Zone, err)
		}
	}
}

func (w *Watch) judge(results []Result) []Result {
	for _, r := range results {
		if r.Status == Failed && r.Code.IsValid() {
			w.pause(r.Zone, fmt.Errorf("%w: %s answered %s", ErrUnanswered, r.Zone, r.Code))
		}
	}
	return results
}

func (w *Watch) pause(zone string, why error) {
	pause := w.Pause
	if pause <= 0 {
		pause = time.Hour
	}
	w.mu.Lock()
	if w.paused == nil {
		w.paused = make(map[string]time.Time)
	}
	w.paused[zone] = w.now().Add(pause)
	w.mu.Unlock()
	if w.Report != nil {
		w.Report(zone, why)
	}
}

// inUse returns the lists that are not paused.
func (w *Watch) inUse() []List {
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.Lists), func(l List) bool { return now.Before(w.paused[l.Zone]) })
}

func (w *Watch) now() time.Time {
	if w.Now != nil {
		return w.Now()
	}
	return time.Now()
}
