package imapserver

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/mimetree"
)

func TestBaseSubject(t *testing.T) {
	for _, tc := range []struct {
		in, base string
		reply    bool
	}{
		{"hello", "hello", false},
		{"  two   words\tthree ", "two words three", false},
		{"Re: hello", "hello", true},
		{"RE : Fwd: fw:hello", "hello", true},
		{"Re[2]: hello", "hello", true},
		{"re [x] : hello", "hello", true},
		{"[list] hello", "hello", false},
		{"[list] Re: [list] hello", "hello", true},
		{"Re: [a] [b] [c]", "[c]", true},
		{"[only]", "[only]", false},
		{"hello (fwd)", "hello", true},
		{"hello (FWD) (fwd)  ", "hello", true},
		{"[fwd: hello]", "hello", true},
		{"[Fwd: Re: [x] hello (fwd)]", "hello", true},
		{"Re:", "", true},
		{"", "", false},
		{"(fwd)", "", true},
		{"Regarding: hello", "Regarding: hello", false},
		{"[a[b]] x", "[a[b]] x", false},
		{"[unclosed", "[unclosed", false},
		{"[a]b", "b", false},
	} {
		base, reply := baseSubject(tc.in)
		assert.Equal(t, tc.base, base, "%q", tc.in)
		assert.Equal(t, tc.reply, reply, "%q", tc.in)
	}
}

func TestParseDate(t *testing.T) {
	for in, want := range map[string]string{
		"Wed, 17 Jul 2024 02:23:25 -0700":            "2024-07-17T02:23:25-07:00",
		"17 jul 24 02:23 EST (comment (nested))":     "2024-07-17T02:23:00-05:00",
		"Wed,17 Jul 99 02:23:25 GMT":                 "1999-07-17T02:23:25Z",
		"1 Jul 2024 99:00:00 +0200":                  "2024-07-01T00:00:00+02:00",
		"1 Jul 2024 10:00:00 nonsense":               "2024-07-01T10:00:00Z",
		"1 Jul 2024":                                 "2024-07-01T00:00:00Z",
		"(a) Mon, (b) 1 (c) Jul 2024 01:02:03 +0530": "2024-07-01T01:02:03+05:30",
		"31 Dec 2016 23:59:60 +0000":                 "2017-01-01T00:00:00Z",
	} {
		got, ok := parseDate(in)
		require.True(t, ok, in)
		assert.Equal(t, want, got.Format(time.RFC3339), in)
	}
	for _, bad := range []string{"", "today", "Wed,", "0 Jul 2024", "32 Jul 2024", "1 Foo 2024", "1 Jul x", "1 Jul 99999", "((("} {
		_, ok := parseDate(bad)
		assert.False(t, ok, "%q", bad)
	}
}

func TestMessageIDs(t *testing.T) {
	for in, want := range map[string][]string{
		`<a@b>`:                          {"a@b"},
		`<"a"@b> <a@b>`:                  {"a@b", "a@b"},
		`<a @ b>`:                        {"a@b"},
		`text <x@y> (and) "more" <z@w>`:  {"x@y", "z@w"},
		`<nothing> <> <@b> <a@> <ok@ok>`: {"ok@ok"},
		`<cut off@b`:                     nil,
		`<a<b@c>`:                        {"b@c"},
		`<"a>b"@c>`:                      {"a>b@c"},
	} {
		assert.Equal(t, want, messageIDs(in, -1), in)
	}
}

