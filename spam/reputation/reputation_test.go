package reputation_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/reputation"
)

func TestReputation(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := reputation.New(new(spam.Memory), reputation.Options{Now: func() time.Time { return now }})
	score := func(e spam.Envelope) float64 {
		v, err := r.Check(t.Context(), &e, nil)
		require.NoError(t, err)
		assert.True(t, v.Unsure, "a name alone decides nothing")
		sum := 0.0
		for _, reason := range v.Reasons {
			sum += reason.Score
		}
		assert.InDelta(t, v.Score, sum, 1e-9)
		return v.Score
	}
	learn := func(e spam.Envelope, l spam.Label, n int) {
		for range n {
			require.NoError(t, r.Learn(t.Context(), &e, l))
		}
	}
	addr := netip.MustParseAddr("192.0.2.1")
	good := spam.Envelope{Remote: addr, Authenticated: []string{"example.org"}}
	bad := spam.Envelope{Remote: addr, Authenticated: []string{"shop.test", "service.test"}}
	service := spam.Envelope{Remote: addr, Authenticated: []string{"service.test"}}
	assert.Zero(t, score(good))
	learn(good, spam.Ham, 40)
	learn(bad, spam.Spam, 5)
	learn(service, spam.Ham, 100)
	learn(good, spam.Neutral, 3)
	assert.Equal(t, -2.5, score(good), "capped")
	assert.InDelta(t, 1.79, score(bad), 0.01, "the worst of its names counts")
	assert.Negative(t, score(service))
	assert.Zero(t, score(spam.Envelope{Remote: addr}), "the address was not asked, nor remembered")

	nameless := spam.Envelope{Remote: addr}
	learn(nameless, spam.Spam, 3)
	assert.Positive(t, score(nameless))
	assert.Equal(t, -2.5, score(good))
	require.NoError(t, r.Unlearn(t.Context(), &nameless, spam.Spam))
	require.NoError(t, r.Unlearn(t.Context(), &nameless, spam.Spam))
	require.NoError(t, r.Unlearn(t.Context(), &nameless, spam.Spam))
	assert.Zero(t, score(nameless))

	user := spam.Envelope{Identity: "alice", Remote: addr, Authenticated: []string{"example.org"}}
	learn(user, spam.Spam, 2)
	assert.Positive(t, score(user))

	before := score(bad)
	now = now.Add(30 * 24 * time.Hour)
	assert.Less(t, score(bad), before, "it fades")
	now = now.Add(365 * 24 * time.Hour)
	assert.Zero(t, score(bad), "and is forgotten")
}
