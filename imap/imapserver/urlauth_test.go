package imapserver

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/dialog"
)

// converse sends a command and returns all lines up to its tagged one.
func converse(t *testing.T, p *dialog.Player, command string) (lines []string) {
	t.Helper()
	require.NoError(t, p.Conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, err := p.Conn.Write([]byte("x " + command + "\r\n"))
	require.NoError(t, err)
	var got strings.Builder
	b := make([]byte, 1)
	for {
		_, err := p.Conn.Read(b)
		require.NoError(t, err, got.String())
		if got.Write(b); b[0] == '\n' {
			line := strings.TrimSuffix(got.String(), "\r\n")
			got.Reset()
			if lines = append(lines, line); strings.HasPrefix(line, "x ") {
				return lines
			}
		}
	}
}

var quoted = regexp.MustCompile(`^\* GENURLAUTH "(.*)"$`)

func genURL(t *testing.T, p *dialog.Player, rump string) string {
	t.Helper()
	lines := converse(t, p, `GENURLAUTH "`+rump+`" INTERNAL`)
	require.Equal(t, "x OK these carry authorization", lines[len(lines)-1])
	m := quoted.FindStringSubmatch(lines[0])
	require.NotNil(t, m, lines[0])
	require.Regexp(t, `^`+regexp.QuoteMeta(rump)+`:internal:01[0-9a-f]{64}$`, m[1])
	return m[1]
}

func fetchURL(t *testing.T, p *dialog.Player, url string) string {
	t.Helper()
	lines := converse(t, p, `URLFETCH "`+url+`"`)
	require.Equal(t, "x OK fetched", lines[len(lines)-1])
	rest, ok := strings.CutPrefix(strings.Join(lines[:len(lines)-1], "\n"), `* URLFETCH "`+url+`" `)
	require.True(t, ok, lines)
	return rest
}

func TestURLAuth(t *testing.T) {
	ts := newServer(t, func(s *Server) {
		sharing(s)
		s.Submitter = func(identity string) bool { return identity == "carl" }
	})
	ts.fill("ann", "INBOX", standardMail()...)
	ts.fill("ann", "Grüße/x y", text("Subject: odd\n\nodd\n"))
	ann, bob, carl := ts.session("ann"), ts.session("bob"), ts.session("carl")

	// RFC 4467, 7: the examples
	play(t, ann, `
C: a775 GENURLAUTH "imap://ann@example.com/INBOX/;uid=2/;section=1.2" INTERNAL
S: a775 BAD missing access identifier in supplied URL
C: a776 GENURLAUTH "imap://example.com/Shared/;uid=2/;section=1.2;urlauth=submit+fred" INTERNAL
S: a776 BAD missing owner username in supplied URL
C: a GENURLAUTH "imap://ann@example.com/nothing/;uid=2;urlauth=anonymous" INTERNAL
S: a BAD no such mailbox
C: b GENURLAUTH "imap://bob@example.com/INBOX/;uid=2;urlauth=anonymous" INTERNAL
S: b BAD the URL is another's
C: c GENURLAUTH "imap://ann@example.com/INBOX/;uid=2;urlauth=anonymous" XSAMPLE
S: c BAD no such mechanism
C: d GENURLAUTH "imap://ann@example.com/INBOX;urlauth=anonymous" INTERNAL
S: d BAD malformed URL
C: e GENURLAUTH "imap://ann@example.com/INBOX/;uid=2;urlauth=user+" INTERNAL
S: e BAD malformed URL
C: f GENURLAUTH "imap://ann@example.com/INBOX/;uid=2;urlauth=everybody" INTERNAL
S: f BAD malformed URL
`)
	const base = "imap://ann@example.com/INBOX/;uid=2/;section=1.1"
	anyone := genURL(t, ann, base+";urlauth=anonymous")
	users := genURL(t, ann, base+";URLAUTH=authuser")
	bobs := genURL(t, ann, base+";urlauth=user+bob")
	anns := genURL(t, ann, "imap://ann;AUTH=*@example.com:143/INBOX;UIDVALIDITY=1/;uid=2/;section=1.1;urlauth=user+ann")
	submit := genURL(t, ann, base+";urlauth=submit+fred")
	past := genURL(t, ann, base+";EXPIRE=2020-01-01T00:00:00Z;urlauth=anonymous")
	future := genURL(t, ann, base+";expire=2999-01-01T00:00:00+01:00;urlauth=anonymous")
	odd := genURL(t, ann, "imap://ann@example.com/Gr%C3%BC%C3%9Fe/x%20y/;uid=1/;section=TEXT/;partial=1.2;urlauth=anonymous")

	got := fetchURL(t, bob, anyone)
	require.Contains(t, got, "Gr=FC=DFe aus K=F6ln, a soft=\nline.")
	for _, tt := range []struct {
		who  *dialog.Player
		url  string
		want string
		why  string
	}{
		{ann, anyone, got, "anonymous"}, {carl, users, got, "authuser"}, {ann, users, got, "authuser"},
		{bob, bobs, got, "user+bob"}, {ann, bobs, "NIL", "user+bob is not ann"}, {carl, bobs, "NIL", "user+bob is not carl"},
		{ann, anns, "NIL", "another UIDVALIDITY"},
		{carl, submit, got, "submit+ for a submission server"}, {bob, submit, "NIL", "submit+ for nobody else"},
		{bob, past, "NIL", "expired"}, {bob, future, got, "not expired"},
		{bob, odd, "{2}\ndd", "UTF-8, partial"},
		{bob, anyone[:len(anyone)-1] + "x", "NIL", "not hexadecimal"},
		{bob, anyone[:len(anyone)-2], "NIL", "a shorter token"},
		{bob, strings.Replace(anyone, "uid=2", "uid=1", 1), "NIL", "another message"},
		{bob, strings.Replace(anyone, "imap://", "IMAP://", 1), "NIL", "octets are compared"},
		{bob, base + ";urlauth=anonymous", "NIL", "a rump"},
		{bob, base, "NIL", "no authorization"}, {ann, base, "NIL", "no authorization, her own"},
		{bob, strings.Replace(anyone, "ann@", "stranger@", 1), "NIL", "an unknown owner"},
		{bob, strings.Replace(anyone, "INBOX", "nothing", 1), "NIL", "no such mailbox"},
		{bob, "imap://ann@example.com/INBOX", "NIL", "a mailbox"},
		{bob, "http://example.com/", "NIL", "no IMAP URL"},
		{bob, genURL(t, ann, "imap://ann@example.com/INBOX/;uid=9;urlauth=anonymous"), "NIL", "no such message"},
		{bob, genURL(t, ann, "imap://ann@example.com/INBOX/;uid=2/;section=200;urlauth=anonymous"), "NIL", "no such part"},
	} {
		now := fetchURL(t, tt.who, tt.url)
		assert.Equal(t, tt.want, now, "%s: %s", tt.why, tt.url)
	}

	// CATENATE takes them, too.
	lines := converse(t, bob, `APPEND INBOX CATENATE (URL "`+anyone+`" URL "imap://ann@example.com/INBOX/;uid=2")`)
	assert.Contains(t, lines[0], "x NO [BADURL imap://ann@example.com/INBOX/;uid=2]")
	play(t, ann, "C: a APPEND INBOX CATENATE (URL \"imap://ann@example.com/INBOX/;uid=1\")\nS~ a OK \\[APPENDUID .*")
	lines = converse(t, bob, `APPEND INBOX CATENATE (URL "`+anyone+`")`)
	assert.Contains(t, lines[len(lines)-1], "x OK [APPENDUID ")

	play(t, ann, "C: a EXAMINE INBOX\nS* \\* ([0-9F].*|OK \\[(U[IN]|[PHM]).*)\nS: * OK [URLMECH INTERNAL] its URLs can carry authorization\nS~ a OK .*")

	// A key is the mailbox's, and moves with it; a new one ends all URLs.
	play(t, ann, "C: a RENAME \"Gr&APwA3w-e/x y\" Other\nS: a OK renamed")
	assert.Equal(t, "NIL", fetchURL(t, bob, odd))
	odd = genURL(t, ann, "imap://ann@example.com/Other/;uid=1/;section=TEXT/;partial=1.2;urlauth=anonymous")
	play(t, ann, "C: a RESETKEY INBOX INTERNAL\nS: a OK [URLMECH INTERNAL] a new key\nC: b RESETKEY INBOX XSAMPLE\nS~ b BAD .*\nC: c RESETKEY nothing\nS~ c NO .*")
	assert.Equal(t, "NIL", fetchURL(t, bob, anyone))
	assert.Equal(t, "{2}\ndd", fetchURL(t, bob, odd))
	play(t, ann, "C: a RESETKEY\nS: a OK all keys are removed")
	assert.Equal(t, "NIL", fetchURL(t, bob, odd))
	play(t, ann, "C: a GETMETADATA (DEPTH infinity) INBOX /private\nS: a OK these are they")
}

func TestResetKeyIsTold(t *testing.T) {
	ts := newServer(t, nil)
	a, b := ts.session("ann"), ts.session("ann")
	play(t, a, "C: a SELECT INBOX\nS* \\* .*\nS~ a OK .*\nC: i IDLE\nS: + idling")
	play(t, b, "C: a SELECT INBOX\nS* \\* .*\nS~ a OK .*\nC: b RESETKEY INBOX\nS: b OK [URLMECH INTERNAL] a new key\nC: c NOOP\nS: c OK nothing done")
	play(t, a, "S: * OK [URLMECH INTERNAL] a new key\nC: DONE\nS: i OK done")
	play(t, b, "C: d CREATE Work\nS~ d OK .*\nC: e RESETKEY Work\nS~ e OK .*")
	play(t, a, "C: b NOOP\nS: b OK nothing done")
	play(t, b, "C: f RESETKEY\nS: f OK all keys are removed")
	play(t, a, "C: c NOOP\nS: * OK [URLMECH INTERNAL] a new key\nS: c OK nothing done")
}

// TestURLFetchBinary is RFC 5524.
func TestURLFetchBinary(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", standardMail()...)
	p := ts.session("ann")
	base := "imap://ann@example.com/INBOX/;uid=2/;section="
	plain, html, data, gone := genURL(t, p, base+"1.1;urlauth=user+ann"), genURL(t, p, base+"1.2;urlauth=user+ann"), genURL(t, p, base+"3;urlauth=user+ann"), genURL(t, p, base+"9;urlauth=user+ann")
	p.Vars = map[string]string{"PLAIN": plain, "HTML": html, "DATA": data, "GONE": gone}
	play(t, p, `
C: a URLFETCH ("${HTML}" BINARY)
S: * URLFETCH "${HTML}" (BINARY {24}
S: <b>Grüße</b> aus Köln)
S: a OK fetched
C: b URLFETCH ("${HTML}" BODY BODYPARTSTRUCTURE)
S: * URLFETCH "${HTML}" (BODYPARTSTRUCTURE ("text" "html" ("charset" "utf-8") NIL NIL "base64" 32 0 NIL NIL ("de") NIL)) (BODY {32}
S: PGI+R3LDvMOfZTwvYj4gYXVzIEvDtmxu)
S: b OK fetched
C: c URLFETCH ("${HTML}" BINARY BODYPARTSTRUCTURE) ("${DATA}" BODYPARTSTRUCTURE BINARY)
S: * URLFETCH "${HTML}" (BODYPARTSTRUCTURE ("text" "html" ("charset" "utf-8") NIL NIL "8bit" 24 0 NIL NIL ("de") NIL)) (BINARY {24}
S: <b>Grüße</b> aus Köln)
S~ \* URLFETCH "[^"]*" \(BODYPARTSTRUCTURE \("application" "octet-stream" \("name" "data.bin"\) NIL NIL "binary" 5 NIL \("attachment" \("filename" "data.bin"\)\) NIL NIL\)\) \(BINARY ~\{5\}
S~ .....\)
S: c OK fetched
C: d URLFETCH ("${GONE}" BODYPARTSTRUCTURE BODY) ("${DATA}") "${GONE}"
S: * URLFETCH "${GONE}" NIL
S: * URLFETCH "${DATA}" {8}
S: AAECAwQ=
S: * URLFETCH "${GONE}" NIL
S: d OK fetched
C: e URLFETCH ("${DATA}" BODY BINARY)
S~ e BAD .*
C: f URLFETCH ("${DATA}" BODY BODY)
S~ f BAD .*
C: g URLFETCH ("${DATA}" CONVERT)
S~ g BAD .*
C: h URLFETCH
S~ h BAD .*
`)
}

func FuzzURL(f *testing.F) {
	for _, seed := range []string{
		"imap://joe@example.com/INBOX/;uid=20/;section=1.2;urlauth=submit+fred:internal:91354a473744909de610943775f92038",
		"imap://joe;AUTH=*@[2001:db8::1]:143/a%20b;UIDVALIDITY=3/;UID=4/;PARTIAL=0.10;EXPIRE=2030-01-01T00:00:00Z;URLAUTH=anonymous",
		"/INBOX/;UID=1/;SECTION=HEADER.FIELDS (A)", ";uid=1", "imap:///", "imap://@/;uid=1;urlauth=::",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := parseMessageURL(s); err == nil {
			assert.NotZero(t, m.uid)
		}
		u, err := parseURL(s)
		if err != nil {
			return
		}
		assert.True(t, strings.HasPrefix(s, u.rump), "%q is no beginning of %q", u.rump, s)
		assert.NotEmpty(t, u.mailbox)
		if u.token == nil {
			assert.Equal(t, s, u.rump)
			return
		}
		again, err := parseURL(u.rump)
		require.NoError(t, err, u.rump)
		assert.Equal(t, u.messageURL.uid, again.messageURL.uid)
		assert.Equal(t, imap.CheckName(u.mailbox) == nil, imap.CheckName(again.mailbox) == nil)
	})
}
