package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/shared"
	"github.com/mailblocks/mailblocks/smtp"
)

func envelope(from string, to ...string) *smtp.Envelope {
	env := &smtp.Envelope{From: from}
	env.Params.Body = smtp.Body8Bit
	for _, t := range to {
		env.To = append(env.To, smtp.Recipient{Address: t})
	}
	return env
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

// mta opens a session as another mail server does.
func (p *process) mta() *smtp.Client {
	p.Helper()
	c, err := smtp.Dial(p.Context(), p.addrs["smtp"], &smtp.ClientOptions{Hello: "mx.a.test", TLS: insecure})
	require.NoError(p, err)
	p.Cleanup(func() { c.Close() })
	return c
}

// A thousand real messages go in by SMTP and come out by IMAP as they are.
func TestRealMail(t *testing.T) {
	mails := shared.Mail(t, "classic-dev", 1000)
	p := start(t, t.TempDir(), append(everywhere(), "-user", alice+":"+alicePassword, "-no-dnsauth", "-no-spam", "-log-level", "warn")...)
	c := p.mta()
	for _, m := range mails {
		res, err := c.Send(t.Context(), envelope("sender@example.org", alice), strings.NewReader(m))
		require.NoError(t, err)
		require.True(t, res.All(), "%v", res.Recipients[0])
	}
	got := p.imap(alice, alicePassword).mails("INBOX")
	require.Len(t, got, len(mails))
	for i, g := range got {
		// Results of checks that came along in our name would be taken out; none do.
		require.Equal(t, mails[i], sent(t, g, fmt.Sprintf("X-Test: %d", i)))
	}
	t.Run("mbsync", func(t *testing.T) {
		need(t, "mbsync")
		m := newMbsync(t, p, alice, alicePassword)
		files := m.sync()
		require.Len(t, files, len(mails))
		out := m.run()
		assert.Len(t, m.files(), len(mails))
		assert.Regexp(t, `near side: 1000 messages|N: \+0/0|1000 messages`, out)
		for _, moved := range regexp.MustCompile(`[+*#-](\d+)/`).FindAllStringSubmatch(out, -1) {
			assert.Equal(t, "0", moved[1], "a second run transfers nothing: %s", out)
		}
	})
}

// The server is killed in the middle of 500 submissions: what was answered 250 is there
// after a restart, once, and nothing is torn.
func TestKill(t *testing.T) {
	for _, kind := range []string{"maildir", "mbox"} {
		t.Run(kind, func(t *testing.T) { testKill(t, kind+":"+t.TempDir()) })
	}
}

func testKill(t *testing.T, store string) {
	const total = 500
	p := start(t, t.TempDir(), append(everywhere(), "-store", store, "-user", alice+":"+alicePassword, "-user", "dora@b.test:dora-password", "-log-level", "warn")...)
	body := func(i int) string {
		return fmt.Sprintf("X-Test: %d\r\n", i) + "Subject: one of many\r\nDate: Sun, 22 Nov 2026 10:00:00 +0000\r\nMessage-ID: <" + strconv.Itoa(i) + "@b.test>\r\n\r\n" +
			strings.Repeat(fmt.Sprintf("line of message %d\r\n", i), 10+i%400) + "end\r\n"
	}
	var mu sync.Mutex
	accepted := map[int]bool{}
	next, enough := 0, make(chan struct{})
	var senders sync.WaitGroup
	for range 8 {
		c := p.submit(alice, alicePassword)
		senders.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= total {
					return
				}
				res, err := c.Send(context.Background(), envelope(alice, alice), strings.NewReader(body(i)))
				if err != nil || !res.All() {
					return // the server has gone
				}
				mu.Lock()
				accepted[i] = true
				if len(accepted) == total/2 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(deadline):
		t.Fatal("too slow")
	}
	p.kill()
	senders.Wait()
	p.run()
	seen := map[int]int{}
	for _, m := range p.imap(alice, alicePassword).mails("INBOX") {
		n := regexp.MustCompile(`(?m)^X-Test: (\d+)\r$`).FindStringSubmatch(m)
		require.Len(t, n, 2, m)
		i, err := strconv.Atoi(n[1])
		require.NoError(t, err)
		seen[i]++
		require.Equal(t, body(i), sent(t, m, n[0][:len(n[0])-1]), "torn")
	}
	for i := range accepted {
		assert.Equal(t, 1, seen[i], "message %d was answered 250", i)
	}
	t.Logf("%d answered 250 before the kill, %d in the mailbox", len(accepted), len(seen))
}

// rss returns the memory a process holds, in MiB.
func (p *process) rss() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	require.NoError(p, err)
	pages, err := strconv.Atoi(strings.Fields(string(b))[1])
	require.NoError(p, err)
	return pages * os.Getpagesize() >> 20
}

