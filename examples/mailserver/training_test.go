package main

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
	for i := range 30 {
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
	assert.NotContains(t, p.logged(), "level=ERROR")
}

func TestAsChecked(t *testing.T) {
	for in, want := range map[string]string{
		"X-Spam-Status: YES\r\nX-Spam-Reasons:\r\n\ta\r\n b\r\nReceived: x\r\nX-Spam-Flag: NO\r\n\r\n": "Received: x\r\nX-Spam-Flag: NO\r\n\r\n",
		"Return-Path: <a@b>\r\nSubject: x\r\n\r\n":                                                     "Subject: x\r\n\r\n",
		"Subject: x": "Subject: x", "": "", "X-Spam-": "",
	} {
		r, err := asChecked(strings.NewReader(in))
		require.NoError(t, err)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
}
