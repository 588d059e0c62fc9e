package smtp_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"net"
	netsmtp "net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/shared"
	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/saslauth"
	"github.com/mailblocks/mailblocks/smtp/smtptest"
)

// Clients that nobody here wrote send to our server: over STARTTLS with AUTH, with dots at
// the beginnings of lines, to several recipients. Each is skipped where it is not installed.

const awkward = "From: a@example.org\r\nTo: b@example.org\r\nSubject: awkward\r\n\r\n.one dot\r\n..two\r\n.\r\nend\r\n"

func submission(t *testing.T) (*smtptest.Server, string) {
	accounts, err := saslauth.Static(map[string]string{"alice": "wonderland"})
	require.NoError(t, err)
	s := smtptest.NewServer(t, func(s *smtp.Server) {
		s.Mode, s.TLS, s.Authenticator, s.Hostname = smtp.ModeSubmission, serverTLS(t), accounts, "mx.example.org"
		s.Extensions = smtp.DefaultExtensions | smtp.ExtDSN
	})
	_, port, err := net.SplitHostPort(s.Addr)
	require.NoError(t, err)
	return s, port
}

// caFile writes the server's certificate for clients to trust.
func caFile(t *testing.T) string {
	name := filepath.Join(t.TempDir(), "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: serverTLS(t).Certificates[0].Certificate[0]})
	require.NoError(t, os.WriteFile(name, b, 0o600))
	return name
}

func peer(t *testing.T, name string) string {
	path, err := exec.LookPath(name)
	switch {
	case err != nil && name == "node": // CI does without
		t.Skip("node is not installed")
	case err != nil:
		shared.Missing(t, name)
	}
	return path
}

func runPeer(t *testing.T, stdin string, name string, args ...string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// arrived checks the one message that came, whatever header fields the client put on top.
func arrived(t *testing.T, s *smtptest.Server, rcpts ...string) {
	got := s.Messages()
	require.Len(t, got, 1)
	assert.Equal(t, "alice", got[0].Identity)
	assert.True(t, got[0].TLS)
	assert.Equal(t, "a@example.org", got[0].From)
	var have []string
	for _, r := range got[0].To {
		have = append(have, r.Address)
	}
	assert.Equal(t, rcpts, have)
	_, want, _ := strings.Cut(awkward, "\r\n\r\n")
	_, body, _ := strings.Cut(string(got[0].Data), "\r\n\r\n")
	assert.Equal(t, want, body)
}

func TestInteropGoClient(t *testing.T) {
	s, _ := submission(t)
	c, err := netsmtp.Dial(s.Addr)
	require.NoError(t, err)
	require.NoError(t, c.StartTLS(clientTLS(t)))
	require.NoError(t, c.Auth(netsmtp.PlainAuth("", "alice", "wonderland", "127.0.0.1")))
	require.NoError(t, c.Mail("a@example.org"))
	require.NoError(t, c.Rcpt("b@example.org"))
	require.NoError(t, c.Rcpt("c@example.org"))
	w, err := c.Data()
	require.NoError(t, err)
	_, err = w.Write([]byte(awkward))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, c.Quit())
	arrived(t, s, "b@example.org", "c@example.org")
}

func TestInteropPython(t *testing.T) {
	python := peer(t, "python3")
	s, port := submission(t)
	runPeer(t, awkward, python, "-c", `
import smtplib, ssl, sys
s = smtplib.SMTP("127.0.0.1", int(sys.argv[1]))
s.starttls(context=ssl.create_default_context(cafile=sys.argv[2]))
s.login("alice", "wonderland")
refused = s.sendmail("a@example.org", ["b@example.org", "c@example.org"], sys.stdin.buffer.read(), rcpt_options=["NOTIFY=FAILURE"])
assert refused == {}, refused
assert s.verify("x")[0] == 252
try:
    s.sendmail("a@example.org", [], b"x")
except smtplib.SMTPRecipientsRefused:
    pass
s.quit()
`, port, caFile(t))
	arrived(t, s, "b@example.org", "c@example.org")
	assert.Equal(t, smtp.NotifyFailure, s.Messages()[0].To[0].Params.Notify)
}

func TestInteropPythonLMTP(t *testing.T) {
	python := peer(t, "python3")
	h := &testHandler{}
	_, port, err := net.SplitHostPort(start(t, newServer(t, "lmtp", h)))
	require.NoError(t, err)
	runPeer(t, "", python, "-c", `
import smtplib, sys
s = smtplib.LMTP("127.0.0.1", int(sys.argv[1]))
refused = s.sendmail("a@example.org", ["b@example.org", "unknown@example.org"], b"hello\r\n")
assert list(refused) == ["unknown@example.org"], refused
`, port)
	assert.Equal(t, "hello\r\n", h.last)
}

func TestInteropCurl(t *testing.T) {
	curl := peer(t, "curl")
	for name, scheme := range map[string]string{"STARTTLS": "smtp", "implicit": "smtps"} {
		t.Run(name, func(t *testing.T) {
			s, port := submission(t)
			if scheme == "smtps" {
				port = implicit(t, s)
			}
			runPeer(t, awkward, curl, "-sS", "--ssl-reqd", "--cacert", caFile(t), scheme+"://127.0.0.1:"+port+"/client.test",
				"--mail-from", "a@example.org", "--mail-rcpt", "b@example.org", "--mail-rcpt", "c@example.org",
				"--user", "alice:wonderland", "-T", "-")
			arrived(t, s, "b@example.org", "c@example.org")
		})
	}
}

// implicit puts a TLS listener before s, as a proxy without the second handshake would: the
// recording server is the same, its port another.
func implicit(t *testing.T, s *smtptest.Server) string {
	l, err := tls.Listen("tcp", "127.0.0.1:0", serverTLS(t))
	require.NoError(t, err)
	s.ServeAlso(t, l)
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

func TestInteropSwaks(t *testing.T) {
	swaks := peer(t, "swaks")
	for _, mech := range []string{"PLAIN", "LOGIN"} {
		s, port := submission(t)
		// swaks ends the message with a line end of its own.
		runPeer(t, strings.TrimSuffix(awkward, "\r\n"), swaks, "--server", "127.0.0.1", "--port", port, "--tls", "--auth", mech, "--auth-user", "alice",
			"--auth-password", "wonderland", "--from", "a@example.org", "--to", "b@example.org,c@example.org", "--data", "-", "--pipeline")
		arrived(t, s, "b@example.org", "c@example.org")
	}
}

func TestInteropMsmtp(t *testing.T) {
	msmtp := peer(t, "msmtp")
	s, port := submission(t)
	runPeer(t, strings.ReplaceAll(awkward, "\r\n", "\n"), msmtp, "--host=127.0.0.1", "--port="+port, "--tls=on", "--tls-certcheck=off",
		"--auth=plain", "--user=alice", "--passwordeval=echo wonderland", "--from=a@example.org", "b@example.org", "c@example.org")
	arrived(t, s, "b@example.org", "c@example.org")
}

// Our client sends to Python's aiosmtpd.
func TestInteropAiosmtpd(t *testing.T) {
	python := peer(t, "python3")
	if exec.Command(python, "-c", "import aiosmtpd").Run() != nil {
		python = "/usr/bin/python3" // the distribution's, where another comes first
	}
	if exec.Command(python, "-c", "import aiosmtpd").Run() != nil {
		t.Skip("aiosmtpd is not installed")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-c", `
import asyncio, sys
from aiosmtpd.smtp import SMTP
class Handler:
    async def handle_DATA(self, server, session, envelope):
        print(repr(envelope.rcpt_tos), repr(envelope.content), flush=True)
        return "250 kept"
async def main():
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(Handler(), enable_SMTPUTF8=True), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
`)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer func() { cancel(); _ = cmd.Wait() }()
	lines := newLines(out)
	c := dialTest(t, "127.0.0.1:"+lines(t), nil)
	res, err := c.Send(t.Context(), &smtp.Envelope{From: "a@example.org", To: to("b@example.org", "用户@例子.test")}, strings.NewReader(awkward))
	require.NoError(t, err)
	require.True(t, res.All())
	assert.Equal(t, "kept", res.Data.Text)
	got := lines(t)
	assert.Contains(t, got, "用户@例子.test")
	assert.Contains(t, got, `\r\n.one dot\r\n..two\r\n.\r\nend\r\n`)
}
