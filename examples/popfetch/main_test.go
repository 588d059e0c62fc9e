package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/memstore"
	"github.com/mailblocks/mailblocks/internal/testcert"
	"github.com/mailblocks/mailblocks/maildir"
	"github.com/mailblocks/mailblocks/pop3"
	"github.com/mailblocks/mailblocks/pop3/maildrop"
	"github.com/mailblocks/mailblocks/smtp/saslauth"
)

func TestMain(m *testing.M) {
	if os.Getenv("POPFETCH_CHILD") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// serve starts a POP3 server with n messages.
func serve(t *testing.T, n int) (addr string, inbox imap.Mailbox) {
	store := memstore.New().Open()
	inbox, err := store.Open(t.Context(), imap.Inbox)
	require.NoError(t, err)
	add(t, inbox, 0, n)
	auth, err := saslauth.Static(map[string]string{"alice": "secret"})
	require.NoError(t, err)
	cert, _, err := testcert.New("127.0.0.1")
	require.NoError(t, err)
	s := &pop3.Server{
		Authenticator: auth,
		TLSConfig:     &tls.Config{Certificates: []tls.Certificate{cert}},
		MaxConns:      -1, MaxConnsPerAddr: -1,
		Logger: slog.New(slog.DiscardHandler),
		Open: func(ctx context.Context, _ string) (pop3.Maildrop, error) {
			box, err := store.Open(ctx, imap.Inbox)
			if err != nil {
				return nil, err
			}
			return maildrop.Open(ctx, box)
		},
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go s.ServeTLS(ln) //nolint:errcheck // it ends with Close
	t.Cleanup(func() { s.Close() })
	return ln.Addr().String(), inbox
}

func add(t *testing.T, inbox imap.Mailbox, from, to int) {
	for i := from; i < to; i++ {
		_, err := inbox.Append(t.Context(), []imap.NewMessage{{Body: strings.NewReader(fmt.Sprintf("X-Test: %d\r\n\r\n", i) + strings.Repeat(".line\r\n", i%50*20))}})
		require.NoError(t, err)
	}
}

// fetched returns how often each message is in the Maildir.
func fetched(t *testing.T, dir string) map[string]int {
	seen := make(map[string]int)
	for ref, err := range maildir.Dir(dir).All() {
		require.NoError(t, err)
		f, err := maildir.Dir(dir).Open(ref)
		require.NoError(t, err)
		b, err := io.ReadAll(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		size, ok := ref.Name.Size()
		require.True(t, ok)
		require.EqualValues(t, size, len(b))
		seen[regexp.MustCompile(`^X-Test: (\d+)\r\n`).FindStringSubmatch(string(b))[1]]++
	}
	return seen
}

func opts(addr, dir string) options {
	return options{server: addr, user: "alice", password: "secret", maildir: dir, insecure: true, quiet: true}
}

func TestFetch(t *testing.T) {
	addr, inbox := serve(t, 100)
	dir := filepath.Join(t.TempDir(), "mail")
	require.NoError(t, fetch(t.Context(), opts(addr, dir), io.Discard))
	assert.Len(t, fetched(t, dir), 100)
	add(t, inbox, 100, 110)
	var progress strings.Builder
	o := opts(addr, dir)
	o.quiet, o.remove = false, true
	require.NoError(t, fetch(t.Context(), o, &progress))
	assert.Contains(t, progress.String(), "10 of 10 fetched, 100 were here")
	seen := fetched(t, dir)
	assert.Len(t, seen, 110)
	for id, n := range seen {
		assert.Equal(t, 1, n, id)
	}
	state, err := inbox.State(t.Context())
	require.NoError(t, err)
	assert.Zero(t, state.Messages, "deleted from the server")
	add(t, inbox, 110, 111)
	require.NoError(t, fetch(t.Context(), opts(addr, dir), io.Discard))
	assert.Len(t, fetched(t, dir), 111)
}

// A fetch is killed again and again, at any instant: in the end every message is here once.
func TestKill(t *testing.T) {
	const count = 300
	addr, _ := serve(t, count)
	dir := filepath.Join(t.TempDir(), "mail")
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte("secret\n"), 0o600))
	kills := 0
	for round := range 200 {
		cmd := exec.Command(os.Args[0], "-server", addr, "-user", "alice", "-password-file", password, "-maildir", dir, "-insecure", "-quiet")
		cmd.Env = append(os.Environ(), "POPFETCH_CHILD=1", "GORACE=atexit_sleep_ms=0")
		require.NoError(t, cmd.Start())
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		timer := time.NewTimer(time.Duration(10+3*round) * time.Millisecond)
		select {
		case err := <-done:
			require.NoError(t, err)
			timer.Stop()
			seen := fetched(t, dir)
			require.Len(t, seen, count)
			for id, n := range seen {
				require.Equal(t, 1, n, "message %s", id)
			}
			t.Logf("killed %d times", kills)
			return
		case <-timer.C:
			_ = cmd.Process.Kill()
			<-done
			kills++
		}
	}
	t.Fatal("it never came to an end")
}

func TestTornJournal(t *testing.T) {
	addr, _ := serve(t, 5)
	dir := filepath.Join(t.TempDir(), "mail")
	require.NoError(t, fetch(t.Context(), opts(addr, dir), io.Discard))
	paths, err := filepath.Glob(filepath.Join(dir, "popfetch-*"))
	require.NoError(t, err)
	require.Len(t, paths, 1)
	f, err := os.OpenFile(paths[0], os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	_, err = f.WriteString("00000009")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, fetch(t.Context(), opts(addr, dir), io.Discard))
	assert.Len(t, fetched(t, dir), 5)
}
