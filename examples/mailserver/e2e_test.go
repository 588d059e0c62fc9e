package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/resolver/resolvertest"
)

// A newcomer starts the server without arguments and copies the lines it prints.
func TestFirstStart(t *testing.T) {
	need(t, "curl", "sh")
	p := start(t, t.TempDir())
	require.Contains(t, p.stdout, "listening smtp 127.0.0.1:")
	require.Contains(t, p.stdout, "DNS records to publish for example.org:")
	var readers int
	for block := range strings.SplitSeq(p.stdout, "\n\n") {
		about, line, ok := strings.Cut(strings.TrimSpace(block), "\n")
		if !ok || !strings.HasPrefix(about, "# ") {
			continue
		}
		out := sh(t, "", "sh", "-c", line)
		if strings.Contains(about, "read") {
			readers++
			assert.Contains(t, out, "Subject: hello", about)
		}
	}
	assert.Equal(t, 4, readers)
	for path, want := range map[string]string{
		"/healthz": "^ok\n$",
		"/metrics": `(?s)mail_command_seconds_count\{command="DATA",protocol="smtp"\} 3\n.*mail_delivered_total\{mailbox="INBOX"\} 3\n`,
		"/queue":   "Queue: 0 messages",
	} {
		assert.Regexp(t, want, sh(t, "", "curl", "-sS", "http://"+p.addrs["http"]+path))
	}
	again := p.stdout
	p.terminate()
	p.run()
	assert.Equal(t, accountsIn(again), accountsIn(p.stdout), "accounts and passwords stay")
	p.terminate()
}

func accountsIn(stdout string) []string {
	return regexp.MustCompile(`(?m)^account .*$`).FindAllString(stdout, -1)
}

// A world is two mail servers and the DNS that says where they are.
type world struct {
	*testing.T
	zones *resolver.Zones
	a, b  *process
}

const (
	alice, alicePassword = "alice@b.test", "alice-password"
	bob, bobPassword     = "bob@a.test", "bob-password"
)

// newWorld starts a.test, where bob sends mail, and b.test, where alice reads it.
func newWorld(t *testing.T, more ...string) *world {
	zones := resolver.MustParseZones(`
		a.test. MX 10 mx.a.test.
		a.test. TXT "v=spf1 a:mx.a.test -all"
		_dmarc.a.test. TXT "v=DMARC1; p=reject; adkim=s; aspf=s"
		mx.a.test. A 127.0.0.1
		b.test. MX 10 dead.b.test.
		b.test. MX 20 mx.b.test.
		mx.b.test. A 127.0.0.1
		dead.b.test. A 127.0.0.9
		dead.test. MX 10 mx.dead.test.
		mx.dead.test. A 127.0.0.9
		null.test. MX 0 .
		1.0.0.127.in-addr.arpa. PTR mx.a.test.
	`)
	dns, err := resolvertest.Listen(zones, "")
	require.NoError(t, err)
	t.Cleanup(func() { dns.Close() })
	w := &world{T: t, zones: zones}
	common := append(everywhere(), "-dns", dns.Addr, "-log-level", "debug")
	w.b = start(t, t.TempDir(), append(common, "-domain", "b.test", "-hostname", "mx.b.test", "-user", alice+":"+alicePassword)...)
	config := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(config, []byte("# where b.test listens\nrelay-port "+w.b.port("smtp")+"\n"+strings.Join(more, "\n")), 0o600))
	w.a = start(t, t.TempDir(), append(common, "-hostname", "mx.a.test", "-user", bob+":"+bobPassword, "-config", config)...)
	// What the server says to publish is published.
	for line := range strings.Lines(w.a.stdout) {
		if strings.Contains(line, "._domainkey.a.test. TXT ") {
			require.NoError(t, zones.AddText(line))
		}
	}
	return w
}

// inbox waits until alice has n messages and returns them.
func (w *world) inbox(n int) []string {
	w.Helper()
	c := w.b.imap(alice, alicePassword)
	var mails []string
	eventually(w.T, fmt.Sprintf("%d messages for alice", n), func() bool {
		mails = c.mails("INBOX")
		return len(mails) >= n
	})
	require.Len(w, mails, n)
	return mails
}

