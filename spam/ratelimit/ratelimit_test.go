package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/ratelimit"
)

func hourly(n int) func(string) ratelimit.Limit {
	return func(string) ratelimit.Limit { return ratelimit.Limit{Events: n, Per: time.Hour} }
}

func TestLimit(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := ratelimit.New(new(spam.Memory), ratelimit.Options{Limit: hourly(6), Now: func() time.Time { return now }})
	assert.Equal(t, "ratelimit", c.Name())
	assert.Equal(t, spam.Connect, c.Stage())
	over := func(e spam.Envelope) bool {
		v, err := c.Check(t.Context(), &e, nil)
		require.NoError(t, err)
		assert.Zero(t, v.Score, "a limit is no evidence")
		if v.Action == spam.Accept {
			return false
		}
		assert.Equal(t, spam.Defer, v.Action)
		assert.NotEmpty(t, v.Reply)
		assert.Equal(t, "over 6 in 1h0m0s", v.Reasons[0].Text)
		return true
	}
	alice := spam.Envelope{Identity: "alice", Remote: netip.MustParseAddr("192.0.2.1")}
	for range 6 {
		require.False(t, over(alice))
	}
	for range 10 {
		require.True(t, over(alice), "what was refused does not count")
	}
	assert.False(t, over(spam.Envelope{Identity: "bob", Remote: alice.Remote}), "another one is not concerned")
	assert.False(t, over(spam.Envelope{Remote: alice.Remote}))
	now = now.Add(10*time.Minute - time.Second)
	assert.True(t, over(alice))
	now = now.Add(time.Second)
	assert.False(t, over(alice), "one event every 10 minutes")
	assert.True(t, over(alice))
	now = now.Add(24 * time.Hour)
	for range 6 {
		require.False(t, over(alice))
	}
	require.True(t, over(alice), "what was not used is not saved up")
}

func TestNetwork(t *testing.T) {
	for addr, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64"} {
		assert.Equal(t, want, ratelimit.Network(netip.MustParseAddr(addr)))
	}
	assert.Empty(t, ratelimit.Network(netip.Addr{}))
}

func TestOptions(t *testing.T) {
	c := ratelimit.New(new(spam.Memory), ratelimit.Options{Name: "never", Stage: spam.Rcpt, Action: spam.Reject,
		Key: func(e *spam.Envelope) string { return e.Sender }, Limit: func(string) ratelimit.Limit { return ratelimit.Limit{} }})
	v, err := c.Check(t.Context(), &spam.Envelope{}, nil)
	require.NoError(t, err)
	assert.Equal(t, spam.Accept, v.Action, "no key")
	v, err = c.Check(t.Context(), &spam.Envelope{Sender: "a@example.org"}, nil)
	require.NoError(t, err)
	assert.Equal(t, spam.Reject, v.Action)
	assert.Equal(t, "never", v.Reasons[0].Name)
}

type broken struct{}

func (broken) Update(context.Context, string, time.Duration, func([]byte) []byte) error {
	return errors.New("down")
}

func TestTrouble(t *testing.T) {
	c := ratelimit.New(broken{}, ratelimit.Options{Limit: hourly(1)})
	_, err := c.Check(t.Context(), &spam.Envelope{Identity: "a"}, nil)
	assert.Error(t, err)
}

// Exactly as many get through as the limit says, however many ask at once.
func TestConcurrent(t *testing.T) {
	c := ratelimit.New(new(spam.Memory), ratelimit.Options{Limit: hourly(100), Now: func() time.Time { return time.Unix(1e9, 0) }})
	var through sync.Map
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			if v, err := c.Check(t.Context(), &spam.Envelope{Identity: "a"}, nil); err == nil && v.Action == spam.Accept {
				through.Store(i, true)
			}
		})
	}
	wg.Wait()
	n := 0
	through.Range(func(any, any) bool { n++; return true })
	assert.Equal(t, 100, n)
}

func ExampleNew() {
	perHour := func(string) ratelimit.Limit { return ratelimit.Limit{Events: 100, Per: time.Hour} }
	chain := spam.Chain{Checks: []spam.Check{ratelimit.New(new(spam.Memory), ratelimit.Options{Stage: spam.Mail, Limit: perHour})}}
	v, _ := chain.Run(context.Background(), spam.Mail, &spam.Envelope{Identity: "alice"}, nil)
	fmt.Println(v.Action)
	// Output: accept
}
