package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

// Open opens a storage once more: the Stores it returns all stand on the same mail, at once
// or one after the other, and know of each other only through the storage.
type Open func() (imap.Store, error)

// Test runs the suite. New makes an empty storage for one subtest, which cleans up with t.
func Test(t *testing.T, newStorage func(t testing.TB) Open) {
	groups := []struct {
		name  string
		tests map[string]func(*fixture)
	}{
		{"Names", nameTests},
		{"Append", appendTests},
		{"Flags", flagTests},
		{"Expunge", expungeTests},
		{"Copy", copyTests},
		{"Changes", changesTests},
		{"Handles", handleTests},
		{"Concurrent", concurrentTests},
		{"Upgrades", upgradeTests},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, name := range slices.Sorted(keys(g.tests)) {
				t.Run(name, func(t *testing.T) {
					f := &fixture{T: t, ctx: t.Context(), reopen: newStorage(t)}
					f.store = f.open()
					g.tests[name](f)
				})
			}
		})
	}
}

func keys[V any](m map[string]V) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// fixture is one subtest on an empty storage, with one Store open on it.
type fixture struct {
	*testing.T
	ctx    context.Context
	reopen Open
	store  imap.Store
}

// open opens the storage once more, until the subtest ends.
func (f *fixture) open() imap.Store {
	f.Helper()
	s, err := f.reopen()
	if err != nil {
		f.Fatalf("open the storage: %v", err)
	}
	f.Cleanup(func() {
		if err := s.Close(); err != nil {
			f.Errorf("close the store: %v", err)
		}
	})
	return s
}

// box opens a mailbox of s until the subtest ends, making it if need be.
func (f *fixture) box(s imap.Store, name string) imap.Mailbox {
	f.Helper()
	mb, err := s.Open(f.ctx, name)
	if errors.Is(err, imap.ErrNoMailbox) || errors.Is(err, imap.ErrNotSelectable) {
		f.must("create "+name, s.Create(f.ctx, name, nil))
		mb, err = s.Open(f.ctx, name)
	}
	f.must("open "+name, err)
	f.Cleanup(func() {
		if err := mb.Close(); err != nil {
			f.Errorf("close mailbox %s: %v", name, err)
		}
	})
	return mb
}

// inbox opens the Inbox of the fixture's store.
func (f *fixture) inbox() imap.Mailbox { f.Helper(); return f.box(f.store, imap.Inbox) }

// twice opens the Inbox through two Stores.
func (f *fixture) twice() (a, b imap.Mailbox) {
	f.Helper()
	return f.inbox(), f.box(f.open(), imap.Inbox)
}

func (f *fixture) must(what string, err error) {
	f.Helper()
	if err != nil {
		f.Fatalf("%s: %v", what, err)
	}
}

// rule fails the test, with the rule's words first, unless ok.
func (f *fixture) rule(ok bool, rule, format string, args ...any) {
	f.Helper()
	if !ok {
		f.Errorf("rule broken: %s\n\t%s", rule, fmt.Sprintf(format, args...))
	}
}

// wantErr checks that err is want.
func (f *fixture) wantErr(want, err error, rule string) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Errorf("rule broken: %s\n\tgot error %v, want %v", rule, err, want)
	}
}

func (f *fixture) state(mb imap.Mailbox) imap.State {
	f.Helper()
	st, err := mb.State(f.ctx)
	f.must("State", err)
	return st
}

// append stores one message for each body and returns their UIDs.
func (f *fixture) append(mb imap.Mailbox, flags imap.Flags, bodies ...string) []imap.UID {
	f.Helper()
	var msgs []imap.NewMessage
	for _, b := range bodies {
		msgs = append(msgs, imap.NewMessage{Flags: flags, Body: strings.NewReader(b), Size: int64(len(b))})
	}
	done, err := mb.Append(f.ctx, msgs)
	f.must("Append", err)
	f.rule(len(done.UIDs) == len(bodies), "AppendResult has one UID for each message", "%d UIDs for %d messages", len(done.UIDs), len(bodies))
	f.rule(slices.IsSorted(done.UIDs), "Append gives ascending UIDs in the order of its messages", "got %v", done.UIDs)
	if len(done.UIDs) != len(bodies) {
		f.FailNow()
	}
	return done.UIDs
}

// fill appends n small messages.
func (f *fixture) fill(mb imap.Mailbox, n int) []imap.UID {
	f.Helper()
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = mail(fmt.Sprintf("message %d", i))
	}
	return f.append(mb, imap.Flags{}, bodies...)
}

func mail(subject string) string {
	return "From: a@example.org\r\nSubject: " + subject + "\r\n\r\nThe body of " + subject + ".\r\n"
}

// read returns the octets of a message.
func (f *fixture) read(mb imap.Mailbox, uid imap.UID) string {
	f.Helper()
	body, err := mb.Body(f.ctx, uid)
	f.must(fmt.Sprintf("Body of uid %d", uid), err)
	defer body.Close()
	return f.readAll(body)
}

func (f *fixture) readAll(body imap.Body) string {
	f.Helper()
	var b bytes.Buffer
	_, err := b.ReadFrom(io.NewSectionReader(body, 0, body.Size()))
	f.must("read a body", err)
	return b.String()
}

func (f *fixture) setFlags(mb imap.Mailbox, set imap.UIDSet, action imap.FlagAction, flags ...imap.Flag) {
	f.Helper()
	_, err := mb.SetFlags(f.ctx, set, imap.FlagOp{Action: action, Flags: imap.NewFlags(flags...)}, 0)
	f.must("SetFlags", err)
}

