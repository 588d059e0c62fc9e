package spool

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailblocks/mailblocks/queue"
)

var restartMessages = flag.Int("restart", 100_000, "messages in BenchmarkRestart")

func benchMessage(n int64, body []byte) queue.Message {
	return queue.Message{
		Envelope: queue.Envelope{
			ReversePath: "sender@example.org",
			Recipients:  []queue.Recipient{{Address: fmt.Sprintf("user%d@d%d.example.net", n, n%1000)}},
		},
		Body: bytes.NewReader(body), SizeHint: int64(len(body)),
	}
}

// BenchmarkEnqueue measures durable accepts of 4 KiB messages, and beside them what the disk can do:
// syncs per second of one writer that appends as many octets at a time as one message, and as a group
// of all the parallel callers'.
func BenchmarkEnqueue(b *testing.B) {
	body := bytes.Repeat([]byte("A line of text, as there are many.\r\n"), 114)
	for _, parallel := range []int{1, 16, 50} {
		b.Run(fmt.Sprintf("parallel=%d", parallel), func(b *testing.B) {
			s, err := Open(b.TempDir(), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			b.SetBytes(int64(len(body)))
			b.SetParallelism((parallel + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
			b.ReportAllocs()
			var n atomic.Int64
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Enqueue(b.Context(), benchMessage(n.Add(1), body)); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "accepts/s")
			b.StopTimer()
			b.ReportMetric(float64(parallel)*syncRate(b, parallel*(len(body)+300)), "limit/s")
		})
	}
}

// syncRate measures writes of that many octets, each synced, into space that was written before.
func syncRate(b *testing.B, octets int) float64 {
	f, err := os.Create(filepath.Join(b.TempDir(), "sync"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const size = 16 << 20
	if _, err := f.Write(make([]byte, size)); err != nil {
		b.Fatal(err)
	}
	if err := syncData(f); err != nil {
		b.Fatal(err)
	}
	buf := bytes.Repeat([]byte{1}, octets)
	began, n := time.Now(), 0
	for off := int64(0); time.Since(began) < time.Second; off += int64(octets) {
		if off+int64(octets) > size {
			off = 0
		}
		if _, err := f.WriteAt(buf, off); err != nil {
			b.Fatal(err)
		}
		if err := syncData(f); err != nil {
			b.Fatal(err)
		}
		n++
	}
	return float64(n) / time.Since(began).Seconds()
}

// BenchmarkCycle is a message's whole life: Enqueue, Lease, Settle.
func BenchmarkCycle(b *testing.B) {
	body := bytes.Repeat([]byte("A line of text, as there are many.\r\n"), 114)
	s, err := Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	b.SetParallelism(25)
	b.ReportAllocs()
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Enqueue(b.Context(), benchMessage(n.Add(1), body)); err != nil {
				b.Error(err)
				return
			}
			leases, err := s.Lease(b.Context(), queue.Want{Max: 1, For: time.Hour})
			if err != nil {
				b.Error(err)
				return
			}
			for _, l := range leases {
				r := l.Envelope.Recipients[0]
				r.Status = queue.StatusDelivered
				if _, err := s.Settle(b.Context(), l.Token, queue.Settlement{Recipients: map[int]queue.Recipient{0: r}}); err != nil {
					b.Error(err)
				}
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

// BenchmarkRestart opens a spool with many queued messages and leases the first (-restart sets how
// many), and measures the heap each of them takes.
func BenchmarkRestart(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	body := bytes.Repeat([]byte("A line of text, as there are many.\r\n"), 114)
	for n := 0; n < *restartMessages; n += 100 {
		var msgs []queue.Message
		for i := range 100 {
			msgs = append(msgs, benchMessage(int64(n+i), body))
		}
		if _, err := s.Enqueue(b.Context(), msgs...); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	s = nil
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	b.ResetTimer()
	for b.Loop() {
		s, err := Open(dir, nil)
		if err != nil {
			b.Fatal(err)
		}
		if leases, err := s.Lease(b.Context(), queue.Want{Max: 1, For: time.Hour}); err != nil || len(leases) != 1 {
			b.Fatal(err, len(leases))
		}
		b.StopTimer()
		b.ReportMetric(float64(heap()-before)/float64(*restartMessages), "heap-B/message")
		began := time.Now()
		n, err := s.Alter(b.Context(), queue.Filter{Route: "d7.example.net"}, queue.Change{Op: queue.OpKick})
		if err != nil || n == 0 {
			b.Fatal(err, n)
		}
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "kick-ms")
		began = time.Now()
		for _, err := range s.List(b.Context(), queue.Filter{Route: "d8.example.net"}) {
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "list-ms")
		s.Close()
		b.StartTimer()
	}
}
