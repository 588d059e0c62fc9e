package imapserver

import (
	"context"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/dialog"
	"github.com/mailblocks/mailblocks/maildir"
)

// sharing makes all of ann, bob and carl owners.
func sharing(s *Server) {
	s.Owners = func(context.Context, string) ([]string, error) { return []string{"bob", "ann", "carl", "bob"}, nil }
}

// onMaildir keeps mail in Maildirs.
func onMaildir(t *testing.T, s *Server) {
	dir := t.TempDir()
	s.Login = func(_ context.Context, identity string) (imap.Store, error) {
		return maildir.Open(filepath.Join(dir, identity), nil)
	}
}

// TestSharing plays two users over both stores: bob shares with ann.
func TestSharing(t *testing.T) {
	for name, change := range map[string]func(*Server){"memory": sharing, "maildir": func(s *Server) { sharing(s); onMaildir(t, s) }} {
		t.Run(name, func(t *testing.T) { testSharing(t, newServer(t, change)) })
	}
}

func testSharing(t *testing.T, ts *testServer) {
	ann, bob := ts.session("ann"), ts.session("bob")
	p := func(who *dialog.Player, text string) { t.Helper(); play(t, who, text) }

	// Nothing is shared at first, and nothing tells what there is.
	p(bob, `
C: a CREATE Work
C: b CREATE Work/Sub
C: c APPEND Work (\Seen $Old) {20+}
C: Subject: one
C:
C: body
C: d APPEND Work {14+}
C: Subject: two
C:
S~ a OK .*
S~ b OK .*
S~ c OK .*
S~ d OK .*
`)
	p(ann, `
C: a NAMESPACE
S: * NAMESPACE (("" "/")) (("user/" "/")) NIL
S: a OK here they are
C: b LIST "" *
S: * LIST (\HasNoChildren) "/" INBOX
S: b OK that is all
C: c SELECT user/bob/Work
S: c NO [NONEXISTENT] no such mailbox
C: d MYRIGHTS user/bob/Work
S: d NO [NONEXISTENT] no such mailbox
C: e SELECT user/nobody/INBOX
S: e NO [NONEXISTENT] no such mailbox
C: f GETQUOTAROOT user/bob/Work
S: f NO [NONEXISTENT] no such mailbox
C: g CREATE user/bob/Mine
S: g NO [NOPERM] permission denied
C: h CREATE user/bob
S~ h NO \[CANNOT\] .*
C: i DELETE user/bob/Work
S: i NO [NONEXISTENT] no such mailbox
C: j GETMETADATA user/bob/Work /shared/comment
S: j NO [NONEXISTENT] no such mailbox
C: k APPEND user/bob/Work {3+}
C: x
C:
S~ k NO \[TRYCREATE\] .*
`)

	// Reading.
	p(bob, "C: a SETACL Work ann l\nS: a OK the list is changed")
	p(ann, `
C: a LIST "" *
S: * LIST (\HasNoChildren) "/" INBOX
S: * LIST (\Noselect \HasChildren) "/" user
S: * LIST (\Noselect \HasChildren) "/" user/bob
S: * LIST (\HasNoChildren) "/" user/bob/Work
S: a OK that is all
C: b LIST "" user/% RETURN (MYRIGHTS)
S: * LIST (\Noselect \HasChildren) "/" user/bob
S: b OK that is all
C: c LIST "user/bob/" % RETURN (MYRIGHTS STATUS (MESSAGES))
S: * LIST (\HasNoChildren) "/" user/bob/Work
S: * MYRIGHTS user/bob/Work l
S: c OK that is all
C: d SELECT user/bob/Work
S: d NO [NOPERM] permission denied
C: e GETACL user/bob/Work
S: e NO [NOPERM] permission denied
C: f SETACL user/bob/Work ann +r
S: f NO [NOPERM] permission denied
`)
	p(bob, "C: a SETACL Work ann +r\nS: a OK the list is changed")
	p(ann, `
C: a EXAMINE user/bob/Work
S* \* .*
S: a OK [READ-ONLY] selected
C: b SELECT user/bob/Work
S: * OK [CLOSED] another mailbox is selected
S: * 2 EXISTS
S~ \* \d RECENT
S* \* OK \[UNSEEN.*
S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Old)
S: * OK [PERMANENTFLAGS ()] these are kept
S* \* .*
S: b OK [READ-ONLY] selected
C: c FETCH 2 (FLAGS BODY[])
S~ \* 2 FETCH \(FLAGS \((\\Recent)?\) BODY\[\] \{14\}
S: Subject: two
S: )
S: c OK fetched
C: d STORE 2 +FLAGS (\Seen)
S: d NO [NOPERM] mailbox is read-only
C: e EXPUNGE
S: e NO [NOPERM] mailbox is read-only
C: f COPY 2 INBOX
S~ f OK \[COPYUID \d+ 2 1\] done
C: g UNSELECT
C: h STATUS INBOX (MESSAGES)
S: g OK closed
S: * STATUS INBOX (MESSAGES 1)
S: h OK that is its status
C: i STATUS user/bob/work (MESSAGES)
S: i NO [NONEXISTENT] no such mailbox
C: j STATUS user/bob/Work/Sub (MESSAGES)
S: j NO [NONEXISTENT] no such mailbox
`)

	// RFC 4314, 4: COPY and APPEND keep the flags that may be set; STORE changes what may be.
	p(bob, "C: a SETACL Work ann +isw\nS: a OK the list is changed")
	p(ann, `
C: a APPEND user/bob/Work (\Seen \Deleted \Draft $Kept) {16+}
C: Subject: three
C:
S~ a OK \[APPENDUID \d+ 3\] appended
C: b SELECT user/bob/Work
S* \* [^O].*
S* \* OK \[UNSEEN.*
S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Kept $Old)
S: * OK [PERMANENTFLAGS (\Answered \Flagged \Seen \Draft $Kept $Old \*)] these are kept
S* \* .*
S: b OK [READ-WRITE] selected
C: c UID FETCH 3 (FLAGS)
S~ \* 3 FETCH \(UID 3 FLAGS \(\\Seen \\Draft \$Kept( \\Recent)?\)\)
S: c OK fetched
C: d STORE 1 FLAGS (\Flagged \Deleted)
S* \* (FLAGS|OK) .*
S~ \* 1 FETCH \(FLAGS \(\\Flagged( \\Recent)?\)\)
S: d OK stored
C: e STORE 1 +FLAGS (\Deleted)
S: e NO [NOPERM] permission denied
C: f EXPUNGE
S: f NO [NOPERM] permission denied
C: g MOVE 1 INBOX
S: g NO [NOPERM] permission denied
C: h CLOSE
S: h OK closed
`)
	p(bob, "C: a SETACL Work ann lrsitek\nS: a OK the list is changed")
	p(ann, `
C: a SELECT INBOX
S* \* .*
S~ a OK .*
C: b STORE 1 FLAGS.SILENT (\Deleted \Flagged \Seen)
C: c COPY 1 user/bob/Work
S: b OK stored
S~ c OK \[COPYUID \d+ 1 4\] done
C: d SELECT user/bob/Work
S* \* .*
S~ d OK .*
C: e UID FETCH 4 (FLAGS BODY.PEEK[])
S~ \* 4 FETCH \(UID 4 FLAGS \(\\Deleted \\Seen( \\Recent)?\) BODY\[\] \{14\}
S: Subject: two
S: )
S: e OK fetched
C: f REPLACE 3 user/bob/Work {18+}
C: Subject: thrice!
C:
S~ \* OK \[APPENDUID \d+ 5\] .*
S* \* (FLAGS|OK) .*
S: * 3 EXPUNGE
S: * 4 EXISTS
S* \* \d RECENT
S: f OK replaced
C: g MOVE 1 INBOX
S~ \* OK \[COPYUID \d+ 1 2\] moved
S: * 1 EXPUNGE
S* \* \d RECENT
S: g OK done
C: h UID EXPUNGE 4
S: * 2 EXPUNGE
S* \* \d RECENT
S: h OK expunged
C: i CREATE user/bob/Work/New
C: j MYRIGHTS user/bob/Work/New
S~ i OK .*
S: * MYRIGHTS user/bob/Work/New lrsiktecd
S: j OK these are yours
C: k DELETE user/bob/Work/New
S: k NO [NOPERM] permission denied
C: l RENAME user/bob/Work Stolen
S: l NO [NOPERM] permission denied
`)

	// Negative rights, anyone; a list that changes holds at once.
	p(bob, `
C: a SETACL Work anyone lr
C: b SETACL Work -ann rte
S: a OK the list is changed
S: b OK the list is changed
`)
	p(ann, `
C: a FETCH 1 (BODY.PEEK[])
S: a NO [NOPERM] permission denied
C: b MYRIGHTS user/bob/Work
S: * MYRIGHTS user/bob/Work lsikc
S: b OK these are yours
C: c UNSELECT
S: c OK closed
`)
	carl := ts.session("carl")
	p(carl, `
C: a SUBSCRIBE user/bob/Work
C: b SUBSCRIBE user/bob/Gone
C: c LSUB "" *
S: a OK subscribed
S: b OK subscribed
S~ \* LSUB \(.*\) "/" user/bob/Gone
S: * LSUB (\HasNoChildren) "/" user/bob/Work
S: c OK that is all
C: d LIST (SUBSCRIBED) "" *
S~ \* LIST \(\\NonExistent .*\) "/" user/bob/Gone
S: * LIST (\HasNoChildren \Subscribed) "/" user/bob/Work
S: d OK that is all
`)

	// The owner's Inbox, annotations, and rights given away.
	p(bob, `
C: a SETACL INBOX carl lrwa
C: b SETMETADATA INBOX (/shared/comment "ours" /private/comment "mine")
S: a OK the list is changed
S: b OK set
`)
	p(carl, `
C: a GETMETADATA user/bob/inbox (/shared/comment /private/comment)
S: * METADATA user/bob/inbox (/shared/comment "ours" /private/comment NIL)
S: a OK these are they
C: b SETMETADATA user/bob/INBOX (/private/comment "his")
S: b NO [METADATA NOPRIVATE] no private entries on another's mailbox
C: c SETMETADATA user/bob/INBOX (/shared/comment "everybody's")
S: c OK set
C: d SETACL user/bob/INBOX ann lr
C: e SETACL user/bob/INBOX bob -r
C: f GETACL user/bob/INBOX
S: d OK the list is changed
S: e OK the list is changed
S: * ACL user/bob/INBOX carl lrwa ann lr bob lswipkxteacd
S: f OK that is the list
C: g SETMETADATA user/bob/Work (/shared/comment "not mine to say")
S: g NO [NOPERM] permission denied
`)
	p(bob, "C: a SELECT INBOX\nS: a NO [NOPERM] permission denied")
	p(ann, "C: a EXAMINE user/bob/INBOX\nS* \\* .*\nS: a OK [READ-ONLY] selected")
}

