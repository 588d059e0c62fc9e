//go:build linux

package smtp_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/saslauth"
	"github.com/mailblocks/mailblocks/smtp/smtptest"
)

// Mail servers that nobody here wrote, each with a configuration of the test's own, on loopback: our
// client sends to them, and they relay to our server. They can't be installed beside each other, so
// they are also looked for below $MAILBLOCKS_MTAS, where Debian's packages may have been unpacked:
//
//	apt-get download postfix exim4-daemon-light opensmtpd && for p in *.deb; do dpkg -x $p $MAILBLOCKS_MTAS; done
//
// They run as root in a mount namespace (unshare) with folders and a passwd file of the test's, so nothing
// of a server that the machine may really have is touched. Without all that, the tests are skipped.

// mta is how to run one.
type mta struct {
	binary string // below / or $MAILBLOCKS_MTAS
	files  map[string]string
	script string // sh, in the namespace; it ends with exec
}

// In the texts, DIR is a folder of its own, ROOT where its package is, PORT where it listens, RELAY the port
// that it relays to.
var mtas = map[string]mta{
	"postfix": {"usr/lib/postfix/sbin/master", map[string]string{
		"main.cf": `
compatibility_level = 3.6
queue_directory = DIR/spool
data_directory = DIR/data
daemon_directory = ROOT/usr/lib/postfix/sbin
command_directory = ROOT/usr/sbin
shlib_directory = no
meta_directory = DIR
mail_owner = daemon
setgid_group = mail
default_privs = nobody
myhostname = peer.example.org
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:RELAY
alias_maps =
maillog_file = DIR/log
maillog_file_prefixes = /
import_environment = LD_LIBRARY_PATH MAIL_CONFIG
export_environment = LD_LIBRARY_PATH MAIL_CONFIG
smtpd_error_sleep_time = 0
smtpd_client_connection_rate_limit = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
smtpd_forbid_bare_newline = yes
smtpd_forbid_bare_newline_exclusions =
smtpd_forbid_unauth_pipelining = STRICT
message_size_limit = 20000
smtpd_tls_cert_file = DIR/cert.pem
smtpd_tls_key_file = DIR/key.pem
smtpd_tls_security_level = may
smtp_tls_security_level = encrypt
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = DIR/auth
smtpd_tls_auth_only = yes
smtpd_relay_restrictions = permit_sasl_authenticated, TRUST, reject
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = inline:{[127.0.0.1]:RELAY=alice:wonderland}
smtp_sasl_security_options = noanonymous
`,
		"master.cf": `
127.0.0.1:PORT inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
discard unix - - n - - discard
postlog unix-dgram n - n - 1 postlogd
`,
		"dovecot.conf": `
base_dir = DIR/dovecot
state_dir = DIR/dovecot
log_path = DIR/log-dovecot
protocols =
listen = 127.0.0.1
ssl = no
auth_mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256
default_internal_user = nobody
default_login_user = nobody
passdb {
  driver = static
  args = password=wonderland
}
service auth {
  unix_listener DIR/auth {
    mode = 0666
  }
}
`}, `
[ TRUST != reject ] || dovecot -c DIR/dovecot.conf
cd DIR && mkdir data spool && chown daemon data && cd spool
mkdir active bounce corrupt defer deferred flush hold incoming private saved trace && chown daemon * && chmod 700 *
mkdir pid maildrop public && chown daemon maildrop public && chgrp mail maildrop public && chmod 730 maildrop && chmod 710 public
export LD_LIBRARY_PATH=ROOT/usr/lib/postfix MAIL_CONFIG=DIR
exec ROOT/usr/lib/postfix/sbin/master -d -c DIR`},

	"exim": {"usr/sbin/exim4", map[string]string{"conf": `
exim_path = ROOT/usr/sbin/exim4
exim_user = daemon
exim_group = daemon
never_users =
primary_hostname = peer.example.org
spool_directory = DIR/spool
log_file_path = DIR/log-%slog
pid_file_path = DIR/spool/pid
daemon_smtp_ports = PORT
local_interfaces = 127.0.0.1
host_lookup =
rfc1413_hosts =
smtputf8_advertise_hosts = *
dsn_advertise_hosts = *
chunking_advertise_hosts = *
tls_advertise_hosts = *
tls_certificate = DIR/cert.pem
tls_privatekey = DIR/key.pem
auth_advertise_hosts = *
acl_smtp_rcpt = accept
acl_smtp_data = accept
keep_environment = LD_LIBRARY_PATH
smtp_accept_max_per_connection = 100000
smtp_accept_max_nonmail = 100000
begin routers
relay:
  driver = manualroute
  domains = *
  route_list = * 127.0.0.1::RELAY
  self = send
  transport = out
begin transports
out:
  driver = smtp
  hosts_require_tls = *
  hosts_require_auth = *
  tls_verify_hosts =
  tls_try_verify_hosts =
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if and{{eq{$auth2}{alice}}{eq{$auth3}{wonderland}}}}
  server_set_id = $auth2
  client_send = ^alice^wonderland
`}, `
mkdir DIR/spool && chown daemon:daemon DIR/spool && chmod 777 DIR
exec ROOT/usr/sbin/exim4 -C DIR/conf -bdf -q1m`},

	"opensmtpd": {"usr/sbin/smtpctl", map[string]string{"conf": `
table secrets { label = "alice:wonderland" }
listen on 127.0.0.1 port PORT hostname peer.example.org
action "out" relay host smtp+tls://label@127.0.0.1:RELAY auth <secrets> tls no-verify
match from any for any action "out"
`}, `
cd DIR && mkdir -m 755 -p spool run lib/opensmtpd/empty
mount --bind spool /var/spool && mount --bind run /run && mount --bind lib /var/lib
mkdir -m 711 /var/spool/smtpd
exec ROOT/usr/sbin/smtpd -d -f DIR/conf`},
}

