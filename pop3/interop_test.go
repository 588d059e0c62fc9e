package pop3_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/peertest"
	"github.com/mailblocks/mailblocks/internal/shared"
	"github.com/mailblocks/mailblocks/internal/testcert"
	"github.com/mailblocks/mailblocks/pop3"
)

// peer is a server with mail that other programs fetch.
type peerHarness struct {
	*harness
	tls  string // address with TLS from the start
	cert string // file
}

func startForPeers(t *testing.T, mails []string) *peerHarness {
	certPEM, keyPEM, err := testcert.PEM("localhost", "127.0.0.1")
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cert.pem"), certPEM, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "key.pem"), keyPEM, 0o600))
	h := start(t, func(s *pop3.Server) {
		s.TLSConfig = mustTLS(t, filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
		s.MaxConnsPerAddr = -1
	}, mails...)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go h.server.ServeTLS(ln) //nolint:errcheck // it ends with Close
	return &peerHarness{h, ln.Addr().String(), filepath.Join(dir, "cert.pem")}
}

func port(t *testing.T, addr string) string {
	_, p, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	return p
}

// run runs a peer until it ends, in a folder of its own.
func run(t *testing.T, dir, stdin string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		shared.Missing(t, args[0])
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "HOME="+dir, "FETCHMAILHOME="+dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%.2000s", strings.Join(args, " "), out)
	return string(out)
}

func files(t *testing.T, pattern string) (texts []string) {
	paths, err := filepath.Glob(pattern)
	require.NoError(t, err)
	for _, p := range paths {
		b, err := os.ReadFile(p)
		require.NoError(t, err)
		texts = append(texts, string(b))
	}
	return texts
}

// same compares what a peer stored with what there is: from the first line on, with the line
// ends that programs on Unix use.
func same(t *testing.T, want, got []string) {
	t.Helper()
	require.Len(t, got, len(want))
	byLine := make(map[string]string)
	for _, g := range got {
		g = strings.ReplaceAll(g, "\r\n", "\n")
		i := strings.Index("\n"+g, "\nX-Test: ")
		require.GreaterOrEqual(t, i, 0, "%.300s", g)
		g = strings.TrimRight(g[i:], "\n")
		line, _, _ := strings.Cut(g, "\n")
		byLine[line] = g
	}
	for _, w := range want {
		w = strings.TrimRight(strings.ReplaceAll(w, "\r\n", "\n"), "\n")
		line, _, _ := strings.Cut(w, "\n")
		require.Equal(t, w, byLine[line])
	}
}

// getmail runs it on the file rc in dir. On a busy machine it may miss the end of a program
// that it started, and waits for that until it gives up: then it is started again.
func getmail(t *testing.T, dir string) bool {
	if _, err := exec.LookPath("getmail"); err != nil {
		shared.Missing(t, "getmail")
	}
	for range 3 {
		for _, old := range filesIn(t, dir, "*.mail") {
			require.NoError(t, os.Remove(old))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, "getmail", "--getmaildir="+dir, "--rcfile=rc", "--quiet")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir)
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		stuck := ctx.Err() != nil || strings.Contains(string(out), "waiting child pid")
		cancel()
		if err == nil {
			return true
		}
		require.True(t, stuck, "%v: %.2000s", err, out)
	}
	return false
}

func filesIn(t *testing.T, dir, pattern string) []string {
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	require.NoError(t, err)
	return paths
}

// withoutHeaders leaves the line that names the message, and its body.
func withoutHeaders(texts []string) []string {
	var out []string
	for _, text := range texts {
		text = strings.ReplaceAll(text, "\r\n", "\n")
		i := strings.Index("\n"+text, "\nX-Test: ")
		line, _, _ := strings.Cut(text[max(i, 0):], "\n")
		_, body, _ := strings.Cut(text, "\n\n")
		out = append(out, line+"\n\n"+body)
	}
	return out
}

