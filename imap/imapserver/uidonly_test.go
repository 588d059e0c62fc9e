package imapserver

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mailblocks/mailblocks/imap"
)

func TestUIDOnly(t *testing.T) { // RFC 9586
	ts := newServer(t, func(s *Server) { s.Advertise = func(*Client, string) bool { return true } })
	ts.fill("ann", "INBOX", text("Subject: one\n\nx\n"), text("Subject: two\n\nx\n"), text("Subject: three\n\nx\n"), text("Subject: four\n\nx\n"))
	ts.fill("ann", "other")
	p, other := ts.session("ann"), ts.session("ann")
	play(t, other, "C: s SELECT INBOX\nS* \\* .*\nS~ s OK .*\nC: t STORE 1 +FLAGS.SILENT (\\Deleted)\nS* \\* .*\nS~ t OK .*\nC: u EXPUNGE\nS* \\* .*\nS~ u OK .*")
	play(t, p, `
C: a CAPABILITY
S~ \* CAPABILITY .* UIDONLY .*
S~ a OK .*
C: b SELECT INBOX
S* \* .*
S~ b OK .*
C: c ENABLE UIDONLY
S: c BAD not while a mailbox is selected
C: d UNSELECT
S~ d OK .*
C: e ENABLE UIDONLY IMAP4rev2
S: * ENABLED UIDONLY IMAP4rev2
S~ e OK .*
C: f SELECT INBOX
S: * 3 EXISTS
S* \* .*
S~ f OK .*
C: g FETCH 1 FLAGS
S: g BAD [UIDREQUIRED] messages have no numbers after ENABLE UIDONLY
C: h SEARCH ALL
S~ h BAD \[UIDREQUIRED\] .*
C: i UID SEARCH 1:2
S~ i BAD \[UIDREQUIRED\] .*
C: j STORE 1 FLAGS ()
S~ j BAD \[UIDREQUIRED\] .*
C: k COPY 1 other
S~ k BAD \[UIDREQUIRED\] .*
C: l SORT (ARRIVAL) UTF-8 ALL
S~ l BAD \[UIDREQUIRED\] .*
C: m UID FETCH 2:4 FLAGS
S: * 2 UIDFETCH (FLAGS ())
S: * 3 UIDFETCH (FLAGS ())
S: * 4 UIDFETCH (FLAGS ())
S: m OK fetched
C: n UID FETCH 3 (UID BODY[HEADER.FIELDS (SUBJECT)])
S: * 3 UIDFETCH (UID 3 BODY[HEADER.FIELDS (SUBJECT)] {18}
S: Subject: three
S:
S:  FLAGS (\Seen))
S: n OK fetched
C: o UID STORE 4 +FLAGS (\Deleted)
S: * 4 UIDFETCH (FLAGS (\Deleted))
S: o OK stored
C: p EXPUNGE
S: * VANISHED 4
S: p OK expunged
C: q UID MOVE 2 other
S~ \* OK \[COPYUID .*
S: * VANISHED 2
S: q OK done
C: r UID SEARCH RETURN (ALL) UID 1:* SEEN
S: * ESEARCH (TAG "r") UID ALL 3
S: r OK searched
C: s UID SEARCH UIDAFTER 2 UIDBEFORE 4
S: * ESEARCH (TAG "s") UID ALL 3
S: s OK searched
C: t UNSELECT
S~ t OK .*
C: u ENABLE QRESYNC
S* \* .*
S~ u OK .*
C: v SELECT INBOX (QRESYNC (1 1 1:3 (1 1)))
S~ v BAD \[UIDREQUIRED\] .*
C: w SELECT INBOX
S* \* .*
S~ w OK .*
C: x UID STORE 3 +FLAGS.SILENT (\Flagged)
S~ \* 3 UIDFETCH \(MODSEQ \(\d+\)\)
S: x OK stored
C: y IDLE
S: + idling
`)
	play(t, other, "C: v STORE 1:* +FLAGS.SILENT (\\Answered)\nS* \\* .*\nS~ v .*")
	play(t, p, `S~ \* 3 UIDFETCH \(FLAGS \(\\Answered \\Flagged \\Seen\) MODSEQ \(\d+\)\)`)
}

