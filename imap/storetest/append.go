package storetest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing/iotest"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

var appendTests = map[string]func(*fixture){
	"Octets":        testOctets,
	"Empty":         testEmptyMailbox,
	"Dates":         testDates,
	"Flags":         testAppendFlags,
	"UIDsAscend":    testUIDsAscend,
	"AllOrNone":     testAllOrNone,
	"SizeIsAHint":   testSizeIsAHint,
	"NoMessages":    testAppendNothing,
	"ObjectIDs":     testMessageIDs,
	"ReadInPieces":  testReadInPieces,
	"UnknownUIDs":   testBodyOfUnknown,
	"SurvivesClose": testAppendSurvives,
}

// oddBodies are octets that a store must give back as they are. All lines end in CRLF: the
// contract asks it of the caller.
var oddBodies = map[string]string{
	"empty":              "",
	"one octet":          "x",
	"only a line end":    "\r\n",
	"no header":          "\r\nbody\r\n",
	"header only":        "Subject: x\r\n\r\n",
	"no final line end":  "Subject: x\r\n\r\nthe end",
	"NUL octets":         "Subject: x\r\n\r\na\x00b\x00\r\n\x00",
	"8-bit":              "Subject: \xe4\xf6\xfc\r\n\r\n\xff\xfe \x80\r\n",
	"UTF-8":              "Subject: Grüße\r\n\r\n日本語\r\n",
	"dots":               "Subject: x\r\n\r\n.\r\n..\r\n.x\r\n",
	"From lines":         "Subject: x\r\n\r\nFrom a@example.org Mon Jan  1 00:00:00 2024\r\n>From b\r\n>>From c\r\nFrom \r\n",
	"a From line first":  "From a@example.org Mon Jan  1 00:00:00 2024\r\nSubject: x\r\n\r\nbody\r\n",
	"blank lines":        "\r\n\r\n\r\n\r\n",
	"trailing blanks":    "Subject: x\r\n\r\nbody\r\n\r\n\r\n",
	"status headers":     "Status: RO\r\nX-Status: A\r\nX-UID: 7\r\nX-Keywords: a\r\nContent-Length: 3\r\nSubject: x\r\n\r\nbody\r\n",
	"spaces":             " \t\r\n \r\n",
	"a long line":        "Subject: x\r\n\r\n" + strings.Repeat("long ", 20000) + "\r\n",
	"many lines":         "Subject: x\r\n\r\n" + strings.Repeat("line\r\n", 20000),
	"1 MiB":              "Subject: x\r\n\r\n" + strings.Repeat("0123456789abcde\x80fedcba98765432\r\n", 1<<15),
	"line end at 4096":   "Subject: x\r\n\r\n" + strings.Repeat("a", 4096-15) + "\r\n" + strings.Repeat("b", 4094) + "\r\n",
	"looks like an mbox": "X: y\r\n\r\nFrom x@example.org Mon Jan  1 00:00:00 2024\r\nSubject: another\r\n\r\nFrom y@example.org Mon Jan  1 00:00:00 2024\r\n\r\n",
}

func testOctets(f *fixture) {
	mb := f.inbox()
	uids := make(map[string]imap.UID)
	for name, body := range oddBodies {
		uids[name] = f.append(mb, imap.Flags{}, body)[0]
	}
	other := f.box(f.open(), imap.Inbox)
	v := f.look(other)
	for name, body := range oddBodies {
		got := f.read(other, uids[name])
		f.rule(got == body, "Body gives exactly the octets appended", "%s: appended %d octets %.80q, read %d octets %.80q", name, len(body), body, len(got), got)
		f.rule(v.msgs[uids[name]].Size == int64(len(body)), "Message.Size is the number of octets", "%s: %d for %d octets", name, v.msgs[uids[name]].Size, len(body))
	}
}

func testEmptyMailbox(f *fixture) {
	v := f.look(f.inbox())
	f.rule(len(v.msgs) == 0, "a new storage has an empty Inbox", "it has %d messages", len(v.msgs))
	f.rule(v.state.HighestModSeq > 0, "HighestModSeq is greater than zero, so that since 0 comes before all", "it is 0")
	f.rule(!v.state.ReadOnly, "a new mailbox can be written to", "it is read-only")
}