// view is what Changes tells: a mailbox's messages as a server would know them.
type view struct {
	state imap.State
	msgs  map[imap.UID]imap.Message
}

// look returns everything there is in mb, checked for agreement with itself.
func (f *fixture) look(mb imap.Mailbox) *view {
	f.Helper()
	v := &view{msgs: make(map[imap.UID]imap.Message)}
	f.update(mb, v)
	return v
}

// update brings v up to date with mb and checks the delta on the way.
func (f *fixture) update(mb imap.Mailbox, v *view) {
	f.Helper()
	since, next := v.state.HighestModSeq, v.state.UIDNext
	d, err := mb.Changes(f.ctx, since)
	if errors.Is(err, imap.ErrTooOld) && since != 0 {
		f.Logf("Changes since %d: %v", since, err)
		*v = *f.look(mb)
		return
	}
	f.must("Changes", err)
	f.rule(d.State.HighestModSeq >= since, "HighestModSeq never falls", "from %d to %d", since, d.State.HighestModSeq)
	f.rule(d.State.UIDNext >= next, "UIDNext never falls", "from %d to %d", next, d.State.UIDNext)
	for uid := range v.msgs {
		if d.Gone.Contains(uid) {
			delete(v.msgs, uid)
		}
	}
	var last imap.UID
	for m, err := range d.Messages {
		f.must("Changes: Messages", err)
		f.rule(m.UID > last, "Changes yields messages by ascending UID, each once", "%d after %d", m.UID, last)
		f.rule(m.UID < d.State.UIDNext, "UIDNext is greater than any UID there", "uid %d, UIDNext %d", m.UID, d.State.UIDNext)
		f.rule(m.ModSeq > since, "Changes yields only what changed after since", "uid %d has ModSeq %d, since %d", m.UID, m.ModSeq, since)
		f.rule(m.ModSeq <= d.State.HighestModSeq, "HighestModSeq is at least that of each message", "uid %d has %d, highest is %d", m.UID, m.ModSeq, d.State.HighestModSeq)
		f.rule(!d.Gone.Contains(m.UID), "Gone holds no UID that is there", "uid %d", m.UID)
		last = m.UID
		if old, known := v.msgs[m.UID]; known {
			f.rule(m.ModSeq >= old.ModSeq, "a message's ModSeq never falls", "uid %d from %d to %d", m.UID, old.ModSeq, m.ModSeq)
			f.rule(m.Size == old.Size && m.InternalDate.Equal(old.InternalDate), "only flags of a message change", "uid %d from %+v to %+v", m.UID, old, m)
		} else if v.state.UIDNext != 0 {
			f.rule(m.UID >= next, "UIDs rise in order of arrival", "uid %d arrived after UIDNext was %d", m.UID, next)
		}
		v.msgs[m.UID] = m
	}
	v.state = d.State
	f.consistent(v)
}

// consistent checks the counts of the state against the messages.
func (f *fixture) consistent(v *view) {
	f.Helper()
	var unseen, deleted uint32
	var size int64
	for _, m := range v.msgs {
		size += m.Size
		if m.Flags.System()&imap.Seen == 0 {
			unseen++
		}
		if m.Flags.System()&imap.Deleted != 0 {
			deleted++
		}
		for _, k := range m.Flags.Keywords() {
			f.rule(slices.ContainsFunc(v.state.Keywords, func(x string) bool { return strings.EqualFold(x, k) }),
				"State.Keywords has every keyword in use", "uid %d has %s, State has %q", m.UID, k, v.state.Keywords)
		}
	}
	st := v.state
	f.rule(int(st.Messages) == len(v.msgs), "State.Messages is what Changes tells in all", "%d, but %d messages", st.Messages, len(v.msgs))
	f.rule(st.Unseen == unseen, "State.Unseen counts messages without \\Seen", "%d, but %d messages", st.Unseen, unseen)
	f.rule(st.Deleted == deleted, "State.Deleted counts messages with \\Deleted", "%d, but %d messages", st.Deleted, deleted)
	f.rule(st.Size == size, "State.Size is the sum of the messages' sizes", "%d, but they sum up to %d", st.Size, size)
	f.rule(st.UIDValidity != 0, "UIDVALIDITY is not zero", "it is")
	f.rule(st.UIDNext != 0, "UIDNext is not zero", "it is")
}

// same checks that two views agree.
func (f *fixture) same(a, b *view, rule string) {
	f.Helper()
	f.rule(a.state.HighestModSeq == b.state.HighestModSeq && a.state.UIDNext == b.state.UIDNext && a.state.Messages == b.state.Messages,
		rule, "states %+v and %+v", a.state, b.state)
	for uid, m := range a.msgs {
		n, ok := b.msgs[uid]
		f.rule(ok, rule, "only one has uid %d", uid)
		f.rule(!ok || m.ModSeq == n.ModSeq && m.Flags.Equal(n.Flags), rule, "uid %d is %d %v and %d %v", uid, m.ModSeq, m.Flags, n.ModSeq, n.Flags)
	}
	for uid := range b.msgs {
		_, ok := a.msgs[uid]
		f.rule(ok, rule, "only the second has uid %d", uid)
	}
}

// uids returns the UIDs of v in ascending order.
func (v *view) uids() []imap.UID {
	var out []imap.UID
	for uid := range v.msgs {
		out = append(out, uid)
	}
	slices.Sort(out)
	return out
}

func set(uids ...imap.UID) imap.UIDSet { return imap.NumSetOf(uids...) }

// near reports whether a date that the store took from the clock lies between two moments.
func near(date, from, to time.Time) bool {
	return !date.Before(from.Add(-2*time.Second)) && !date.After(to.Add(2*time.Second))
}
