package storetest

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mailblocks/mailblocks/imap"
)

var upgradeTests = map[string]func(*fixture){
	"ParsedCache":           testParsedCache,
	"Quota":                 testQuota,
	"QuotaHolds":            testQuotaHolds,
	"QuotaConcurrent":       testQuotaConcurrent,
	"Annotations":           testAnnotations,
	"AnnotationsFollow":     testAnnotationsFollow,
	"AnnotationLimits":      testAnnotationLimits,
	"AnnotationsConcurrent": testAnnotationsConcurrent,
	"Rights":                testRights,
	"RightsFollow":          testRightsFollow,
	"RightsConcurrent":      testRightsConcurrent,
	"WatchNames":            testWatchNames,
}

// upgrade returns s as a T, or skips the test.
func upgrade[T any](f *fixture, s imap.Store) T {
	f.Helper()
	t, ok := imap.UpgradeStore[T](s)
	if !ok {
		f.Skip("the store has no such upgrade")
	}
	return t
}

func testWatchNames(f *fixture) {
	watch := upgrade[imap.StoreWatcher](f, f.store).WatchNames
	other := f.open()
	n := 0
	f.awaitWake(watch, func() { n++; f.create(other, fmt.Sprint("box", n)) }, "WatchNames wakes for a mailbox made by another Store")
	on := false
	f.awaitWake(watch, func() {
		on = !on
		f.must("Subscribe", other.Subscribe(f.ctx, "box1", on))
	}, "WatchNames wakes for a subscription by another Store")
	at := "box1"
	f.awaitWake(watch, func() {
		n++
		to := fmt.Sprint("box", n)
		f.must("Rename", other.Rename(f.ctx, at, to))
		at = to
	}, "WatchNames wakes for a rename by another Store")
	f.awaitWake(watch, func() {
		n++
		name := fmt.Sprint("box", n)
		f.create(other, name)
		f.must("Delete", other.Delete(f.ctx, name))
	}, "WatchNames wakes for mailboxes that come and go in another Store")
}

func (f *fixture) quota(s imap.Store) map[imap.QuotaResource]imap.Quota {
	f.Helper()
	q := upgrade[imap.Quotas](f, s)
	roots, err := q.QuotaRoots(f.ctx, imap.Inbox)
	f.must("QuotaRoots", err)
	f.rule(len(roots) > 0, "a store with quotas has a root for the Inbox", "it has none")
	all := make(map[imap.QuotaResource]imap.Quota)
	for _, root := range roots {
		list, err := q.Quota(f.ctx, root)
		f.must("Quota", err)
		for _, one := range list {
			all[one.Resource] = one
		}
	}
	return all
}

// limit sets limits on the Inbox's root.
func (f *fixture) limit(limits ...imap.Quota) {
	f.Helper()
	q := upgrade[imap.Quotas](f, f.store)
	roots, err := q.QuotaRoots(f.ctx, imap.Inbox)
	f.must("QuotaRoots", err)
	f.must("SetQuota", q.SetQuota(f.ctx, roots[0], limits))
}