// mtaRoot returns where an MTA's package is, or skips.
func mtaRoot(t testing.TB, kind string) string {
	if os.Getuid() != 0 {
		t.Skip("only root can run " + kind)
	}
	if _, err := exec.LookPath("unshare"); err != nil {
		t.Skip("unshare is not installed")
	}
	for _, root := range []string{os.Getenv("MAILBLOCKS_MTAS"), "/"} {
		if root == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join(root, mtas[kind].binary)); err == nil {
			return strings.TrimSuffix(root, "/")
		}
	}
	t.Skip(kind + " is not installed")
	return ""
}

// startMTA runs one and returns the address it listens on. Whatever keeps it from starting skips the test:
// a peer that can not run is as good as missing. Behind the relay's port, "yes" has Postfix strict on pipelining; without a
// word, it wants to be authenticated to.
func startMTA(t testing.TB, kind, relay string) (addr string) {
	root := mtaRoot(t, kind)
	relay, strict, _ := strings.Cut(relay, " ")
	trust := "permit_mynetworks"
	if strict == "" {
		strict, trust = "no", "reject"
	}
	m := mtas[kind]
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr = l.Addr().String()
	require.NoError(t, l.Close())
	_, port, _ := strings.Cut(addr, ":")
	fill := strings.NewReplacer("DIR", dir, "ROOT", root, "PORT", port, "RELAY", relay, "STRICT", strict, "TRUST", trust).Replace
	write := func(name, text string, mode os.FileMode) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), mode))
	}
	for name, text := range m.files {
		write(name, fill(text), 0o644)
	}
	cert := serverTLS(t).Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	require.NoError(t, err)
	write("cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})), 0o644)
	write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})), 0o644)
	// Exim and OpenSMTPD want users of their own.
	for _, file := range []string{"passwd", "group"} {
		text, err := os.ReadFile("/etc/" + file)
		require.NoError(t, err)
		for i, name := range []string{"Debian-exim", "opensmtpd", "opensmtpq"} {
			if _, err := user.Lookup(name); err != nil {
				text = fmt.Appendf(text, map[string]string{"passwd": "%s:x:%d:%[2]d::/nonexistent:/bin/false\n", "group": "%s:x:%d:\n"}[file], name, 64800+i)
			}
		}
		write(file, string(text), 0o644)
	}
	// In a process namespace, all that it starts ends with it.
	cmd := exec.Command("unshare", "-m", "-p", "-f", "--mount-proc", "--kill-child", "sh", "-e", "-c", fill(`mount --bind DIR/passwd /etc/passwd; mount --bind DIR/group /etc/group`+m.script))
	out, err := os.Create(filepath.Join(dir, "out"))
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); out.Close(); close(ended) }()
	logs := func() string {
		var all strings.Builder
		names, _ := filepath.Glob(filepath.Join(dir, "*log*"))
		for _, name := range append(names, filepath.Join(dir, "out")) {
			text, _ := os.ReadFile(name)
			all.Write(text)
		}
		return all.String()
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		if t.Failed() {
			t.Log(logs())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return addr
		}
		select {
		case <-ended:
			t.Skipf("%s does not start: %s", kind, logs())
		case <-ctx.Done():
			t.Skipf("%s does not listen: %s", kind, logs())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Our client sends to each MTA in all ways that it offers, and each relays to our server.
func TestInteropMTAs(t *testing.T) {
	for _, kind := range []string{"postfix", "exim", "opensmtpd"} {
		t.Run(kind, func(t *testing.T) {
			mtaRoot(t, kind)
			accounts, err := saslauth.Static(map[string]string{"alice": "wonderland"})
			require.NoError(t, err)
			sink := smtptest.NewServer(t, func(s *smtp.Server) {
				s.Hostname, s.TLS, s.Authenticator, s.RequireTLS = "mx.example.org", serverTLS(t), accounts, true
				s.Extensions = smtp.DefaultExtensions | smtp.ExtDSN
			})
			_, relay, err := net.SplitHostPort(sink.Addr)
			require.NoError(t, err)
			addr := startMTA(t, kind, relay)

			opt := &smtp.ClientOptions{Hello: "client.example.org", TLSPolicy: smtp.TLSRequired, TLS: clientTLS(t)}
			switch kind {
			case "postfix":
				if _, err := exec.LookPath("dovecot"); err != nil {
					t.Skip("dovecot, which Postfix authenticates by, is not installed")
				}
				opt.Auth, err = saslauth.NewScramClient("SCRAM-SHA-256", "alice", "wonderland", nil)
				require.NoError(t, err)
			case "exim":
				opt.Auth = sasl.NewPlainClient("", "alice", "wonderland")
			case "opensmtpd":
				opt.TLSPolicy = smtp.TLSNever // Debian 12's fails every handshake, openssl s_client's too
			}
			long := strings.Repeat(strings.Repeat("x", 70)+"\r\n.\r\n", 200)
			sent := map[string]string{} // subject: body
			send := func(subject string, opt smtp.ClientOptions, env smtp.Envelope, body string) {
				t.Helper()
				c, err := smtp.Dial(t.Context(), addr, &opt)
				require.NoError(t, err)
				defer c.Close()
				if env.Params.UTF8 {
					if _, ok := c.Extension("SMTPUTF8"); !ok {
						return
					}
				}
				if _, ok := c.Extension("CHUNKING"); opt.Chunking && !ok {
					return
				}
				env.From = "a@example.org"
				text := "From: <a@example.org>\r\nTo: <b@example.org>\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\nMessage-ID: <" + subject + "@example.org>\r\nSubject: " + subject + "\r\n\r\n" + body
				res, err := c.Send(t.Context(), &env, strings.NewReader(text))
				require.NoError(t, err)
				require.True(t, res.All(), "%s: %+v", subject, res)
				require.NoError(t, c.Quit(t.Context()))
				sent[subject] = body
			}
			many := func(opt smtp.ClientOptions, name string) {
				t.Helper()
				c, err := smtp.Dial(t.Context(), addr, &opt)
				require.NoError(t, err)
				defer c.Close()
				var got outcomes
				require.NoError(t, c.SendAll(t.Context(), func(yield func(smtp.Message) bool) {
					for i := range 10 {
						subject := fmt.Sprint(name, i)
						sent[subject] = "x\r\n"
						if !yield(message("From: <a@example.org>\r\nDate: Thu, 01 Jan 2026 12:00:00 +0000\r\nMessage-ID: <"+subject+"@example.org>\r\nSubject: "+subject+"\r\n\r\nx\r\n", "b@example.org")) {
							return
						}
					}
				}, got.done))
				require.Len(t, got, 10)
				for _, line := range got {
					require.True(t, strings.HasPrefix(line, "250 "), line)
				}
			}
			many(*opt, "many")
			many(smtp.ClientOptions{TLSPolicy: opt.TLSPolicy, TLS: opt.TLS, Auth: opt.Auth, Chunking: true}, "chunks")
			send("plain", *opt, smtp.Envelope{To: to("b@example.org", "c@example.org")}, ".one dot\r\n..two\r\n.\r\nend\r\n")
			lockstep := *opt
			lockstep.NoPipelining = true
			send("lockstep", lockstep, smtp.Envelope{To: to("b@example.org")}, "x\r\n")
			send("long", *opt, smtp.Envelope{To: to("b@example.org")}, long)
			chunked := *opt
			chunked.Chunking = true
			send("chunked", chunked, smtp.Envelope{To: to("b@example.org")}, long)
			send("eight", *opt, smtp.Envelope{To: to("b@example.org"), Params: smtp.MailParams{Body: smtp.Body8Bit}}, "Zo\xc3\xab\r\n")
			send("utf8", *opt, smtp.Envelope{To: to("用户@例子.test"), Params: smtp.MailParams{UTF8: true, Body: smtp.Body8Bit}}, "x\r\n")
			send("dsn", *opt, smtp.Envelope{Params: smtp.MailParams{Return: smtp.ReturnHeaders, EnvelopeID: "Q+1"}, To: []smtp.Recipient{{Address: "b@example.org",
				Params: smtp.RcptParams{Notify: smtp.NotifyFailure | smtp.NotifyDelay, OriginalType: "rfc822", Original: "o+1@example.org"}}}}, "x\r\n")

			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			seen := map[string]bool{}
			for n := len(sent); len(seen) < len(sent); n++ { // an MTA may send one message in parts
				for _, m := range sink.Wait(ctx, t, n) {
					head, body, ok := strings.Cut(string(m.Data), "\r\n\r\n")
					require.True(t, ok)
					_, subject, _ := strings.Cut(head, "Subject: ")
					subject, _, _ = strings.Cut(subject, "\r\n")
					if seen[subject] {
						continue
					}
					seen[subject] = true
					assert.Equal(t, sent[subject], body, subject)
					assert.True(t, m.TLS)
					assert.Equal(t, "alice", m.Identity)
					switch subject {
					case "utf8":
						assert.True(t, m.Params.UTF8)
						assert.Equal(t, "用户@例子.test", m.To[0].Address)
					case "dsn":
						if kind == "opensmtpd" {
							break // of DSN it hands on NOTIFY alone, if anything
						}
						assert.Equal(t, smtp.ReturnHeaders, m.Params.Return)
						assert.Equal(t, "Q+1", m.Params.EnvelopeID)
						assert.Equal(t, smtp.NotifyFailure|smtp.NotifyDelay, m.To[0].Params.Notify)
						assert.Equal(t, "o+1@example.org", m.To[0].Params.Original)
					}
				}
			}
			t.Logf("%d messages there and back", len(seen))
		})
	}
}
