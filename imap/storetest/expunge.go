package storetest

import (
	"errors"
	"slices"

	"github.com/mailblocks/mailblocks/imap"
)

var expungeTests = map[string]func(*fixture){
	"OnlyDeleted":    testExpungeOnlyDeleted,
	"Any":            testExpungeAny,
	"NoReuse":        testNoReuse,
	"BodyStays":      testBodyStays,
	"Tells":          testExpungeTells,
	"SurvivesReopen": testExpungeSurvives,
}

func testExpungeOnlyDeleted(f *fixture) {
	a, b := f.twice()
	uids := f.fill(a, 5)
	f.setFlags(a, set(uids[0], uids[1], uids[3]), imap.FlagsAdd, imap.FlagDeleted)
	// Another handle takes a mark back before the Expunge.
	f.setFlags(b, set(uids[3]), imap.FlagsRemove, imap.FlagDeleted)
	f.must("Expunge", a.Expunge(f.ctx, set(uids[1], uids[2], uids[3], uids[4]+50), true))
	want := []imap.UID{uids[0], uids[2], uids[3], uids[4]}
	for _, mb := range []imap.Mailbox{a, b} {
		got := f.look(mb).uids()
		f.rule(slices.Equal(got, want), "Expunge with onlyDeleted removes what is in the set and has \\Deleted at that moment", "left %v, want %v", got, want)
	}
	f.must("Expunge", a.Expunge(f.ctx, imap.AllUIDs, true))
	f.rule(f.state(b).Messages == 3, "Expunge of all with onlyDeleted leaves what is not \\Deleted", "%d left, want 3", f.state(b).Messages)
}

func testExpungeAny(f *fixture) {
	mb := f.inbox()
	uids := f.fill(mb, 4)
	f.must("Expunge", mb.Expunge(f.ctx, set(uids[0], uids[2]), false))
	got := f.look(mb).uids()
	f.rule(slices.Equal(got, []imap.UID{uids[1], uids[3]}), "Expunge without onlyDeleted removes the messages of the set", "left %v", got)
	before := f.look(mb)
	f.must("Expunge again", mb.Expunge(f.ctx, set(uids[0], uids[2]), false))
	f.same(before, f.look(mb), "Expunge passes over UIDs that are not there")
}

func testNoReuse(f *fixture) {
	highest := imap.UID(0)
	for range 3 {
		s, err := f.reopen()
		f.must("open the storage", err)
		mb, err := s.Open(f.ctx, imap.Inbox)
		f.must("open the Inbox", err)
		uids := f.fill(mb, 3)
		f.rule(uids[0] > highest, "UIDs are never reused, also after an expunge of the last message and a reopen", "%d after %d", uids[0], highest)
		highest = uids[2]
		f.must("Expunge", mb.Expunge(f.ctx, set(uids[1], uids[2]), false))
		st := f.state(mb)
		f.rule(st.UIDNext > highest, "UIDNext does not fall when the last message is expunged", "%d, had %d", st.UIDNext, highest)
		f.must("close the mailbox", mb.Close())
		f.must("close the store", s.Close())
	}
	mb := f.inbox()
	f.must("Expunge", mb.Expunge(f.ctx, imap.AllUIDs, false))
	st := f.state(f.box(f.open(), imap.Inbox))
	f.rule(st.UIDNext > highest, "UIDNext survives the expunge of all messages", "%d, had %d", st.UIDNext, highest)
}

func testBodyStays(f *fixture) {
	a, b := f.twice()
	big := oddBodies["1 MiB"]
	uids := f.append(a, imap.Flags{}, big, mail("small"))
	body, err := a.Body(f.ctx, uids[0])
	f.must("Body", err)
	first := make([]byte, 100)
	_, err = body.ReadAt(first, 0)
	f.must("ReadAt", err)
	f.must("Expunge", b.Expunge(f.ctx, imap.AllUIDs, false))
	f.rule(f.readAll(body) == big, "a Body stays readable after its message is expunged", "it differs")
	_, err = b.Body(f.ctx, uids[1])
	f.wantErr(imap.ErrExpunged, err, "Body of an expunged message is ErrExpunged")
	_, err = a.Body(f.ctx, uids[1])
	f.wantErr(imap.ErrExpunged, err, "Body of a message expunged by another handle is ErrExpunged")
	mb, err := f.store.Open(f.ctx, imap.Inbox)
	f.must("Open", err)
	other := f.append(mb, imap.Flags{}, mail("other"))
	late, err := mb.Body(f.ctx, other[0])
	f.must("Body", err)
	f.must("close the mailbox", mb.Close())
	f.rule(f.readAll(late) == mail("other"), "a Body stays readable after its mailbox is closed", "it differs")
	f.must("close a body", late.Close())
	f.must("close a body", body.Close())
}

func testExpungeTells(f *fixture) {
	a, b := f.twice()
	uids := f.fill(a, 5)
	v := f.look(b)
	f.must("Expunge", a.Expunge(f.ctx, set(uids[1], uids[4]), false))
	d, err := b.Changes(f.ctx, v.state.HighestModSeq)
	if errors.Is(err, imap.ErrTooOld) {
		f.Skip("the store remembers no expunges at all")
	}
	f.must("Changes", err)
	f.rule(d.State.HighestModSeq > v.state.HighestModSeq, "an Expunge raises HighestModSeq", "it stayed %d", d.State.HighestModSeq)
	for i, uid := range uids {
		gone := i == 1 || i == 4
		f.rule(d.Gone.Contains(uid) == gone, "Gone holds what was expunged after since, and nothing that is there", "uid %d in Gone: %v", uid, d.Gone.Contains(uid))
	}
	for m, err := range d.Messages {
		f.must("Changes: Messages", err)
		f.rule(false, "Changes yields only what changed after since", "uid %d", m.UID)
	}
}

func testExpungeSurvives(f *fixture) {
	s, err := f.reopen()
	f.must("open the storage", err)
	mb, err := s.Open(f.ctx, imap.Inbox)
	f.must("open the Inbox", err)
	uids := f.fill(mb, 4)
	known := f.look(mb)
	f.must("Expunge", mb.Expunge(f.ctx, set(uids[1]), false))
	before := f.look(mb)
	f.must("close the mailbox", mb.Close())
	f.must("close the store", s.Close())
	mb = f.box(f.open(), imap.Inbox)
	f.same(before, f.look(mb), "an Expunge survives reopening")
	f.update(mb, known) // by the delta since before the expunge, or ErrTooOld
	f.same(before, known, "Changes since before a reopen tells what happened")
}
