//go:build linux

package relay_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/dsn"
	"github.com/mailblocks/mailblocks/queue/memstore"
	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/smtptest"
)

// Mail servers that nobody here wrote, as mail exchangers on loopback that pass everything on to one host of the test's. They are
// looked for in the system and below $MAILBLOCKS_MTAS, where Debian's packages may have been unpacked:
//
//	apt-get download postfix exim4-daemon-light opensmtpd && for p in *.deb; do dpkg -x $p $MAILBLOCKS_MTAS; done
//
// They run as root in namespaces of their own, so nothing of a server that the machine may really have is touched. Without all
// that, the tests are skipped. In the texts, DIR is a folder of its own, ROOT where its package is, PORT where it listens, NEXT the
// port that it relays to.
var mtas = map[string]struct{ binary, name, conf, script string }{
	"postfix": {"usr/lib/postfix/sbin/master", "main.cf", `
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
relayhost = [127.0.0.1]:NEXT
alias_maps =
maillog_file = DIR/log
maillog_file_prefixes = /
import_environment = LD_LIBRARY_PATH MAIL_CONFIG
export_environment = LD_LIBRARY_PATH MAIL_CONFIG
smtpd_client_connection_rate_limit = 0
`, `
cd DIR && mkdir data spool && chown daemon data && cd spool
mkdir active bounce corrupt defer deferred flush hold incoming private saved trace && chown daemon * && chmod 700 *
mkdir pid maildrop public && chown daemon maildrop public && chgrp mail maildrop public && chmod 730 maildrop && chmod 710 public
cat > DIR/master.cf <<END
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
END
export LD_LIBRARY_PATH=ROOT/usr/lib/postfix MAIL_CONFIG=DIR
exec ROOT/usr/lib/postfix/sbin/master -d -c DIR`},

	"exim": {"usr/sbin/exim4", "conf", `
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
dsn_advertise_hosts = *
tls_advertise_hosts =
acl_smtp_rcpt = accept
acl_smtp_data = accept
keep_environment = LD_LIBRARY_PATH
begin routers
relay:
  driver = manualroute
  domains = *
  route_list = * 127.0.0.1::NEXT
  self = send
  transport = out
begin transports
out:
  driver = smtp
`, `
mkdir DIR/spool && chown daemon:daemon DIR/spool && chmod 777 DIR
exec ROOT/usr/sbin/exim4 -C DIR/conf -bdf -q1m`},

	"opensmtpd": {"usr/sbin/smtpctl", "conf", `
listen on 127.0.0.1 port PORT hostname peer.example.org
action "out" relay host smtp://127.0.0.1:NEXT
match from any for any action "out"
`, `
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
		if _, err := os.Stat(filepath.Join(root, mtas[kind].binary)); root != "" && err == nil {
			return strings.TrimSuffix(root, "/")
		}
	}
	t.Skip(kind + " is not installed")
	return ""
}

// freePort finds a port nobody listens on.
func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(t, err)
	return port
}

// startMTA runs one that passes mail on to the port next, and returns its port and process. What keeps it from starting
// skips the test: a peer that can not run is as good as missing.
func startMTA(t testing.TB, kind, next string) (port string, pid int) {
	root, m := mtaRoot(t, kind), mtas[kind]
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		require.NoError(t, os.Chmod(d, 0o755))
	}
	port = freePort(t)
	fill := strings.NewReplacer("DIR", dir, "ROOT", root, "PORT", port, "NEXT", next).Replace
	require.NoError(t, os.WriteFile(filepath.Join(dir, m.name), []byte(fill(m.conf)), 0o644))
	for _, file := range []string{"passwd", "group"} { // Exim and OpenSMTPD want users of their own
		text, err := os.ReadFile("/etc/" + file)
		require.NoError(t, err)
		for i, name := range []string{"Debian-exim", "opensmtpd", "opensmtpq"} {
			if _, err := user.Lookup(name); err != nil {
				text = fmt.Appendf(text, map[string]string{"passwd": "%s:x:%d:%[2]d::/nonexistent:/bin/false\n", "group": "%s:x:%d:\n"}[file], name, 64800+i)
			}
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), text, 0o644))
	}
	cmd := exec.Command("unshare", "-m", "-p", "-f", "--mount-proc", "--kill-child", "sh", "-e", "-c",
		fill("mount --bind DIR/passwd /etc/passwd; mount --bind DIR/group /etc/group"+m.script))
	logs := func() string {
		var all strings.Builder
		names, _ := filepath.Glob(filepath.Join(dir, "*log*"))
		for _, name := range append(names, filepath.Join(dir, "out")) {
			text, _ := os.ReadFile(name)
			all.Write(text)
		}
		return all.String()
	}
	ended := start(t, cmd, filepath.Join(dir, "out"), logs)
	waitPort(t, port, ended, kind, logs)
	return port, cmd.Process.Pid
}

// start runs a command in a process group of its own until the test ends.
func start(t testing.TB, cmd *exec.Cmd, outFile string, logs func() string) (ended <-chan struct{}) {
	out, err := os.Create(outFile)
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); out.Close(); close(done) }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
		if t.Failed() {
			t.Log(logs())
		}
	})
	return done
}

func waitPort(t testing.TB, port string, ended <-chan struct{}, what string, logs func() string) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
			t.Skipf("%s does not start: %s", what, logs())
		case <-ctx.Done():
			t.Skipf("%s does not listen: %s", what, logs())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

var updateReports = flag.Bool("update-reports", false, "keep the MTAs' reports as testdata of queue/dsn")

// nobody refuses that recipient.
type nobody struct{ smtp.Base }

func (nobody) Rcpt(_ context.Context, _ *smtp.Transaction, r *smtp.Recipient) error {
	if strings.HasPrefix(r.Address, "nobody@") {
		return &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 1}, Text: "no such user here"}
	}
	return nil
}

func (nobody) Data(_ context.Context, _ *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	return nil, nil
}

// TestMTAs: a queue delivers to each MTA as a mail exchanger; the MTA passes our message on as it is, takes a report of ours, and
// reports a failure in a way that we understand.
func TestMTAs(t *testing.T) {
	const text = "Date: Sun, 22 Nov 2026 06:31:03 +0000\r\nMessage-ID: <original@example.org>\r\nFrom: <sender@example.org>\r\nTo: <nobody@dest.test>\r\nSubject: hello\r\n\r\n.dots\r\n..\r\nHello!\r\n"
	for _, kind := range []string{"postfix", "exim", "opensmtpd"} {
		t.Run(kind, func(t *testing.T) {
			sink := smtptest.NewServer(t, func(s *smtp.Server) { s.Handler = nobody{} })
			_, next, err := net.SplitHostPort(sink.Addr)
			require.NoError(t, err)
			port, _ := startMTA(t, kind, next)
			number, err := strconv.Atoi(port)
			require.NoError(t, err)

			store := memstore.New()
			defer store.Close()
			tr := &relay.Transport{
				Resolver: resolver.MustParseZones("dest.test. MX 5 mx.test.\nmx.test. A 127.0.0.1\nexample.org. MX 5 mx.test.\nrefused.test. MX 0 ."),
				Hostname: "relay.example.org", AllowLoopback: true, Port: number,
			}
			defer tr.Close()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			runner := &queue.Runner{Store: store, Transport: tr, Report: (&dsn.Writer{Hostname: "relay.example.org"}).Report}
			stopped := make(chan error, 1)
			go func() { stopped <- runner.Run(ctx) }()
			defer func() {
				cancel()
				require.NoError(t, <-stopped)
			}()
			send := func(to ...string) {
				e := queue.Envelope{ReversePath: "sender@example.org", Return: queue.ReturnHeaders}
				for _, address := range to {
					e.Recipients = append(e.Recipients, queue.Recipient{Address: address})
				}
				_, err := store.Enqueue(ctx, queue.Message{Envelope: e, Body: strings.NewReader(text)})
				require.NoError(t, err)
			}

			send("somebody@dest.test", "other@dest.test")
			got := sink.Wait(ctx, t, 1)
			assert.True(t, strings.HasSuffix(string(got[0].Data), text[strings.Index(text, "Date: "):]), "the message is what it was:\n%s", got[0].Data)

			seen := len(sink.Messages())
			send("nobody@dest.test")
			got = sink.Wait(ctx, t, seen+1)
			report := got[len(got)-1]
			assert.Equal(t, "", report.From)
			assert.Equal(t, "sender@example.org", report.To[0].Address)
			bounces, err := dsn.ReadBounce(strings.NewReader(string(report.Data)), "sender@example.org", nil)
			require.NoError(t, err, "%s", report.Data)
			require.Len(t, bounces, 1)
			assert.Equal(t, dsn.BounceFailed, bounces[0].Kind)
			assert.Equal(t, "nobody@dest.test", bounces[0].Recipient)
			assert.Equal(t, "<original@example.org>", bounces[0].MessageID)
			assert.Contains(t, bounces[0].Diagnostic, "no such user")
			if *updateReports {
				require.NoError(t, os.WriteFile(filepath.Join("../dsn/testdata/reports", kind+"-failed.eml"), report.Data, 0o644))
			}

			seen = len(sink.Messages())
			send("any@refused.test")
			got = sink.Wait(ctx, t, seen+1)
			ours, err := dsn.Parse(strings.NewReader(string(got[len(got)-1].Data)))
			require.NoError(t, err)
			assert.Equal(t, "any@refused.test", ours.Recipients[0].Final)
			assert.Equal(t, "5.1.10", ours.Recipients[0].Status)
		})
	}
}