func testDates(f *fixture) {
	mb := f.inbox()
	given := time.Date(2001, 2, 3, 4, 5, 6, 7e8, time.FixedZone("", -5*3600))
	before := time.Now()
	done, err := mb.Append(f.ctx, []imap.NewMessage{
		{InternalDate: given, Body: strings.NewReader(mail("dated"))},
		{Body: strings.NewReader(mail("now"))},
	})
	f.must("Append", err)
	after := time.Now()
	v := f.look(f.box(f.open(), imap.Inbox))
	got := v.msgs[done.UIDs[0]]
	f.rule(got.InternalDate.Equal(given.Truncate(time.Second)), "InternalDate is kept to the second", "gave %v, got %v", given, got.InternalDate)
	f.rule(got.SaveDate.IsZero() || near(got.SaveDate, before, after), "SaveDate is when the message came into the mailbox", "got %v", got.SaveDate)
	got = v.msgs[done.UIDs[1]]
	f.rule(near(got.InternalDate, before, after), "a zero InternalDate means now", "got %v at %v", got.InternalDate, before)
}

func testAppendFlags(f *fixture) {
	mb := f.inbox()
	flags := imap.NewFlags(imap.FlagSeen, imap.FlagAnswered, imap.FlagFlagged, imap.FlagDeleted, imap.FlagDraft)
	if !f.state(mb).NoNewKeywords {
		flags = flags.With("$Forwarded", "custom")
	}
	uid := f.append(mb, flags, mail("flagged"))[0]
	got := f.look(f.box(f.open(), imap.Inbox)).msgs[uid].Flags
	f.rule(got.Equal(flags), "Append keeps the flags given", "gave %v, got %v", flags, got)
}

func testUIDsAscend(f *fixture) {
	a, b := f.twice()
	var last imap.UID
	for i := range 10 {
		mb := a
		if i%2 == 1 {
			mb = b
		}
		before := f.state(mb)
		uids := f.fill(mb, 1+i%3)
		after := f.state(mb)
		for _, uid := range uids {
			f.rule(uid > last, "UIDs ascend, whichever handle appends", "%d after %d", uid, last)
			f.rule(uid >= before.UIDNext, "no UID is below the UIDNext shown before", "uid %d, UIDNext was %d", uid, before.UIDNext)
			f.rule(uid < after.UIDNext, "UIDNext is greater than any UID there", "uid %d, UIDNext %d", uid, after.UIDNext)
			last = uid
		}
		f.rule(after.HighestModSeq > before.HighestModSeq, "an Append raises HighestModSeq", "it stayed %d", after.HighestModSeq)
	}
	f.same(f.look(a), f.look(b), "handles on one mailbox agree")
}

var errReader = errors.New("the reader failed")

func testAllOrNone(f *fixture) {
	a, b := f.twice()
	f.fill(a, 2)
	before := f.look(a)
	for name, bad := range map[string]io.Reader{
		"at once":       iotest.ErrReader(errReader),
		"in the middle": io.MultiReader(strings.NewReader(strings.Repeat("Subject: x\r\n", 5000)), iotest.ErrReader(errReader)),
	} {
		_, err := a.Append(f.ctx, []imap.NewMessage{
			{Body: strings.NewReader(mail("first"))},
			{Body: bad},
			{Body: strings.NewReader(mail("third"))},
		})
		f.wantErr(errReader, err, "Append reports the error of a reader")
		for _, mb := range []imap.Mailbox{a, b, f.box(f.open(), imap.Inbox)} {
			v := f.look(mb)
			f.rule(len(v.msgs) == 2, "Append stores all messages or none", "reader failed %s: %d messages, want 2", name, len(v.msgs))
			f.rule(v.state.Messages == before.state.Messages && v.state.Size == before.state.Size, "an Append that fails changes nothing", "reader failed %s: %+v, was %+v", name, v.state, before.state)
		}
	}
	// The mailbox goes on working.
	f.fill(b, 1)
	f.rule(f.state(a).Messages == 3, "an Append that fails changes nothing", "later appends are not counted right: %d", f.state(a).Messages)
}

func testSizeIsAHint(f *fixture) {
	mb := f.inbox()
	body := mail("hint")
	for _, size := range []int64{0, 1, int64(len(body)), 1 << 20} {
		done, err := mb.Append(f.ctx, []imap.NewMessage{{Body: strings.NewReader(body), Size: size}})
		f.must("Append", err)
		got := f.read(mb, done.UIDs[0])
		f.rule(got == body, "NewMessage.Size is a hint", "with %d, stored %q", size, got)
		f.rule(f.look(mb).msgs[done.UIDs[0]].Size == int64(len(body)), "NewMessage.Size is a hint", "it got into Message.Size: %d", size)
	}
}

