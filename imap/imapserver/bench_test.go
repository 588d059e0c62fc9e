package imapserver

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/maildir"
)

// benchClient sends commands and reads to their end, nothing more.
type benchClient struct {
	conn net.Conn
	r    *bufio.Reader
}

func (ts *testServer) benchClient(login bool) *benchClient {
	conn := ts.dial()
	c := &benchClient{conn, bufio.NewReaderSize(conn, 64<<10)}
	_, err := c.r.ReadSlice('\n')
	require.NoError(ts.t, err)
	if login {
		c.do(ts.t, "LOGIN ann secret")
	}
	return c
}

// do runs a command and returns how many octets came back.
func (c *benchClient) do(t testing.TB, command string) (n int) {
	if _, err := io.WriteString(c.conn, "x "+command+"\r\n"); err != nil {
		t.Fatal(err)
	}
	for begin := true; ; {
		line, err := c.r.ReadSlice('\n')
		n += len(line)
		if err != nil && err != bufio.ErrBufferFull {
			t.Fatal(err)
		}
		if begin && bytes.HasPrefix(line, []byte("x ")) {
			if !bytes.HasPrefix(line, []byte("x OK")) {
				t.Fatalf("%s: %s", command, line)
			}
			return n
		}
		begin = err == nil
	}
}

// bulk fills a store's Inbox with n realistic messages.
func bulk(b *testing.B, store imap.Store, n int) {
	b.Helper()
	mb, err := store.Open(b.Context(), imap.Inbox)
	require.NoError(b, err)
	defer mb.Close()
	for i := 0; i < n; {
		var batch []imap.NewMessage
		for ; len(batch) < 500 && i < n; i++ {
			m := text(strings.Replace(multipartMail, "and more", fmt.Sprintf("number %d", i), 1) + strings.Repeat("a line of an epilogue, to make it longer\n", 50))
			if i%3 == 0 {
				m.Flags = imap.NewFlags(imap.FlagSeen, "$Junk")
			}
			batch = append(batch, m)
		}
		_, err := mb.Append(b.Context(), batch)
		require.NoError(b, err)
	}
}

func BenchmarkCommands(b *testing.B) {
	b.Run("Memory", func(b *testing.B) {
		ts := newServer(b, nil)
		bulk(b, ts.accounts.storage("ann").Open(), 20000)
		benchmarkCommands(b, ts)
	})
	b.Run("Maildir", func(b *testing.B) {
		root := b.TempDir()
		store, err := maildir.Open(root, nil)
		require.NoError(b, err)
		bulk(b, store, 20000)
		require.NoError(b, store.Close())
		benchmarkCommands(b, newServer(b, func(s *Server) {
			s.Login = func(context.Context, string) (imap.Store, error) { return maildir.Open(root, nil) }
		}))
	})
}

func benchmarkCommands(b *testing.B, ts *testServer) {
	c := ts.benchClient(true)
	c.do(b, "SELECT INBOX")
	for _, bc := range []struct{ name, command string }{
		{"FetchFlags20000", "FETCH 1:* (UID FLAGS)"},
		{"FetchFast20000", "FETCH 1:* FAST"},
		{"FetchEnvelope20000", "FETCH 1:* (ENVELOPE)"},
		{"FetchStructure20000", "FETCH 1:* (BODYSTRUCTURE)"},
		{"FetchHeaderFields20000", "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (From To Subject Date)])"},
		{"FetchBodies20000", "FETCH 1:* (BODY.PEEK[])"},
		{"SearchUnseen20000", "SEARCH UNSEEN"},
		{"SearchSubject20000", "SEARCH SUBJECT nothing-like-it"},
		{"SearchText20000", "SEARCH TEXT nothing-like-it"},
		{"Noop", "NOOP"},
		{"Select20000", "SELECT INBOX"},
		{"StoreOne", "STORE 77 FLAGS (\\Seen)"},
		{"Status", "STATUS INBOX (MESSAGES UNSEEN)"},
	} {
		b.Run(bc.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.SetBytes(int64(c.do(b, bc.command)))
			}
		})
	}
	b.Run("StoreAll20000", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			c.do(b, "STORE 1:* "+[]string{"+", "-"}[i%2]+"FLAGS.SILENT (\\Flagged)")
		}
	})
}

func BenchmarkLoginLogout(b *testing.B) {
	ts := newServer(b, nil)
	for b.Loop() {
		c := ts.benchClient(true)
		c.do(b, "LOGOUT")
		c.conn.Close()
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			ts := newServer(b, nil)
			c := ts.benchClient(true)
			body := strings.Repeat("a line of mail that is as long as mail\r\n", size/40)
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				c.do(b, fmt.Sprintf("APPEND INBOX {%d+}\r\n%s", len(body), body))
			}
		})
	}
}

// BenchmarkIdleSession reports the memory of sessions that idle at a mailbox of 20,000.
func BenchmarkIdleSession(b *testing.B) {
	ts := newServer(b, func(s *Server) { s.MaxConnsPerAddr = -1 })
	bulk(b, ts.accounts.storage("ann").Open(), 20000)
	var before, after runtime.MemStats
	open := func() {
		c := ts.benchClient(true)
		c.do(b, "SELECT INBOX")
		_, err := io.WriteString(c.conn, "i IDLE\r\n")
		require.NoError(b, err)
		_, err = c.r.ReadSlice('\n')
		require.NoError(b, err)
		c.r = nil // the client's memory is not the server's
	}
	open()
	const n = 500
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		for range n {
			open()
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc+after.StackInuse-before.HeapAlloc-before.StackInuse)/n, "B/session")
		b.ReportMetric(float64(after.StackInuse-before.StackInuse)/n, "stack-B/session")
	}
}
