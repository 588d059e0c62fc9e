package queue_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/memstore"
)

// BenchmarkDeadRoute delivers to live destinations while others' messages, to a destination that is down, wait beside them: none, and
// 900,000. It reports the longest that one call of Lease took, too.
func BenchmarkDeadRoute(b *testing.B) {
	for _, dead := range []int{0, 900_000} {
		b.Run(fmt.Sprintf("dead=%d", dead), func(b *testing.B) {
			store := &timedStore{Store: memstore.New()}
			defer store.Close()
			put := func(n int, route func(i int) string) {
				var msgs []queue.Message
				for i := range n {
					msgs = append(msgs, queue.Message{Envelope: queue.Envelope{
						ReversePath: fmt.Sprintf("u%d@example.org", i%1000), Recipients: []queue.Recipient{{Address: "u@" + route(i)}},
					}, Body: strings.NewReader("Subject: x\r\n\r\n")})
					if len(msgs) == 1000 || i == n-1 {
						if _, err := store.Enqueue(b.Context(), msgs...); err != nil {
							b.Fatal(err)
						}
						msgs = msgs[:0]
					}
				}
			}
			put(dead, func(int) string { return "dead.test" })
			var delivered atomic.Int64
			done := make(chan struct{})
			r := queue.Runner{
				Store: store, Report: queue.NoReports, Logger: slog.New(slog.DiscardHandler),
				Transport: queue.TransportFunc(func(_ context.Context, a *queue.Attempt) []queue.Outcome {
					if a.Route == "dead.test" {
						return a.All(queue.Outcome{Result: queue.RouteDown, Text: "no route to host"})
					}
					if delivered.Add(1) == int64(b.N) {
						close(done)
					}
					return a.All(queue.Outcome{Result: queue.Delivered})
				}),
			}
			put(b.N, func(i int) string { return fmt.Sprintf("d%d.test", i%100) })
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			b.ResetTimer()
			stopped := make(chan error, 1)
			go func() { stopped <- r.Run(ctx) }()
			<-done
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
			b.ReportMetric(float64(store.longest.Microseconds())/1000, "longest-lease-ms")
			cancel()
			if err := <-stopped; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// timedStore notes how long Lease took at most.
type timedStore struct {
	queue.Store
	mu      sync.Mutex
	longest time.Duration
}

func (s *timedStore) Lease(ctx context.Context, w queue.Want) ([]queue.Lease, error) {
	began := time.Now()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.longest = max(s.longest, time.Since(began))
	}()
	return s.Store.Lease(ctx, w)
}