func testAppendNothing(f *fixture) {
	mb := f.inbox()
	done, err := mb.Append(f.ctx, nil)
	f.must("Append of no messages", err)
	f.rule(len(done.UIDs) == 0 && f.state(mb).Messages == 0, "an Append of nothing stores nothing", "got %v", done.UIDs)
}

func testMessageIDs(f *fixture) {
	mb := f.inbox()
	uids := f.append(mb, imap.Flags{}, mail("a"), mail("b"))
	v := f.look(mb)
	a, b := v.msgs[uids[0]].ID, v.msgs[uids[1]].ID
	f.rule((a == "") == (b == ""), "a store gives ids to all messages or to none", "%q and %q", a, b)
	f.rule(a == "" || a != b, "different messages have different ids (RFC 8474, 5.1)", "both %q", a)
	if a == "" {
		return
	}
	done, err := mb.Append(f.ctx, []imap.NewMessage{{ID: "Mgiven-1_x", Body: strings.NewReader(mail("c"))}})
	f.must("Append", err)
	got := f.look(f.box(f.open(), imap.Inbox)).msgs[done.UIDs[0]].ID
	f.rule(got == "Mgiven-1_x", "a store that keeps ids keeps the one given", "got %q", got)
}

func testReadInPieces(f *fixture) {
	mb := f.inbox()
	want := oddBodies["many lines"]
	uid := f.append(mb, imap.Flags{}, want)[0]
	body, err := mb.Body(f.ctx, uid)
	f.must("Body", err)
	defer body.Close()
	f.rule(body.Size() == int64(len(want)), "Body.Size is the number of octets", "%d, want %d", body.Size(), len(want))
	for _, r := range [][2]int{{len(want) - 10, 10}, {0, 10}, {5000, 70000}, {5001, 1}, {4095, 2}, {99, 1000}} {
		buf := make([]byte, r[1])
		n, err := body.ReadAt(buf, int64(r[0]))
		f.rule((err == nil || err == io.EOF && r[0]+r[1] == len(want)) && string(buf[:n]) == want[r[0]:r[0]+r[1]],
			"Body is an io.ReaderAt, in any order", "at %d, %d octets: %d, %v", r[0], r[1], n, err)
	}
	buf := make([]byte, 10)
	n, err := body.ReadAt(buf, int64(len(want)-4))
	f.rule(n == 4 && err == io.EOF, "ReadAt past the end gives what is there and io.EOF", "%d, %v", n, err)
	n, err = body.ReadAt(buf, int64(len(want)+4))
	f.rule(n == 0 && err == io.EOF, "ReadAt past the end gives what is there and io.EOF", "%d, %v", n, err)
}

func testBodyOfUnknown(f *fixture) {
	mb := f.inbox()
	uids := f.fill(mb, 1)
	_, err := mb.Body(f.ctx, uids[0]+1)
	f.wantErr(imap.ErrExpunged, err, "Body of a UID that is not there is ErrExpunged")
}

func testAppendSurvives(f *fixture) {
	want := make(map[imap.UID]string)
	for i := range 3 {
		s, err := f.reopen()
		f.must("open the storage", err)
		mb, err := s.Open(f.ctx, imap.Inbox)
		f.must("open the Inbox", err)
		for j := range 3 {
			body := mail(fmt.Sprintf("%d.%d", i, j))
			uid := f.append(mb, imap.NewFlags(imap.FlagFlagged), body)[0]
			f.rule(want[uid] == "", "UIDs are not reused after a reopen", "uid %d", uid)
			want[uid] = body
		}
		before := f.look(mb)
		f.must("close the mailbox", mb.Close())
		f.must("close the store", s.Close())
		mb = f.box(f.open(), imap.Inbox)
		after := f.look(mb)
		f.same(before, after, "a reopened storage shows the same mailbox")
		f.rule(before.state.UIDValidity == after.state.UIDValidity, "UIDVALIDITY survives reopening", "from %d to %d", before.state.UIDValidity, after.state.UIDValidity)
		for uid, body := range want {
			f.rule(f.read(mb, uid) == body, "messages survive reopening", "uid %d", uid)
		}
	}
}
