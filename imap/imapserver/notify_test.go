package imapserver

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mailblocks/mailblocks/imap"
)

func TestNotifySelected(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", text("Subject: one\n\n"), text("Subject: two\n\n"))
	p, other := ts.session("ann"), ts.session("ann")
	play(t, other, "C: s SELECT INBOX\nS* \\* .*\nS~ s OK .*")
	play(t, p, `
C: a NOTIFY SET (selected (MessageNew (uid body.peek[header.fields (from subject)]) MessageExpunge FlagChange))
S: a OK will be told
C: r ENABLE IMAP4rev2
S~ \* .*
S~ r OK .*
C: b SELECT INBOX
S* \* .*
S~ b OK .*
`)
	// Between commands, at once, with what was asked for.
	ts.fill("ann", "INBOX", text("From: a@example.org\nSubject: three\n\nhello\n"))
	play(t, p, `
S: * 3 EXISTS
S: * 3 FETCH (UID 3 BODY[HEADER.FIELDS (from subject)] {39}
S: From: a@example.org
S: Subject: three
S:
S: )
`[1:])
	play(t, other, "C: t STORE 1 +FLAGS.SILENT (\\Deleted)\nS* \\* .*\nS~ t OK .*")
	play(t, p, `S: * 1 FETCH (UID 1 FLAGS (\Deleted))`)
	play(t, other, "C: u EXPUNGE\nS* \\* .*\nS~ u OK .*")
	play(t, p, "S: * 1 EXPUNGE")
	// The session's own message is not fetched for it.
	play(t, p, "C: c APPEND INBOX {3+}\nC: abc\nS: * 3 EXISTS\nS~ c OK .*")
	// In IDLE as well.
	play(t, p, "C: d IDLE\nS: + idling")
	ts.fill("ann", "INBOX", text("Subject: x\n\n"))
	play(t, p, "S: * 4 EXISTS\nS~ \\* 4 FETCH \\(UID 5 .*\nS: Subject: x\nS:\nS: )\nC: DONE\nS~ d OK .*")
	// What is not asked for is not told; what a command does is.
	play(t, p, "C: e NOTIFY NONE\nS: e OK nothing will be told")
	play(t, other, "C: v STORE 1 +FLAGS (\\Deleted)\nS* \\* .*\nS~ v OK .*")
	play(t, p, "C: f NOOP\nS: f OK nothing done\nC: g EXPUNGE\nS: * 1 EXPUNGE\nS: g OK expunged")
	ts.fill("ann", "INBOX", text("Subject: y\n\n"))
	play(t, p, `
C: h SEARCH ALL
S~ \* ESEARCH \(TAG "h"\) ALL 1:3
S: h OK searched
C: i NOTIFY SET (selected-delayed (MessageNew MessageExpunge))
S: * 4 EXISTS
S: i OK will be told
`)
	play(t, other, "C: w UID STORE 3 +FLAGS.SILENT (\\Deleted)\nS* \\* .*\nS~ w OK .*\nC: x EXPUNGE\nS* \\* .*\nS~ x OK .*")
	ts.fill("ann", "INBOX", text("Subject: z\n\n"))
	// EXPUNGE waits for a command that allows it, EXISTS does not; FlagChange was not asked for.
	play(t, p, "S: * 5 EXISTS\nC: j SEARCH ALL\nS: * ESEARCH (TAG \"j\") ALL 1:5\nS: j OK searched\nC: k NOOP\nS: * 1 EXPUNGE\nS: k OK nothing done")
}

