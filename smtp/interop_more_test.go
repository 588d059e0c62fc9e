package smtp_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/shared"
	"github.com/mailblocks/mailblocks/smtp"
)

// startDovecot runs Dovecot's LMTP server with a configuration of the test's own and returns its address and the
// folder that mail for a user goes to.
func startDovecot(t *testing.T) (addr, mail string) {
	dovecot, err := exec.LookPath("dovecot")
	if err != nil {
		shared.Missing(t, "dovecot")
	}
	if os.Getuid() != 0 {
		t.Skip("dovecot switches users: only root can run it here")
	}
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr = l.Addr().String()
	require.NoError(t, l.Close())
	_, port, _ := strings.Cut(addr, ":")
	mail = filepath.Join(dir, "mail")
	require.NoError(t, os.Mkdir(mail, 0o777))
	require.NoError(t, os.Chmod(mail, 0o777))
	conf := filepath.Join(dir, "conf")
	require.NoError(t, os.WriteFile(conf, []byte(strings.NewReplacer("DIR", dir, "PORT", port).Replace(`
protocols = lmtp
base_dir = DIR/run
state_dir = DIR/state
log_path = DIR/log
ssl = no
hostname = lmtp.example.org
postmaster_address = postmaster@example.org
mail_location = maildir:DIR/mail/%n
passdb {
  driver = passwd-file
  args = DIR/users
}
userdb {
  driver = passwd-file
  args = DIR/users
}
service lmtp {
  inet_listener lmtp {
    address = 127.0.0.1
    port = PORT
  }
}
`)), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "users"), fmt.Appendf(nil, "alice@example.org::65534:65534::%s/home:\ncarol@example.org::65534:65534::%s/home:\n", dir, dir), 0o644))
	cmd := exec.Command(dovecot, "-F", "-c", conf)
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("%s", log)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return addr, mail
		}
		select {
		case <-ended:
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("dovecot does not start: %s", log)
		case <-ctx.Done():
			t.Fatal("dovecot does not listen")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Our client delivers to Dovecot's LMTP server: a reply for each recipient, in every way of sending.
func TestInteropDovecotLMTP(t *testing.T) {
	addr, mail := startDovecot(t)
	n := 0
	for name, opt := range map[string]smtp.ClientOptions{"pipelined": {}, "lockstep": {NoPipelining: true}, "chunked": {Chunking: true}} {
		t.Run(name, func(t *testing.T) {
			opt.LMTP = true
			c := dialTest(t, addr, &opt)
			for range 2 {
				res, err := c.Send(t.Context(), &smtp.Envelope{From: "a@example.org", To: to("alice@example.org", "unknown@example.org", "carol@example.org")}, strings.NewReader(awkward))
				require.NoError(t, err)
				assert.Equal(t, 250, res.Recipients[0].Code, res.Recipients[0])
				assert.Equal(t, 550, res.Recipients[1].Code, res.Recipients[1])
				assert.Equal(t, 250, res.Recipients[2].Code, res.Recipients[2])
				n++
			}
			require.NoError(t, c.Quit(t.Context()))
		})
	}
	for _, user := range []string{"alice", "carol"} {
		files, err := filepath.Glob(filepath.Join(mail, user, "new", "*"))
		require.NoError(t, err)
		assert.Len(t, files, n)
		for _, f := range files {
			text, err := os.ReadFile(f)
			require.NoError(t, err)
			_, body, _ := strings.Cut(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n\n")
			assert.Equal(t, ".one dot\n..two\n.\nend\n", body)
		}
	}
}

// node runs a script with the modules found by NODE_PATH, or skips.
func node(t *testing.T, module string) string {
	path := peer(t, "node")
	if err := exec.Command(path, "-e", "require('"+module+"')").Run(); err != nil {
		t.Skip(module + " is not installed (NODE_PATH)")
	}
	return path
}

func TestInteropNodemailer(t *testing.T) {
	bin := node(t, "nodemailer")
	s, port := submission(t)
	runPeer(t, awkward, bin, "-e", `
const nodemailer = require("nodemailer"), fs = require("fs");
const t = nodemailer.createTransport({host: "127.0.0.1", port: +process.argv[1], requireTLS: true,
  tls: {ca: fs.readFileSync(process.argv[2])}, auth: {user: "alice", pass: "wonderland"}});
t.sendMail({envelope: {from: "a@example.org", to: ["b@example.org", "c@example.org"], dsn: {}}, raw: fs.readFileSync(0)})
  .then(i => { if (i.accepted.length != 2) throw i; t.close(); }).catch(e => { console.error(e); process.exit(1); });
`, port, caFile(t))
	arrived(t, s, "b@example.org", "c@example.org")
}

// Our client sends to nodemailer's smtp-server, with AUTH.
func TestInteropNodeSMTPServer(t *testing.T) {
	bin := node(t, "smtp-server")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "-e", `
const {SMTPServer} = require("smtp-server");
const s = new SMTPServer({authOptional: false, allowInsecureAuth: true, hideSTARTTLS: true, logger: false,
  onAuth(a, session, done) { a.username == "alice" && a.password == "wonderland" ? done(null, {user: "alice"}) : done(new Error("no")); },
  onRcptTo(a, session, done) { a.address.startsWith("unknown") ? done(new Error("no such user")) : done(); },
  onData(stream, session, done) { let b = ""; stream.setEncoding("utf8"); stream.on("data", d => b += d); stream.on("end", () => {
    console.log(JSON.stringify({to: session.envelope.rcptTo.map(r => r.address), body: b})); done(null, "kept"); }); }});
s.listen(0, "127.0.0.1", () => console.log(s.server.address().port));
`)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() { cancel(); _ = cmd.Wait() }()
	lines := newLines(out)
	c := dialTest(t, "127.0.0.1:"+lines(t), &smtp.ClientOptions{Auth: sasl.NewPlainClient("", "alice", "wonderland"), InsecureAuth: true})
	for range 2 {
		res, err := c.Send(t.Context(), &smtp.Envelope{From: "a@example.org", To: to("b@example.org", "unknown@example.org", "c@example.org")}, strings.NewReader(awkward))
		require.NoError(t, err)
		assert.Equal(t, 250, res.Recipients[0].Code)
		assert.True(t, res.Recipients[1].Permanent())
		assert.Equal(t, 250, res.Recipients[2].Code)
		got := lines(t)
		assert.Contains(t, got, `"to":["b@example.org","c@example.org"]`)
		assert.Contains(t, got, `\r\n.one dot\r\n..two\r\n.\r\nend\r\n`)
	}
	require.NoError(t, c.Quit(t.Context()))
}
