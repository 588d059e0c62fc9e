package storetest

import (
	"errors"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
)

var nameTests = map[string]func(*fixture){
	"Inbox":             testInbox,
	"CreateAndList":     testCreateAndList,
	"Levels":            testLevels,
	"OddNames":          testOddNames,
	"BadNames":          testBadNames,
	"Delete":            testDelete,
	"DeleteKeepsInUse":  testDeleteUnderneath,
	"ValidityAfterAll":  testUIDValidity,
	"Rename":            testRename,
	"RenameTree":        testRenameTree,
	"RenameInbox":       testRenameInbox,
	"RenameErrors":      testRenameErrors,
	"RenameUnderneath":  testRenameUnderneath,
	"Subscribe":         testSubscribe,
	"SpecialUse":        testSpecialUse,
	"ObjectIDs":         testMailboxIDs,
	"SurviveReopening":  testNamesSurvive,
	"ListingStopsEarly": testListingStopsEarly,
}

// list returns what Mailboxes yields, by name.
func (f *fixture) list(s imap.Store) map[string]imap.MailboxInfo {
	f.Helper()
	out := make(map[string]imap.MailboxInfo)
	for info, err := range s.Mailboxes(f.ctx) {
		f.rule(err == nil, "a healthy mailbox is listed without error", "%s: %v", info.Name, err)
		_, twice := out[info.Name]
		f.rule(!twice, "Mailboxes yields each name once", "%s came twice", info.Name)
		f.rule(!info.NonExistent || info.NoSelect && info.Subscribed, "NonExistent is for subscribed names and implies NoSelect", "%+v", info)
		out[info.Name] = info
	}
	return out
}