func testQuota(f *fixture) {
	q := upgrade[imap.Quotas](f, f.store)
	f.rule(len(q.QuotaResources()) > 0, "QuotaResources names what is counted", "nothing")
	if _, err := q.QuotaRoots(f.ctx, "not/there/yet"); err != nil {
		f.rule(false, "QuotaRoots answers for a mailbox that is not there", "%v", err)
	}
	_, err := q.Quota(f.ctx, "no such root")
	f.wantErr(imap.ErrNoQuotaRoot, err, "Quota of an unknown root is ErrNoQuotaRoot")
	f.wantErr(imap.ErrNoQuotaRoot, q.SetQuota(f.ctx, "no such root", nil), "SetQuota of an unknown root is ErrNoQuotaRoot")
	roots, err := q.QuotaRoots(f.ctx, imap.Inbox)
	f.must("QuotaRoots", err)
	f.wantErr(imap.ErrLimit, q.SetQuota(f.ctx, roots[0], []imap.Quota{{Resource: "X-BEER", Limit: 1}}), "SetQuota of a resource that cannot be limited is ErrLimit")

	inbox := f.inbox()
	first := mail("first")
	f.append(inbox, imap.Flags{}, first)
	f.limit(imap.Quota{Resource: imap.QuotaStorage, Limit: 1 << 20}, imap.Quota{Resource: imap.QuotaMessages, Limit: 10})
	uids := f.append(inbox, imap.Flags{}, mail("second"))
	f.create(f.store, "box")
	if _, err := inbox.Copy(f.ctx, set(uids...), "box", false); err != nil {
		f.Fatalf("copy: %v", err)
	}
	want := int64(len(first) + 2*len(mail("second")))
	for i, s := range []imap.Store{f.store, f.open()} {
		got := f.quota(s)
		f.rule(got[imap.QuotaMessages] == imap.Quota{Resource: imap.QuotaMessages, Usage: 3, Limit: 10}, "Quota counts messages of all mailboxes", "store %d: %+v", i, got)
		f.rule(got[imap.QuotaStorage] == imap.Quota{Resource: imap.QuotaStorage, Usage: want, Limit: 1 << 20}, "Quota counts octets of all mailboxes", "store %d: %+v, want %d", i, got, want)
	}
	f.must("expunge", inbox.Expunge(f.ctx, set(uids...), false))
	f.must("delete", f.store.Delete(f.ctx, "box"))
	got := f.quota(f.store)
	f.rule(got[imap.QuotaMessages].Usage == 1 && got[imap.QuotaStorage].Usage == int64(len(first)), "what is gone is not counted", "%+v", got)
	f.limit(imap.Quota{Resource: imap.QuotaMessages, Limit: 5})
	got = f.quota(f.open())
	f.rule(len(got) == 1 && got[imap.QuotaMessages].Limit == 5, "SetQuota replaces all limits", "%+v", got)
	f.limit()
	f.rule(len(f.quota(f.open())) == 0, "SetQuota without limits takes them away", "%+v", f.quota(f.open()))
}

func testQuotaHolds(f *fixture) {
	f.limit(imap.Quota{Resource: imap.QuotaMessages, Limit: 3}, imap.Quota{Resource: imap.QuotaStorage, Limit: 1000})
	inbox := f.inbox()
	f.create(f.store, "box")
	add := func(mb imap.Mailbox, bodies ...string) error {
		var msgs []imap.NewMessage
		for _, b := range bodies {
			msgs = append(msgs, imap.NewMessage{Body: strings.NewReader(b), Size: int64(len(b))})
		}
		_, err := mb.Append(f.ctx, msgs)
		return err
	}
	big := "Subject: big\r\n\r\n" + strings.Repeat("x", 1000) + "\r\n"
	f.wantErr(imap.ErrOverQuota, add(inbox, big), "Append over the limit of octets is ErrOverQuota")
	f.wantErr(imap.ErrOverQuota, add(inbox, "a\r\n", "b\r\n", "c\r\n", "d\r\n"), "Append over the limit of messages is ErrOverQuota")
	f.rule(f.state(inbox).Messages == 0, "an Append over quota stores nothing", "%d messages", f.state(inbox).Messages)
	f.must("append", add(inbox, "a\r\n", "b\r\n"))
	_, err := inbox.Copy(f.ctx, imap.AllUIDs, "box", false)
	f.wantErr(imap.ErrOverQuota, err, "Copy over the limit is ErrOverQuota")
	f.rule(f.state(f.box(f.store, "box")).Messages == 0, "a Copy over quota stores nothing", "it did")
	f.must("append the last", add(f.box(f.open(), "box"), "c\r\n"))
	f.wantErr(imap.ErrOverQuota, add(inbox, "d\r\n"), "the limit holds for all mailboxes together")
	_, err = inbox.Copy(f.ctx, imap.AllUIDs, "box", true)
	f.must("a move needs no room", err)
	f.must("expunge", f.box(f.store, "box").Expunge(f.ctx, imap.AllUIDs, false))
	f.must("append where room was made", add(inbox, "d\r\n"))
}

