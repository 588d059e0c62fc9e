package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/spam"
)

// Who moves messages into Junk teaches the filter: more of the same goes there by itself.
// Who moves one back teaches it the other way.
func TestTraining(t *testing.T) {
	p := start(t, t.TempDir(), append(everywhere(), "-user", alice+":"+alicePassword, "-no-dnsauth", "-log-level", "debug")...)
	c := p.mta()
	send := func(kind string, i int) {
		texts := map[string]string{
			"spam": "From: Winner <win%[1]d@casino.example.net>\r\nTo: alice@b.test\r\nSubject: You won a prize %[1]d\r\nMessage-ID: <s%[1]d@casino.example.net>\r\n\r\n" +
				"Congratulations! Claim your free casino bonus of %[1]d dollars now, click here, lottery jackpot winner.\r\n",
			"ham": "From: Carol <carol@example.org>\r\nTo: alice@b.test\r\nSubject: minutes of meeting %[1]d\r\nMessage-ID: <h%[1]d@example.org>\r\n\r\n" +
				"Dear Alice, please find below the notes of our project meeting number %[1]d. The next review is on Tuesday.\r\n",
		}
		res, err := c.Send(t.Context(), envelope("x@example.org", alice), strings.NewReader(fmt.Sprintf(texts[kind], i)))
		require.NoError(t, err)
		require.True(t, res.All())
	}
	box := p.imap(alice, alicePassword)
	moveAll := func(from, to, search string) {
		box.do("SELECT %s", from)
		lines, _ := box.do("UID SEARCH %s", search)
		var uids []string
		for _, l := range lines {
			if rest, ok := strings.CutPrefix(l, "* SEARCH"); ok {
				uids = strings.Fields(rest)
			}
		}
		require.NotEmpty(t, uids)
		box.do("UID MOVE %s %s", strings.Join(uids, ","), to)
	}
	count := func(mailbox, subject string) int {
		n := 0
		for _, m := range box.mails(mailbox) {
			if strings.Contains(m, "Subject: "+subject) {
				n++
			}
		}
		return n
	}
	send("spam", 0)
	require.Equal(t, 1, count("INBOX", "You won"), "who has learned nothing decides nothing")
	for i := range 60 {
		send("spam", 100+i)
		send("ham", 100+i)
	}
	moveAll("INBOX", "Junk", `SUBJECT "You won"`)
	// What is moved into Junk by mistake and back is wanted mail.
	moveAll("INBOX", "Junk", `SUBJECT "minutes"`)
	moveAll("Junk", "INBOX", `SUBJECT "minutes"`)

	junkBefore := count("Junk", "You won")
	for i := range 5 {
		send("spam", 900+i)
		send("ham", 900+i)
	}
	assert.GreaterOrEqual(t, count("Junk", "You won")-junkBefore, 4, "spam goes to Junk")
	assert.Zero(t, count("Junk", "minutes"), "and wanted mail does not")
	for _, m := range box.mails("Junk") {
		if strings.Contains(m, "You won a prize 904") {
			assert.Contains(t, m, "X-Spam-Flag: YES\r\n")
			assert.Regexp(t, `X-Spam-Status: YES, spam score=\d`, m)
			assert.Contains(t, m, "X-Spam-Reasons:")
		}
	}
	// A keyword teaches like a move: what it calls wanted is no longer spam.
	box.do("SELECT Junk")
	box.do("UID STORE 1:* +FLAGS ($NotJunk)")
	before := count("Junk", "You won")
	for i := range 5 {
		send("spam", 950+i)
	}
	assert.Equal(t, before, count("Junk", "You won"))
	assert.NotContains(t, p.logged(), "level=ERROR")
}

func TestLabelOf(t *testing.T) {
	flags := func(system imap.SystemFlags, keywords ...string) imap.Flags { return imap.MakeFlags(system, keywords) }
	for _, c := range []struct {
		op   imap.FlagOp
		want spam.Label
	}{
		{imap.FlagOp{Action: imap.FlagsAdd, Flags: flags(imap.Seen)}, spam.Unlabelled},
		{imap.FlagOp{Action: imap.FlagsAdd, Flags: flags(0, "$Junk")}, spam.Spam},
		{imap.FlagOp{Action: imap.FlagsAdd, Flags: flags(imap.Answered, "$Junk")}, spam.Spam},
		{imap.FlagOp{Action: imap.FlagsReplace, Flags: flags(0, "$NotJunk")}, spam.Ham},
		{imap.FlagOp{Action: imap.FlagsAdd, Flags: flags(imap.Answered)}, spam.Ham},
		{imap.FlagOp{Action: imap.FlagsRemove, Flags: flags(0, "$Junk")}, spam.Unlabelled},
		{imap.FlagOp{Action: imap.FlagsAdd, Flags: flags(0, "$Junk", "$NotJunk")}, spam.Unlabelled},
	} {
		assert.Equal(t, c.want, labelOf(c.op), "%+v", c.op)
	}
}

// Whose mail is judged spam has a bad name then, once for each message, until it is judged
// the other way.
func TestReputationLearns(t *testing.T) {
	f, err := openFilter(t.TempDir(), func(*spam.Envelope) string { return "" })
	require.NoError(t, err)
	defer f.close()
	from := &spam.Envelope{Remote: netip.MustParseAddr("192.0.2.7"), Authenticated: []string{"casino.example"}}
	score := func() float64 {
		v, err := f.reputation.Check(t.Context(), from, nil)
		require.NoError(t, err)
		return v.Score
	}
	train := func(i int, l spam.Label) {
		fields, _ := f.check(t.Context(), from, strings.NewReader(fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i)))
		require.NoError(t, f.train(t.Context(), alice, strings.NewReader(fields+fmt.Sprintf("Subject: %d\r\n\r\nx\r\n", i)), l))
	}
	for i := range 20 {
		train(i, spam.Spam)
	}
	bad := score()
	assert.Positive(t, bad)
	train(3, spam.Spam)
	assert.InDelta(t, bad, score(), 1e-3, "the same again counts once")
	for i := range 20 {
		train(i, spam.Ham)
	}
	assert.LessOrEqual(t, score(), 0.0)
}

func TestAsChecked(t *testing.T) {
	for in, want := range map[string]string{
		"X-Spam-Status: YES\r\nX-Spam-Reasons:\r\n\ta\r\n b\r\nReceived: x\r\nX-Spam-Flag: NO\r\n\r\n": "Received: x\r\nX-Spam-Flag: NO\r\n\r\n",
		"Return-Path: <a@b>\r\nSubject: x\r\n\r\n":                                                     "Subject: x\r\n\r\n",
		"Subject: x": "Subject: x", "": "", "X-Spam-": "",
	} {
		r, _, err := asChecked(strings.NewReader(in))
		require.NoError(t, err)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
}
