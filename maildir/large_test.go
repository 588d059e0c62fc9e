package maildir

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
)

// largeFolder is a Maildir of n messages, as other programs delivered them.
func largeFolder(tb testing.TB, n int) string {
	root := filepath.Join(tb.TempDir(), "mail")
	require.NoError(tb, Dir(root).Init())
	var g errgroup.Group
	for part := range 2 {
		g.Go(func() error {
			for i := part; i < n; i += 2 {
				name := fmt.Sprintf("%d.M%dP%d.host.example.org,S=14,W=16:2,S", 1700000000+i/10, i%10, 1000+i%7)
				if err := os.WriteFile(filepath.Join(root, "cur", name), []byte("Subject: x\n\ny\n"), 0o600); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(tb, g.Wait())
	return root
}

// BenchmarkLargeFolder measures a folder of a million messages, or of
// MAILBLOCKS_LARGE_FOLDER: beside what the system takes to list it, and to deliver one.
func BenchmarkLargeFolder(b *testing.B) {
	n := 1_000_000
	if s, err := strconv.Atoi(os.Getenv("MAILBLOCKS_LARGE_FOLDER")); err == nil {
		n = s
	}
	root := largeFolder(b, n)
	ctx := b.Context()
	open := func() *mailbox {
		s, err := Open(root, nil)
		require.NoError(b, err)
		box, err := s.Open(ctx, imap.Inbox)
		require.NoError(b, err)
		return box.(*mailbox)
	}
	state := func(box *mailbox) {
		state, err := box.State(ctx)
		require.NoError(b, err)
		require.GreaterOrEqual(b, int(state.Messages), n)
	}
	list := func() time.Duration {
		start := time.Now()
		f, err := os.Open(filepath.Join(root, "cur"))
		require.NoError(b, err)
		defer f.Close()
		names, err := f.Readdirnames(-1)
		require.NoError(b, err)
		require.GreaterOrEqual(b, len(names), n)
		return time.Since(start)
	}
	b.Run("First", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			for _, name := range []string{indexFile, uidListFile} {
				os.Remove(filepath.Join(root, name))
			}
			listing := list()
			runtime.GC()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			b.StartTimer()
			start := time.Now()
			box := open()
			state(box)
			took := time.Since(start)
			b.StopTimer()
			b.ReportMetric(took.Seconds()/listing.Seconds(), "×listing")
			b.ReportMetric(float64(listing.Milliseconds()), "ms-listing")
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.Sys-before.Sys)/1e6, "MB-peak")
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/message")
			box.Close()
			b.StartTimer()
		}
	})
	b.Run("Reopen", func(b *testing.B) {
		for b.Loop() {
			box := open()
			state(box)
			box.Close()
		}
	})
	for _, tc := range []struct {
		name   string
		root   string
		single bool
	}{{"DeliverEmpty", "", false}, {"DeliverLarge", root, false}, {"DeliverEmptySingleWriter", "", true}, {"DeliverLargeSingleWriter", root, true}} {
		b.Run(tc.name, func(b *testing.B) {
			dir := tc.root
			if dir == "" {
				dir = filepath.Join(b.TempDir(), "mail")
			}
			s, err := Open(dir, &Options{SingleWriter: tc.single})
			require.NoError(b, err)
			box, err := s.Open(ctx, imap.Inbox)
			require.NoError(b, err)
			defer box.Close()
			_, err = box.State(ctx)
			require.NoError(b, err)
			text := strings.Repeat("A line of mail.\r\n", 256)
			for b.Loop() {
				_, err := box.Append(ctx, []imap.NewMessage{{Body: strings.NewReader(text)}})
				require.NoError(b, err)
			}
		})
	}
}

// BenchmarkDurable measures durable delivery of 4 KiB by one, and by 16 at a time, and in turns
// what the disk takes for it: a file made, written, synced and renamed, and its folder synced.
func BenchmarkDurable(b *testing.B) {
	text := strings.Repeat("A line of mail.\r\n", 240)
	ctx := b.Context()
	for _, parallel := range []int{1, 16} {
		b.Run(fmt.Sprint(parallel), func(b *testing.B) {
			dir := b.TempDir()
			s, err := Open(filepath.Join(dir, "mail"), nil)
			require.NoError(b, err)
			box, err := s.Open(ctx, imap.Inbox)
			require.NoError(b, err)
			defer box.Close()
			var n atomic.Uint64
			floor := func() error {
				tmp := filepath.Join(dir, fmt.Sprint("tmp", n.Add(1)))
				f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
				if err != nil {
					return err
				}
				defer f.Close()
				if _, err := f.WriteString(text); err != nil {
					return err
				}
				if err := f.Sync(); err != nil {
					return err
				}
				if err := os.Rename(tmp, tmp+".new"); err != nil {
					return err
				}
				return atomicfile.SyncDir(dir)
			}
			deliver := func() error {
				_, err := box.Append(ctx, []imap.NewMessage{{Body: strings.NewReader(text)}})
				return err
			}
			const each = 10 // in a turn
			turn := func(do func() error) time.Duration {
				start := time.Now()
				var g errgroup.Group
				for range parallel {
					g.Go(func() error {
						for range each {
							if err := do(); err != nil {
								return err
							}
						}
						return nil
					})
				}
				require.NoError(b, g.Wait())
				return time.Since(start)
			}
			var floors, ours time.Duration
			turns := 0
			for b.Loop() {
				floors += turn(floor)
				ours += turn(deliver)
				turns++
			}
			count := float64(turns * parallel * each)
			b.ReportMetric(float64(floors.Microseconds())/count, "µs-floor")
			b.ReportMetric(float64(ours.Microseconds())/count, "µs-append")
			b.ReportMetric(floors.Seconds()/ours.Seconds(), "of-floor")
		})
	}
}