func testQuotaConcurrent(f *fixture) {
	const limit = 20
	f.limit(imap.Quota{Resource: imap.QuotaMessages, Limit: limit})
	var stored atomic.Int64
	f.inEach(4, func(_ int, s imap.Store) error {
		mb, err := s.Open(f.ctx, imap.Inbox)
		if err != nil {
			return err
		}
		defer mb.Close()
		for range 10 {
			_, err := mb.Append(f.ctx, []imap.NewMessage{{Body: strings.NewReader(mail("x"))}})
			if err == nil {
				stored.Add(1)
			} else if !errors.Is(err, imap.ErrOverQuota) {
				return err
			}
		}
		return nil
	})
	n := f.state(f.inbox()).Messages
	f.rule(int64(n) == stored.Load() && n <= limit, "a limit holds also when several append at once", "%d messages, %d were acknowledged, the limit is %d", n, stored.Load(), limit)
	used := f.quota(f.open())[imap.QuotaMessages].Usage
	f.rule(int64(n) <= used && used < int64(n)+4, "Quota never counts less than there is, nor more than was under way", "%d, but there are %d", used, n)
}

func (f *fixture) annotations(s imap.Store, mailbox string) map[string]string {
	f.Helper()
	got, err := upgrade[imap.Annotations](f, s).Annotations(f.ctx, mailbox)
	f.must("Annotations of "+mailbox, err)
	return got
}

func (f *fixture) annotate(s imap.Store, mailbox string, entryValues ...string) {
	f.Helper()
	var changes []imap.Annotation
	for i := 0; i < len(entryValues); i += 2 {
		changes = append(changes, imap.Annotation{Entry: entryValues[i], Value: entryValues[i+1]})
	}
	f.must("Annotate "+mailbox, upgrade[imap.Annotations](f, s).Annotate(f.ctx, mailbox, changes))
}

func testAnnotations(f *fixture) {
	const odd = "two\r\nlines, \x00 and \xff, \"quoted\" \\ and \t more"
	f.annotate(f.store, imap.Inbox, "/private/comment", odd, "/shared/comment", "")
	f.annotate(f.store, "", "/private/filters/values/small", "SMALLER 5000")
	want := map[string]string{"/private/comment": odd, "/shared/comment": ""}
	f.rule(maps.Equal(f.annotations(f.store, imap.Inbox), want), "Annotations returns what was set, octet by octet", "%q", f.annotations(f.store, imap.Inbox))
	other := f.open()
	f.rule(maps.Equal(f.annotations(other, imap.Inbox), want), "annotations are the storage's, not a handle's", "%q", f.annotations(other, imap.Inbox))
	f.rule(maps.Equal(f.annotations(other, ""), map[string]string{"/private/filters/values/small": "SMALLER 5000"}), "the store's own annotations are not the Inbox's", "%q", f.annotations(other, ""))
	a := upgrade[imap.Annotations](f, other)
	f.must("remove", a.Annotate(f.ctx, imap.Inbox, []imap.Annotation{{Entry: "/private/comment", Remove: true}, {Entry: "/shared/not-there", Remove: true}}))
	f.rule(maps.Equal(f.annotations(f.store, imap.Inbox), map[string]string{"/shared/comment": ""}), "Annotate removes entries", "%q", f.annotations(f.store, imap.Inbox))
	_, err := a.Annotations(f.ctx, "nothing")
	f.wantErr(imap.ErrNoMailbox, err, "Annotations of what is not there is ErrNoMailbox")
	f.wantErr(imap.ErrNoMailbox, a.Annotate(f.ctx, "nothing", []imap.Annotation{{Entry: "/shared/comment", Value: "x"}}), "Annotate of what is not there is ErrNoMailbox")
}