// A thousand real messages, fetched by programs that others wrote, octet for octet.
func TestPeers(t *testing.T) {
	realMail := shared.Mail(t, "classic-dev", 1000)
	mails := realMail
	maildir := func(t *testing.T) string {
		dir := t.TempDir()
		for _, sub := range []string{"new", "cur", "tmp"} {
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "mail", sub), 0o700))
		}
		return dir
	}
	write := func(t *testing.T, path, text string) string {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o700))
		return path
	}
	t.Run("curl", func(t *testing.T) {
		h := startForPeers(t, mails[:50])
		for _, url := range []string{"pop3://127.0.0.1:" + port(t, h.addr), "pop3s://127.0.0.1:" + port(t, h.tls)} {
			for i := range 50 {
				got := run(t, t.TempDir(), "", "curl", "-sSk", "--ssl", fmt.Sprintf("%s/%d", url, i+1), "--user", "alice:wonder land")
				require.Equal(t, mails[i], got)
			}
		}
	})
	t.Run("poplib", func(t *testing.T) {
		for _, mode := range []string{"plain", "stls", "tls"} {
			h := startForPeers(t, mails)
			addr := h.addr
			if mode == "tls" {
				addr = h.tls
			}
			dir := t.TempDir()
			run(t, dir, "", "python3", "-c", `
import poplib, ssl, sys
poplib._MAXLINE = 1 << 24
mode, port = sys.argv[1], int(sys.argv[2])
ctx = ssl._create_unverified_context()
c = poplib.POP3_SSL('127.0.0.1', port, context=ctx) if mode == 'tls' else poplib.POP3('127.0.0.1', port)
if mode == 'stls': c.stls(ctx)
c.user('alice'); c.pass_('wonder land')
for n in range(1, c.stat()[0] + 1):
    open('%d.mail' % n, 'wb').write(b'\r\n'.join(c.retr(n)[1]) + b'\r\n')
c.quit()
`, mode, port(t, addr))
			same(t, mails, files(t, filepath.Join(dir, "*.mail")))
		}
	})
	t.Run("fetchmail", func(t *testing.T) {
		for _, mode := range []string{"", "sslproto '' ", "ssl no sslcertck "} {
			h := startForPeers(t, mails)
			addr := h.addr
			if strings.HasPrefix(mode, "ssl ") {
				addr = h.tls
			}
			if mode == "" {
				mode = "no sslcertck "
			}
			dir := t.TempDir()
			mda := write(t, filepath.Join(dir, "mda"), "#!/bin/sh\nexec cat >\"$(mktemp "+dir+"/XXXXXXXX.mail)\"\n")
			rc := write(t, filepath.Join(dir, "rc"), fmt.Sprintf("poll 127.0.0.1 protocol pop3 port %s\nuser alice password \"wonder land\" fetchall keep %smda %q\n", port(t, addr), mode, mda))
			require.NoError(t, os.Chmod(rc, 0o600))
			run(t, dir, "", "fetchmail", "-f", rc, "--nodetach", "--invisible", "--norewrite", "--silent")
			same(t, mails, files(t, filepath.Join(dir, "*.mail")))
		}
	})
	t.Run("getmail6", func(t *testing.T) {
		// It reads messages with Python's email package and writes them anew: headers, those of
		// parts too. First line and body of what has no parts stay.
		var mails []string
		for _, m := range realMail {
			if l := strings.ToLower(m); !strings.Contains(l, "multipart/") && !strings.Contains(l, "message/") {
				mails = append(mails, m)
			}
		}
		require.Greater(t, len(mails), 500)
		mails = mails[:100] // it starts a program for each
		for _, retriever := range []string{"SimplePOP3Retriever", "SimplePOP3SSLRetriever"} {
			h := startForPeers(t, mails)
			addr := h.addr
			if strings.Contains(retriever, "SSL") {
				addr = h.tls
			}
			dir := t.TempDir()
			mda := write(t, filepath.Join(dir, "mda"), "#!/bin/sh\nexec cat >\"$(mktemp "+dir+"/XXXXXXXX.mail)\"\n")
			write(t, filepath.Join(dir, "rc"), fmt.Sprintf(`[retriever]
type = %s
server = 127.0.0.1
port = %s
username = alice
password = wonder land
[destination]
type = MDA_external
path = %s
unixfrom = false
allow_root_commands = true
[options]
delivered_to = false
received = false
`, retriever, port(t, addr), mda))
			if !getmail(t, dir) {
				t.Skip("getmail lost track of its own children, three times")
			}
			same(t, withoutHeaders(mails), withoutHeaders(files(t, filepath.Join(dir, "*.mail"))))
		}
	})
	t.Run("mpop", func(t *testing.T) {
		for _, mode := range []string{"tls off", "tls on\ntls_starttls on\ntls_certcheck off", "tls on\ntls_starttls off\ntls_certcheck off"} {
			h := startForPeers(t, mails)
			addr := h.addr
			if strings.Contains(mode, "starttls off") {
				addr = h.tls
			}
			dir := maildir(t)
			rc := write(t, filepath.Join(dir, "rc"), fmt.Sprintf("account a\nhost 127.0.0.1\nport %s\nuser alice\npassword \"wonder land\"\nauth user\n%s\nkeep on\ndelivery maildir %s/mail\nuidls_file %s/uidls\nreceived_header off\npipelining on\n",
				port(t, addr), mode, dir, dir))
			require.NoError(t, os.Chmod(rc, 0o600))
			run(t, dir, "", "mpop", "-C", rc, "-a", "--quiet")
			same(t, mails, files(t, filepath.Join(dir, "mail", "new", "*")))
		}
	})
	t.Run("mutt", func(t *testing.T) {
		// It wants a terminal, which script(1) is.
		if _, err := exec.LookPath("script"); err != nil {
			shared.Missing(t, "script")
		}
		if _, err := exec.LookPath("mutt"); err != nil {
			shared.Missing(t, "mutt")
		}
		for _, scheme := range []string{"pop", "pops"} {
			h := startForPeers(t, mails)
			addr := h.addr
			if scheme == "pops" {
				addr = h.tls
			}
			dir := t.TempDir()
			rc := write(t, filepath.Join(dir, "rc"), fmt.Sprintf(`set pop_pass="wonder land" pop_authenticators="user" mbox_type=Maildir folder=%[1]s spoolfile=%[1]s/none
set ssl_starttls=no ssl_force_tls=no ssl_verify_dates=no ssl_verify_host=no certificate_file=%[2]s
set confirmappend=no confirmcreate=no delete=no quit=yes wait_key=no header_cache= message_cachedir= pop_delete=no write_inc=0 read_inc=0 net_inc=0
push "<tag-pattern>~A<enter><tag-prefix><copy-message>=out<enter><exit>"
`, dir, h.cert))
			run(t, dir, "", "script", "-qec", "TERM=vt100 mutt -n -F "+rc+" -f "+scheme+"://alice@127.0.0.1:"+port(t, addr)+"/", "/dev/null")
			// It keeps fields of its own in what it stores.
			own := regexp.MustCompile(`(?m)^(Content-Length|Lines|Status|X-Status):.*\n`)
			without := func(texts []string) (out []string) {
				for _, text := range texts {
					out = append(out, own.ReplaceAllString(strings.ReplaceAll(text, "\r\n", "\n"), ""))
				}
				return out
			}
			same(t, without(mails), without(files(t, filepath.Join(dir, "out", "*", "*"))))
		}
	})
}

