package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/spool"
)

func TestMailq(t *testing.T) {
	dir := t.TempDir()
	store, err := spool.Open(dir, nil)
	require.NoError(t, err)
	ids, err := store.Enqueue(t.Context(),
		queue.Message{Envelope: queue.Envelope{ReversePath: "a@example.org", Recipients: []queue.Recipient{{Address: "b@one.test"}}}, Body: strings.NewReader("Subject: first\r\n\r\n")},
		queue.Message{Envelope: queue.Envelope{Recipients: []queue.Recipient{{Address: "c@two.test"}}}, Body: strings.NewReader("Subject: second\r\n\r\n")})
	require.NoError(t, err)
	mailq := func(args ...string) (string, error) {
		var out strings.Builder
		err := run(t.Context(), append([]string{"-queue", dir}, args...), &out)
		return out.String(), err
	}
	_, err = mailq("list")
	require.ErrorIs(t, err, queue.ErrBusy)
	require.NoError(t, store.Close())

	ok := func(args ...string) string {
		t.Helper()
		out, err := mailq(args...)
		require.NoError(t, err)
		return out
	}
	out := ok()
	for _, want := range []string{string(ids[0]), "a@example.org", "b@one.test: 0 attempts", "<>", "c@two.test", "2 messages, 37 octets"} {
		assert.Contains(t, out, want)
	}
	assert.Contains(t, ok("-from", "<>", "show"), "Subject: second")
	assert.NotContains(t, ok("-route", "one.test"), "two.test")
	_, err = mailq("remove")
	assert.ErrorContains(t, err, "-all")
	_, err = mailq("dance")
	assert.ErrorContains(t, err, "dance")
	assert.Equal(t, "hold: 1\n", ok("-to", "@one.test", "hold"))
	assert.Contains(t, ok(), "one.test: held")
	assert.Equal(t, "remove: 1\n", ok("-id", string(ids[0]), "remove"))
	assert.Contains(t, ok(), "1 messages")
	err = run(t.Context(), []string{"-queue", dir + "/none"}, &strings.Builder{})
	assert.Error(t, err)
}
