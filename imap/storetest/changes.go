package storetest

import (
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/mailblocks/mailblocks/imap"
)

var changesTests = map[string]func(*fixture){
	"OneView":       testOneView,
	"StopEarly":     testStopEarly,
	"AheadOfTime":   testChangesAhead,
	"Nothing":       testNoChanges,
	"RandomHistory": testRandomHistory,
}

func itoa(n int) string { return strconv.Itoa(n) }

// A Delta shows the mailbox as of its State, whatever happens while it is read.
func testOneView(f *fixture) {
	a, b := f.twice()
	uids := f.fill(a, 20)
	d, err := a.Changes(f.ctx, 0)
	f.must("Changes", err)
	v := &view{state: d.State, msgs: make(map[imap.UID]imap.Message)}
	for m, err := range d.Messages {
		f.must("Changes: Messages", err)
		v.msgs[m.UID] = m
		if len(v.msgs) == 3 {
			f.must("Expunge", b.Expunge(f.ctx, set(uids[0], uids[10]), false))
			f.setFlags(b, set(uids[12]), imap.FlagsAdd, imap.FlagSeen)
			f.fill(b, 2)
		}
	}
	f.rule(slices.Equal(v.uids(), uids), "Changes shows the mailbox as of State whatever happens meanwhile", "got %v, want %v", v.uids(), uids)
	f.rule(v.msgs[uids[12]].Flags.Len() == 0, "Changes shows the mailbox as of State whatever happens meanwhile", "uid %d has %v", uids[12], v.msgs[uids[12]].Flags)
	f.consistent(v)
	f.update(a, v)
	f.same(v, f.look(b), "Changes since a State tells all that came after it")
}

func testStopEarly(f *fixture) {
	mb := f.inbox()
	f.fill(mb, 5)
	for range 3 {
		d, err := mb.Changes(f.ctx, 0)
		f.must("Changes", err)
		for range d.Messages {
			break
		}
	}
	// A Delta whose messages nobody reads must hold nothing either.
	_, err := mb.Changes(f.ctx, 0)
	f.must("Changes", err)
	f.fill(mb, 1)
	f.rule(f.state(mb).Messages == 6, "a Delta may be read in part or not at all", "%d messages", f.state(mb).Messages)
}

func testChangesAhead(f *fixture) {
	mb := f.inbox()
	f.fill(mb, 2)
	d, err := mb.Changes(f.ctx, f.state(mb).HighestModSeq+1000)
	f.must("Changes since the future", err)
	for m := range d.Messages {
		f.rule(false, "a since ahead of HighestModSeq gives nothing", "uid %d", m.UID)
	}
	f.rule(d.State.Messages == 2, "State is told whatever since is", "%+v", d.State)
}

func testNoChanges(f *fixture) {
	mb := f.inbox()
	f.fill(mb, 2)
	v := f.look(mb)
	d, err := mb.Changes(f.ctx, v.state.HighestModSeq)
	f.must("Changes", err)
	for m := range d.Messages {
		f.rule(false, "Changes since HighestModSeq yields nothing", "uid %d", m.UID)
	}
	for _, uid := range v.uids() {
		f.rule(!d.Gone.Contains(uid), "Gone holds no UID that is there", "uid %d", uid)
	}
}

// testRandomHistory runs one random history through several handles, beside a model, with
// views that catch up at random moments.
func testRandomHistory(f *fixture) {
	type expected struct {
		flags imap.Flags
		body  string
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	a, b := f.twice()
	handles := []imap.Mailbox{a, b, f.box(f.open(), imap.Inbox)}
	views := make([]*view, 6)
	for i := range views {
		views[i] = f.look(handles[i%len(handles)])
	}
	model := make(map[imap.UID]expected)
	flags := []imap.Flag{imap.FlagSeen, imap.FlagDeleted, imap.FlagFlagged, imap.FlagAnswered, imap.FlagDraft}
	if !f.state(a).NoNewKeywords {
		flags = append(flags, "$Junk", "work", "later")
	}
	someFlags := func() imap.Flags {
		var out imap.Flags
		for range rnd.IntN(3) {
			out = out.With(flags[rnd.IntN(len(flags))])
		}
		return out
	}
	someUIDs := func() imap.UIDSet {
		var s imap.UIDSet
		for uid := range model {
			if rnd.IntN(4) == 0 {
				s.Add(uid)
			}
		}
		s.Add(imap.UID(1 + rnd.IntN(500)))
		return s
	}
	for step := range 250 {
		mb := handles[rnd.IntN(len(handles))]
		switch rnd.IntN(10) {
		case 0, 1, 2, 3:
			fl := someFlags()
			body := mail("step " + itoa(step))
			model[f.append(mb, fl, body)[0]] = expected{fl, body}
		case 4, 5, 6:
			op := imap.FlagOp{Action: imap.FlagAction(rnd.IntN(3)), Flags: someFlags()}
			s := someUIDs()
			_, err := mb.SetFlags(f.ctx, s, op, 0)
			f.must("SetFlags", err)
			for uid, m := range model {
				if s.Contains(uid) {
					model[uid] = expected{op.Apply(m.flags), m.body}
				}
			}
		case 7:
			s := someUIDs()
			f.must("Expunge", mb.Expunge(f.ctx, s, true))
			for uid, m := range model {
				if s.Contains(uid) && m.flags.Has(imap.FlagDeleted) {
					delete(model, uid)
				}
			}
		case 8:
			if rnd.IntN(3) != 0 {
				break
			}
			done, err := mb.Copy(f.ctx, someUIDs(), imap.Inbox, rnd.IntN(2) == 0)
			f.must("Copy", err)
			left := f.look(mb)
			for i, uid := range done.To {
				model[uid] = model[done.From[i]]
			}
			for _, uid := range done.From {
				if _, still := left.msgs[uid]; !still {
					delete(model, uid)
				}
			}
		default:
			i := rnd.IntN(len(views))
			f.update(handles[rnd.IntN(len(handles))], views[i])
		}
	}
	for i, v := range views {
		mb := handles[i%len(handles)]
		f.update(mb, v)
		f.rule(len(v.msgs) == len(model), "Changes, applied one after the other, give the mailbox", "view %d has %d messages, want %d", i, len(v.msgs), len(model))
		for uid, want := range model {
			got, there := v.msgs[uid]
			f.rule(there && got.Flags.Equal(want.flags), "Changes, applied one after the other, give the mailbox", "view %d: uid %d has %v, want %v", i, uid, got.Flags, want.flags)
		}
		f.same(v, f.look(mb), "Changes, applied one after the other, give what Changes since 0 gives")
	}
	for uid, want := range model {
		f.rule(f.read(a, uid) == want.body, "a UID stands for one message for ever", "uid %d", uid)
	}
}
