package storetest

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/mailblocks/mailblocks/imap"
)

// Benchmark measures the calls that servers make most: durable appends one by one, in
// parallel and in batches, a first and a warm view of 10,000 messages, flags, bodies, moves.
func Benchmark(b *testing.B, newStorage func(t testing.TB) Open) {
	ctx := context.Background()
	text := mail("benchmark") + strings.Repeat("A line of the body, as long as lines of mail are.\r\n", 80)
	one := func() []imap.NewMessage {
		return []imap.NewMessage{{Body: strings.NewReader(text), Size: int64(len(text))}}
	}
	setup := func(b *testing.B, messages int) (imap.Mailbox, Open) {
		b.Helper()
		open := newStorage(b)
		s, err := open()
		check(b, err)
		b.Cleanup(func() { s.Close() })
		check(b, s.Create(ctx, "dst", nil))
		mb, err := s.Open(ctx, imap.Inbox)
		check(b, err)
		b.Cleanup(func() { mb.Close() })
		for messages > 0 {
			n := min(messages, 500)
			batch := make([]imap.NewMessage, n)
			for i := range batch {
				batch[i] = one()[0]
			}
			_, err := mb.Append(ctx, batch)
			check(b, err)
			messages -= n
		}
		b.ReportAllocs()
		b.ResetTimer()
		return mb, open
	}

	b.Run("Append", func(b *testing.B) {
		mb, _ := setup(b, 0)
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			_, err := mb.Append(ctx, one())
			check(b, err)
		}
	})
	b.Run("AppendParallel", func(b *testing.B) {
		mb, _ := setup(b, 0)
		b.SetBytes(int64(len(text)))
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := mb.Append(ctx, one()); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("Append100AtOnce", func(b *testing.B) {
		mb, _ := setup(b, 0)
		b.SetBytes(int64(100 * len(text)))
		for b.Loop() {
			var batch []imap.NewMessage
			for range 100 {
				batch = append(batch, one()...)
			}
			_, err := mb.Append(ctx, batch)
			check(b, err)
		}
	})
	b.Run("ReopenAndView10000", func(b *testing.B) {
		_, open := setup(b, 10000)
		for b.Loop() {
			s, err := open()
			check(b, err)
			mb, err := s.Open(ctx, imap.Inbox)
			check(b, err)
			readAll(b, mb, 10000)
			check(b, mb.Close())
			check(b, s.Close())
		}
	})
	b.Run("View10000", func(b *testing.B) {
		mb, _ := setup(b, 10000)
		for b.Loop() {
			readAll(b, mb, 10000)
		}
	})
	b.Run("State10000", func(b *testing.B) {
		mb, _ := setup(b, 10000)
		for b.Loop() {
			_, err := mb.State(ctx)
			check(b, err)
		}
	})
	b.Run("SetFlagsOne", func(b *testing.B) {
		mb, _ := setup(b, 10000)
		for i := 0; b.Loop(); i++ {
			op := imap.FlagOp{Action: imap.FlagAction(i / 1000 % 2), Flags: imap.NewFlags(imap.FlagSeen)}
			_, err := mb.SetFlags(ctx, set(imap.UID(1+i%1000)), op, 0)
			check(b, err)
		}
	})
	b.Run("SetFlagsAll10000", func(b *testing.B) {
		mb, _ := setup(b, 10000)
		for i := 0; b.Loop(); i++ {
			op := imap.FlagOp{Action: imap.FlagAction(i % 2), Flags: imap.NewFlags(imap.FlagSeen)}
			_, err := mb.SetFlags(ctx, imap.AllUIDs, op, 0)
			check(b, err)
		}
	})
	b.Run("Body", func(b *testing.B) {
		mb, _ := setup(b, 1000)
		b.SetBytes(int64(len(text)))
		for i := 0; b.Loop(); i++ {
			body, err := mb.Body(ctx, imap.UID(1+i%1000))
			check(b, err)
			_, err = io.Copy(io.Discard, io.NewSectionReader(body, 0, body.Size()))
			check(b, err)
			check(b, body.Close())
		}
	})
	b.Run("MoveOne", func(b *testing.B) {
		mb, _ := setup(b, 0)
		for b.Loop() {
			done, err := mb.Append(ctx, one())
			check(b, err)
			_, err = mb.Copy(ctx, set(done.UIDs...), "dst", true)
			check(b, err)
		}
	})
	b.Run("Expunge1000", func(b *testing.B) {
		mb, _ := setup(b, 0)
		for b.Loop() {
			b.StopTimer()
			var batch []imap.NewMessage
			for range 1000 {
				batch = append(batch, one()...)
			}
			_, err := mb.Append(ctx, batch)
			check(b, err)
			b.StartTimer()
			check(b, mb.Expunge(ctx, imap.AllUIDs, false))
		}
	})
}

func readAll(b *testing.B, mb imap.Mailbox, want int) {
	b.Helper()
	d, err := mb.Changes(context.Background(), 0)
	check(b, err)
	n := 0
	for _, err := range d.Messages {
		check(b, err)
		n++
	}
	if n != want {
		check(b, fmt.Errorf("%d messages, want %d", n, want))
	}
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}
