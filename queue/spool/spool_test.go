package spool_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/queuetest"
	"github.com/mailblocks/mailblocks/queue/spool"
)

func TestStore(t *testing.T) {
	for name, o := range map[string]*spool.Options{
		"defaults":        nil,
		"small segments":  {SegmentSize: 128 << 10},
		"bodies in files": {SmallBody: -1, SegmentSize: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			queuetest.Test(t, func(t *testing.T) func() (queue.Store, error) {
				dir := t.TempDir()
				return func() (queue.Store, error) { return spool.Open(dir, o) }
			}, queuetest.Options{Durable: true})
		})
	}
}

func message(to, body string) queue.Message {
	return queue.Message{
		Envelope: queue.Envelope{ReversePath: "a@example.org", Recipients: []queue.Recipient{{Address: to}}},
		Body:     strings.NewReader(body),
	}
}

// TestReclaim fills many segments and empties them: the log stays small and what is stuck survives.
func TestReclaim(t *testing.T) {
	dir := t.TempDir()
	o := &spool.Options{SegmentSize: 1 << 20}
	s, err := spool.Open(dir, o)
	require.NoError(t, err)
	ctx := t.Context()
	stuck, err := s.Enqueue(ctx, message("u@stuck.test", "stuck"))
	require.NoError(t, err)
	big := strings.Repeat("x", 20_000)
	for range 1000 {
		_, err := s.Enqueue(ctx, message("u@quick.test", big))
		require.NoError(t, err)
		leases, err := s.Lease(ctx, queue.Want{Max: 1, For: 1 << 40, Room: map[string]int{"stuck.test": 0}})
		require.NoError(t, err)
		require.Len(t, leases, 1)
		r := leases[0].Envelope.Recipients[0]
		r.Status = queue.StatusDelivered
		_, err = s.Settle(ctx, leases[0].Token, queue.Settlement{Recipients: map[int]queue.Recipient{0: r}})
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	require.NoError(t, err)
	assert.Less(t, len(segments), 8, "20 MB went through; the log must not keep them")

	s, err = spool.Open(dir, o)
	require.NoError(t, err)
	defer s.Close()
	assert.Equal(t, 1, s.Recovery().Messages)
	body, err := s.Open(ctx, stuck[0])
	require.NoError(t, err)
	body.Close()
}

func TestBodyFileRemoved(t *testing.T) {
	dir := t.TempDir()
	s, err := spool.Open(dir, &spool.Options{SmallBody: 100})
	require.NoError(t, err)
	defer s.Close()
	_, err = s.Enqueue(t.Context(), message("u@example.org", strings.Repeat("x", 101)))
	require.NoError(t, err)
	files := func() []string {
		names, err := filepath.Glob(filepath.Join(dir, "body", "*", "*"))
		require.NoError(t, err)
		return names
	}
	require.Len(t, files(), 1)
	n, err := s.Alter(t.Context(), queue.Filter{}, queue.Change{Op: queue.OpRemove})
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Empty(t, files())
}

// TestDamage changes an octet in the middle of the log: what was acknowledged before and after it is there, and
// the report says what is missing.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	s, err := spool.Open(dir, nil)
	require.NoError(t, err)
	var ids []queue.ID
	for range 5 {
		got, err := s.Enqueue(t.Context(), message("u@example.org", strings.Repeat("body ", 100)))
		require.NoError(t, err)
		ids = append(ids, got...)
	}
	require.NoError(t, s.Close())
	name := filepath.Join(dir, "log", "00000001.seg")
	log, err := os.ReadFile(name)
	require.NoError(t, err)
	at := strings.Index(string(log), "body ")
	second := at + 500 + strings.Index(string(log[at+500:]), "body ")
	log[second]++
	require.NoError(t, os.WriteFile(name, log, 0o600))

	s, err = spool.Open(dir, &spool.Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer s.Close()
	report := s.Recovery()
	assert.Equal(t, 4, report.Messages)
	require.Len(t, report.Damage, 1)
	assert.Equal(t, ids[1], report.Damage[0].ID)
	assert.Zero(t, report.Torn)
	for i, id := range ids {
		_, err := s.Open(t.Context(), id)
		if i == 1 {
			assert.ErrorIs(t, err, queue.ErrNotFound)
		} else {
			assert.NoError(t, err)
		}
	}
}
