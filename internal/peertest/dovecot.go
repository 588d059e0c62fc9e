// Package peertest starts other people's servers for tests to measure and compare with.
package peertest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mailblocks/mailblocks/internal/shared"
	"github.com/mailblocks/mailblocks/internal/testcert"
)

const dovecotConfig = `
base_dir = %[1]s/run
log_path = %[1]s/log
protocols = %[3]s
listen = 127.0.0.1
ssl = yes
ssl_cert = <%[1]s/cert.pem
ssl_key = <%[1]s/key.pem
disable_plaintext_auth = no
auth_mechanisms = plain login
default_internal_user = nobody
default_login_user = nobody
first_valid_uid = 1
mail_location = maildir:%[1]s/mail
mail_max_userip_connections = 100
service %[3]s-login {
  chroot =
  inet_listener %[3]s {
    port = %[2]s
  }
  inet_listener %[3]ss {
    port = 0
  }
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home=%[1]s
}
`

// Dovecot starts Debian's Dovecot on loopback, for "imap" or "pop3", with STARTTLS, and with
// these messages in the one Maildir that all users share; their password is "secret". It
// returns the address and the certificate, and ends with the test, which is skipped where
// there is no Dovecot or no right to start it.
func Dovecot(t testing.TB, protocol string, mails []string) (addr string, certPEM []byte) {
	t.Helper()
	p := DovecotMaildir(t, protocol, func(dir string) error {
		for _, sub := range []string{"new", "cur", "tmp"} {
			if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
				return err
			}
		}
		for i, m := range mails {
			path := filepath.Join(dir, "new", fmt.Sprintf("%d.M%dP1.h", 1700000000+i, i))
			if err := os.WriteFile(path, []byte(strings.ReplaceAll(m, "\r\n", "\n")), 0o666); err != nil {
				return err
			}
		}
		return nil
	})
	return p.Addr, p.CertPEM
}

// A Peer is a server that runs until the test ends.
type Peer struct {
	Addr    string
	CertPEM []byte
	Maildir string // that all users share
	PID     int    // of the process whose children do the work
}

// DovecotMaildir is Dovecot with a Maildir that fill makes.
func DovecotMaildir(t testing.TB, protocol string, fill func(dir string) error) Peer {
	t.Helper()
	program, err := exec.LookPath("dovecot")
	if err != nil {
		shared.Missing(t, "dovecot")
	}
	if os.Geteuid() != 0 {
		t.Skip("Dovecot wants to be started by root")
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("dovecot: %v", err)
		}
	}
	dir, err := os.MkdirTemp("", "dovecot") // a short path: it holds unix sockets
	must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(os.Chmod(dir, 0o755))
	must(os.Mkdir(filepath.Join(dir, "run"), 0o755))
	mail := filepath.Join(dir, "mail")
	must(fill(mail))
	must(exec.Command("chown", "-R", "nobody:nogroup", mail).Run())
	certPEM, keyPEM, err := testcert.PEM("127.0.0.1")
	must(err)
	must(os.WriteFile(filepath.Join(dir, "cert.pem"), certPEM, 0o644))
	must(os.WriteFile(filepath.Join(dir, "key.pem"), keyPEM, 0o600))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	addr := free.Addr().String()
	free.Close()
	_, port, err := net.SplitHostPort(addr)
	must(err)
	config := filepath.Join(dir, "dovecot.conf")
	must(os.WriteFile(config, fmt.Appendf(nil, dovecotConfig, dir, port, protocol), 0o644))
	cmd := exec.Command(program, "-F", "-c", config)
	must(cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			b, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Logf("Dovecot's log:\n%.3000s", b)
		}
	})
	for range 200 {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
			return Peer{addr, certPEM, mail, cmd.Process.Pid}
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatalf("dovecot does not listen at %s", addr)
	return Peer{}
}
