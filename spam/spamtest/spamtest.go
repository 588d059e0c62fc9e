// Package spamtest proves implementations of the contracts of package spam.
package spamtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mailblocks/mailblocks/spam"
)

// A Factory makes an empty storage and returns a function that opens a Store on it. Each
// Store is another one, as if in another process. What has to be closed is closed with
// t.Cleanup, or by the Store's Close method, which the suite calls before it opens again.
type Factory func(t *testing.T) (open func() spam.Store)

// TestStore runs the suite.
func TestStore(t *testing.T, f Factory) {
	for _, c := range []struct {
		name string
		test func(*testing.T, func() spam.Store)
	}{
		{"Empty", testEmpty},
		{"Sums", testSums},
		{"TwoWriters", testTwoWriters},
		{"Seen", testSeen},
		{"SeenEnds", testSeenEnds},
		{"Reopen", testReopen},
		{"Concurrent", testConcurrent},
		{"Break", testBreak},
		{"Keeper", testKeeper},
		{"Snapshots", testSnapshots},
		{"Classifier", testClassifier},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, f(t)) })
	}
}

var ctx = context.Background()

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// load returns the sums of what Load yields.
func load(t *testing.T, s spam.Store, model string, since uint64) (map[uint32]spam.Cell, uint64) {
	t.Helper()
	cells, position, err := s.Load(ctx, model, since)
	must(t, err)
	sums := map[uint32]spam.Cell{}
	for c, err := range cells {
		must(t, err)
		was := sums[c.Index]
		sums[c.Index] = spam.Cell{Index: c.Index, Ham: was.Ham + c.Ham, Spam: was.Spam + c.Spam,
			Weight: was.Weight + c.Weight, Square: was.Square + c.Square}
	}
	return sums, position
}

