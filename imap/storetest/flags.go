package storetest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/mailblocks/mailblocks/imap"
)

var flagTests = map[string]func(*fixture){
	"Operations":      testFlagOps,
	"Keywords":        testKeywords,
	"ManyKeywords":    testManyKeywords,
	"SeenByOthers":    testFlagsSeenByOthers,
	"ModSeq":          testFlagModSeq,
	"UnchangedSince":  testUnchangedSince,
	"MissingUIDs":     testFlagsOfMissing,
	"HugeSet":         testHugeSet,
	"SurviveClose":    testFlagsSurvive,
	"OperationsAgree": testFlagOpsMerge,
}

func testFlagOps(f *fixture) {
	a, b := f.twice()
	uids := f.fill(a, 3)
	flagsOf := func(uid imap.UID) imap.Flags { return f.look(b).msgs[uid].Flags }
	f.setFlags(a, set(uids[0], uids[1]), imap.FlagsAdd, imap.FlagSeen, imap.FlagFlagged)
	f.rule(flagsOf(uids[0]).Equal(imap.NewFlags(imap.FlagSeen, imap.FlagFlagged)), "FlagsAdd adds", "got %v", flagsOf(uids[0]))
	f.rule(flagsOf(uids[2]).Len() == 0, "SetFlags leaves other messages alone", "got %v", flagsOf(uids[2]))
	f.setFlags(b, set(uids[0]), imap.FlagsAdd, imap.FlagDeleted)
	f.rule(flagsOf(uids[0]).Equal(imap.NewFlags(imap.FlagSeen, imap.FlagFlagged, imap.FlagDeleted)), "FlagsAdd keeps what was there", "got %v", flagsOf(uids[0]))
	f.setFlags(a, set(uids[0]), imap.FlagsRemove, imap.FlagSeen, imap.FlagDraft)
	f.rule(flagsOf(uids[0]).Equal(imap.NewFlags(imap.FlagFlagged, imap.FlagDeleted)), "FlagsRemove removes what is there", "got %v", flagsOf(uids[0]))
	f.setFlags(a, set(uids[0]), imap.FlagsReplace, imap.FlagAnswered, imap.FlagDraft)
	f.rule(flagsOf(uids[0]).Equal(imap.NewFlags(imap.FlagAnswered, imap.FlagDraft)), "FlagsReplace replaces all", "got %v", flagsOf(uids[0]))
	f.setFlags(a, set(uids[0]), imap.FlagsReplace)
	f.rule(flagsOf(uids[0]).Len() == 0, "FlagsReplace with nothing clears all", "got %v", flagsOf(uids[0]))
	f.rule(flagsOf(uids[1]).Equal(imap.NewFlags(imap.FlagSeen, imap.FlagFlagged)), "SetFlags leaves other messages alone", "got %v", flagsOf(uids[1]))
}

func testKeywords(f *fixture) {
	a, b := f.twice()
	if f.state(a).NoNewKeywords {
		f.Skip("the store keeps no keywords")
	}
	uids := f.fill(a, 2)
	f.setFlags(a, set(uids[0]), imap.FlagsAdd, "$Forwarded", "NonJunk", imap.FlagSeen)
	got := f.look(b).msgs[uids[0]].Flags
	f.rule(got.Equal(imap.NewFlags("$Forwarded", "NonJunk", imap.FlagSeen)), "keywords are flags like others", "got %v", got)
	before := f.look(a)
	f.setFlags(b, set(uids[0]), imap.FlagsAdd, "nonjunk", "$FORWARDED")
	after := f.look(a)
	f.rule(after.msgs[uids[0]].Flags.Equal(before.msgs[uids[0]].Flags), "keywords compare without regard to case", "got %v", after.msgs[uids[0]].Flags)
	f.rule(slices.Contains(after.state.Keywords, "NonJunk"), "the spelling first seen in a mailbox is kept", "State.Keywords is %q", after.state.Keywords)
	f.setFlags(b, set(uids[0]), imap.FlagsRemove, "nonjunk")
	got = f.look(a).msgs[uids[0]].Flags
	f.rule(got.Equal(imap.NewFlags("$Forwarded", imap.FlagSeen)), "FlagsRemove removes a keyword, in any case", "got %v", got)
}

