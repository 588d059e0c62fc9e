package resolver_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

func TestCacheKeepsForTTL(t *testing.T) {
	z := resolver.MustParseZones("example.org. 60 A 192.0.2.1")
	now := time.Unix(1_000_000, 0)
	c := &resolver.Cache{Next: z, Now: func() time.Time { return now }, MaxNegativeTTL: 10 * time.Second}
	ask := func(name string, wantQueries int, wantTTL time.Duration) {
		t.Helper()
		a, err := c.Resolve(t.Context(), name, dns.TypeA)
		require.NoError(t, err)
		assert.Equal(t, wantTTL, a.TTL)
		assert.Len(t, z.Queries(), wantQueries)
	}
	ask("example.org", 1, 60*time.Second)
	now = now.Add(59 * time.Second)
	ask("EXAMPLE.org.", 1, time.Second)
	now = now.Add(time.Second)
	ask("example.org", 2, 60*time.Second)

	ask("no.example.org", 3, 5*time.Minute)
	now = now.Add(9 * time.Second)
	ask("no.example.org", 3, time.Second)
	now = now.Add(time.Second)
	ask("no.example.org", 4, 5*time.Minute)
	c.Flush()
	ask("example.org", 5, 60*time.Second)
}

func TestCacheRemembersFailureShortly(t *testing.T) {
	z := new(resolver.Zones)
	z.Fail("example.org", 0, resolver.ErrServFail)
	now := time.Unix(1_000_000, 0)
	c := &resolver.Cache{Next: z, Now: func() time.Time { return now }}
	for i, want := range []int{1, 1, 2} {
		_, err := c.Resolve(t.Context(), "example.org", dns.TypeA)
		assert.ErrorIs(t, err, resolver.ErrServFail)
		assert.Len(t, z.Queries(), want, "query %d", i)
		now = now.Add(4 * time.Second)
	}
}

func TestCacheIsBounded(t *testing.T) {
	z := resolver.MustParseZones("*.example.org. 60 A 192.0.2.1")
	byCount := &resolver.Cache{Next: z, MaxEntries: 10}
	bySize := &resolver.Cache{Next: z, MaxBytes: 2048}
	for i := range 200 {
		for _, c := range []*resolver.Cache{byCount, bySize} {
			_, err := c.Resolve(t.Context(), fmt.Sprintf("h%d.example.org", i), dns.TypeA)
			require.NoError(t, err)
		}
	}
	assert.Equal(t, 10, byCount.Len())
	assert.Less(t, bySize.Len(), 20)
	before := len(z.Queries())
	_, err := byCount.Resolve(t.Context(), "h199.example.org", dns.TypeA)
	require.NoError(t, err)
	assert.Len(t, z.Queries(), before, "the newest stays")
}

func TestCacheOneQueryInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		asked := 0
		c := &resolver.Cache{Next: resolver.Func(func(ctx context.Context, name string, qtype uint16) (resolver.Answer, error) {
			asked++
			select {
			case <-release:
				return resolver.Answer{TTL: time.Minute}, nil
			case <-ctx.Done():
				return resolver.Answer{}, ctx.Err()
			}
		})}
		impatient, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		errs := make([]error, 10)
		for i := range errs {
			wg.Go(func() {
				ctx := t.Context()
				if i == 0 {
					ctx = impatient
				}
				_, errs[i] = c.Resolve(ctx, "example.org", dns.TypeA)
			})
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(release)
		wg.Wait()
		assert.Equal(t, 1, asked)
		assert.ErrorIs(t, errs[0], context.Canceled)
		for _, err := range errs[1:] {
			assert.NoError(t, err)
		}
	})
}

func TestCacheCancelsWhatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		c := &resolver.Cache{Next: resolver.Func(func(ctx context.Context, name string, qtype uint16) (resolver.Answer, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return resolver.Answer{}, ctx.Err()
		})}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Resolve(ctx, "example.org", dns.TypeA)
		assert.ErrorIs(t, err, resolver.ErrTimeout)
		assert.ErrorIs(t, <-ended, context.Canceled)
	})
}

func TestBudget(t *testing.T) {
	z := resolver.MustParseZones("example.org. 60 A 192.0.2.1")
	b := &resolver.Budget{Next: z, Max: 2}
	for range 2 {
		_, err := b.Resolve(t.Context(), "example.org", dns.TypeA)
		require.NoError(t, err)
	}
	_, err := b.Resolve(t.Context(), "example.org", dns.TypeA)
	assert.ErrorIs(t, err, resolver.ErrBudget)
	assert.Len(t, z.Queries(), 2)
	assert.Equal(t, 3, b.Used())
}

func TestToASCII(t *testing.T) {
	for in, want := range map[string]string{
		"Example.ORG.":          "example.org",
		"bücher.example":        "xn--bcher-kva.example",
		"_dmarc.BÜCHER.example": "_dmarc.xn--bcher-kva.example",
		"xn--bcher-kva.example": "xn--bcher-kva.example",
		"a..b":                  "",
		"":                      "",
		".":                     "",
		"under_score.example":   "under_score.example",
	} {
		got, err := resolver.ToASCII(in)
		assert.Equal(t, want, got, in)
		if want == "" {
			assert.ErrorIs(t, err, resolver.ErrName)
		}
	}
}