func testAnnotationsFollow(f *fixture) {
	upgrade[imap.Annotations](f, f.store)
	f.create(f.store, "a", "a/b")
	f.annotate(f.store, "a", "/shared/comment", "on a")
	f.annotate(f.store, "a/b", "/shared/comment", "on a/b")
	f.must("rename", f.store.Rename(f.ctx, "a", "z"))
	for name, want := range map[string]string{"z": "on a", "z/b": "on a/b"} {
		got := f.annotations(f.open(), name)["/shared/comment"]
		f.rule(got == want, "annotations follow a renamed mailbox", "%s has %q", name, got)
	}
	f.must("delete", f.store.Delete(f.ctx, "z/b"))
	f.create(f.store, "z/b")
	f.rule(len(f.annotations(f.store, "z/b")) == 0, "annotations go with a deleted mailbox", "%q", f.annotations(f.store, "z/b"))
	f.annotate(f.store, imap.Inbox, "/shared/comment", "on the Inbox")
	f.must("rename the Inbox", f.store.Rename(f.ctx, imap.Inbox, "old"))
	for _, name := range []string{imap.Inbox, "old"} {
		got := f.annotations(f.store, name)["/shared/comment"]
		f.rule(got == "on the Inbox", "renaming the Inbox copies its annotations", "%s has %q", name, got)
	}
}

func testAnnotationLimits(f *fixture) {
	a := upgrade[imap.Annotations](f, f.store)
	var many []imap.Annotation
	for i := range 20 {
		many = append(many, imap.Annotation{Entry: fmt.Sprintf("/private/vendor/test/%d", i), Value: strings.Repeat("x", 2048)})
	}
	f.must("20 annotations of 2 KiB (RFC 5464, 4.1 wants 10 of 1 KiB)", a.Annotate(f.ctx, imap.Inbox, many))
	before := f.annotations(f.store, imap.Inbox)
	err := a.Annotate(f.ctx, imap.Inbox, []imap.Annotation{{Entry: "/private/comment", Value: "fits"}, {Entry: "/shared/comment", Value: strings.Repeat("x", imap.MaxAnnotation+1)}})
	f.wantErr(imap.ErrTooBig, err, "a value over MaxAnnotation is ErrTooBig")
	many = nil
	for i := range imap.MaxAnnotations + 1 {
		many = append(many, imap.Annotation{Entry: fmt.Sprintf("/shared/vendor/test/%d", i), Value: "x"})
	}
	f.wantErr(imap.ErrLimit, a.Annotate(f.ctx, imap.Inbox, many), "more than MaxAnnotations entries are ErrLimit")
	f.rule(maps.Equal(before, f.annotations(f.store, imap.Inbox)), "an Annotate that fails changes nothing", "it did")
}

func testAnnotationsConcurrent(f *fixture) {
	upgrade[imap.Annotations](f, f.store)
	f.inEach(4, func(i int, s imap.Store) error {
		a, _ := imap.UpgradeStore[imap.Annotations](s)
		for k := range 5 {
			if err := a.Annotate(f.ctx, imap.Inbox, []imap.Annotation{{Entry: fmt.Sprintf("/private/vendor/%d/%d", i, k), Value: "x"}}); err != nil {
				return err
			}
		}
		return nil
	})
	f.rule(len(f.annotations(f.store, imap.Inbox)) == 20, "two Annotates at once never lose each other's change", "%d of 20 are there", len(f.annotations(f.store, imap.Inbox)))
}

// inEach runs do at once with n Stores, each its own.
func (f *fixture) inEach(n int, do func(i int, s imap.Store) error) {
	f.Helper()
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		s := f.open()
		wg.Go(func() { errs[i] = do(i, s) })
	}
	wg.Wait()
	f.must("at once", errors.Join(errs...))
}

func (f *fixture) acl(s imap.Store, mailbox string) string {
	f.Helper()
	acl, err := upgrade[imap.Rights](f, s).ACL(f.ctx, mailbox)
	f.must("ACL of "+mailbox, err)
	var words []string
	for _, e := range acl {
		words = append(words, e.Identifier, e.Rights.String())
	}
	return strings.Join(words, " ")
}

func (f *fixture) setRights(s imap.Store, mailbox, identifier string, action imap.FlagAction, letters string) {
	f.Helper()
	rights, ok := imap.ParseRights(letters)
	f.rule(ok, "rights are letters", "%q", letters)
	f.must("SetRights", upgrade[imap.Rights](f, s).SetRights(f.ctx, mailbox, identifier, imap.RightsOp{Action: action, Rights: rights}))
}