func testManyKeywords(f *fixture) {
	mb := f.inbox()
	if f.state(mb).NoNewKeywords {
		f.Skip("the store keeps no keywords")
	}
	uids := f.fill(mb, 100)
	var taken int
	for i, uid := range uids {
		_, err := mb.SetFlags(f.ctx, set(uid), imap.FlagOp{Flags: imap.NewFlags(imap.Flag(fmt.Sprintf("keyword-%d", i)))}, 0)
		if err != nil {
			f.rule(errors.Is(err, imap.ErrLimit), "a keyword too many is ErrLimit", "keyword %d: %v", i, err)
			f.Logf("the store keeps %d keywords", taken)
			break
		}
		taken++
	}
	v := f.look(f.box(f.open(), imap.Inbox))
	for i, uid := range uids {
		want := imap.Flags{}
		if i < taken {
			want = imap.NewFlags(imap.Flag(fmt.Sprintf("keyword-%d", i)))
		}
		f.rule(v.msgs[uid].Flags.Equal(want), "keywords stay with their messages", "uid %d has %v, want %v", uid, v.msgs[uid].Flags, want)
	}
}

func testFlagsSeenByOthers(f *fixture) {
	a, b := f.twice()
	uids := f.fill(a, 3)
	v := f.look(b)
	f.setFlags(a, set(uids[1]), imap.FlagsAdd, imap.FlagDeleted)
	d, err := b.Changes(f.ctx, v.state.HighestModSeq)
	f.must("Changes", err)
	var got []imap.UID
	for m, err := range d.Messages {
		f.must("Changes: Messages", err)
		got = append(got, m.UID)
	}
	f.rule(slices.Equal(got, uids[1:2]), "Changes since the last ones tells what SetFlags changed, and only that", "got %v, want %v", got, uids[1:2])
	f.rule(d.State.Deleted == 1, "State counts what SetFlags changed", "Deleted is %d", d.State.Deleted)
}

func testFlagModSeq(f *fixture) {
	a, b := f.twice()
	uids := f.fill(a, 2)
	before := f.look(a)
	f.setFlags(a, set(uids[0]), imap.FlagsAdd, imap.FlagSeen)
	after := f.look(b)
	f.rule(after.state.HighestModSeq > before.state.HighestModSeq, "a change of flags raises HighestModSeq", "it stayed %d", after.state.HighestModSeq)
	f.rule(after.msgs[uids[0]].ModSeq > before.state.HighestModSeq, "a change of flags gives the message a new ModSeq", "%d, HighestModSeq was %d", after.msgs[uids[0]].ModSeq, before.state.HighestModSeq)
	f.rule(after.msgs[uids[1]].ModSeq == before.msgs[uids[1]].ModSeq, "a message that nobody changed keeps its ModSeq", "from %d to %d", before.msgs[uids[1]].ModSeq, after.msgs[uids[1]].ModSeq)
	for _, op := range []imap.FlagOp{
		{Action: imap.FlagsAdd, Flags: imap.NewFlags(imap.FlagSeen)},
		{Action: imap.FlagsRemove, Flags: imap.NewFlags(imap.FlagFlagged, "never-set")},
		{Action: imap.FlagsReplace, Flags: imap.NewFlags(imap.FlagSeen)},
	} {
		_, err := b.SetFlags(f.ctx, set(uids[0]), op, 0)
		f.must("SetFlags", err)
		again := f.look(a)
		f.rule(again.msgs[uids[0]].ModSeq == after.msgs[uids[0]].ModSeq, "a message that an operation does not change keeps its ModSeq", "%v on %v: from %d to %d", op, after.msgs[uids[0]].Flags, after.msgs[uids[0]].ModSeq, again.msgs[uids[0]].ModSeq)
	}
}

func testUnchangedSince(f *fixture) {
	a, b := f.twice()
	uids := f.fill(a, 4)
	known := f.state(a).HighestModSeq
	f.setFlags(b, set(uids[1], uids[3]), imap.FlagsAdd, imap.FlagSeen)
	op := imap.FlagOp{Action: imap.FlagsReplace, Flags: imap.NewFlags(imap.FlagFlagged)}
	conflict, err := a.SetFlags(f.ctx, set(uids...), op, known)
	f.must("SetFlags", err)
	f.rule(conflict.String() == set(uids[1], uids[3]).String(), "SetFlags returns as conflict the messages with a greater ModSeq than unchangedSince", "got %v, want %v", conflict, set(uids[1], uids[3]))
	v := f.look(b)
	for i, uid := range uids {
		want := imap.NewFlags(imap.FlagFlagged)
		if i%2 == 1 {
			want = imap.NewFlags(imap.FlagSeen)
		}
		f.rule(v.msgs[uid].Flags.Equal(want), "SetFlags leaves conflicting messages alone and changes the others", "uid %d has %v, want %v", uid, v.msgs[uid].Flags, want)
	}
	conflict, err = a.SetFlags(f.ctx, set(uids...), op, v.state.HighestModSeq)
	f.must("SetFlags", err)
	f.rule(len(conflict) == 0, "a message with exactly unchangedSince is no conflict", "got %v", conflict)
	f.rule(f.look(b).msgs[uids[1]].Flags.Equal(imap.NewFlags(imap.FlagFlagged)), "a message with exactly unchangedSince is changed", "it is not")
}

