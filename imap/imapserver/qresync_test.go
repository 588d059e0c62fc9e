package imapserver

import "testing"

// TestWithheldExpunges: a client that was told of later changes before it was told of an
// expunge is told what it may rely on (RFC 7162, 6).
func TestWithheldExpunges(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", text("Subject: 1\n\n"), text("Subject: 2\n\n"), text("Subject: 3\n\n"))
	p, other := ts.session("ann"), ts.session("ann")
	play(t, p, "C: a ENABLE QRESYNC IMAP4rev2\nS* \\* .*\nS~ a OK .*\nC: b SELECT INBOX\nS* \\* .*\nS~ b OK .*")
	play(t, other, "C: s SELECT INBOX\nS* \\* .*\nS~ s OK .*\nC: t STORE 2 +FLAGS.SILENT (\\Deleted)\nS* \\* .*\nS~ t OK .*\nC: u EXPUNGE\nS* \\* .*\nS~ u OK .*")
	play(t, p, `
C: c STORE 3 +FLAGS (\Seen)
S~ \* 3 FETCH \(UID 3 FLAGS \(\\Seen\) MODSEQ \(\d+\)\)
S~ \* OK \[HIGHESTMODSEQ \d+\] all before is told
S: c OK stored
C: d NOOP
S: * VANISHED 2
S~ \* OK \[HIGHESTMODSEQ \d+\] all before is told
S: d OK nothing done
C: e NOOP
S: e OK nothing done
C: f CLOSE
S: f OK closed
`)
}