func TestUIDBatches(t *testing.T) { // RFC 10022
	ts := newServer(t, nil)
	msgs := make([]imap.NewMessage, 1300)
	for i := range msgs {
		msgs[i] = text("a\n")
	}
	ts.fill("ann", "INBOX", msgs...)
	ts.fill("ann", "empty")
	p := ts.session("ann")
	play(t, p, `
C: a UIDBATCHES 500
S: a BAD no mailbox is selected
C: s SELECT INBOX
S* \* .*
S~ s OK .*
C: b UIDBATCHES 500
S: * UIDBATCHES (TAG "b") 1300:801,800:301,300:1
S: b OK these are the batches
C: c UIDBATCHES 500 2:2
S: * UIDBATCHES (TAG "c") 800:301
S~ c OK .*
C: d UIDBATCHES 500 4:9
S: * UIDBATCHES (TAG "d")
S~ d OK .*
C: e UIDBATCHES 2000
S: * UIDBATCHES (TAG "e") 1300:1
S~ e OK .*
C: f UIDBATCHES 10
S~ f NO \[TOOFEW\] .*
C: g UIDBATCHES 500 20:10
S~ g BAD \[CLIENTBUG\] .*
C: h UIDBATCHES 500 10
S~ h BAD .*
C: i UIDBATCHES 500 0:1
S~ i BAD .*
C: j UIDBATCHES
S~ j BAD .*
C: k SELECT empty
S* \* .*
S~ k OK .*
C: l UIDBATCHES 500
S: * UIDBATCHES (TAG "l")
S~ l OK .*
`)
}

func TestMessageLimit(t *testing.T) { // RFC 9738
	ts := newServer(t, func(s *Server) { s.MaxMessagesPerCommand = 2 })
	for i := range 5 {
		ts.fill("ann", "INBOX", text(fmt.Sprintf("Subject: %d\n\nx\n", i)))
	}
	ts.fill("ann", "other")
	p := ts.session("ann")
	play(t, p, `
C: a CAPABILITY
S~ \* CAPABILITY .* MESSAGELIMIT=2
S~ a OK .*
C: s SELECT INBOX
S* \* .*
S~ s OK .*
C: b FETCH 1:* UID
S: * 4 FETCH (UID 4)
S: * 5 FETCH (UID 5)
S: b OK [MESSAGELIMIT 2 4] fetched
C: c UID FETCH 1:2 UID
S: * 1 FETCH (UID 1)
S: * 2 FETCH (UID 2)
S: c OK fetched
C: d STORE 1:3 +FLAGS.SILENT (\Deleted)
S: d OK [MESSAGELIMIT 2 2] stored
C: e COPY 1:3 other
S: e NO [MESSAGELIMIT 2] too many messages for one command
C: f STORE 1 +FLAGS.SILENT (\Deleted)
S: f OK stored
C: g UID EXPUNGE 1:*
S: * 2 EXPUNGE
S: * 2 EXPUNGE
S* \* \d+ RECENT
S: g OK [MESSAGELIMIT 2 2] expunged
C: h UID MOVE 1:* other
S~ \* OK \[COPYUID \d+ 4:5 1:2\] moved
S: * 2 EXPUNGE
S: * 2 EXPUNGE
S* \* \d+ RECENT
S: h OK [MESSAGELIMIT 2 4] done
C: i APPEND INBOX {1+}
C: a {1+}
C: b {1+}
C: c
S: i NO [MESSAGELIMIT 2] too many messages for one command
`)
}

func TestLiteralMinus(t *testing.T) { // RFC 7888, 5
	ts := newServer(t, func(s *Server) { s.LiteralMinus = true })
	p := ts.player()
	play(t, p, "S~ \\* OK \\[CAPABILITY IMAP4rev1 LITERAL- .*\nC: a LOGIN {3+}\nC: ann {6+}\nC: secret\nS~ a OK .*")
	play(t, p, "C: b APPEND INBOX {4097+}\nC: "+strings.Repeat("x", 4097)+"\nS~ b BAD \\[TOOBIG\\] .*\nC: c NOOP\nS~ c OK .*\nC: d APPEND INBOX {4097}\nS: + go ahead\nC: "+strings.Repeat("x", 4097)+"\nS~ d OK .*")
}

func TestInProgress(t *testing.T) { // RFC 9585
	ts := newServer(t, func(s *Server) { s.progress = 1 })
	ts.fill("ann", "INBOX", text("Subject: one\n\nx\n"))
	p := ts.session("ann")
	play(t, p, "C: s SELECT INBOX\nS* \\* .*\nS~ s OK .*\nC: a SEARCH BODY x\nS: * OK [INPROGRESS (\"a\" 0 1)] still searching\nS: * SEARCH 1\nS~ a OK .*")
}

func TestAdvertise(t *testing.T) {
	ts := newServer(t, func(s *Server) {
		s.Advertise = func(c *Client, name string) bool {
			return AdvertiseByDefault(c, name) && (c.ID["name"] != "Trips" || name != "NOTIFY")
		}
	})
	p := ts.session("ann")
	play(t, p, `
C: a CAPABILITY
S~ \* CAPABILITY .* NOTIFY .*
S~ a OK .*
C: b ID ("name" "Trips")
S* \* .*
S~ b OK .*
C: c CAPABILITY
S~ \* CAPABILITY .*COMPRESS=DEFLATE CONTEXT=SEARCH.*
S~ c OK .*
`)
}