func expect(t *testing.T, got map[uint32]spam.Cell, want ...spam.Cell) {
	t.Helper()
	for _, w := range want {
		if got[w.Index] != w {
			t.Errorf("cell %d is %+v, want %+v", w.Index, got[w.Index], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d cells, want %d", len(got), len(want))
	}
}

func closeStore(t *testing.T, s spam.Store) {
	t.Helper()
	must(t, spam.Sync(ctx, s))
	if c, ok := s.(interface{ Close() error }); ok {
		must(t, c.Close())
	}
}

func testEmpty(t *testing.T, open func() spam.Store) {
	s := open()
	cells, position := load(t, s, "", 0)
	expect(t, cells)
	if position == 0 {
		t.Error("Load returned position 0, which means everything")
	}
	cells, _ = load(t, s, "", position)
	expect(t, cells)
}

func testSums(t *testing.T, open func() spam.Store) {
	s := open()
	must(t, s.Add(ctx, "", []spam.Cell{{Index: 7, Ham: 1, Weight: 0.5, Square: 0.25}, {Index: 9, Spam: 2}, {Index: 7, Ham: 1}}))
	must(t, s.Add(ctx, "", []spam.Cell{{Index: 7, Ham: -1, Spam: 3, Weight: -1, Square: 1}, {Index: 4000000000, Spam: 1}}))
	must(t, s.Add(ctx, "user/a", []spam.Cell{{Index: 7, Ham: 40}}))
	cells, _ := load(t, s, "", 0)
	expect(t, cells, spam.Cell{Index: 7, Ham: 1, Spam: 3, Weight: -0.5, Square: 1.25}, spam.Cell{Index: 9, Spam: 2}, spam.Cell{Index: 4000000000, Spam: 1})
	cells, _ = load(t, s, "user/a", 0)
	expect(t, cells, spam.Cell{Index: 7, Ham: 40})
	cells, _ = load(t, s, "user/b", 0)
	expect(t, cells)
}

func testTwoWriters(t *testing.T, open func() spam.Store) {
	a, b := open(), open()
	_, since := load(t, a, "", 0)
	must(t, a.Add(ctx, "", []spam.Cell{{Index: 1, Ham: 1}}))
	must(t, spam.Sync(ctx, a))
	must(t, b.Add(ctx, "", []spam.Cell{{Index: 1, Ham: 10}, {Index: 2, Spam: 5}}))
	must(t, spam.Sync(ctx, b))
	must(t, b.Add(ctx, "other", []spam.Cell{{Index: 1, Ham: 100}}))
	must(t, spam.Sync(ctx, b))

	cells, next := load(t, a, "", since)
	expect(t, cells, spam.Cell{Index: 1, Ham: 10}, spam.Cell{Index: 2, Spam: 5}) // not its own
	cells, _ = load(t, a, "", next)
	expect(t, cells)
	for _, s := range []spam.Store{a, b} {
		cells, _ = load(t, s, "", 0)
		expect(t, cells, spam.Cell{Index: 1, Ham: 11}, spam.Cell{Index: 2, Spam: 5})
	}
	if _, _, err := a.Load(ctx, "", next+1_000_000); !errors.Is(err, spam.ErrTooOld) {
		t.Errorf("Load from a position that never was: %v, want ErrTooOld", err)
	}
}

func testSeen(t *testing.T, open func() spam.Store) {
	a, b := open(), open()
	step := func(s spam.Store, model, id string, l, want spam.Label) {
		t.Helper()
		got, err := s.SetSeen(ctx, model, id, l, 0)
		must(t, err)
		if got != want {
			t.Errorf("SetSeen(%q, %q, %v) returned %v, want %v", model, id, l, got, want)
		}
	}
	step(a, "", "1", spam.Ham, spam.Unlabelled)
	step(a, "", "1", spam.Ham, spam.Ham)
	step(a, "", "1", spam.Spam, spam.Ham)
	step(a, "user/x", "1", spam.Ham, spam.Unlabelled)
	step(a, "", "2", spam.Neutral, spam.Unlabelled)
	must(t, spam.Sync(ctx, a))
	step(b, "", "1", spam.Unlabelled, spam.Spam)
	step(b, "", "1", spam.Unlabelled, spam.Unlabelled)
	step(b, "", "2", spam.Ham, spam.Neutral)
	must(t, spam.Sync(ctx, b))
	step(a, "", "1", spam.Ham, spam.Unlabelled)
	step(a, "", "2", spam.Ham, spam.Ham)
}

func testSeenEnds(t *testing.T, open func() spam.Store) {
	s := open()
	_, err := s.SetSeen(ctx, "", "short", spam.Ham, time.Nanosecond)
	must(t, err)
	_, err = s.SetSeen(ctx, "", "long", spam.Ham, time.Hour)
	must(t, err)
	// A store may remember for longer, but must not forget before.
	if l, err := s.SetSeen(ctx, "", "long", spam.Ham, time.Hour); err != nil || l != spam.Ham {
		t.Errorf("before its ttl the mark is %v, %v", l, err)
	}
}

func testReopen(t *testing.T, open func() spam.Store) {
	s := open()
	must(t, s.Add(ctx, "", []spam.Cell{{Index: 3, Spam: 1, Weight: 1.5}}))
	_, err := s.SetSeen(ctx, "", "id", spam.Spam, time.Hour)
	must(t, err)
	closeStore(t, s)
	s = open()
	cells, _ := load(t, s, "", 0)
	expect(t, cells, spam.Cell{Index: 3, Spam: 1, Weight: 1.5})
	if l, err := s.SetSeen(ctx, "", "id", spam.Ham, time.Hour); err != nil || l != spam.Spam {
		t.Errorf("after a reopen the mark is %v, %v", l, err)
	}
}

func testConcurrent(t *testing.T, open func() spam.Store) {
	const writers, rounds = 4, 50
	stores := []spam.Store{open(), open()}
	var wg sync.WaitGroup
	errs := make(chan error, 3*writers*rounds)
	for w := range writers {
		wg.Go(func() {
			s := stores[w%len(stores)]
			for i := range rounds {
				errs <- s.Add(ctx, "", []spam.Cell{{Index: 5, Ham: 1}, {Index: uint32(100 + w), Spam: 1}})
				_, err := s.SetSeen(ctx, "", fmt.Sprint(w, i), spam.Ham, 0)
				errs <- err
				if i%10 == 0 {
					errs <- spam.Sync(ctx, s)
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		must(t, err)
	}
	for _, s := range stores {
		must(t, spam.Sync(ctx, s))
	}
	for _, s := range stores {
		cells, _ := load(t, s, "", 0)
		if cells[5].Ham != writers*rounds {
			t.Errorf("the sum of %d additions is %d", writers*rounds, cells[5].Ham)
		}
	}
}

func testBreak(t *testing.T, open func() spam.Store) {
	s := open()
	must(t, s.Add(ctx, "", []spam.Cell{{Index: 1, Ham: 1}, {Index: 2, Ham: 1}}))
	cells, _, err := s.Load(ctx, "", 0)
	must(t, err)
	for range cells {
		break
	}
	must(t, s.Add(ctx, "", []spam.Cell{{Index: 3, Ham: 1}})) // nothing is locked
	sums, _ := load(t, s, "", 0)
	if len(sums) != 3 {
		t.Errorf("%d cells, want 3", len(sums))
	}
}

func testKeeper(t *testing.T, open func() spam.Store) {
	s := open()
	k, ok := s.(spam.Keeper)
	if !ok {
		t.Skip("the store is no Keeper")
	}
	must(t, k.Keep(ctx, "", 1, []byte("one")))
	must(t, k.Keep(ctx, "", 2, []byte("two")))
	must(t, k.Keep(ctx, "", 1, []byte("uno")))
	must(t, k.Keep(ctx, "", 2, nil))
	must(t, k.Keep(ctx, "other", 1, []byte("else")))
	closeStore(t, s)
	k = open().(spam.Keeper)
	kept, err := k.Kept(ctx, "")
	must(t, err)
	n := 0
	for slot, data := range kept {
		if n++; slot != 1 || string(data) != "uno" {
			t.Errorf("slot %d holds %q", slot, data)
		}
	}
	if n != 1 {
		t.Errorf("%d slots, want 1", n)
	}
}

// testClassifier learns through one store and judges through another.
func testSnapshots(t *testing.T, open func() spam.Store) {
	s := open()
	shots, ok := s.(spam.Snapshotter)
	if !ok {
		t.Skip("the store keeps no snapshots")
	}
	if err := shots.Restore(ctx, "none"); !errors.Is(err, spam.ErrNoSnapshot) {
		t.Errorf("Restore of what does not exist: %v, want ErrNoSnapshot", err)
	}
	for _, name := range []string{"", "a/b", ".", "..", "a b"} {
		if shots.Snapshot(ctx, name) == nil {
			t.Errorf("a snapshot may be called %q", name)
		}
	}
	must(t, s.Add(ctx, "", []spam.Cell{{Index: 1, Ham: 1, Weight: 0.5}}))
	must(t, s.Add(ctx, "user/a", []spam.Cell{{Index: 2, Spam: 1}}))
	_, err := s.SetSeen(ctx, "", "before", spam.Ham, 0)
	must(t, err)
	must(t, shots.Snapshot(ctx, "one"))

	other := open()
	_, position := load(t, other, "", 0)
	must(t, s.Add(ctx, "", []spam.Cell{{Index: 1, Ham: 5}, {Index: 9, Ham: 1}}))
	must(t, s.Add(ctx, "user/b", []spam.Cell{{Index: 2, Spam: 1}}))
	_, err = s.SetSeen(ctx, "", "after", spam.Spam, 0)
	must(t, err)
	must(t, spam.Sync(ctx, s))
	must(t, s.Add(ctx, "", []spam.Cell{{Index: 1, Ham: 7}})) // perhaps not written yet
	must(t, shots.Restore(ctx, "one"))

	for _, one := range []spam.Store{s, other, open()} {
		cells, _ := load(t, one, "", 0)
		expect(t, cells, spam.Cell{Index: 1, Ham: 1, Weight: 0.5})
		cells, _ = load(t, one, "user/a", 0)
		expect(t, cells, spam.Cell{Index: 2, Spam: 1})
		cells, _ = load(t, one, "user/b", 0)
		expect(t, cells)
	}
	if _, _, err := other.Load(ctx, "", position); !errors.Is(err, spam.ErrTooOld) {
		t.Errorf("Load from a position before the restore: %v, want ErrTooOld", err)
	}
	for id, want := range map[string]spam.Label{"before": spam.Ham, "after": spam.Unlabelled} {
		if l, err := s.SetSeen(ctx, "", id, spam.Neutral, 0); err != nil || l != want {
			t.Errorf("after the restore %q is %v, %v, want %v", id, l, err, want)
		}
	}
	list, err := shots.Snapshots(ctx)
	must(t, err)
	if len(list) != 1 || list[0].Name != "one" || list[0].Time.IsZero() {
		t.Errorf("snapshots are %v", list)
	}
	must(t, shots.RemoveSnapshot(ctx, "one"))
	if err := shots.RemoveSnapshot(ctx, "one"); !errors.Is(err, spam.ErrNoSnapshot) {
		t.Errorf("RemoveSnapshot again: %v, want ErrNoSnapshot", err)
	}
}

func testClassifier(t *testing.T, open func() spam.Store) {
	message := func(text string, n int) *spam.Message {
		m, err := spam.Parse(strings.NewReader(fmt.Sprintf("From: a%d@example.org\r\nSubject: %s\r\n\r\n%s number %d\r\n", n, text, text, n)), spam.Limits{})
		must(t, err)
		return m
	}
	a := open()
	c, err := spam.NewClassifier(ctx, a, nil)
	must(t, err)
	for i := range 50 {
		must(t, c.Learn(ctx, "u", fmt.Sprint("h", i), message("minutes of the meeting", i), spam.Ham))
		must(t, c.Learn(ctx, "u", fmt.Sprint("s", i), message("cheap watches for you", i), spam.Spam))
	}
	closeStore(t, a)
	c, err = spam.NewClassifier(ctx, open(), nil)
	must(t, err)
	for text, want := range map[string]string{"minutes of the meeting": "ham", "cheap watches for you": "spam"} {
		v, err := c.Score(ctx, "u", message(text, 99))
		must(t, err)
		if v.String() != want {
			t.Errorf("%q is judged %v (%v), want %s", text, v, v.Reasons, want)
		}
	}
}
