package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/shared"
	"github.com/mailblocks/mailblocks/smtp"
)

// TestMain lets a test start this very binary as the server.
func TestMain(m *testing.M) {
	if os.Getenv("MAILSERVER_CHILD") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// deadline bounds every wait of these tests: far more than any takes.
const deadline = 60 * time.Second

// A process is a running mailserver, used from outside as anybody would.
type process struct {
	*testing.T
	cmd    *exec.Cmd
	args   []string
	dir    string            // its data
	addrs  map[string]string // by listener
	stdout string            // what it printed until it was ready
	exited chan error

	mu  sync.Mutex
	log bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// everywhere has all protocols on free ports.
func everywhere() []string {
	var args []string
	for _, name := range []string{"smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s", "http"} {
		args = append(args, "-"+name, "127.0.0.1:0")
	}
	return args
}

// start runs a mailserver until it is ready. It is killed with the test.
func start(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := &process{T: t, dir: dir, args: args}
	p.run()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of the server with data in %s:\n%s", filepath.Base(dir), p.logged())
		}
	})
	return p
}

func (p *process) run() {
	p.Helper()
	p.cmd = exec.Command(os.Args[0], append([]string{"-data", p.dir}, p.args...)...)
	p.cmd.Env = append(os.Environ(), "MAILSERVER_CHILD=1")
	p.cmd.Stderr = p
	out, err := p.cmd.StdoutPipe()
	require.NoError(p, err)
	require.NoError(p, p.cmd.Start())
	p.exited = make(chan error, 1)
	p.addrs, p.stdout = make(map[string]string), ""
	ready := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			p.stdout += lines.Text() + "\n"
			if f := strings.Fields(lines.Text()); len(f) == 3 && f[0] == "listening" {
				p.addrs[f[1]] = f[2]
			}
			if lines.Text() == "ready" {
				ready <- true
			}
		}
		p.exited <- p.cmd.Wait()
		close(ready)
	}()
	select {
	case ok := <-ready:
		require.True(p, ok, "the server ended: %s", p.logged())
	case <-time.After(deadline):
		p.Fatalf("the server did not start: %s", p.logged())
	}
}

// kill ends the server as a power switch would, as far as a process can tell.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		p.exited <- <-p.exited
	}
}

// terminate asks the server to end, and waits until it has.
func (p *process) terminate() {
	p.Helper()
	require.NoError(p, p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-p.exited:
		p.exited <- err
		require.NoError(p, err, p.logged())
	case <-time.After(deadline):
		p.Fatal("the server did not end")
	}
}

func (p *process) port(name string) string {
	_, port, err := net.SplitHostPort(p.addrs[name])
	require.NoError(p, err)
	return port
}

// need skips the test where a program is missing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, prog := range programs {
		if _, err := exec.LookPath(prog); err != nil {
			shared.Missing(t, prog)
		}
	}
}

// sh runs a program and returns what it printed.
func sh(t *testing.T, stdin string, program string, args ...string) string {
	t.Helper()
	out, err := try(t, stdin, program, args...)
	require.NoError(t, err, "%s %s\n%s", program, strings.Join(args, " "), out)
	return out
}

func try(t *testing.T, stdin string, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// eventually waits until ok, looking again whenever the server may have done something.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(deadline)
	for !ok() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("it did not come to this: %s", what)
		}
	}
}

// insecure trusts the servers' self-signed certificates.
var insecure = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // of a server on loopback that we started

// submit opens a session for a user to send mail.
func (p *process) submit(user, password string) *smtp.Client {
	p.Helper()
	c, err := smtp.DialTLS(p.Context(), p.addrs["submissions"], &smtp.ClientOptions{
		Hello: "client.example.test", TLS: insecure, Auth: sasl.NewPlainClient("", user, password),
	})
	require.NoError(p, err)
	p.Cleanup(func() { c.Close() })
	return c
}

// An imapClient is just enough of one to look at mailboxes.
type imapClient struct {
	*testing.T
	conn net.Conn
	r    *bufio.Reader
	tag  int
}

func (p *process) imap(user, password string) *imapClient {
	p.Helper()
	conn, err := tls.Dial("tcp", p.addrs["imaps"], insecure)
	require.NoError(p, err)
	p.Cleanup(func() { conn.Close() })
	c := &imapClient{T: p.T, conn: conn, r: bufio.NewReader(conn)}
	_, _ = c.line()
	c.do("LOGIN %s %s", user, password)
	return c
}

// line reads one response with the literals in it, which are returned apart.
func (c *imapClient) line() (text string, literals []string) {
	c.Helper()
	_ = c.conn.SetDeadline(time.Now().Add(deadline))
	for {
		s, err := c.r.ReadString('\n')
		require.NoError(c, err)
		s = strings.TrimRight(s, "\r\n")
		text += s
		i := strings.LastIndexByte(s, '{')
		if i < 0 || !strings.HasSuffix(s, "}") {
			return text, literals
		}
		n, err := strconv.Atoi(s[i+1 : len(s)-1])
		require.NoError(c, err)
		b := make([]byte, n)
		_, err = io.ReadFull(c.r, b)
		require.NoError(c, err)
		literals = append(literals, string(b))
	}
}

// do runs a command that must succeed and returns the untagged lines and the literals.
func (c *imapClient) do(format string, args ...any) (lines, literals []string) {
	c.Helper()
	c.tag++
	tag := fmt.Sprint("t", c.tag)
	_, err := fmt.Fprintf(c.conn, tag+" "+format+"\r\n", args...)
	require.NoError(c, err)
	for {
		text, lits := c.line()
		if strings.HasPrefix(text, tag+" ") {
			require.True(c, strings.HasPrefix(text, tag+" OK"), "%s: %s", fmt.Sprintf(format, args...), text)
			return lines, literals
		}
		lines, literals = append(lines, text), append(literals, lits...)
	}
}

// mails returns the messages of a mailbox.
func (c *imapClient) mails(mailbox string) []string {
	c.Helper()
	c.do("EXAMINE %s", mailbox)
	_, bodies := c.do("UID FETCH 1:* BODY.PEEK[]")
	return bodies
}

// sent returns a received message from the first line on that its sender wrote, which is
// known: everything before it must be trace fields that servers on the way put there.
func sent(t *testing.T, received, firstLine string) string {
	t.Helper()
	i := strings.Index("\n"+received, "\n"+firstLine+"\r\n")
	require.GreaterOrEqual(t, i, 0, "%q is not in %.2000s", firstLine, received)
	for line := range strings.Lines(received[:i]) {
		name, _, ok := strings.Cut(line, ":")
		if line[0] == ' ' || line[0] == '\t' {
			continue // of a folded field
		}
		require.True(t, ok, line)
		require.Contains(t, []string{"Return-Path", "Received", "Authentication-Results", "X-Spam-Status", "X-Spam-Flag", "X-Spam-Score", "X-Spam-Reasons", "X-Spam-Origin", "DKIM-Signature"}, name)
	}
	return received[i:]
}