const withAttachment = `Subject: %s
From: Bob <bob@a.test>
To: alice@b.test
Date: Sun, 22 Nov 2026 10:00:00 +0000
Message-ID: <%[1]s@a.test>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="sep"

--sep
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Grüße from Bob.
.
..a line with dots

--sep
Content-Type: application/octet-stream
Content-Disposition: attachment; filename="data.bin"
Content-Transfer-Encoding: base64

AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1
Njc4OTo7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWpr
--sep--
`

func attachment(subject string) string {
	return strings.ReplaceAll(fmt.Sprintf(withAttachment, subject), "\n", "\r\n")
}

// Mail of real clients goes from a.test to b.test, passes SPF, DKIM and DMARC there, and is
// read by real clients, as it was sent.
func TestSenderToReader(t *testing.T) {
	need(t, "curl", "swaks")
	w := newWorld(t)
	letters := map[string]string{}
	write := func(subject string) string {
		path := filepath.Join(t.TempDir(), "mail")
		letters[subject] = attachment(subject)
		require.NoError(t, os.WriteFile(path, []byte(letters[subject]), 0o600))
		return path
	}
	curl := func(url, subject string, args ...string) {
		sh(t, "", "curl", append([]string{"-sSk", url, "--user", bob + ":" + bobPassword, "--mail-from", bob, "--mail-rcpt", alice, "--upload-file", write(subject)}, args...)...)
	}
	curl("smtps://"+w.a.addrs["submissions"], "curl-tls")
	curl("smtp://"+w.a.addrs["submission"], "curl-starttls", "--ssl-reqd")
	swaks := func(name, subject string, args ...string) {
		sh(t, "", "swaks", append([]string{"--server", "127.0.0.1", "--port", w.a.port(name), "--from", bob, "--to", alice, "--auth", "PLAIN",
			"--auth-user", bob, "--auth-password", bobPassword, "--data", "@" + write(subject)}, args...)...)
	}
	swaks("submission", "swaks-starttls", "-tls")
	swaks("submissions", "swaks-tls", "--tlsc")

	mails := w.inbox(4)
	for _, m := range mails {
		subject := regexp.MustCompile(`(?m)^Subject: (\S+)\r$`).FindStringSubmatch(m)
		require.Len(t, subject, 2, m)
		want := letters[subject[1]]
		if strings.HasPrefix(subject[1], "swaks") {
			want = strings.TrimRight(want, "\r\n") + "\r\n"
			m = strings.TrimRight(m, "\r\n") + "\r\n" // swaks adds blank lines of its own
		}
		assert.Equal(t, want, sent(t, m, "Subject: "+subject[1]))
		results := regexp.MustCompile(`(?s)Authentication-Results: mx\.b\.test;.*?\r\n[A-Z]`).FindString(m)
		for _, want := range []string{"spf=pass", "dkim=pass", "header.a=rsa-sha256", "header.a=ed25519-sha256", "dmarc=pass"} {
			assert.Contains(t, results, want)
		}
		assert.NotContains(t, results, "fail")
	}
	t.Run("Readers", func(t *testing.T) { testReaders(t, w.b, mails) })
}

