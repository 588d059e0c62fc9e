package imapserver

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/dialog"
)

// TestDialogs plays testdata/dialog: each script has a server of its own, on which ann has
// the messages of standardMail in her Inbox.
func TestDialogs(t *testing.T) {
	scripts, err := dialog.Files("testdata/dialog")
	require.NoError(t, err)
	require.NotEmpty(t, scripts)
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			ts := newServer(t, dialogServer)
			ts.fill("ann", "INBOX", standardMail()...)
			require.NoError(t, ts.player().Play(name, script))
		})
	}
}

func dialogServer(s *Server) {
	s.Name = "imap.example.org"
	s.MaxMessageBytes = 100000
	s.MaxErrors = 100
}

const multipartMail = `Date: Wed, 17 Jul 2024 02:23:25 -0700
From: Terry Gray <gray@example.org>
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= and more
To: "Ann O." <ann@example.org>, list@example.org
Cc: friends: bob@example.org, Carl <carl@example.org>;
Message-ID: <multi@example.org>
In-Reply-To: <plain@example.org>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer"

preamble
--outer
Content-Type: multipart/alternative; boundary=inner

--inner
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Gr=FC=DFe aus K=F6ln, a soft=
line.
--inner
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: base64
Content-Language: de

PGI+R3LDvMOfZTwvYj4gYXVzIEvDtmxu
--inner--
--outer
Content-Type: message/rfc822
Content-Disposition: inline; filename=forwarded.eml

Subject: inside
From: in@example.org
Content-Type: text/plain

forwarded text
--outer
Content-Type: application/octet-stream; name=data.bin
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="data.bin"

AAECAwQ=
--outer--
`

// standardMail is what the scripts find in the Inbox.
func standardMail() []imap.NewMessage {
	plain := text("Date: Mon, 1 Jul 2024 10:00:00 +0200\nFrom: Bob <bob@example.org>\nTo: ann@example.org\nSubject: plain one\nMessage-ID: <plain@example.org>\n\nHello Ann,\nthis is plain.\n")
	plain.InternalDate = time.Date(2024, 7, 1, 12, 0, 0, 0, time.FixedZone("", 2*3600))
	multi := text(multipartMail)
	multi.InternalDate = time.Date(2024, 7, 17, 9, 23, 25, 0, time.UTC)
	multi.Flags = imap.NewFlags(imap.FlagSeen, imap.FlagFlagged)
	empty := text("Subject: nothing in it\n\n")
	empty.InternalDate = time.Date(2023, 2, 3, 4, 5, 6, 0, time.FixedZone("", -8*3600))
	empty.Flags = imap.NewFlags("$Junk", imap.FlagAnswered)
	return []imap.NewMessage{plain, multi, empty}
}