func testFlagsOfMissing(f *fixture) {
	mb := f.inbox()
	uids := f.fill(mb, 3)
	f.must("Expunge", mb.Expunge(f.ctx, set(uids[1]), false))
	before := f.look(mb)
	conflict, err := mb.SetFlags(f.ctx, set(uids[1], uids[2]+100), imap.FlagOp{Flags: imap.NewFlags(imap.FlagSeen)}, 1)
	f.must("SetFlags of UIDs that are not there", err)
	f.rule(len(conflict) == 0, "UIDs that are not there are no conflict", "got %v", conflict)
	f.same(before, f.look(mb), "SetFlags passes over UIDs that are not there")
}

func testHugeSet(f *fixture) {
	mb := f.inbox()
	uids := f.fill(mb, 3)
	f.setFlags(mb, imap.AllUIDs, imap.FlagsAdd, imap.FlagSeen)
	f.rule(f.state(mb).Unseen == 0, "a set may be far larger than the mailbox", "%d messages are unseen", f.state(mb).Unseen)
	done, err := mb.Copy(f.ctx, imap.UIDSet{{First: uids[1], Last: 1<<32 - 1}}, imap.Inbox, false)
	f.must("Copy", err)
	f.rule(slices.Equal(done.From, uids[1:]), "a set may be far larger than the mailbox", "copied %v, want %v", done.From, uids[1:])
	f.must("Expunge", mb.Expunge(f.ctx, imap.AllUIDs, false))
	f.rule(f.state(mb).Messages == 0, "a set may be far larger than the mailbox", "%d messages are left", f.state(mb).Messages)
}

func testFlagsSurvive(f *fixture) {
	s, err := f.reopen()
	f.must("open the storage", err)
	mb, err := s.Open(f.ctx, imap.Inbox)
	f.must("open the Inbox", err)
	uids := f.fill(mb, 3)
	f.setFlags(mb, set(uids[0]), imap.FlagsAdd, imap.FlagSeen, imap.FlagDeleted)
	if !f.state(mb).NoNewKeywords {
		f.setFlags(mb, set(uids[1]), imap.FlagsAdd, "a-keyword", imap.FlagDraft)
	}
	f.setFlags(mb, set(uids[0]), imap.FlagsRemove, imap.FlagDeleted)
	before := f.look(mb)
	f.must("close the mailbox", mb.Close())
	f.must("close the store", s.Close())
	f.same(before, f.look(f.box(f.open(), imap.Inbox)), "flags and mod-sequences survive reopening")
}

// Two handles change different flags in turn: neither loses the other's change.
func testFlagOpsMerge(f *fixture) {
	a, b := f.twice()
	uid := f.fill(a, 1)[0]
	va, vb := f.look(a), f.look(b)
	f.setFlags(a, set(uid), imap.FlagsAdd, imap.FlagSeen)
	f.setFlags(b, set(uid), imap.FlagsAdd, imap.FlagFlagged)
	f.setFlags(a, set(uid), imap.FlagsRemove, imap.FlagDraft)
	f.setFlags(b, set(uid), imap.FlagsAdd, imap.FlagAnswered)
	f.setFlags(a, set(uid), imap.FlagsRemove, imap.FlagAnswered)
	want := imap.NewFlags(imap.FlagSeen, imap.FlagFlagged)
	for _, h := range []struct {
		mb imap.Mailbox
		v  *view
	}{{a, va}, {b, vb}} {
		f.update(h.mb, h.v)
		got := h.v.msgs[uid].Flags
		f.rule(got.Equal(want), "an operation is applied to the flags there are, not to those the handle last saw", "got %v, want %v", got, want)
	}
}