// fetchAll fetches what a server lists.
func fetchAll(t *testing.T, c *pop3.Client, list []pop3.Entry) (mails []string) {
	var numbers []int
	for _, e := range list {
		require.NotEmpty(t, e.UID)
		numbers = append(numbers, e.Number)
	}
	require.NoError(t, c.Fetch(t.Context(), numbers, func(_ int, r io.Reader, err error) error {
		require.NoError(t, err)
		b, err := io.ReadAll(r)
		mails = append(mails, string(b))
		return err
	}))
	return mails
}

// Our client fetches from Debian's Dovecot what there is, octet for octet.
func TestClientWithDovecot(t *testing.T) {
	mails := shared.Mail(t, "classic-dev", 1000)
	addr, certPEM := peertest.Dovecot(t, "pop3", mails)
	trust := x509.NewCertPool()
	require.True(t, trust.AppendCertsFromPEM(certPEM))
	c, err := pop3.Dial(t.Context(), addr, &pop3.ClientOptions{TLS: &tls.Config{RootCAs: trust}})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Login(t.Context(), "alice", "secret"))
	list, err := c.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, len(mails))
	// The form of our own maildrop's UIDs: who changes servers downloads nothing twice.
	assert.Regexp(t, `(?i)^00000001[0-9a-f]{8}$`, list[0].UID)
	same(t, mails, fetchAll(t, c, list))
	require.NoError(t, c.Delete(t.Context(), 1))
	require.NoError(t, c.Quit(t.Context()))
}

// Courier's server is one that reads and writes its standard input and output, after a login
// that another program of it makes: the client begins in the middle.
func TestClientWithCourier(t *testing.T) {
	// Debian's package cannot stand beside Dovecot's: unpack it, and name the program here.
	courier := os.Getenv("COURIERPOP3D")
	if courier == "" {
		courier = "/usr/lib/courier/courier/courierpop3d"
	}
	if _, err := os.Stat(courier); err != nil {
		t.Skip("courierpop3d is not here")
	}
	mails := shared.Mail(t, "classic-dev", 1000)
	dir := t.TempDir()
	for _, sub := range []string{"new", "cur", "tmp"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o700))
	}
	for i, m := range mails {
		path := filepath.Join(dir, "new", fmt.Sprintf("%d.M%dP1.h", 1700000000+i, i))
		require.NoError(t, os.WriteFile(path, []byte(strings.ReplaceAll(m, "\r\n", "\n")), 0o600))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		file, err := conn.(*net.TCPConn).File()
		if err != nil {
			done <- err
			return
		}
		defer file.Close()
		cmd := exec.Command(courier, dir)
		cmd.Env = append(os.Environ(), "AUTHENTICATED=alice", "MAILDIR="+dir)
		cmd.Stdin, cmd.Stdout = file, file
		done <- cmd.Run()
	}()
	c, err := pop3.Dial(t.Context(), ln.Addr().String(), &pop3.ClientOptions{TLSPolicy: pop3.TLSNever})
	require.NoError(t, err)
	defer c.Close()
	list, err := c.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, len(mails))
	same(t, mails, fetchAll(t, c, list))
	require.NoError(t, c.Delete(t.Context(), 1))
	require.NoError(t, c.Quit(t.Context()))
	require.NoError(t, <-done)
	assert.Len(t, files(t, filepath.Join(dir, "*", "17*")), len(mails)-1)
}
