package storetest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

var handleTests = map[string]func(*fixture){
	"Closed":          testClosedHandle,
	"Cancelled":       testCancelled,
	"WatchOwn":        testWatchOwn,
	"WatchOther":      testWatchOther,
	"WatchEnds":       testWatchEnds,
	"Recent":          testRecent,
	"RecentNotCopied": testRecentNotKept,
	"TwoInOneStore":   testTwoInOneStore,
}

func testClosedHandle(f *fixture) {
	mb, err := f.store.Open(f.ctx, imap.Inbox)
	f.must("Open", err)
	f.fill(mb, 1)
	f.must("Close", mb.Close())
	_, err = mb.State(f.ctx)
	f.wantErr(imap.ErrClosed, err, "a handle used after Close reports ErrClosed: State")
	_, err = mb.Changes(f.ctx, 0)
	f.wantErr(imap.ErrClosed, err, "a handle used after Close reports ErrClosed: Changes")
	_, err = mb.Append(f.ctx, []imap.NewMessage{{Body: strings.NewReader("x")}})
	f.wantErr(imap.ErrClosed, err, "a handle used after Close reports ErrClosed: Append")
	f.wantErr(imap.ErrClosed, mb.Expunge(f.ctx, imap.AllUIDs, false), "a handle used after Close reports ErrClosed: Expunge")
	f.rule(f.state(f.inbox()).Messages == 1, "a closed handle does nothing", "the mailbox changed")
}

func testCancelled(f *fixture) {
	mb := f.inbox()
	f.fill(mb, 1)
	before := f.look(mb)
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	_, err := mb.Append(ctx, []imap.NewMessage{{Body: strings.NewReader("x")}})
	if err != nil {
		f.wantErr(context.Canceled, err, "a call whose context has ended returns its error, or works")
		f.same(before, f.look(mb), "a call that fails changes nothing")
	}
	f.fill(mb, 1)
}

// awaitWake watches, waits for the wake that says it has begun, and then makes changes until there is
// another. A lost wake costs time, so that it tries again; a minute without any is a broken Watch.
func (f *fixture) awaitWake(watch func(ctx context.Context, wake func()) error, change func(), rule string) {
	f.Helper()
	ctx, cancel := context.WithCancel(f.ctx)
	woken := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- watch(ctx, func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		})
	}()
	defer func() {
		cancel()
		f.wantErr(context.Canceled, <-ended, "Watch returns its context's error")
	}()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	again := time.NewTicker(30 * time.Millisecond)
	defer again.Stop()
	await := func(rule string, meanwhile func()) {
		f.Helper()
		for {
			meanwhile()
			select {
			case <-woken:
				return
			case <-again.C:
			case err := <-ended:
				ended <- err
				f.Fatalf("rule broken: Watch goes on until its context ends\n\tit returned %v", err)
			case <-deadline.C:
				f.Fatalf("rule broken: %s\n\tno wake within a minute", rule)
			}
		}
	}
	await("Watch wakes when it has begun", func() {})
	await(rule, change)
}

func testWatchOwn(f *fixture) {
	mb := f.inbox()
	f.awaitWake(mb.Watch, func() { f.fill(mb, 1) }, "Watch wakes for changes by this handle")
}

func testWatchOther(f *fixture) {
	a, b := f.twice()
	f.awaitWake(a.Watch, func() { f.fill(b, 1) }, "Watch wakes for messages appended by another handle")
	flag := imap.FlagsAdd
	f.awaitWake(a.Watch, func() {
		f.setFlags(b, imap.AllUIDs, flag, imap.FlagSeen)
		flag = imap.FlagsAdd + imap.FlagsRemove - flag
	}, "Watch wakes for flags set by another handle")
	f.awaitWake(a.Watch, func() {
		f.fill(b, 1)
		f.must("Expunge", b.Expunge(f.ctx, imap.AllUIDs, false))
	}, "Watch wakes for expunges by another handle")
	f.create(f.store, "src")
	src := f.box(f.store, "src")
	f.fill(src, 1)
	f.awaitWake(a.Watch, func() {
		_, err := src.Copy(f.ctx, imap.AllUIDs, imap.Inbox, false)
		f.must("Copy", err)
	}, "Watch wakes for messages copied into the mailbox")
}

func testWatchEnds(f *fixture) {
	mb := f.inbox()
	ctx, cancel := context.WithCancelCause(f.ctx)
	ended := make(chan error)
	for range 3 { // several may watch one handle
		go func() { ended <- mb.Watch(ctx, func() {}) }()
	}
	cancel(errors.New("enough"))
	for range 3 {
		f.wantErr(context.Canceled, <-ended, "Watch returns its context's error")
	}
}

func testRecent(f *fixture) {
	a, b := f.twice()
	if _, ok := imap.Upgrade[imap.Recenter](a); !ok {
		f.Skip("the store is no Recenter")
	}
	recent := func(mb imap.Mailbox, claim bool) string {
		f.Helper()
		s, err := imap.Recent(f.ctx, mb, claim)
		f.must("Recent", err)
		return s.String()
	}
	uids := f.fill(a, 3)
	want := set(uids...).String()
	f.rule(recent(b, false) == want, "a message appended is recent", "got %q, want %q", recent(b, false), want)
	f.rule(recent(a, true) == want, "ClaimRecent returns what is recent", "want %q", want)
	f.rule(recent(b, true) == "" && recent(a, false) == "", "a message is recent for one session only", "it was told twice")
	more := f.fill(b, 1)
	f.rule(recent(f.box(f.open(), imap.Inbox), true) == set(more...).String(), "ClaimRecent returns what no session was told of", "want %v", more)
	f.rule(recent(f.box(f.open(), imap.Inbox), true) == "", "ClaimRecent holds for every Store", "it was told twice")
}

func testRecentNotKept(f *fixture) {
	mb := f.inbox()
	if _, ok := imap.Upgrade[imap.Recenter](mb); !ok {
		f.Skip("the store is no Recenter")
	}
	f.fill(mb, 1)
	before := f.look(mb)
	f.rule(!before.msgs[before.uids()[0]].Flags.Has(imap.FlagRecent), "\\Recent is not among a message's flags", "%v", before)
	_, err := imap.Recent(f.ctx, mb, true)
	f.must("Recent", err)
	f.same(before, f.look(mb), "ClaimRecent is no visible change")
}

func testTwoInOneStore(f *fixture) {
	a, b := f.inbox(), f.inbox()
	f.fill(a, 2)
	v := f.look(b)
	f.rule(len(v.msgs) == 2, "two handles of one Store see the same mailbox", "%d messages", len(v.msgs))
	mb, err := f.store.Open(f.ctx, imap.Inbox)
	f.must("Open", err)
	f.must("Close", mb.Close())
	f.fill(b, 1)
	f.rule(f.state(a).Messages == 3, "closing one handle leaves the others alone", "%d messages", f.state(a).Messages)
}
