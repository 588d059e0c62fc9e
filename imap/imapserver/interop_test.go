package imapserver

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/shared"
)

// peer returns a program that nobody here wrote, or skips the test.
func peer(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		shared.Missing(t, name)
	}
	return path
}

func runPeer(t *testing.T, path string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	require.NoError(t, err, "%s %q: %s", path, args, out)
	return string(out)
}

func TestCurl(t *testing.T) {
	curl := peer(t, "curl")
	ts := newServer(t, func(s *Server) { s.AllowInsecureAuth = false })
	tlsAddr := ts.listen(ts.ServeTLS)
	body := strings.Repeat("Subject: big\r\n", 1) + "\r\n" + strings.Repeat("line of text\r\n", 50000)
	ts.fill("ann", "INBOX", imap.NewMessage{Body: strings.NewReader(body)}, text("Subject: two\n\nsecond\n"))

	common := []string{"-sS", "-k", "--max-time", "60", "-u", "ann:secret"}
	got := runPeer(t, curl, append(common, "imaps://"+tlsAddr+"/INBOX;UID=1")...)
	require.Equal(t, body, got, "FETCH over implicit TLS gives the octets appended")
	got = runPeer(t, curl, append(common, "--ssl-reqd", "imap://"+ts.addr+"/INBOX;UID=2")...)
	require.Equal(t, "Subject: two\r\n\r\nsecond\r\n", got, "FETCH after STARTTLS")
	got = runPeer(t, curl, append(common, "imaps://"+tlsAddr+"/INBOX?SUBJECT%20two")...)
	require.Equal(t, "* SEARCH 2\r\n", got)
	file := filepath.Join(t.TempDir(), "up")
	require.NoError(t, os.WriteFile(file, []byte(body), 0o600))
	runPeer(t, curl, append(common, "-T", file, "imaps://"+tlsAddr+"/INBOX")...)
	got = runPeer(t, curl, append(common, "imaps://"+tlsAddr+"/INBOX;UID=3")...)
	require.Equal(t, body, got, "APPEND keeps the octets")
	out, err := exec.CommandContext(t.Context(), curl, "-sS", "--max-time", "60", "-u", "ann:secret", "imap://"+ts.addr+"/INBOX;UID=1").CombinedOutput()
	require.Error(t, err, "no login without TLS: %s", out)
}

const imaplibScript = `
import imaplib, sys, time
m = imaplib.IMAP4("127.0.0.1", int(sys.argv[1]))
def ok(r, *want):
    assert r[0] == "OK", r
    return r[1]
ok(m.login("ann", "secret"))
ok(m.select("INBOX"))
ok(m.create("Entw&APw-rfe"))
ok(m.subscribe("Entw&APw-rfe"))
body = b"From: a@example.org\r\nSubject: hi\r\n\r\n" + b"x" * 70000 + b"\r\n\x80\xff"
ok(m.append("INBOX", r"(\Flagged)", imaplib.Time2Internaldate(time.time()), body))
ok(m.noop())
d = ok(m.fetch("1", "(UID FLAGS BODY.PEEK[])"))
assert d[0][1] == body.rstrip(b"") , len(d[0][1])
assert b"\\Flagged" in d[0][0], d
assert ok(m.search(None, "FLAGGED")) == [b"1"]
assert ok(m.uid("SEARCH", None, 'SUBJECT "HI"')) == [b"1"]
ok(m.store("1", "+FLAGS", r"(\Seen)"))
ok(m.copy("1", "Entw&APw-rfe"))
assert b"Entw&APw-rfe" in b"".join(ok(m.list())), m.list()
assert len(ok(m.lsub())) == 1
assert b"MESSAGES 1" in ok(m.status("Entw&APw-rfe", "(MESSAGES UNSEEN)"))[0]
ok(m.store("1", "+FLAGS", r"(\Deleted)"))
assert ok(m.expunge()) == [b"1"]
ok(m.close())
ok(m.rename("Entw&APw-rfe", "new"))
ok(m.delete("new"))
assert m.select("new")[0] == "NO"
m.logout()
print("done")
`

func TestImaplib(t *testing.T) {
	python := peer(t, "python3")
	ts := newServer(t, nil)
	_, port, err := net.SplitHostPort(ts.addr)
	require.NoError(t, err)
	require.Contains(t, runPeer(t, python, "-c", imaplibScript, port), "done")
}

func TestMbsync(t *testing.T) {
	mbsync := peer(t, "mbsync")
	var compressed atomic.Bool
	ts := newServer(t, func(s *Server) {
		s.Trace = &Trace{CommandDone: func(_ context.Context, command, result string, _ time.Duration) {
			if command == "COMPRESS" && result == "OK" {
				compressed.Store(true)
			}
		}}
	})
	const n = 300
	for i := range n {
		box := []string{"INBOX", "Archive/2026", "Entwürfe"}[i%3]
		m := text(fmt.Sprintf("From: a@example.org\nMessage-ID: <%d@example.org>\nSubject: %d\n\nbody %d\n", i, i, i))
		if i%4 == 0 {
			m.Flags = imap.NewFlags(imap.FlagSeen, imap.FlagFlagged)
		}
		ts.fill("ann", box, m)
	}
	dir := t.TempDir()
	_, port, err := net.SplitHostPort(ts.addr)
	require.NoError(t, err)
	config := filepath.Join(dir, "rc")
	mail := filepath.Join(dir, "mail")
	require.NoError(t, os.Mkdir(mail, 0o700))
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `
IMAPAccount a
Host 127.0.0.1
Port %s
User ann
Pass secret
SSLType None
AuthMechs PLAIN

IMAPStore far
Account a

MaildirStore near
Path %s/
Inbox %s/INBOX
SubFolders Verbatim

Channel c
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
`, port, mail, mail), 0o600))
	runPeer(t, mbsync, "-c", config, "-a")
	files, err := filepath.Glob(mail + "/*/*/*:2,*")
	require.NoError(t, err)
	more, err := filepath.Glob(mail + "/*/*/*/*:2,*")
	require.NoError(t, err)
	files = append(files, more...)
	require.Len(t, files, n, "every message was pulled")
	seen := 0
	for _, f := range files {
		if strings.HasSuffix(f, ":2,FS") {
			seen++
		}
		b, err := os.ReadFile(f)
		require.NoError(t, err)
		require.True(t, bytes.Contains(b, []byte("body ")), "%s: %s", f, b)
	}
	require.Equal(t, n/4, seen, "flags were pulled")

	require.True(t, compressed.Load(), "mbsync uses COMPRESS where it is offered")

	// A second run finds nothing to do; a change there and here goes both ways.
	runPeer(t, mbsync, "-c", config, "-a")
	require.NoError(t, os.Remove(files[0]))
	runPeer(t, mbsync, "-c", config, "-a")
	total := 0
	store := ts.accounts.storage("ann").Open()
	for info, err := range store.Mailboxes(t.Context()) {
		require.NoError(t, err)
		if info.NoSelect {
			continue
		}
		mb, err := store.Open(t.Context(), info.Name)
		require.NoError(t, err)
		st, err := mb.State(t.Context())
		require.NoError(t, err)
		total += int(st.Messages)
	}
	require.Equal(t, n-1, total, "what was removed here is expunged there, and nothing came twice")
}