func TestFactsSurviveTheCache(t *testing.T) {
	f := newSortFacts(&mimetree.Envelope{
		Date: "Wed, 17 Jul 2024 02:23:25 -0700", Subject: "Re: =?utf-8?q?Gr=C3=BC=C3=9Fe?=",
		From:      []mimetree.Address{{Name: "Ann", Mailbox: "ann", Host: "x.test"}},
		To:        []mimetree.Address{{Mailbox: "bob", Host: "x.test"}, {Mailbox: "c"}},
		MessageID: "<1@x>", References: "<2@x> <3@x>", InReplyTo: "<4@x>",
	}, casemap)
	assert.Equal(t, []string{"2@x", "3@x"}, f.references)
	assert.Equal(t, "ANN", f.displayFrom)
	assert.Equal(t, "BOB@X.TEST", f.displayTo)
	again := parseFacts(f.append(nil))
	assert.True(t, f.date.Equal(again.date))
	f.date, again.date = time.Time{}, time.Time{}
	assert.Equal(t, f, again)
	assert.Equal(t, new(sortFacts), parseFacts(new(sortFacts).append(nil)))
}

// threaded returns the threads of messages with an id each and "subject|reference ..." as
// the client would see them.
func threaded(t testing.TB, algorithm string, mails ...string) string {
	var hits []hit
	for i, m := range mails {
		id, rest, _ := strings.Cut(m, "|")
		subject, refs, _ := strings.Cut(rest, "|")
		env := &mimetree.Envelope{Subject: subject, References: refs}
		if id != "" {
			env.MessageID = "<" + id + "@x>"
		}
		hits = append(hits, hit{pos: i, arrival: time.Unix(int64(i), 0), facts: newSortFacts(env, casemap)})
	}
	roots, err := threadAlgorithms[algorithm](t.Context(), hits)
	require.NoError(t, err)
	var b strings.Builder
	for _, r := range roots {
		writeTestThread(&b, r)
	}
	return b.String()
}

func writeTestThread(b *strings.Builder, t *thread) {
	b.WriteByte('(')
	if t.hit != nil {
		fmt.Fprint(b, t.hit.pos+1)
	}
	for _, child := range t.children {
		writeTestThread(b, child)
	}
	b.WriteByte(')')
}

func TestReferences(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		mails      []string
	}{
		{"a chain", "(1(2(3)))", []string{"a|s", "b|t|<a@x>", "c|u|<a@x> <b@x>"}},
		{"answers come first", "(3(2(1)))", []string{"c|u|<a@x> <b@x>", "b|t|<a@x>", "a|s"}},
		{"brothers of one that is not there", "((1)(2))", []string{"a|s|<gone@x>", "b|t|<gone@x>"}},
		{"an only child of nobody", "(1)(2)", []string{"a|s|<gone@x>", "b|t|<other@x>"}},
		{"a gap in the middle", "(1(2))", []string{"a|s", "c|u|<a@x> <gone@x>"}},
		{"a loop", "(2(1))", []string{"a|s|<b@x>", "b|t|<a@x>"}},
		{"its own father", "(1)", []string{"a|s|<a@x>"}},
		{"the same id twice", "(1(3))(2)", []string{"a|s", "a|t", "c|u|<a@x>"}},
		{"no id", "(1)(2)", []string{"|s", "|t"}},
		{"a subject joins an answer", "(1(2))", []string{"a|hello", "b|Re: hello"}},
		{"the answer came first", "(2(1))", []string{"b|Re: hello", "a|hello"}},
		{"two of the same subject", "((1)(2))", []string{"a|hello", "b|hello"}},
		{"three of the same subject", "((1)(2)(3))", []string{"a|hello", "b|HELLO", "c|Re: hello"}},
		{"no subject joins nothing", "(1)(2)", []string{"a|", "b|Re:"}},
		{"a dummy takes a subject in", "((1)(2)(3))", []string{"a|hello|<gone@x>", "b|t|<gone@x>", "c|hello"}},
		{"two dummies", "((1)(2)(3)(4))", []string{"a|hello|<g@x>", "b|t|<g@x>", "c|hello|<h@x>", "d|u|<h@x>"}},
		{"a truncated list of references", "(1(2(3)))", []string{"a|s", "b|t|<a@x>", "c|u|<b@x>"}},
	} {
		assert.Equal(t, tc.want, threaded(t, "REFERENCES", tc.mails...), tc.name)
	}
	assert.Equal(t, "(1(3)(4))(2)", threaded(t, "ORDEREDSUBJECT", "a|hello", "b|other", "c|re: HELLO", "d|[x] hello"))
}

