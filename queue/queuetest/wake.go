package queuetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailblocks/mailblocks/queue"
)

func testWake(e *env) {
	s := e.store()
	mark, err := s.Wake(e.ctx, 0, time.Now().Add(20*time.Millisecond))
	if err != nil {
		e.Fatalf("Wake: %v", err)
	}
	mark, err = s.Wake(e.ctx, mark, time.Now().Add(20*time.Millisecond)) // nothing comes: until
	if err != nil {
		e.Fatalf("Wake: %v", err)
	}
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	if _, err := s.Wake(ctx, mark, time.Now().Add(time.Hour)); err == nil {
		e.Error("Wake with a context that has ended gives no error")
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Wake(e.ctx, mark, time.Now().Add(time.Hour))
		done <- err
	}()
	e.enqueue(s, message("a@example.org"))
	if err := <-done; err != nil {
		e.Fatalf("Wake: %v", err)
	}
}

// testWakeNotLost has one goroutine add work, an item at a time, and another take it with no
// other help than Wake. A lost wake-up shows as a test that does not end in a minute.
func testWakeNotLost(e *env) {
	s := e.store()
	const n = 200
	taken := make(chan struct{})
	fail := make(chan error, 1)
	go func() {
		var mark queue.Mark
		for got := 0; got < n; {
			leases, err := s.Lease(e.ctx, everything)
			if err != nil {
				fail <- err
				return
			}
			for range leases {
				got++
				taken <- struct{}{}
			}
			if len(leases) > 0 {
				continue
			}
			began := time.Now()
			if mark, err = s.Wake(e.ctx, mark, began.Add(time.Minute)); err != nil {
				fail <- err
				return
			}
			if time.Since(began) >= time.Minute {
				fail <- fmt.Errorf("a wake-up was lost after %d items", got)
				return
			}
		}
	}()
	for range n {
		e.enqueue(s, message("a@example.org"))
		select {
		case <-taken:
		case err := <-fail:
			e.Fatal(err)
		}
	}
}

func testFuture(e *env) {
	s := e.store()
	m := message("a@example.org")
	m.HoldUntil = time.Now().Add(50 * time.Millisecond)
	e.enqueue(s, m)
	var l queue.Lease
	e.until(s, "an item whose time has come is given out", func() bool {
		leases := e.lease(s, everything)
		if len(leases) > 0 {
			l = leases[0]
		}
		return len(leases) > 0
	})
	if l.Now.Before(m.HoldUntil) {
		e.Errorf("given out %v early", m.HoldUntil.Sub(l.Now))
	}
}

// testHistory runs workers that enqueue, lease, drop leases, settle late and change things at
// random, then drains the queue and checks the books: each message was settled, none twice, and
// no settlement of a lease that had ended was accepted.
func testHistory(e *env) {
	s := e.store()
	const workers, steps = 6, 150
	var (
		mu       sync.Mutex
		enqueued = map[queue.ID]bool{}
		finished = map[queue.ID]int{}
		stale    atomic.Int64
	)
	var wg sync.WaitGroup
	for n := range workers {
		rnd := rand.New(rand.NewPCG(7, uint64(n)))
		wg.Go(func() {
			var late []queue.Lease
			for range steps {
				switch rnd.IntN(6) {
				case 0, 1:
					ids, err := s.Enqueue(e.ctx, message(fmt.Sprintf("u@d%d.test", rnd.IntN(5))))
					if err != nil {
						e.Errorf("Enqueue: %v", err)
						return
					}
					mu.Lock()
					enqueued[ids[0]] = true
					mu.Unlock()
				case 2, 3, 4:
					w := queue.Want{Max: 1 + rnd.IntN(3), For: time.Duration(1+rnd.IntN(20)) * time.Millisecond}
					leases, err := s.Lease(e.ctx, w)
					if err != nil {
						e.Errorf("Lease: %v", err)
						return
					}
					for _, l := range leases {
						if rnd.IntN(3) == 0 {
							late = append(late, l)
							continue
						}
						if _, err := s.Settle(e.ctx, l.Token, settled(l, queue.StatusDelivered)); err == nil {
							mu.Lock()
							finished[l.Token.ID]++
							mu.Unlock()
						}
					}
				case 5:
					if len(late) == 0 {
						continue
					}
					l := late[0]
					late = late[1:]
					if _, err := s.Settle(e.ctx, l.Token, settled(l, queue.StatusDelivered)); err == nil {
						mu.Lock()
						finished[l.Token.ID]++
						mu.Unlock()
					} else {
						stale.Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	e.until(s, "the queue runs empty", func() bool {
		for _, l := range e.lease(s, everything) {
			e.settle(s, l, settled(l, queue.StatusDelivered))
			finished[l.Token.ID]++
		}
		return len(e.list(s, queue.Filter{})) == 0
	})
	for id := range enqueued {
		if finished[id] != 1 {
			e.Errorf("message %s was settled %d times, want once", id, finished[id])
		}
	}
	if len(finished) != len(enqueued) {
		e.Errorf("%d messages settled, %d enqueued", len(finished), len(enqueued))
	}
}
