//go:build unix

package mbox

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

// bigFile writes a file of 256 MiB as Dovecot keeps it, with messages of 8 KiB.
func bigFile(b *testing.B, path string) (size int64) {
	f, err := os.Create(path)
	require.NoError(b, err)
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	line := strings.Repeat("0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ", 1) + "\n"
	body := strings.Repeat(line, 8192/len(line))
	const total = 256 << 20
	n := total / (len(body) + 400)
	for i := range n {
		fmt.Fprintf(w, "From MAILER-DAEMON  Sun Nov 22 00:21:03 2026\nReturn-Path: <a@example.org>\nReceived: from a.example.org by b.example.org; Sun, 22 Nov 2026 00:21:03 +0000\nFrom: Ann <a@example.org>\nTo: Bob <b@example.org>\nSubject: number %d\nMessage-ID: <%d@example.org>\n", i, i)
		if i == 0 {
			fmt.Fprintf(w, "X-IMAPbase: 1795300000 %010d\n", n)
		}
		fmt.Fprintf(w, "Status: RO\nContent-Length: %d\nX-UID: %d%s\n\n%s\n", len(body), i+1, strings.Repeat(" ", 50), body)
	}
	require.NoError(b, w.Flush())
	info, err := f.Stat()
	require.NoError(b, err)
	return info.Size()
}

// An index is made (scan is what merely looking at every octet costs), and opened again.
func BenchmarkIndex(b *testing.B) {
	root := b.TempDir()
	path := filepath.Join(root, inboxFile)
	size := bigFile(b, path)
	state := func(b *testing.B) imap.State {
		s, err := Open(root, nil)
		require.NoError(b, err)
		box, err := s.Open(context.Background(), imap.Inbox)
		require.NoError(b, err)
		defer box.Close()
		st, err := box.State(context.Background())
		require.NoError(b, err)
		return st
	}
	b.Run("scan", func(b *testing.B) {
		b.SetBytes(size)
		buf := make([]byte, scanWindow)
		for b.Loop() {
			f, err := os.Open(path)
			require.NoError(b, err)
			for lines := 0; ; {
				n, err := f.Read(buf)
				lines += bytes.Count(buf[:n], []byte{'\n'})
				if err == io.EOF {
					break
				}
				require.NoError(b, err)
			}
			f.Close()
		}
	})
	b.Run("index", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			_ = os.Remove(sidecar(path, indexSuffix))
			require.NotZero(b, state(b).Messages)
		}
	})
	b.Run("reopen", func(b *testing.B) {
		want := state(b).Messages
		for b.Loop() {
			require.Equal(b, want, state(b).Messages)
		}
		b.ReportMetric(float64(want), "messages")
	})
	b.Run("memory", func(b *testing.B) {
		s, err := Open(root, nil)
		require.NoError(b, err)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		box, err := s.Open(context.Background(), imap.Inbox)
		require.NoError(b, err)
		defer box.Close()
		st, err := box.State(context.Background())
		require.NoError(b, err)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(st.Messages), "B/message")
	})
}
