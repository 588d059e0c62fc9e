package bench

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/maildir"
)

// BenchmarkDeliver stores messages of 4 KiB in a Maildir. The floor is what the disk takes for
// a file that is written, synced, renamed, and its folder synced.
func BenchmarkDeliver(b *testing.B) {
	text := strings.Repeat(line, 4096/len(line))
	b.Run("floor", func(b *testing.B) {
		dir := b.TempDir()
		for b.Loop() {
			f, err := os.CreateTemp(dir, "x")
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.WriteString(f, text)
			_ = f.Sync()
			_ = f.Close()
			_ = os.Rename(f.Name(), filepath.Join(dir, "y"+filepath.Base(f.Name())))
			d, err := os.Open(dir)
			if err != nil {
				b.Fatal(err)
			}
			_ = d.Sync()
			_ = d.Close()
		}
	})
	b.Run("mailblocks/Dir", func(b *testing.B) {
		dir := maildir.Dir(b.TempDir())
		if err := dir.Init(); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := dir.Deliver(b.Context(), strings.NewReader(text), ""); err != nil {
				b.Fatal(err)
			}
		}
	})
	appendTo := func(b *testing.B) func() {
		store, err := maildir.Open(b.TempDir(), nil)
		if err != nil {
			b.Fatal(err)
		}
		box, err := store.Open(b.Context(), imap.Inbox)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { box.Close() })
		b.ReportAllocs()
		return func() {
			if _, err := box.Append(b.Context(), []imap.NewMessage{{Body: strings.NewReader(text)}}); err != nil {
				b.Error(err)
			}
		}
	}
	b.Run("mailblocks/Append", func(b *testing.B) {
		do := appendTo(b)
		for b.Loop() {
			do()
		}
	})
	b.Run("mailblocks/Append16", func(b *testing.B) {
		do := appendTo(b)
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				do()
			}
		})
	})
}