func testRights(f *fixture) {
	r := upgrade[imap.Rights](f, f.store)
	f.create(f.store, "a")
	f.rule(f.acl(f.store, "a") == "", "a new mailbox has an empty list", "%q", f.acl(f.store, "a"))
	const odd = "Ann O'Neil, \"x\" =: \u00fc@example.org"
	f.setRights(f.store, "a", "bob@example.org", imap.FlagsReplace, "lrs")
	f.setRights(f.store, "a", odd, imap.FlagsReplace, "lr")
	f.setRights(f.store, "a", imap.AnyIdentifier, imap.FlagsAdd, "lp")
	f.setRights(f.store, "a", imap.OwnerIdentifier, imap.FlagsReplace, "lrswipkxtea")
	f.setRights(f.store, "a", "-bob@example.org", imap.FlagsAdd, "w")
	f.setRights(f.store, "a", "$team", imap.FlagsAdd, "lr")
	f.setRights(f.store, "a", "bob@example.org", imap.FlagsAdd, "wte")
	f.setRights(f.store, "a", "bob@example.org", imap.FlagsRemove, "se")
	want := "bob@example.org lrwt " + odd + " lr anyone lp owner lrswipkxtea -bob@example.org w $team lr"
	for i, s := range []imap.Store{f.store, f.open()} {
		f.rule(f.acl(s, "a") == want, "ACL returns what SetRights made, in its order", "store %d: %q, want %q", i, f.acl(s, "a"), want)
	}
	f.setRights(f.open(), "a", odd, imap.FlagsReplace, "")
	f.setRights(f.store, "a", "nobody", imap.FlagsRemove, "lr")
	want = strings.Replace(want, " "+odd+" lr", "", 1)
	f.rule(f.acl(f.store, "a") == want, "an entry without rights is removed", "%q, want %q", f.acl(f.store, "a"), want)
	_, err := r.ACL(f.ctx, "nothing")
	f.wantErr(imap.ErrNoMailbox, err, "ACL of what is not there is ErrNoMailbox")
	f.wantErr(imap.ErrNoMailbox, r.SetRights(f.ctx, "nothing", "bob", imap.RightsOp{Rights: imap.RightRead}), "SetRights on what is not there is ErrNoMailbox")
}

func testRightsFollow(f *fixture) {
	upgrade[imap.Rights](f, f.store)
	f.create(f.store, "a", "a/b")
	f.setRights(f.store, "a/b", "bob", imap.FlagsReplace, "lr")
	f.must("rename", f.store.Rename(f.ctx, "a", "z"))
	f.rule(f.acl(f.open(), "z/b") == "bob lr", "a list follows a renamed mailbox", "%q", f.acl(f.store, "z/b"))
	f.must("delete", f.store.Delete(f.ctx, "z/b"))
	f.create(f.store, "z/b")
	f.rule(f.acl(f.store, "z/b") == "", "a list goes with a deleted mailbox", "%q", f.acl(f.store, "z/b"))
	f.setRights(f.store, imap.Inbox, "bob", imap.FlagsReplace, "lrs")
	f.must("rename the Inbox", f.store.Rename(f.ctx, imap.Inbox, "old"))
	for _, name := range []string{imap.Inbox, "old"} {
		f.rule(f.acl(f.store, name) == "bob lrs", "renaming the Inbox copies its list", "%s has %q", name, f.acl(f.store, name))
	}
}

func testRightsConcurrent(f *fixture) {
	upgrade[imap.Rights](f, f.store)
	f.inEach(4, func(i int, s imap.Store) error {
		r, _ := imap.UpgradeStore[imap.Rights](s)
		for k := range 5 {
			if err := r.SetRights(f.ctx, imap.Inbox, fmt.Sprintf("user%d-%d", i, k), imap.RightsOp{Action: imap.FlagsAdd, Rights: imap.RightRead}); err != nil {
				return err
			}
		}
		return nil
	})
	acl, err := upgrade[imap.Rights](f, f.store).ACL(f.ctx, imap.Inbox)
	f.must("ACL", err)
	f.rule(len(acl) == 20, "two SetRights at once never lose each other's change", "%d of 20 are there", len(acl))
}
