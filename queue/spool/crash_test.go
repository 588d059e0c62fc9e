package spool

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/queue"
)

var quiet = slog.New(slog.DiscardHandler)

var crashOptions = &Options{SegmentSize: 128 << 10, SmallBody: 2000, Logger: quiet}

// books are what a client of the store was told, and what it may expect after a crash.
type books struct {
	mu       sync.Mutex
	body     map[queue.ID]string // acknowledged by Enqueue
	attempts map[queue.ID]int    // acknowledged by Settle
	gone     map[queue.ID]bool   // acknowledged
	maybe    map[queue.ID]bool   // a Settle was begun and not acknowledged
}

func newBooks() *books {
	return &books{body: map[queue.ID]string{}, attempts: map[queue.ID]int{}, gone: map[queue.ID]bool{}, maybe: map[queue.ID]bool{}}
}

// workload enqueues, leases and settles until the store fails or it has done its steps.
func (b *books) workload(t *testing.T, s *Store, rnd *rand.Rand, steps int) error {
	for step := range steps {
		switch rnd.IntN(5) {
		case 0, 1, 2:
			text := fmt.Sprintf("%d.%d %s", step, rnd.Uint64(), strings.Repeat("x", rnd.IntN(1500)))
			if rnd.IntN(4) == 0 {
				text += strings.Repeat("y", 3000+rnd.IntN(90_000))
			}
			m := queue.Message{
				Envelope: queue.Envelope{ReversePath: "s@example.org", Recipients: []queue.Recipient{{Address: "u@one.test"}}},
				Body:     strings.NewReader(text),
			}
			if rnd.IntN(3) == 0 {
				m.Recipients = append(m.Recipients, queue.Recipient{Address: "v@two.test"})
			}
			ids, err := s.Enqueue(t.Context(), m)
			if err != nil {
				return err
			}
			b.mu.Lock()
			b.body[ids[0]] = text
			b.mu.Unlock()
		case 3:
			leases, err := s.Lease(t.Context(), queue.Want{Max: 3, For: time.Hour})
			if err != nil {
				return err
			}
			for _, l := range leases {
				if err := b.settle(t, s, l, rnd.IntN(3)); err != nil {
					return err
				}
			}
		case 4:
			if _, err := s.Alter(t.Context(), queue.Filter{Route: "two.test"}, queue.Change{Op: queue.OpKick}); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle delivers, postpones, or fails with a report.
func (b *books) settle(t *testing.T, s *Store, l queue.Lease, how int) error {
	id := l.Token.ID
	set := queue.Settlement{Recipients: map[int]queue.Recipient{}}
	for _, i := range l.Due {
		r := l.Envelope.Recipients[i]
		r.Attempts++
		switch how {
		case 0:
			r.Status = queue.StatusDelivered
		case 1:
			r.Due = l.Now.Add(time.Hour)
		case 2:
			r.Status = queue.StatusFailed
		}
		set.Recipients[i] = r
	}
	report := ""
	if how == 2 {
		report = "report about " + string(id) + " " + l.Token.Route
		set.Reports = []queue.Message{{
			Envelope: queue.Envelope{Recipients: []queue.Recipient{{Address: "s@example.org"}}},
			Body:     strings.NewReader(report),
		}}
	}
	last := len(l.Envelope.Recipients) == 1 && how != 1
	b.mu.Lock()
	b.maybe[id] = true
	b.mu.Unlock()
	ids, err := s.Settle(t.Context(), l.Token, set)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(l.Envelope.Recipients) == 1 {
		delete(b.maybe, id)
		if last {
			b.gone[id] = true
		}
		b.attempts[id]++
	}
	for _, id := range ids {
		b.body[id] = report
	}
	return nil
}

// check compares a reopened store with the books.
func (b *books) check(t *testing.T, s *Store, note string) {
	require.Empty(t, s.Recovery().Damage, "%s: a crash is no damage", note)
	found := map[queue.ID]*queue.Entry{}
	for e, err := range s.List(t.Context(), queue.Filter{}) {
		require.NoError(t, err, note)
		found[e.ID] = e
		r, err := s.Open(t.Context(), e.ID)
		require.NoError(t, err, note)
		text, err := io.ReadAll(r)
		require.NoError(t, err, note)
		r.Close()
		require.EqualValues(t, e.Size, len(text), "%s: body of %s is torn", note, e.ID)
		if want, ok := b.body[e.ID]; ok {
			require.Equal(t, want, string(text), note)
		}
		if len(e.Envelope.Recipients) == 1 && !b.maybe[e.ID] {
			require.Equal(t, b.attempts[e.ID], e.Envelope.Recipients[0].Attempts, "%s: state of %s", note, e.ID)
		}
	}
	for id := range b.body {
		switch {
		case b.gone[id]:
			require.Nil(t, found[id], "%s: %s was settled and is back", note, id)
		case !b.maybe[id]:
			require.NotNil(t, found[id], "%s: %s was acknowledged and is lost", note, id)
		}
	}
}

// TestCrash cuts the power at every operation of a workload in turn. Whatever of the unsynced data is left
// on the disk, all that was acknowledged is there, and nothing else but what was in flight.
func TestCrash(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 11
	}
	for at := 1; ; at += step {
		rnd := rand.New(rand.NewPCG(uint64(at), 1))
		disk := newCrashFS()
		disk.crashAt = at
		b := newBooks()
		s, err := open(disk, crashOptions)
		if err == nil {
			err = b.workload(t, s, rand.New(rand.NewPCG(3, 1)), 120)
			s.Close()
		}
		done := err == nil
		for range 3 { // what is left of unsynced data is a matter of chance
			crashAgain(t, disk.survivor(rnd), b, rnd, fmt.Sprintf("power cut at operation %d", at))
		}
		if done || t.Failed() {
			t.Logf("%d operations", disk.ops)
			return
		}
	}
}

// crashAgain opens what a crash left, checks it, crashes that too while or after it recovers, and checks again.
func crashAgain(t *testing.T, disk *crashFS, b *books, rnd *rand.Rand, note string) {
	if rnd.IntN(2) == 0 {
		disk.crashAt = 1 + rnd.IntN(60)
		if s, err := open(disk, crashOptions); err == nil {
			s.Close()
		}
		disk = disk.survivor(rnd)
		note += ", and again while recovering"
	}
	s, err := open(disk, crashOptions)
	require.NoError(t, err, note)
	b.check(t, s, note)
	_, err = s.Alter(t.Context(), queue.Filter{}, queue.Change{Op: queue.OpHold})
	require.NoError(t, err, note)
	require.NoError(t, s.Close(), note)
	s, err = open(disk, crashOptions)
	require.NoError(t, err, note)
	b.check(t, s, note+", reopened")
	require.NoError(t, s.Close(), note)
}

// TestCrashConcurrent does the same with several clients at once, so that commits come in groups and
// segments are reclaimed meanwhile.
func TestCrashConcurrent(t *testing.T) {
	runs := 60
	if testing.Short() {
		runs = 20
	}
	for run := range runs {
		rnd := rand.New(rand.NewPCG(uint64(run), 2))
		disk := newCrashFS()
		disk.crashAt = 40 + rnd.IntN(1500)
		b := newBooks()
		s, err := open(disk, crashOptions)
		if err == nil {
			var wg sync.WaitGroup
			for n := range 5 {
				mine := rand.New(rand.NewPCG(uint64(run), uint64(100+n)))
				wg.Go(func() { b.workload(t, s, mine, 150) })
			}
			wg.Wait()
			s.Close()
		}
		crashAgain(t, disk.survivor(rnd), b, rnd, fmt.Sprintf("run %d", run))
	}
}

// TestSyncFails: an fsync error is the end of the store, and never of what was acknowledged.
func TestSyncFails(t *testing.T) {
	for _, op := range []string{"sync", "write"} {
		disk := newCrashFS()
		b := newBooks()
		s, err := open(disk, crashOptions)
		require.NoError(t, err)
		require.NoError(t, b.workload(t, s, rand.New(rand.NewPCG(5, 5)), 30))
		disk.mu.Lock()
		disk.fail = func(kind, name string) error {
			if kind == op && strings.HasSuffix(name, ".seg") {
				return syscall.EIO
			}
			return nil
		}
		disk.mu.Unlock()
		small := queue.Message{
			Envelope: queue.Envelope{Recipients: []queue.Recipient{{Address: "a@b.test"}}}, Body: strings.NewReader("x"),
		}
		_, err = s.Enqueue(t.Context(), small)
		require.ErrorIs(t, err, queue.ErrFailed)
		require.ErrorIs(t, err, syscall.EIO)
		disk.mu.Lock()
		disk.fail = nil
		disk.mu.Unlock()
		_, err = s.Enqueue(t.Context(), small)
		require.ErrorIs(t, err, queue.ErrFailed, "the disk is well again, the store is not")
		_, err = s.Lease(t.Context(), queue.Want{Max: 1, For: time.Hour})
		require.ErrorIs(t, err, queue.ErrFailed)
		_, err = s.Wake(t.Context(), 0, time.Now().Add(time.Hour))
		require.ErrorIs(t, err, queue.ErrFailed)
		s.Close()
		s, err = open(disk.survivor(rand.New(rand.NewPCG(1, 1))), crashOptions)
		require.NoError(t, err)
		b.check(t, s, op+" failed")
		s.Close()
	}
}

// TestDiskFull: Enqueue says so, deliveries are still recorded, and when there is room it goes on.
func TestDiskFull(t *testing.T) {
	disk := newCrashFS()
	s, err := open(disk, crashOptions)
	require.NoError(t, err)
	defer s.Close()
	noRoom := func(kind, name string) error {
		// A spare that was written before the disk was full is used without asking for room.
		if kind == "create" && name == spareName || kind == "write" && strings.HasPrefix(name, "body/") {
			return syscall.ENOSPC
		}
		return nil
	}
	set := func(f func(kind, name string) error) {
		disk.mu.Lock()
		defer disk.mu.Unlock()
		disk.fail = f
	}
	m := func(n int) queue.Message {
		return queue.Message{
			Envelope: queue.Envelope{Recipients: []queue.Recipient{{Address: "a@b.test"}}},
			Body:     strings.NewReader(strings.Repeat("x", n)),
		}
	}
	_, err = s.Enqueue(t.Context(), m(10))
	require.NoError(t, err)
	set(noRoom)
	_, err = s.Enqueue(t.Context(), m(100_000))
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NotErrorIs(t, err, queue.ErrFailed)
	accepted := 1
	for err = nil; err == nil && accepted < 5000; accepted++ {
		_, err = s.Enqueue(t.Context(), m(1500))
	}
	require.ErrorIs(t, err, syscall.ENOSPC, "no second segment can be prepared")
	require.NotErrorIs(t, err, queue.ErrFailed)
	leases, err := s.Lease(t.Context(), queue.Want{Max: 3, For: time.Hour})
	require.NoError(t, err)
	for _, l := range leases {
		r := l.Envelope.Recipients[0]
		r.Status = queue.StatusDelivered
		_, err := s.Settle(t.Context(), l.Token, queue.Settlement{Recipients: map[int]queue.Recipient{0: r}})
		assert.NoError(t, err, "a full disk must not keep deliveries from being recorded")
	}
	set(nil)
	require.Eventually(t, func() bool {
		_, err := s.Enqueue(t.Context(), m(1500))
		return err == nil
	}, time.Minute, time.Millisecond)
}

// TestBodyFileFails: a large body that can not be stored costs its own Enqueue and no other.
func TestBodyFileFails(t *testing.T) {
	for _, op := range []string{"create", "write", "sync"} {
		disk := newCrashFS()
		s, err := open(disk, crashOptions)
		require.NoError(t, err)
		disk.fail = func(kind, name string) error {
			if kind == op && strings.HasPrefix(name, "body/") {
				return syscall.EIO
			}
			return nil
		}
		_, err = s.Enqueue(t.Context(), queue.Message{
			Envelope: queue.Envelope{Recipients: []queue.Recipient{{Address: "a@b.test"}}},
			Body:     strings.NewReader(strings.Repeat("x", 5000)),
		})
		require.ErrorIs(t, err, syscall.EIO)
		require.False(t, errors.Is(err, queue.ErrFailed))
		for name := range disk.now {
			require.False(t, strings.HasPrefix(name, "body/"), "%s is left behind", name)
		}
		_, err = s.Enqueue(t.Context(), queue.Message{
			Envelope: queue.Envelope{Recipients: []queue.Recipient{{Address: "a@b.test"}}}, Body: strings.NewReader("x"),
		})
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
}