func TestSharedMailTellsOfChanges(t *testing.T) {
	ts := newServer(t, sharing)
	ts.fill("bob", "INBOX", text("Subject: one\n\n"))
	ann, bob := ts.session("ann"), ts.session("bob")
	play(t, bob, "C: a SETACL INBOX ann lrs\nS: a OK the list is changed\nC: b SELECT INBOX\nS* \\* .*\nS~ b OK .*")
	play(t, ann, "C: a SELECT user/bob/INBOX\nS* \\* .*\nS: a OK [READ-WRITE] selected\nC: b STORE 1 +FLAGS.SILENT (\\Seen)\nS: b OK stored\nC: c IDLE\nS: + idling")
	play(t, bob, "C: c NOOP\nS~ \\* 1 FETCH \\(FLAGS \\(\\\\Seen.*\\)\\)\nS: c OK nothing done\nC: d STORE 1 +FLAGS.SILENT (\\Flagged)\nS: d OK stored")
	play(t, ann, "S~ \\* 1 FETCH \\(FLAGS \\(\\\\Flagged \\\\Seen.*\\)\\)\nC: DONE\nS: c OK done")
}

func TestOwnerIsNoneAnyMore(t *testing.T) {
	var gone atomic.Bool
	ts := newServer(t, func(s *Server) {
		s.Owners = func(context.Context, string) ([]string, error) {
			if gone.Load() {
				return nil, nil
			}
			return []string{"bob"}, nil
		}
	})
	play(t, ts.session("bob"), "C: a SETACL INBOX ann lr\nS: a OK the list is changed")
	ann := ts.session("ann")
	play(t, ann, "C: a EXAMINE user/bob/INBOX\nS* \\* .*\nS~ a OK .*\nC: b UNSELECT\nS: b OK closed")
	gone.Store(true)
	play(t, ann, "C: c EXAMINE user/bob/INBOX\nS: c NO [NONEXISTENT] no such mailbox\nC: d LIST \"\" user/*\nS: d OK that is all")
}

func TestOwnersAreAskedFirst(t *testing.T) {
	ts := newServer(t, func(s *Server) {
		s.Owners = func(context.Context, string) ([]string, error) { return nil, context.DeadlineExceeded }
	})
	p := ts.session("ann")
	before := ts.accounts.opens
	play(t, p, `
C: a LIST "" *
S: * LIST (\HasNoChildren) "/" INBOX
S: * LIST (\Noselect \HasNoChildren) "/" user
S: a OK that is all
C: b SELECT user/stranger/INBOX
S~ b NO \[LIMIT\] .*
`)
	require.Equal(t, before, ts.accounts.opens, "no Login for who is no owner")
}
