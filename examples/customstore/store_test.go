package main

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/memstore"
	"github.com/mailblocks/mailblocks/imap/storetest"
)

var key = []byte("a key of 16 byte")

// TestStore is all that it takes to know that servers can rely on the store.
func TestStore(t *testing.T) {
	storetest.Test(t, func(testing.TB) storetest.Open {
		below := memstore.New()
		return func() (imap.Store, error) { return seal(below.Open(), key) }
	})
}

// TestSealed is about what no other store does.
func TestSealed(t *testing.T) {
	below := memstore.New()
	store, err := seal(below.Open(), key)
	require.NoError(t, err)
	const text = "Subject: what nobody else shall read\r\n\r\nthis\r\n"
	for range 2 {
		mb, err := store.Open(t.Context(), imap.Inbox)
		require.NoError(t, err)
		_, err = mb.Append(t.Context(), []imap.NewMessage{{Body: strings.NewReader(text)}})
		require.NoError(t, err)
	}
	var octets []string
	for _, s := range []imap.Store{store, below.Open()} {
		mb, err := s.Open(t.Context(), imap.Inbox)
		require.NoError(t, err)
		for uid := imap.UID(1); uid <= 2; uid++ {
			body, err := mb.Body(t.Context(), uid)
			require.NoError(t, err)
			b, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
			require.NoError(t, err)
			octets = append(octets, string(b))
		}
	}
	require.Equal(t, []string{text, text}, octets[:2])
	require.NotContains(t, octets[2], "nobody")
	require.NotEqual(t, octets[2], octets[3], "the same message is sealed differently each time")

	// The counter runs over from its lower half into its upper one.
	b := sealedBody{Body: zeros{}}
	b.key = store.(sealed).key
	for i := range b.start {
		b.start[i] = 0xff
	}
	var whole, part [64]byte
	_, _ = b.ReadAt(whole[:], 0)
	_, _ = b.ReadAt(part[:40], 24)
	require.Equal(t, whole[24:], part[:40])
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }
func (zeros) Size() int64                           { return 1 << 20 }
func (zeros) Close() error                          { return nil }
