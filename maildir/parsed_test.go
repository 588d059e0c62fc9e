package maildir

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

// parsedBox is an Inbox with n messages.
func parsedBox(t *testing.T, n int) (mb *mailbox, path string, reopen func() *mailbox) {
	dir := t.TempDir()
	open := func() *mailbox {
		store, err := Open(dir, nil)
		require.NoError(t, err)
		t.Cleanup(func() { store.Close() })
		box, err := store.Open(t.Context(), imap.Inbox)
		require.NoError(t, err)
		t.Cleanup(func() { box.Close() })
		_, err = box.State(t.Context())
		require.NoError(t, err)
		return box.(*mailbox)
	}
	mb = open()
	for range n {
		_, err := mb.Append(t.Context(), []imap.NewMessage{{Body: strings.NewReader("x")}})
		require.NoError(t, err)
	}
	return mb, filepath.Join(dir, parsedFile), open
}

func parsedOf(t *testing.T, mb *mailbox) map[imap.UID]string {
	got := make(map[imap.UID]string)
	for uid, octets := range mb.Parsed(t.Context(), imap.AllUIDs) {
		require.NotContains(t, got, uid)
		got[uid] = string(octets)
	}
	return got
}

// other makes the handles that follow share nothing with those before, as in another process.
func other(t *testing.T, mb *mailbox) {
	registry.mu.Lock()
	defer registry.mu.Unlock()
	delete(registry.folders, string(mb.f.dir))
}

func TestParsed(t *testing.T) {
	mb, path, open := parsedBox(t, 3)
	assert.Empty(t, parsedOf(t, mb))
	mb.KeepParsed(t.Context(), map[imap.UID][]byte{2: []byte("two"), 1: []byte("one")})
	mb.KeepParsed(t.Context(), map[imap.UID][]byte{1: []byte("uno"), 3: bytes.Repeat([]byte("x"), maxParsed+1)})
	assert.Equal(t, map[imap.UID]string{1: "uno", 2: "two"}, parsedOf(t, mb))

	other(t, mb)
	second := open()
	assert.Equal(t, map[imap.UID]string{1: "uno", 2: "two"}, parsedOf(t, second))
	second.KeepParsed(t.Context(), map[imap.UID][]byte{3: []byte("three")})
	assert.Equal(t, "three", parsedOf(t, mb)[3], "what another process kept is there")
	for uid := range mb.Parsed(t.Context(), imap.NumSetOf[imap.UID](3)) {
		assert.EqualValues(t, 3, uid)
	}

	// Octets that flip cost their record and those behind it.
	file, err := os.ReadFile(path)
	require.NoError(t, err)
	whole := bytes.Clone(file)
	file[len(file)-1] ^= 1
	require.NoError(t, os.WriteFile(path, file, 0o600))
	other(t, mb)
	assert.Equal(t, map[imap.UID]string{1: "uno", 2: "two"}, parsedOf(t, open()))

	// A torn record is somebody's who writes, or died.
	require.NoError(t, os.WriteFile(path, whole[:len(whole)-2], 0o600))
	other(t, mb)
	third := open()
	third.KeepParsed(t.Context(), map[imap.UID][]byte{3: []byte("drei")})
	assert.Equal(t, map[imap.UID]string{1: "uno", 2: "two"}, parsedOf(t, third))
	old := time.Now().Add(-time.Minute)
	require.NoError(t, os.Chtimes(path, old, old))
	third.KeepParsed(t.Context(), map[imap.UID][]byte{3: []byte("drei")})
	assert.Equal(t, map[imap.UID]string{1: "uno", 2: "two", 3: "drei"}, parsedOf(t, third))

	// That of another UIDVALIDITY is none.
	third.f.uids.validity++
	assert.Empty(t, parsedOf(t, third))
	third.KeepParsed(t.Context(), map[imap.UID][]byte{1: []byte("new")})
	assert.Equal(t, map[imap.UID]string{1: "new"}, parsedOf(t, third))
	require.NoError(t, os.Remove(path))
	assert.Empty(t, parsedOf(t, third))
}

func TestParsedStaysSmall(t *testing.T) {
	mb, path, _ := parsedBox(t, 3)
	for i := range 100 {
		mb.KeepParsed(t.Context(), map[imap.UID][]byte{
			1: bytes.Repeat([]byte{byte(i)}, maxParsed), 2: bytes.Repeat([]byte{byte(i)}, maxParsed), imap.UID(100 + i): []byte("expunged")})
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Less(t, info.Size(), int64(2<<20))
	assert.Equal(t, strings.Repeat("c", maxParsed), parsedOf(t, mb)[1])
}

// Two processes that write at once lose nothing but what they wrote for the same message.
func TestParsedConcurrent(t *testing.T) {
	mb, _, open := parsedBox(t, 1)
	mb.KeepParsed(t.Context(), map[imap.UID][]byte{1: []byte("first")})
	boxes := []*mailbox{mb}
	for range 3 {
		other(t, mb)
		boxes = append(boxes, open())
	}
	done := make(chan struct{})
	const n = 100
	for i, box := range boxes {
		go func() {
			for k := range n {
				uid := imap.UID(2 + i*n + k)
				box.KeepParsed(t.Context(), map[imap.UID][]byte{uid: fmt.Append(nil, uid)})
			}
			done <- struct{}{}
		}()
	}
	for range boxes {
		<-done
	}
	got := parsedOf(t, mb)
	for uid, octets := range got {
		if uid > 1 {
			require.Equal(t, fmt.Sprint(uid), octets)
		}
	}
	assert.Greater(t, len(got), n)
}

// Whatever the file holds, reading and writing do no harm.
func FuzzParsed(f *testing.F) {
	head := parsedHead(7)
	f.Add(appendParsed(appendParsed(head[:], 1, []byte("one")), 2, []byte("two")))
	f.Fuzz(func(t *testing.T, file []byte) {
		p := newParsedCache(Dir(t.TempDir()))
		defer p.close()
		require.NoError(t, os.WriteFile(p.path, file, 0o600))
		old := time.Now().Add(-time.Minute)
		require.NoError(t, os.Chtimes(p.path, old, old))
		require.NoError(t, p.keep(7, map[imap.UID][]byte{9: []byte("nine")}, 10, func(imap.UID) bool { return true }))
		require.NoError(t, p.refresh(7))
		found := false
		p.load(p.find(imap.AllUIDs, 0), func(uid imap.UID, octets []byte) bool {
			found = found || uid == 9 && string(octets) == "nine"
			return true
		})
		require.True(t, found)
	})
}