// Bad input gets the right reply or a closed connection, memory stays flat, the log says why.
func TestBadInput(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("memory is read from /proc")
	}
	p := start(t, t.TempDir(), append(everywhere(), "-user", alice+":"+alicePassword, "-log-level", "debug")...)
	before := p.rss()
	// talk sends octets and returns everything that comes back until the server hangs up.
	talk := func(name string, in io.Reader) string {
		conn, err := net.Dial("tcp", p.addrs[name])
		require.NoError(t, err)
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(deadline))
		go func() {
			_, _ = io.Copy(conn, in)
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		b, _ := io.ReadAll(conn)
		return string(b)
	}
	megabyte := strings.Repeat("x", 1<<20)
	for name, in := range map[string]string{"smtp": "EHLO " + megabyte + "\r\nQUIT\r\n", "imap": "a LOGIN " + megabyte + "\r\n", "pop3": "USER " + megabyte + "\r\n"} {
		assert.Regexp(t, `500 |a BAD|\* BAD|\* BYE|-ERR`, talk(name, strings.NewReader(in)), "a line of 1 MiB on %s", name)
	}
	assert.Regexp(t, `(?m)^(a (NO|BAD)|\* BYE)`, talk("imap", strings.NewReader("a LOGIN {2147483648}\r\nalice\r\n")))
	assert.Regexp(t, `(?m)^(a (NO|BAD)|\* BYE|\* BAD)`, talk("imap", strings.NewReader("a LOGIN {2147483648+}\r\n"+megabyte)))

	noise := make([]byte, 1<<16)
	for i := range noise {
		noise[i] = byte(i*i>>3 ^ i)
	}
	for _, name := range []string{"smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s", "http"} {
		talk(name, bytes.NewReader(noise))
	}

	smuggled := "EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<" + alice + ">\r\nDATA\r\n" +
		"Subject: x\r\n\r\nhi\n.\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<" + alice + ">\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\nQUIT\r\n"
	out := talk("smtp", strings.NewReader(smuggled))
	assert.Regexp(t, `(?m)^5\d\d `, out, "a bare LF is refused")
	assert.Empty(t, p.imap(alice, alicePassword).mails("INBOX"), "and nothing is smuggled behind it")

	for name, in := range map[string]string{"smtp": "EHLO x\r\nSTARTTLS\r\nMAIL FROM:<evil@example.org>\r\n", "imap": "a STARTTLS\r\nb LOGIN " + alice + " x\r\n", "pop3": "STLS\r\nUSER " + alice + "\r\n"} {
		out := talk(name, strings.NewReader(in))
		assert.NotRegexp(t, `(?m)^(250 2\.1\.0|b |\+OK send)`, out, "what follows STARTTLS on %s is not obeyed", name)
	}

	var many strings.Builder
	many.WriteString("EHLO x\r\nMAIL FROM:<a@example.org>\r\n")
	for range 10_000 {
		many.WriteString("RCPT TO:<" + alice + ">\r\n")
	}
	out = talk("smtp", strings.NewReader(many.String()+"QUIT\r\n"))
	assert.Contains(t, out, "452 4.5.3")
	assert.LessOrEqual(t, strings.Count(out, "\r\n250 2.1.5"), 100)

	assert.Less(t, p.rss()-before, 64, "memory stays flat")
	log := p.logged()
	for _, why := range []string{"too long", "bare", "STARTTLS", "too many"} {
		assert.Regexp(t, `(?i)`+why, log, "the log says why")
	}
	p.mta() // and it serves on
}

// The command line is a contract: conformance and load tests drive the server by it.
func TestUsage(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-help")
	cmd.Env = append(os.Environ(), "MAILSERVER_CHILD=1")
	out, err := cmd.CombinedOutput()
	require.Error(t, err, "asked for help, it does not serve")
	for _, name := range []string{"data", "hostname", "domain", "user", "smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s",
		"http", "store", "queue", "smarthost", "dns", "tls-cert", "tls-key", "insecure-auth", "no-spam", "no-dnsauth", "log-level", "log-json", "config"} {
		assert.Regexp(t, `(?m)^  -`+name+`\b`, string(out))
	}
}