func (f *fixture) wantNames(s imap.Store, rule string, want ...string) {
	f.Helper()
	var got []string
	for name, info := range f.list(s) {
		if !info.NoSelect {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	f.rule(slices.Equal(got, want), rule, "mailboxes are %q, want %q", got, want)
}

func (f *fixture) create(s imap.Store, names ...string) {
	f.Helper()
	for _, name := range names {
		f.must("create "+name, s.Create(f.ctx, name, nil))
	}
}

func testInbox(f *fixture) {
	_, there := f.list(f.store)[imap.Inbox]
	f.rule(there, "every Store has an Inbox and lists it", "it is not listed")
	f.inbox()
	f.wantErr(imap.ErrMailboxExists, f.store.Create(f.ctx, imap.Inbox, nil), "the Inbox can not be created: it is always there")
	err := f.store.Delete(f.ctx, imap.Inbox)
	f.rule(err != nil, "the Inbox can not be deleted (RFC 9051, 6.3.5)", "Delete returned nil")
	f.inbox()
}

func testCreateAndList(f *fixture) {
	other := f.open()
	f.create(f.store, "Archive", "Drafts")
	f.wantNames(other, "a mailbox created is seen by every Store", imap.Inbox, "Archive", "Drafts")
	f.wantErr(imap.ErrMailboxExists, other.Create(f.ctx, "Archive", nil), "Create of what is there is ErrMailboxExists")
	_, err := f.store.Open(f.ctx, "nothing")
	f.wantErr(imap.ErrNoMailbox, err, "Open of what is not there is ErrNoMailbox")
	st := f.state(f.box(other, "Archive"))
	f.rule(st.Messages == 0, "a new mailbox is empty", "it has %d messages", st.Messages)
}

func testLevels(f *fixture) {
	f.create(f.store, "a/b/c")
	list := f.list(f.store)
	f.rule(!list["a/b/c"].NoSelect && list["a/b/c"].Name != "", "a name with levels can be created at once", "got %+v", list["a/b/c"])
	for _, level := range []string{"a", "a/b"} {
		info, there := list[level]
		f.rule(there, "a level above a mailbox is listed", "%s is not", level)
		if !info.NoSelect {
			f.Logf("the store makes %s a mailbox of its own", level)
			continue
		}
		_, err := f.store.Open(f.ctx, level)
		f.wantErr(imap.ErrNotSelectable, err, "Open of a level is ErrNotSelectable")
		f.wantErr(imap.ErrHasChildren, f.store.Delete(f.ctx, level), "Delete of a level is ErrHasChildren")
		f.must("create a level as a mailbox", f.store.Create(f.ctx, level, nil))
		f.fill(f.box(f.store, level), 1)
		f.rule(!f.list(f.store)[level].NoSelect, "Create makes a level selectable", "%s is still NoSelect", level)
	}
	f.fill(f.box(f.store, "a/b/c"), 1)
	f.must("delete a mailbox with children", f.store.Delete(f.ctx, "a/b"))
	list = f.list(f.open())
	f.rule(list["a/b"].NoSelect, "a deleted mailbox with children stays as a level", "got %+v", list["a/b"])
	f.rule(f.state(f.box(f.store, "a/b/c")).Messages == 1, "Delete leaves the children alone", "the child lost its message")
}

func testOddNames(f *fixture) {
	plain := []string{"Entwürfe", "日本語/受信箱", "with space", "Übung/Maß & Gewicht", "Inbox2", "inbox/child", "UPPER", "upper", "x-y_z", "Q1+Q2=H1"}
	odd := []string{"a.b", "a/b", ".hidden", "..", "...", "~home", "a&b", "&AOQ-", "%", "*", `back\slash`, `"quoted"`, "cur", "new", "tmp", "cur/new",
		"#news", "trailing.", "trailing ", " leading", "a:b", "a|b", "con", "-", "👍", "e\u0301", "\u00e9", "dovecot-uidlist", "maildirfolder", "subscriptions", "a~b/c:2,S",
		strings.Repeat("x", 200), strings.Repeat("ö", 100), strings.Repeat("d/", 20) + "e"}
	made := make(map[string]string)
	for _, name := range slices.Concat(plain, odd) {
		err := f.store.Create(f.ctx, name, nil)
		if err != nil && !slices.Contains(plain, name) {
			f.rule(errors.Is(err, imap.ErrBadName) || errors.Is(err, imap.ErrMailboxExists), "a name that the store cannot keep is ErrBadName", "%q: %v", name, err)
			f.Logf("the store does not keep %q: %v", name, err)
			continue
		}
		f.must("create "+name, err)
		made[name] = mail("in " + name)
		mb := f.box(f.store, name)
		f.append(mb, imap.Flags{}, made[name])
	}
	other := f.open()
	list := f.list(other)
	for name, body := range made {
		info, there := list[name]
		f.rule(there && !info.NoSelect, "a name is listed exactly as it was created", "%q is not there", name)
		mb, err := other.Open(f.ctx, name)
		if err != nil {
			f.rule(false, "a mailbox opens by the name it was created with", "%q: %v", name, err)
			continue
		}
		uids := f.look(mb).uids()
		f.rule(len(uids) == 1 && f.read(mb, uids[0]) == body, "different names are different mailboxes", "%q has %d messages", name, len(uids))
		f.must("close", mb.Close())
	}
	for name := range list {
		_, ours := made[name]
		isLevel := false
		for m := range made {
			isLevel = isLevel || strings.HasPrefix(m, name+"/")
		}
		f.rule(ours || isLevel || name == imap.Inbox, "nothing is listed that nobody created", "%q", name)
	}
}

func testBadNames(f *fixture) {
	for _, name := range []string{"", "/", "a//b", "/a", "a/", "a\x00b", "a\nb", "\xff\xfe", strings.Repeat("x", imap.MaxName+1)} {
		f.wantErr(imap.ErrBadName, f.store.Create(f.ctx, name, nil), "a name that CheckName refuses is ErrBadName")
		if err := f.store.Rename(f.ctx, "nothing", name); err == nil {
			f.rule(false, "a name that CheckName refuses is ErrBadName", "Rename to %q returned nil", name)
		}
		_, err := f.store.Open(f.ctx, name)
		f.rule(errors.Is(err, imap.ErrNoMailbox) || errors.Is(err, imap.ErrBadName), "an impossible name opens nothing", "Open of %q: %v", name, err)
	}
	f.wantNames(f.store, "a Create that fails changes nothing", imap.Inbox)
}

func testDelete(f *fixture) {
	other := f.open()
	f.create(f.store, "gone", "stays")
	f.fill(f.box(f.store, "gone"), 3)
	f.must("delete", other.Delete(f.ctx, "gone"))
	f.wantNames(f.store, "a mailbox deleted is gone for every Store", imap.Inbox, "stays")
	_, err := f.store.Open(f.ctx, "gone")
	f.wantErr(imap.ErrNoMailbox, err, "a deleted mailbox does not open")
	f.wantErr(imap.ErrNoMailbox, f.store.Delete(f.ctx, "gone"), "Delete of what is not there is ErrNoMailbox")
}

func testDeleteUnderneath(f *fixture) {
	f.create(f.store, "gone")
	mb := f.box(f.store, "gone")
	uids := f.append(mb, imap.Flags{}, mail("kept"))
	body, err := mb.Body(f.ctx, uids[0])
	f.must("Body", err)
	defer body.Close()
	f.must("delete", f.open().Delete(f.ctx, "gone"))
	_, err = mb.State(f.ctx)
	f.wantErr(imap.ErrNoMailbox, err, "a handle on a deleted mailbox reports ErrNoMailbox: State")
	_, err = mb.Changes(f.ctx, 0)
	f.wantErr(imap.ErrNoMailbox, err, "a handle on a deleted mailbox reports ErrNoMailbox: Changes")
	_, err = mb.Append(f.ctx, []imap.NewMessage{{Body: strings.NewReader("x")}})
	f.wantErr(imap.ErrNoMailbox, err, "a handle on a deleted mailbox reports ErrNoMailbox: Append")
	_, err = mb.SetFlags(f.ctx, imap.AllUIDs, imap.FlagOp{Flags: imap.NewFlags(imap.FlagSeen)}, 0)
	f.wantErr(imap.ErrNoMailbox, err, "a handle on a deleted mailbox reports ErrNoMailbox: SetFlags")
	f.wantErr(imap.ErrNoMailbox, mb.Expunge(f.ctx, imap.AllUIDs, false), "a handle on a deleted mailbox reports ErrNoMailbox: Expunge")
	_, err = mb.Copy(f.ctx, imap.AllUIDs, imap.Inbox, false)
	f.wantErr(imap.ErrNoMailbox, err, "a handle on a deleted mailbox reports ErrNoMailbox: Copy")
	f.rule(f.readAll(body) == mail("kept"), "a body stays readable after its message is gone", "it differs")
	// A new mailbox of that name is another one: the old handle must not reach into it.
	f.create(f.store, "gone")
	f.fill(f.box(f.store, "gone"), 1)
	_, err = mb.State(f.ctx)
	f.wantErr(imap.ErrNoMailbox, err, "a handle on a deleted mailbox reports ErrNoMailbox also when there is a new one of that name")
}

func testUIDValidity(f *fixture) {
	seen := make(map[uint32]string)
	note := func(s imap.Store, how string) {
		v := f.state(f.box(s, "box")).UIDValidity
		before, again := seen[v]
		f.rule(!again, "Create gives a UIDVALIDITY that no earlier mailbox of this name had", "%d came %s and %s", v, before, how)
		seen[v] = how
	}
	f.create(f.store, "box")
	note(f.store, "at first")
	f.must("delete", f.store.Delete(f.ctx, "box"))
	f.create(f.store, "box")
	note(f.store, "after delete and create")
	f.must("rename", f.store.Rename(f.ctx, "box", "elsewhere"))
	f.create(f.store, "box")
	note(f.store, "after rename and create")
	f.must("delete", f.store.Delete(f.ctx, "box"))
	other := f.open()
	f.create(other, "box")
	note(other, "in another Store")
}

func testRename(f *fixture) {
	f.create(f.store, "old")
	mb := f.box(f.store, "old")
	f.append(mb, imap.NewFlags(imap.FlagFlagged), mail("a"), mail("b"))
	before, id := f.look(mb), f.list(f.store)["old"].ID
	f.must("rename", f.store.Rename(f.ctx, "old", "new/name"))
	f.wantNames(f.open(), "Rename gives a mailbox another name", imap.Inbox, "new/name")
	after := f.look(f.box(f.store, "new/name"))
	f.rule(before.state.UIDValidity == after.state.UIDValidity, "UIDVALIDITY survives a rename", "from %d to %d", before.state.UIDValidity, after.state.UIDValidity)
	f.same(before, after, "messages survive a rename")
	f.rule(f.list(f.store)["new/name"].ID == id, "the mailbox's id survives a rename", "from %q to %q", id, f.list(f.store)["new/name"].ID)
}

func testRenameTree(f *fixture) {
	all := []string{"a", "a/b", "a/b/c", "ab", "a.b", "x/a", "level/only"}
	for _, name := range all {
		err := f.store.Create(f.ctx, name, nil)
		if name == "a.b" && errors.Is(err, imap.ErrBadName) {
			continue
		}
		f.must("create "+name, err)
		f.append(f.box(f.store, name), imap.Flags{}, mail("in "+name))
	}
	f.must("rename", f.store.Rename(f.ctx, "a", "y/z"))
	f.must("rename a level", f.store.Rename(f.ctx, "level", "lifted"))
	s := f.open()
	list := f.list(s)
	for _, gone := range []string{"a", "a/b", "a/b/c", "level/only"} {
		_, there := list[gone]
		f.rule(!there, "Rename takes the children along", "%s is still there", gone)
	}
	for new, old := range map[string]string{"y/z": "a", "y/z/b": "a/b", "y/z/b/c": "a/b/c", "ab": "ab", "x/a": "x/a", "lifted/only": "level/only"} {
		if _, there := list[new]; !there {
			f.rule(false, "Rename takes the children along and leaves others", "%s is not there", new)
			continue
		}
		mb := f.box(s, new)
		uids := f.look(mb).uids()
		f.rule(len(uids) == 1 && f.read(mb, uids[0]) == mail("in "+old), "a renamed tree keeps its messages", "%s", new)
	}
}

func testRenameInbox(f *fixture) {
	f.create(f.store, "INBOX/child")
	f.fill(f.box(f.store, "INBOX/child"), 1)
	inbox := f.inbox()
	f.append(inbox, imap.NewFlags(imap.FlagFlagged), mail("a"), mail("b"))
	before := f.look(inbox)
	f.must("rename", f.store.Rename(f.ctx, imap.Inbox, "2023"))
	f.wantNames(f.open(), "Rename of the Inbox makes a mailbox and leaves the Inbox and its children", imap.Inbox, "INBOX/child", "2023")
	moved := f.box(f.store, "2023")
	v := f.look(moved)
	f.rule(len(v.msgs) == 2, "Rename of the Inbox moves its messages", "%d of 2 arrived", len(v.msgs))
	for i, uid := range v.uids() {
		f.rule(f.read(moved, uid) == mail([]string{"a", "b"}[i]) && v.msgs[uid].Flags.Has(imap.FlagFlagged), "Rename of the Inbox moves its messages as they are", "uid %d", uid)
	}
	f.rule(f.state(f.box(f.store, "INBOX/child")).Messages == 1, "Rename of the Inbox leaves its children alone", "the child changed")
	again := f.box(f.open(), imap.Inbox)
	f.rule(f.state(again).Messages == 0, "Rename of the Inbox leaves it empty", "%d messages", f.state(again).Messages)
	uids := f.fill(again, 1)
	st := f.state(again)
	f.rule(st.UIDValidity != before.state.UIDValidity || uids[0] >= before.state.UIDNext, "UIDs of the Inbox are not reused after its rename", "uid %d, UIDNext was %d", uids[0], before.state.UIDNext)
}

func testRenameErrors(f *fixture) {
	f.create(f.store, "a", "b", "c/d")
	f.wantErr(imap.ErrNoMailbox, f.store.Rename(f.ctx, "nothing", "new"), "Rename of what is not there is ErrNoMailbox")
	f.wantErr(imap.ErrMailboxExists, f.store.Rename(f.ctx, "a", "b"), "Rename to what is there is ErrMailboxExists")
	f.wantErr(imap.ErrMailboxExists, f.store.Rename(f.ctx, "a", "c"), "Rename to a level that is there is ErrMailboxExists")
	f.wantErr(imap.ErrMailboxExists, f.store.Rename(f.ctx, "a", imap.Inbox), "Rename to the Inbox is ErrMailboxExists")
	f.wantErr(imap.ErrBadName, f.store.Rename(f.ctx, "a", "a/below"), "Rename below itself is ErrBadName")
	err := f.store.Rename(f.ctx, "a", "a")
	f.wantErr(imap.ErrMailboxExists, err, "Rename to its own name is ErrMailboxExists")
	f.wantNames(f.store, "a Rename that fails changes nothing", imap.Inbox, "a", "b", "c/d")
}

func testRenameUnderneath(f *fixture) {
	f.create(f.store, "a")
	mb := f.box(f.store, "a")
	f.fill(mb, 2)
	id := f.state(mb).ID
	f.must("rename", f.open().Rename(f.ctx, "a", "b"))
	f.create(f.store, "a") // another mailbox, which the handle must not take for its own
	st, err := mb.State(f.ctx)
	if err != nil {
		f.wantErr(imap.ErrNoMailbox, err, "a handle on a renamed mailbox follows it or reports ErrNoMailbox")
		return
	}
	f.rule(st.Messages == 2 && st.ID == id, "a handle on a renamed mailbox follows it or reports ErrNoMailbox", "it shows %+v", st)
	f.fill(mb, 1)
	f.rule(f.state(f.box(f.store, "b")).Messages == 3, "a handle on a renamed mailbox follows it", "what it appended is not there")
}

func testSubscribe(f *fixture) {
	f.create(f.store, "a", "b")
	other := f.open()
	for range 2 { // repeating changes nothing
		f.must("subscribe", f.store.Subscribe(f.ctx, "a", true))
		f.must("subscribe", f.store.Subscribe(f.ctx, "not there/yet", true))
	}
	list := f.list(other)
	f.rule(list["a"].Subscribed && !list["b"].Subscribed, "Subscribe sets the name's subscription", "a %+v, b %+v", list["a"], list["b"])
	f.rule(list["not there/yet"].NonExistent && list["not there/yet"].Subscribed, "a subscribed name without a mailbox is listed as NonExistent", "got %+v", list["not there/yet"])
	f.must("delete", f.store.Delete(f.ctx, "a"))
	list = f.list(other)
	f.rule(list["a"].Subscribed && list["a"].NonExistent, "a subscription survives the mailbox's deletion", "got %+v", list["a"])
	f.create(f.store, "a")
	list = f.list(f.open())
	f.rule(list["a"].Subscribed && !list["a"].NonExistent, "a subscription survives the mailbox's deletion", "after Create, got %+v", list["a"])
	for range 2 {
		f.must("unsubscribe", other.Subscribe(f.ctx, "a", false))
		f.must("unsubscribe", other.Subscribe(f.ctx, "not there/yet", false))
	}
	list = f.list(f.store)
	_, there := list["not there/yet"]
	f.rule(!there && !list["a"].Subscribed, "Subscribe clears the name's subscription", "still there")
}

func testSpecialUse(f *fixture) {
	err := f.store.Create(f.ctx, "Sent", &imap.CreateOptions{SpecialUse: imap.UseSent})
	if err != nil {
		f.Skipf("the store keeps no special uses: %v", err)
	}
	f.create(f.store, "other")
	list := f.list(f.open())
	f.rule(list["Sent"].SpecialUse == imap.UseSent && list["other"].SpecialUse == "", "a special use given to Create is kept", "got %+v", list["Sent"])
}

func testMailboxIDs(f *fixture) {
	f.create(f.store, "a", "b")
	list := f.list(f.store)
	if list["a"].ID == "" {
		f.Skip("the store keeps no ids")
	}
	f.rule(list["a"].ID != list["b"].ID && list["a"].ID != list[imap.Inbox].ID, "ids are unique", "%q, %q, %q", list["a"].ID, list["b"].ID, list[imap.Inbox].ID)
	for name, info := range list {
		if st := f.state(f.box(f.store, name)); st.ID != info.ID {
			f.rule(false, "State.ID is MailboxInfo.ID", "%s has %q and %q", name, st.ID, info.ID)
		}
	}
	again := f.list(f.open())
	f.rule(again["a"].ID == list["a"].ID, "ids survive reopening", "from %q to %q", list["a"].ID, again["a"].ID)
	f.must("delete", f.store.Delete(f.ctx, "a"))
	f.create(f.store, "a")
	f.rule(f.list(f.store)["a"].ID != list["a"].ID, "ids are never reused", "%q", list["a"].ID)
}

func testNamesSurvive(f *fixture) {
	s, err := f.reopen()
	f.must("open the storage", err)
	f.create(s, "a/b", "c")
	f.must("subscribe", s.Subscribe(f.ctx, "c", true))
	f.must("close", s.Close())
	s = f.open()
	f.wantNames(s, "mailboxes survive reopening", append([]string{imap.Inbox, "c", "a/b"}, levelsMade(f.list(s))...)...)
	f.rule(f.list(s)["c"].Subscribed, "subscriptions survive reopening", "c is not subscribed")
}

// levelsMade names the levels above a/b that the store made mailboxes of.
func levelsMade(list map[string]imap.MailboxInfo) []string {
	if info, ok := list["a"]; ok && !info.NoSelect {
		return []string{"a"}
	}
	return nil
}

func testListingStopsEarly(f *fixture) {
	f.create(f.store, "a", "b")
	for range f.store.Mailboxes(f.ctx) {
		break
	}
	f.create(f.store, "c") // nothing stayed locked
	for info := range f.store.Mailboxes(f.ctx) {
		if !info.NoSelect {
			f.state(f.box(f.store, info.Name)) // the store can be used while it is listed
		}
	}
}
