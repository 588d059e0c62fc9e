package imapserver

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

func TestQuota(t *testing.T) {
	ts := newServer(t, func(s *Server) {
		sharing(s)
		s.QuotaAdmin = func(identity string) bool { return identity == "carl" }
		s.JMAPURL = "https://example.com/.s/[jmap]"
	})
	store := ts.accounts.storage("ann").Open().(imap.Quotas)
	require.NoError(t, store.SetQuota(t.Context(), "", []imap.Quota{{Resource: imap.QuotaStorage, Limit: 4096}, {Resource: imap.QuotaMessages, Limit: 3}}))
	ann, carl := ts.session("ann"), ts.session("carl")
	play(t, ann, `
C: a APPEND INBOX {1030+}
C! `+strings.Repeat("x", 1028)+`\r\n\r\n
S~ a OK .*
C: b GETQUOTAROOT INBOX
S: * QUOTAROOT INBOX ""
S: * QUOTA "" (STORAGE 2 4 MESSAGE 1 3)
S: b OK these are its roots
C: c GETQUOTA ""
S: * QUOTA "" (STORAGE 2 4 MESSAGE 1 3)
S: c OK that is its quota
C: d SELECT INBOX
S* \* .*
S~ d OK .*
C: e COPY 1 INBOX
S* \* .*
S~ e OK .*
C: f APPEND INBOX {2+}
C:
C:  {2+}
C:
C:
S: f NO [OVERQUOTA] over quota
C: g COPY 1:2 INBOX
S: g NO [OVERQUOTA] over quota
C: h SETQUOTA "" (STORAGE 512)
S: h NO [NOPERM] quotas are set by others
C: i GETQUOTA user/bob
S: i NO [NONEXISTENT] no such quota root
C: j GETJMAPACCESS
S: * JMAPACCESS "https://example.com/.s/[jmap]"
S: j OK there it is
C: k CREATE Work
C: m MOVE 1 Work
S~ k OK .*
S~ \* OK \[COPYUID .*
S* \* .*
S~ m OK .*
`)
	play(t, carl, `
C: a CAPABILITY
S~ \* CAPABILITY .* QUOTASET .* JMAPACCESS.*
S~ a OK .*
C: b SETQUOTA user/ann (STORAGE 510 MESSAGE 100)
S: * QUOTA user/ann (STORAGE 3 510 MESSAGE 2 100)
S: b OK the quota is set
C: c SETQUOTA user/ann (MAILBOX 2)
S: * QUOTA user/ann (MAILBOX 2 2)
S: c OK the quota is set
C: d GETQUOTA user/ann
S: * QUOTA user/ann (MAILBOX 2 2)
S: d OK that is its quota
C: e SETQUOTA user/nobody (MAILBOX 2)
S: e NO [NONEXISTENT] no such quota root
C: f SETQUOTA user/ann (X-BEER 2)
S: f NO [LIMIT] limit reached
`)
	play(t, ann, "C: z CREATE More\nS: z NO [OVERQUOTA] over quota")
	// RFC 9208, 6: another's quota roots take the right to read.
	play(t, ann, "C: y SETACL INBOX carl l\nS: y OK the list is changed\nC: x SETACL INBOX bob lr\nS: x OK the list is changed")
	play(t, carl, "C: x GETQUOTAROOT user/ann/INBOX\nS: x NO [NOPERM] permission denied")
	play(t, ts.session("bob"), `
C: x GETQUOTAROOT user/ann/INBOX
S: * QUOTAROOT user/ann/INBOX user/ann
S: * QUOTA user/ann (MAILBOX 2 2)
S: x OK these are its roots
C: y GETQUOTA user/ann
S: y NO [NONEXISTENT] no such quota root
`)
}

func TestServerAnnotations(t *testing.T) {
	ts := newServer(t, func(s *Server) { s.Annotations = map[string]string{"/shared/admin": "mailto:admin@example.org"} })
	play(t, ts.session("ann"), `
C: a GETMETADATA "" (/shared/admin /shared/comment)
S: * METADATA "" (/shared/admin "mailto:admin@example.org" /shared/comment NIL)
S: a OK these are they
C: b SETMETADATA "" (/shared/admin NIL)
S: b NO [NOPERM] the entry is read-only
`)
	p := ts.session("ann")
	p.Timeout = 30 * time.Second
	play(t, p, "C: a SETMETADATA INBOX (/private/comment {65537+}\nC: "+strings.Repeat("y", 65535)+"\nC: )\nS: a NO [METADATA MAXSIZE 65536] value too large")
	many := ""
	for i := range imap.MaxAnnotations + 1 {
		many += " /shared/vendor/x/" + strings.Repeat("n", i+1) + " \"\""
	}
	play(t, p, "C: b SETMETADATA INBOX ("+many[1:]+")\nS: b NO [METADATA TOOMANY] too many entries")
}
