package imapserver

import "testing"

func TestNotifyMetadata(t *testing.T) {
	ts := newServer(t, nil)
	a, b := ts.session("ann"), ts.session("ann")
	play(t, a, "C: a NOTIFY SET (personal (MailboxMetadataChange ServerMetadataChange))\nS~ a OK .*")
	play(t, b, `
C: a SETMETADATA INBOX (/private/comment "x" /shared/comment NIL)
C: b SETMETADATA "" (/private/vendor/x/y "x")
C: c CREATE Work
C: d SETMETADATA Work (/shared/comment "x")
S: a OK set
S: b OK set
S~ c OK .*
S: d OK set
`)
	// Between commands or at the end of one, as it comes.
	play(t, a, `
C: a NOOP
S* \* METADATA .*
S~ a OK .*
`)
	play(t, b, "C: a SETMETADATA INBOX (/private/comment NIL)\nS: a OK set")
	play(t, a, "S: * METADATA INBOX /private/comment\nC: b SETMETADATA INBOX (/shared/comment \"my own\")\nC: c NOOP\nS: b OK set\nS: c OK nothing done")
	play(t, b, "C: a SETMETADATA \"\" (/private/vendor/x/y NIL)\nS: a OK set")
	play(t, a, "S: * METADATA \"\" /private/vendor/x/y\nC: d NOTIFY NONE\nS~ d OK .*")
	play(t, b, "C: a SETMETADATA INBOX (/private/comment \"y\")\nS: a OK set")
	play(t, a, "C: e NOOP\nS: e OK nothing done")
}
