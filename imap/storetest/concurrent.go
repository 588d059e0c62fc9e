package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/mailblocks/mailblocks/imap"
)

var concurrentTests = map[string]func(*fixture){
	"Appends":       testConcurrentAppends,
	"FlagsNotLost":  testConcurrentFlags,
	"Everything":    testConcurrentAll,
	"Moves":         testConcurrentMoves,
	"CreateOnlyOne": testConcurrentCreate,
}

const writers = 4

// together runs run in several goroutines, each with a Store and an Inbox of its own.
func (f *fixture) together(run func(who int, s imap.Store, mb imap.Mailbox) error) {
	f.Helper()
	var wg sync.WaitGroup
	errs := make([]error, writers)
	for who := range writers {
		s := f.open()
		mb := f.box(s, imap.Inbox)
		wg.Go(func() { errs[who] = run(who, s, mb) })
	}
	wg.Wait()
	f.must("concurrent writers", errors.Join(errs...))
}

func testConcurrentAppends(f *fixture) {
	const each = 25
	var mu sync.Mutex
	want := make(map[imap.UID]string)
	watcher := f.look(f.inbox())
	f.together(func(who int, _ imap.Store, mb imap.Mailbox) error {
		last := imap.UID(0)
		for i := range each {
			body := mail(fmt.Sprintf("writer %d message %d", who, i))
			done, err := mb.Append(f.ctx, []imap.NewMessage{{Body: strings.NewReader(body)}})
			if err != nil {
				return err
			}
			uid := done.UIDs[0]
			mu.Lock()
			f.rule(want[uid] == "", "no two messages get one UID", "uid %d", uid)
			f.rule(uid > last, "UIDs ascend", "%d after %d", uid, last)
			want[uid] = body
			mu.Unlock()
			last = uid
		}
		return nil
	})
	mb := f.inbox()
	f.update(mb, watcher)
	f.rule(len(watcher.msgs) == writers*each, "no Append is lost", "%d of %d messages", len(watcher.msgs), writers*each)
	for uid, body := range want {
		f.rule(f.read(mb, uid) == body, "a UID stands for the message it was given for", "uid %d", uid)
	}
}

func testConcurrentFlags(f *fixture) {
	uids := f.fill(f.inbox(), 10)
	flags := []imap.Flag{imap.FlagSeen, imap.FlagFlagged, imap.FlagAnswered, imap.FlagDraft}
	f.together(func(who int, _ imap.Store, mb imap.Mailbox) error {
		for round := range 5 {
			for _, uid := range uids {
				action := imap.FlagAction(round % 2) // add, remove, add, remove, add
				op := imap.FlagOp{Action: action, Flags: imap.NewFlags(flags[who])}
				if _, err := mb.SetFlags(f.ctx, set(uid), op, 0); err != nil {
					return err
				}
			}
		}
		return nil
	})
	v := f.look(f.inbox())
	for _, uid := range uids {
		f.rule(v.msgs[uid].Flags.Equal(imap.NewFlags(flags...)), "no SetFlags is lost when several change different flags at once", "uid %d has %v", uid, v.msgs[uid].Flags)
	}
}

// Writers do everything at once while each keeps a view up to date; at the end all agree.
func testConcurrentAll(f *fixture) {
	f.fill(f.inbox(), 20)
	views := make([]*view, writers)
	for i := range views {
		views[i] = f.look(f.inbox())
	}
	f.together(func(who int, _ imap.Store, mb imap.Mailbox) error {
		v := views[who]
		for i := range 30 {
			uids := v.uids()
			var err error
			switch {
			case i%3 == 0 || len(uids) == 0:
				_, err = mb.Append(f.ctx, []imap.NewMessage{{Body: strings.NewReader(mail(itoa(i)))}})
			case i%3 == 1:
				op := imap.FlagOp{Action: imap.FlagAction(i % 2), Flags: imap.NewFlags(imap.FlagSeen, imap.FlagDeleted)}
				_, err = mb.SetFlags(f.ctx, set(uids[(i*7+who)%len(uids)]), op, 0)
			case i%3 == 2 && i%2 == 0:
				err = mb.Expunge(f.ctx, set(uids[(i*5+who)%len(uids)]), i%4 == 0)
			}
			if err != nil {
				return err
			}
			f.update(mb, v)
		}
		return nil
	})
	mb := f.inbox()
	want := f.look(mb)
	for _, v := range views {
		f.update(mb, v)
		f.same(want, v, "views kept up to date during concurrent changes agree in the end")
	}
}

// Everyone moves the same messages: each arrives once.
func testConcurrentMoves(f *fixture) {
	const n = 20
	f.create(f.store, "dst")
	uids := f.fill(f.inbox(), n)
	f.together(func(who int, _ imap.Store, mb imap.Mailbox) error {
		for i := range uids {
			if _, err := mb.Copy(f.ctx, set(uids[(i+who*n/writers)%n]), "dst", true); err != nil {
				return err
			}
		}
		return nil
	})
	f.rule(f.state(f.inbox()).Messages == 0, "a move takes the original away", "%d left", f.state(f.inbox()).Messages)
	v := f.look(f.box(f.store, "dst"))
	f.rule(len(v.msgs) == n, "a message moved by several at once arrives once", "%d messages, want %d", len(v.msgs), n)
}

func testConcurrentCreate(f *fixture) {
	var mu sync.Mutex
	made := make(map[string]int)
	f.together(func(who int, s imap.Store, _ imap.Mailbox) error {
		for i := range 5 {
			name := "box" + itoa(i)
			err := s.Create(f.ctx, name, nil)
			switch {
			case err == nil:
				mu.Lock()
				made[name]++
				mu.Unlock()
			case !errors.Is(err, imap.ErrMailboxExists):
				return err
			}
		}
		return nil
	})
	for name, n := range made {
		f.rule(n == 1, "of several that create one mailbox, one succeeds", "%s was created %d times", name, n)
	}
	f.rule(len(made) == 5, "of several that create one mailbox, one succeeds", "%v", made)
}
