package storetest

import (
	"slices"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

var copyTests = map[string]func(*fixture){
	"Copy":           testCopy,
	"Move":           testMove,
	"ToItself":       testCopyToItself,
	"MoveToItself":   testMoveToItself,
	"NoDestination":  testCopyNowhere,
	"Nothing":        testCopyNothing,
	"DatesAndIDs":    testCopyDates,
	"ManyAtOnce":     testCopyMany,
	"SurvivesReopen": testCopySurvives,
}

// copied checks that the messages done.From of from, as seen before, are done.To in to.
func (f *fixture) copied(before *view, bodies map[imap.UID]string, to imap.Mailbox, done imap.Copied) {
	f.Helper()
	f.rule(len(done.From) == len(done.To), "Copied.From and To have the same length", "%v and %v", done.From, done.To)
	after := f.look(to)
	f.rule(done.UIDValidity == after.state.UIDValidity, "Copied.UIDValidity is the destination's", "%d, want %d", done.UIDValidity, after.state.UIDValidity)
	for i, uid := range done.To {
		old, new := before.msgs[done.From[i]], after.msgs[uid]
		f.rule(new.Flags.Equal(old.Flags), "a copy has the flags of its original", "uid %d: %v, want %v", uid, new.Flags, old.Flags)
		f.rule(new.InternalDate.Equal(old.InternalDate), "a copy has the internal date of its original", "uid %d: %v, want %v", uid, new.InternalDate, old.InternalDate)
		f.rule(f.read(to, uid) == bodies[done.From[i]], "Copied.From[i] became Copied.To[i]", "uid %d is another message", uid)
	}
	f.rule(slices.IsSorted(done.To), "copies get ascending UIDs", "%v", done.To)
}

// source fills the Inbox with messages of several flags and returns what is in it.
func (f *fixture) source() (mb imap.Mailbox, v *view, bodies map[imap.UID]string) {
	f.Helper()
	mb = f.inbox()
	flags := []imap.Flags{{}, imap.NewFlags(imap.FlagSeen, imap.FlagFlagged), imap.NewFlags(imap.FlagDeleted)}
	if !f.state(mb).NoNewKeywords {
		flags = append(flags, imap.NewFlags("first", "second"), imap.NewFlags("second", imap.FlagDraft))
	}
	bodies = make(map[imap.UID]string)
	for i, fl := range flags {
		body := mail(string(rune('a' + i)))
		bodies[f.append(mb, fl, body)[0]] = body
	}
	return mb, f.look(mb), bodies
}

func testCopy(f *fixture) {
	mb, before, bodies := f.source()
	f.create(f.store, "dst")
	dst := f.box(f.open(), "dst")
	f.fill(dst, 2)
	if !f.state(dst).NoNewKeywords {
		f.setFlags(dst, imap.AllUIDs, imap.FlagsAdd, "second", "other") // keywords in another order than in the source
	}
	st := f.state(dst)
	uids := before.uids()
	want := append(slices.Clone(uids[:1]), uids[2:]...)
	done, err := mb.Copy(f.ctx, set(append(want, 1<<31)...), "dst", false)
	f.must("Copy", err)
	got := slices.Sorted(slices.Values(done.From))
	f.rule(slices.Equal(got, want), "Copy copies the messages of the set that are there", "copied %v, want %v", got, want)
	f.copied(before, bodies, dst, done)
	f.rule(len(done.To) > 0 && done.To[0] >= st.UIDNext, "copies are new messages of the destination", "%v, UIDNext was %d", done.To, st.UIDNext)
	f.rule(f.state(dst).HighestModSeq > st.HighestModSeq, "a Copy raises the destination's HighestModSeq", "it stayed %d", st.HighestModSeq)
	f.same(before, f.look(mb), "Copy leaves the originals as they are")
}

func testMove(f *fixture) {
	mb, before, bodies := f.source()
	f.create(f.store, "dst")
	dst := f.box(f.open(), "dst")
	uids := before.uids()
	done, err := mb.Copy(f.ctx, set(uids[0], uids[2]), "dst", true)
	f.must("Copy with move", err)
	f.rule(len(done.From) == 2, "a move moves the messages of the set", "%v", done.From)
	f.copied(before, bodies, dst, done)
	known := before
	f.update(f.box(f.open(), imap.Inbox), known)
	f.rule(len(known.msgs) == len(bodies)-2, "a move takes the originals away", "%d messages left, want %d", len(known.msgs), len(bodies)-2)
	f.same(known, f.look(mb), "Changes tells of a move as of an expunge")
}

func testCopyToItself(f *fixture) {
	mb, before, bodies := f.source()
	done, err := mb.Copy(f.ctx, imap.AllUIDs, imap.Inbox, false)
	f.must("Copy", err)
	f.rule(len(done.To) == len(bodies), "the destination may be the mailbox itself", "%v", done.To)
	f.copied(before, bodies, mb, done)
	f.rule(int(f.state(mb).Messages) == 2*len(bodies), "a copy into the mailbox itself doubles it", "%d messages", f.state(mb).Messages)
}

func testMoveToItself(f *fixture) {
	mb, before, bodies := f.source()
	done, err := mb.Copy(f.ctx, imap.AllUIDs, imap.Inbox, true)
	f.must("Copy with move", err)
	f.copied(before, bodies, mb, done)
	after := f.look(mb)
	f.rule(slices.Equal(after.uids(), done.To), "a move into the mailbox itself gives its messages new UIDs", "%v, want %v", after.uids(), done.To)
	f.rule(len(done.To) == len(bodies), "a move into the mailbox itself loses nothing", "%d of %d", len(done.To), len(bodies))
}

func testCopyNowhere(f *fixture) {
	mb, before, _ := f.source()
	f.create(f.store, "level/box")
	for _, dst := range []string{"nowhere", "level"} {
		if info := f.list(f.store)[dst]; dst == "level" && !info.NoSelect {
			continue
		}
		for _, move := range []bool{false, true} {
			_, err := mb.Copy(f.ctx, imap.AllUIDs, dst, move)
			f.wantErr(imap.ErrNoMailbox, err, "Copy to what is no mailbox is ErrNoMailbox")
		}
	}
	f.same(before, f.look(mb), "a Copy that fails changes nothing")
	_, there := f.list(f.store)["nowhere"]
	f.rule(!there, "Copy makes no mailbox", "it made one")
}

func testCopyNothing(f *fixture) {
	mb, before, _ := f.source()
	f.create(f.store, "dst")
	dst := f.box(f.store, "dst")
	st := f.state(dst)
	for _, s := range []imap.UIDSet{nil, set(before.state.UIDNext + 5)} {
		for _, move := range []bool{false, true} {
			done, err := mb.Copy(f.ctx, s, "dst", move)
			f.must("Copy of nothing", err)
			f.rule(len(done.From) == 0 && len(done.To) == 0, "Copied is empty when nothing of the set was there", "%+v", done)
		}
	}
	f.rule(f.state(dst).Messages == st.Messages && f.state(dst).UIDNext == st.UIDNext, "a Copy of nothing changes nothing", "%+v, was %+v", f.state(dst), st)
}

func testCopyDates(f *fixture) {
	mb, before, _ := f.source()
	f.create(f.store, "dst")
	start := time.Now()
	done, err := mb.Copy(f.ctx, imap.AllUIDs, "dst", false)
	f.must("Copy", err)
	after := f.look(f.box(f.store, "dst"))
	for i, uid := range done.To {
		m := after.msgs[uid]
		f.rule(m.SaveDate.IsZero() || near(m.SaveDate, start, time.Now()), "SaveDate of a copy is when it was copied (RFC 8514)", "%v", m.SaveDate)
		f.rule(m.ID == before.msgs[done.From[i]].ID, "a copy has the id of its original (RFC 8474, 5.1)", "%q, want %q", m.ID, before.msgs[done.From[i]].ID)
	}
}

func testCopyMany(f *fixture) {
	mb := f.inbox()
	uids := f.fill(mb, 300)
	f.create(f.store, "dst")
	done, err := mb.Copy(f.ctx, imap.AllUIDs, "dst", true)
	f.must("Copy with move", err)
	dst := f.box(f.open(), "dst")
	f.rule(len(done.To) == len(uids) && int(f.state(dst).Messages) == len(uids), "a move moves all", "%d of %d", len(done.To), len(uids))
	f.rule(f.state(mb).Messages == 0, "a move takes the originals away", "%d left", f.state(mb).Messages)
	for i := range done.To {
		f.rule(f.read(dst, done.To[i]) == mail("message "+itoa(int(done.From[i]-uids[0]))), "Copied.From[i] became Copied.To[i]", "uid %d", done.To[i])
	}
}

func testCopySurvives(f *fixture) {
	mb, before, bodies := f.source()
	f.create(f.store, "dst")
	done, err := mb.Copy(f.ctx, imap.AllUIDs, "dst", true)
	f.must("Copy with move", err)
	s := f.open()
	f.copied(before, bodies, f.box(s, "dst"), done)
	f.rule(f.state(f.box(s, imap.Inbox)).Messages == 0, "a move survives reopening", "originals are back")
}