// testReaders fetches alice's mail with programs that others wrote, and compares it with what
// the server holds.
func testReaders(t *testing.T, p *process, mails []string) {
	same := func(t *testing.T, got []string, fold func(string) string) {
		t.Helper()
		want := make([]string, len(mails))
		for i := range mails {
			want[i] = fold(mails[i])
		}
		for i := range got {
			got[i] = fold(got[i])
		}
		assert.ElementsMatch(t, want, got)
	}
	asIs := func(s string) string { return s }
	lf := func(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }

	t.Run("curl", func(t *testing.T) {
		for _, url := range []string{"imaps://" + p.addrs["imaps"] + "/INBOX;MAILINDEX=%d", "imap://" + p.addrs["imap"] + "/INBOX;MAILINDEX=%d",
			"pop3s://" + p.addrs["pop3s"] + "/%d", "pop3://" + p.addrs["pop3"] + "/%d"} {
			var got []string
			for i := range mails {
				got = append(got, sh(t, "", "curl", "-sSk", "--ssl-reqd", fmt.Sprintf(url, i+1), "--user", alice+":"+alicePassword))
			}
			same(t, got, asIs)
		}
	})
	t.Run("imaplib", func(t *testing.T) {
		need(t, "python3")
		out := sh(t, "", "python3", "-c", `
import imaplib, json, ssl, sys
ctx = ssl._create_unverified_context()
c = imaplib.IMAP4('127.0.0.1', int(sys.argv[1]))
c.starttls(ctx)
c.login(sys.argv[2], sys.argv[3])
assert c.select('INBOX')[0] == 'OK'
typ, data = c.search(None, 'ALL')
print(json.dumps([c.fetch(n, '(BODY.PEEK[])')[1][0][1].decode('latin-1') for n in data[0].split()]))
c.logout()
`, p.port("imap"), alice, alicePassword)
		var got []string
		require.NoError(t, json.Unmarshal([]byte(out), &got))
		for i := range got {
			b := make([]byte, 0, len(got[i]))
			for _, r := range got[i] {
				b = append(b, byte(r))
			}
			got[i] = string(b)
		}
		same(t, got, asIs)
	})
	t.Run("mbsync", func(t *testing.T) {
		need(t, "mbsync")
		same(t, newMbsync(t, p, alice, alicePassword).sync(), lf)
	})
	t.Run("fetchmail", func(t *testing.T) {
		need(t, "fetchmail")
		dir := t.TempDir()
		rc := filepath.Join(dir, "rc")
		require.NoError(t, os.WriteFile(rc, fmt.Appendf(nil,
			"poll 127.0.0.1 protocol pop3 port %s uidl\nuser %q password %q keep fetchall ssl no sslcertck\nmda \"cat > %s/$$.mail\"\n",
			p.port("pop3s"), alice, alicePassword, dir), 0o600))
		t.Setenv("FETCHMAILHOME", dir)
		sh(t, "", "fetchmail", "-f", rc, "--nodetach", "--invisible", "--norewrite", "-d0")
		files, err := filepath.Glob(filepath.Join(dir, "*.mail"))
		require.NoError(t, err)
		var got []string
		for _, f := range files {
			b, err := os.ReadFile(f)
			require.NoError(t, err)
			got = append(got, string(b))
		}
		// fetchmail rewrites Return-Path and ends each file with a line end of its own.
		plain := func(s string) string {
			return strings.TrimRight(regexp.MustCompile(`(?m)^Return-Path:.*\n`).ReplaceAllString(lf(s), ""), "\n")
		}
		same(t, got, plain)
	})
}

// mbsync is a folder that isync keeps the same as a server's mailbox.
type mbsync struct {
	*testing.T
	dir string
}

func newMbsync(t *testing.T, p *process, user, password string) *mbsync {
	m := &mbsync{t, t.TempDir()}
	require.NoError(t, os.Mkdir(filepath.Join(m.dir, "mail"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, "rc"), fmt.Appendf(nil, `
IMAPAccount a
Host localhost
Port %s
User %s
Pass %s
SSLType IMAPS
CertificateFile %s

IMAPStore remote
Account a

MaildirStore local
Path %s/mail/
Inbox %s/mail/INBOX
SubFolders Verbatim

Channel c
Far :remote:
Near :local:
Patterns INBOX
Create Near
SyncState *
`, p.port("imaps"), user, password, filepath.Join(p.dir, "tls-cert.pem"), m.dir, m.dir), 0o600))
	return m
}

// run synchronises and returns what mbsync said.
func (m *mbsync) run() string {
	m.Helper()
	return sh(m.T, "", "mbsync", "-V", "-c", filepath.Join(m.dir, "rc"), "-a")
}