// TestReferencesAnyInput: whatever messages refer to, each is told once.
func TestReferencesAnyInput(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		var mails []string
		for range 1 + rnd.IntN(12) {
			m := fmt.Sprintf("%d|%s%d|", rnd.IntN(10), []string{"", "Re: "}[rnd.IntN(2)], rnd.IntN(4))
			for range rnd.IntN(5) {
				m += fmt.Sprintf("<%d@x> ", rnd.IntN(12))
			}
			mails = append(mails, m)
		}
		got := threaded(t, "REFERENCES", mails...)
		nums := strings.FieldsFunc(got, func(r rune) bool { return r == '(' || r == ')' })
		slices.Sort(nums)
		require.Len(t, nums, len(mails), "%q gives %s", mails, got)
		require.Len(t, slices.Compact(nums), len(mails), "%q gives %s", mails, got)
		require.NotContains(t, got, "()")
	}
}

func TestPartialRange(t *testing.T) {
	set := imap.UIDSet{{First: 3, Last: 5}, {First: 9, Last: 9}, {First: 20, Last: 24}}
	for in, want := range map[partialRange]string{
		{1, 2}: "3:4", {2, 1}: "3:4", {4, 6}: "9,20:21", {9, 100}: "24", {10, 11}: "", {-1, -3}: "22:24",
		{-9, -9}: "3", {-100, -8}: "3:4", {-50, -40}: "", {1, 1 << 32}: "3:5,9,20:24",
	} {
		assert.Equal(t, want, partialOf(in, set).String(), in)
	}
}

func TestAddressesAreSearchedAsMeant(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX",
		text("From: user @ example.org (Real Name)\n\nx\n"),
		text("From: \"Real\\\" Name\"\n <user@\n example.org>\nTo: friends: a@x.test, \"b c\"@x.test;\n\nx\n"))
	p := ts.session("ann")
	play(t, p, `C: a0 SELECT INBOX
S* \* .*
S: a0 OK [READ-WRITE] selected
C: a1 SEARCH FROM user@example.org
S: * SEARCH 1 2
S: a1 OK searched
C: a2 SEARCH FROM "real name <user@"
S: * SEARCH 1
S: a2 OK searched
C: a3 SEARCH FROM "user @ example"
S: * SEARCH 1
S: a3 OK searched
C: a4 SEARCH FROM {12+}
C: real" name <
S: * SEARCH 2
S: a4 OK searched
C: a5 SEARCH TO "b c@x.test;"
S: * SEARCH 2
S: a5 OK searched`)
}

func FuzzFacts(f *testing.F) {
	f.Add("Re: [x] =?utf-8?q?Gr=C3=BC?= (fwd)", "1 Jul 2024 10:00:00 +0200 (x)", "<a@b> <\"c\"@d>", "Ann <ann@x.test>")
	f.Add("[fwd: [fwd: x]]", "", "<@>", "")
	f.Fuzz(func(t *testing.T, subject, date, references, from string) {
		facts := newSortFacts(&mimetree.Envelope{Subject: subject, Date: date, References: references, From: mimetree.ParseAddresses(from)}, casemap)
		require.LessOrEqual(t, len(facts.references), maxReferences)
		again := parseFacts(facts.append(nil))
		require.True(t, facts.date.Unix() == again.date.Unix() && facts.date.IsZero() == again.date.IsZero())
		facts.date, again.date = time.Time{}, time.Time{}
		require.Equal(t, facts, again)
		base, _ := baseSubject(subject)
		twice, _ := baseSubject(base)
		require.Equal(t, base, twice, "a base subject is its own")
	})
}