func TestNotifyMailboxes(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "Lists/Lemonade", text("Subject: one\n\n"))
	ts.fill("ann", "Lists/Im2000")
	p, other := ts.session("ann"), ts.session("ann")
	play(t, p, `
C: b notify set status (selected (MessageNew (uid) MessageExpunge)) (subtree Lists (MessageNew MessageExpunge))
S~ \* STATUS Lists/Im2000 \(MESSAGES 0 UIDNEXT 1 UIDVALIDITY \d+\)
S~ \* STATUS Lists/Lemonade \(MESSAGES 1 UIDNEXT 2 UIDVALIDITY \d+\)
S: b OK will be told
C: r ENABLE IMAP4rev2
S~ \* .*
S~ r OK .*
C: c SELECT INBOX
S* \* .*
S~ c OK .*
`)
	ts.fill("ann", "Lists/Lemonade", text("Subject: two\n\n"))
	play(t, p, `S~ \* STATUS Lists/Lemonade \(MESSAGES 2 UIDNEXT 3 UIDVALIDITY \d+\)`)
	ts.fill("ann", "INBOX", text("Subject: x\n\n"))
	play(t, p, "S: * 1 EXISTS\nS: * 1 FETCH (UID 1)")
	// Its own doing is known to the client.
	play(t, p, "C: d APPEND Lists/Im2000 {3+}\nC: abc\nS~ d OK .*\nC: d2 NOOP\nS: d2 OK nothing done")
	// Flags of other mailboxes, with the mod-sequence where the client can use it.
	play(t, p, `
C: e NOTIFY SET (personal (MessageNew MessageExpunge FlagChange))
S: e OK will be told
`)
	play(t, other, "C: s SELECT Lists/Lemonade\nS* \\* .*\nS~ s OK .*\nC: t STORE 1 +FLAGS (\\Seen)\nS* \\* .*\nS~ t OK .*")
	play(t, p, `S~ \* STATUS Lists/Lemonade \(UIDVALIDITY \d+ UNSEEN 1\)`)
	play(t, p, "C: f ENABLE CONDSTORE\nS* \\* .*\nS~ f OK .*")
	play(t, other, "C: t STORE 1 +FLAGS (\\Flagged)\nS* \\* .*\nS~ t OK .*")
	play(t, p, `S~ \* STATUS Lists/Lemonade \(UIDVALIDITY \d+ HIGHESTMODSEQ \d+\)`)
	// A mailbox that comes is watched as well.
	play(t, other, "C: u CREATE New\nS~ u OK .*")
	play(t, p, "C: g NOOP\nS~ g OK .*")
	ts.fill("ann", "New", text("Subject: x\n\n"))
	play(t, p, `S~ \* STATUS New \(MESSAGES 1 UIDNEXT 2 UIDVALIDITY \d+ UNSEEN 1 HIGHESTMODSEQ \d+\)`)
}

func TestNotifyNames(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "Foo/Bar")
	p, other := ts.session("ann"), ts.session("ann")
	play(t, p, "C: a NOTIFY SET (personal (MailboxName SubscriptionChange))\nS: a OK will be told")
	do := func(command string) {
		t.Helper()
		play(t, other, "C: x "+command+"\nS~ x OK .*")
	}
	do("CREATE NewMailbox")
	play(t, p, `S: * LIST (\HasNoChildren) "/" NewMailbox`)
	do("CREATE NewMailbox/child")
	play(t, p, `
S: * LIST (\HasChildren) "/" NewMailbox
S: * LIST (\HasNoChildren) "/" NewMailbox/child
`)
	do("SUBSCRIBE NewMailbox")
	play(t, p, `S: * LIST (\HasChildren \Subscribed) "/" NewMailbox`)
	do("UNSUBSCRIBE NewMailbox")
	play(t, p, `S: * LIST (\HasChildren) "/" NewMailbox`)
	do("RENAME NewMailbox Renamed")
	play(t, p, `S: * LIST (\HasChildren) "/" Renamed ("OLDNAME" (NewMailbox))`)
	do("DELETE Renamed/child")
	play(t, p, `
S: * LIST (\HasNoChildren) "/" Renamed
S: * LIST (\NonExistent \HasNoChildren) "/" Renamed/child
`)
	// What the session does itself it is not told of.
	play(t, p, `
C: b CREATE Mine
S~ b OK .*
C: c SUBSCRIBE Mine
S~ c OK .*
C: d RENAME Mine Yours
S~ d OK .*
C: e DELETE Yours
S~ e OK .*
C: f NOOP
S: f OK nothing done
C: g NOTIFY SET (mailboxes (Foo/Bar Nowhere) (MailboxName)) (subscribed (SubscriptionChange))
S: g OK will be told
`)
	do("CREATE Other")
	do("SUBSCRIBE Foo/Bar")
	play(t, p, `S: * LIST (\HasNoChildren \Subscribed) "/" Foo/Bar`)
	do("UNSUBSCRIBE Foo/Bar")
	play(t, p, `S: * LIST (\HasNoChildren) "/" Foo/Bar`)
	do("DELETE Foo/Bar")
	play(t, p, `S: * LIST (\NonExistent \HasNoChildren) "/" Foo/Bar`)
	do("CREATE Nowhere")
	play(t, p, `S: * LIST (\HasNoChildren) "/" Nowhere`)
}