func (m *mbsync) sync() []string {
	m.Helper()
	m.run()
	return m.files()
}

func (m *mbsync) files() []string {
	m.Helper()
	var got []string
	for _, sub := range []string{"new", "cur"} {
		files, err := filepath.Glob(filepath.Join(m.dir, "mail", "INBOX", sub, "*"))
		require.NoError(m, err)
		for _, f := range files {
			b, err := os.ReadFile(f)
			require.NoError(m, err)
			// mbsync marks what it pulls with a field of its own.
			got = append(got, regexp.MustCompile(`(?m)^X-TUID: .*\r?\n`).ReplaceAllString(string(b), ""))
		}
	}
	return got
}

// What cannot be delivered is refused at once where that is known, and reported when it is
// given up.
func TestUndeliverable(t *testing.T) {
	w := newWorld(t, "retry 200ms", "queue-life 2s", "breaker 100ms")
	c := w.a.submit(bob, bobPassword)
	r, err := c.Mail(t.Context(), bob, nil)
	require.NoError(t, err, r)
	_, err = c.Rcpt(t.Context(), "nobody@a.test", nil)
	require.ErrorContains(t, err, "5.1.1")
	require.NoError(t, c.Reset(t.Context()))

	send := func(to string) {
		res, err := c.Send(t.Context(), envelope(bob, to), strings.NewReader("Subject: to "+to+"\r\n\r\nHi.\r\n"))
		require.NoError(t, err)
		require.True(t, res.All(), "%v", res.Recipients[0])
	}
	send("carol@dead.test")
	page := func() string {
		res, err := http.Get("http://" + w.a.addrs["http"] + "/queue")
		require.NoError(t, err)
		defer res.Body.Close()
		var b strings.Builder
		_, err = fmt.Fprint(&b, readAll(t, res.Body))
		require.NoError(t, err)
		return b.String()
	}
	assert.Contains(t, page(), "carol@dead.test", "it stays queued")
	send("nobody@b.test")
	send("dave@null.test")

	reports := map[string]string{}
	box := w.a.imap(bob, bobPassword)
	eventually(t, "three reports for bob", func() bool {
		for _, m := range box.mails("INBOX") {
			for _, to := range []string{"carol@dead.test", "nobody@b.test", "dave@null.test"} {
				if strings.Contains(m, "Subject: to "+to) {
					reports[to] = m
				}
			}
		}
		return len(reports) == 3
	})
	for to, m := range reports {
		assert.Contains(t, m, "Return-Path: <>\r\n")
		assert.Contains(t, m, "report-type=delivery-status")
		assert.Regexp(t, `(?i)Final-Recipient: rfc822; ?`+regexp.QuoteMeta(to), m)
		assert.Contains(t, m, "Action: failed")
	}
	assert.Regexp(t, `Status: 5\.1\.1`, reports["nobody@b.test"])
	assert.Regexp(t, `Status: 5\.1\.10`, reports["dave@null.test"])
	assert.NotContains(t, page(), "@dead.test", "and nothing is left")
}

// Mail that says it is from a.test and is not, is refused as a.test wishes.
func TestForgedMailIsRefused(t *testing.T) {
	w := newWorld(t)
	w.zones.Remove("mx.a.test.", 1)
	require.NoError(t, w.zones.AddText("mx.a.test. A 127.0.0.77"))
	c := w.b.mta()
	res, err := c.Send(t.Context(), envelope("bob@a.test", alice), strings.NewReader("From: bob@a.test\r\nSubject: forged\r\n\r\nHi.\r\n"))
	require.NoError(t, err)
	require.False(t, res.All())
	assert.Regexp(t, "5.7.1 .*DMARC", res.Recipients[0].Error())
	_, err = c.Mail(t.Context(), "x@example.org", nil)
	require.NoError(t, err)
	_, err = c.Rcpt(t.Context(), "someone@example.net", nil)
	assert.ErrorContains(t, err, "relay")
	assert.Empty(t, w.b.imap(alice, alicePassword).mails("INBOX"))
}