func TestNotifySyntax(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", text("Subject: one\n\n"))
	p := ts.session("ann")
	play(t, p, `
C: a NOTIFY SET (selected (FlagChange))
S: a BAD MessageNew and MessageExpunge belong together, and to FlagChange
C: b NOTIFY SET (personal (MessageNew))
S~ b BAD .*
C: c NOTIFY SET (selected (MailboxName))
S: c BAD the selected mailbox has events of messages alone
C: d NOTIFY SET (selected (MessageNew MessageExpunge)) (selected-delayed NONE)
S: d BAD the selected mailbox is named twice
C: e NOTIFY SET (personal (MessageNew (UID) MessageExpunge))
S: e BAD items belong to the selected mailbox
C: f NOTIFY SET (personal (AnnotationChange MessageNew MessageExpunge))
S: f NO [BADEVENT (MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange)] such events are not known here
C: g NOTIFY SET (everything (MailboxName))
S: g BAD no such mailboxes
C: h NOTIFY SET
S~ h BAD .*
C: i NOTIFY
S~ i BAD .*
C: j NOTIFY SET (selected NONE)
S: j OK will be told
C: k NOTIFY NONE
S: k OK nothing will be told
C: l NOTIFY SET (mailboxes {5+}
C: INBOX (MessageNew MessageExpunge)) (inboxes (MailboxName)) (subtree (a "b c") NONE)
S: l OK will be told
C: m UNAUTHENTICATE
S~ m OK .*
C: n LOGIN ann secret
S~ n OK .*
C: o NOTIFY SET STATUS (mailboxes inbox (MessageNew MessageExpunge))
S~ \* STATUS INBOX \(MESSAGES 1 UIDNEXT 2 UIDVALIDITY \d+\)
S: o OK will be told
C: p LOGOUT
S* \* .*
S~ p OK .*
`)
	play(t, ts.session("ann"), "C: a NOTIFY SET "+strings.Repeat("(personal NONE) ", 60)+"(personal NONE)\nS: a BAD too many event groups")
	play(t, ts.session("ann"), "C: a NOTIFY SET (mailboxes ("+strings.Repeat("a ", 2000)+"a) NONE)\nS: a BAD too many names")
}

// TestNotifyContext: a search that is kept up to date can fetch what comes (RFC 5465, 7).
func TestNotifyContext(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", text("From: boss@example.org\n\n"))
	p := ts.session("ann")
	play(t, p, `
C: r ENABLE IMAP4rev2
S~ \* .*
S~ r OK .*
C: s EXAMINE INBOX
S* \* .*
S~ s OK .*
C: a00 SEARCH RETURN (COUNT UPDATE (UID BODY[HEADER.FIELDS (FROM)])) FROM "boss"
S: * ESEARCH (TAG "a00") COUNT 1
S: a00 OK searched
`)
	ts.fill("ann", "INBOX", imap.NewMessage{Body: strings.NewReader("From: boss@example.org\r\n\r\n")}, text("From: me@example.org\n\n"))
	play(t, p, `
C: b NOOP
S: * 3 EXISTS
S: * 2 FETCH (UID 2 BODY[HEADER.FIELDS (FROM)] {26}
S: From: boss@example.org
S:
S: )
S: * ESEARCH (TAG "a00") ADDTO (0 2)
S: b OK nothing done
`)
}

// TestNotifyManyMailboxes watches some mailboxes, polls the rest, and lets go of all.
func TestNotifyManyMailboxes(t *testing.T) {
	ts := newServer(t, nil)
	for i := range maxWatched + 20 {
		ts.fill("ann", fmt.Sprintf("m%d", i))
	}
	p := ts.session("ann")
	play(t, p, "C: a NOTIFY SET (personal (MessageNew MessageExpunge))\nS: a OK will be told")
	h := &ts.Server.accounts["ann"].hub
	h.mu.Lock()
	polled := 0
	for _, w := range h.watched {
		if w.polled {
			polled++
		}
	}
	if n := len(h.watched); n != maxWatched+21 || polled != 21 {
		t.Errorf("%d mailboxes are watched, %d of them by polling", n, polled)
	}
	h.mu.Unlock()
	play(t, p, "C: b NOTIFY NONE\nS~ b OK .*")
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.watched) != 0 || h.stop != nil {
		t.Error("mailboxes are still watched")
	}
}
