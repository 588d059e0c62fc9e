package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"unsafe"

	gosmtp "github.com/emersion/go-smtp"

	"github.com/mailblocks/mailblocks/smtp"
)

// servers receive and discard; each returns its address.
var smtpServers = map[string]func(b *testing.B) string{
	"mailblocks": func(b *testing.B) string {
		s := &smtp.Server{
			Hostname: "mx.example.org",
			Handler: smtp.HandlerFunc(func(_ context.Context, _ *smtp.Transaction, body smtp.Body) error {
				_, err := io.Copy(io.Discard, body)
				return err
			}),
			Logger: slog.New(slog.DiscardHandler),
		}
		ln := listen(b)
		go s.Serve(ln) //nolint:errcheck // it ends with Close
		b.Cleanup(func() { s.Close() })
		return ln.Addr().String()
	},
	"go-smtp": func(b *testing.B) string {
		s := gosmtp.NewServer(goBackend{})
		s.Domain = "mx.example.org"
		ln := listen(b)
		go s.Serve(ln) //nolint:errcheck // it ends with Close
		b.Cleanup(func() { s.Close() })
		return ln.Addr().String()
	},
}

type goBackend struct{}

func (goBackend) NewSession(*gosmtp.Conn) (gosmtp.Session, error) { return goSession{}, nil }

type goSession struct{}

func (goSession) Mail(string, *gosmtp.MailOptions) error { return nil }
func (goSession) Rcpt(string, *gosmtp.RcptOptions) error { return nil }
func (goSession) Data(r io.Reader) error                 { _, err := io.Copy(io.Discard, r); return err }
func (goSession) Reset()                                 {}
func (goSession) Logout() error                          { return nil }

func listen(b *testing.B) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return ln
}

var line = "A line of mail as it often is, about seventy octets until its end.\r\n"

// BenchmarkSMTPReceive sends messages of 4 KiB on one connection, command by command, with
// the envelope pipelined, and with BDAT. The client's CPU is part of the figure.
func BenchmarkSMTPReceive(b *testing.B) {
	text := strings.Repeat(line, 4096/len(line))
	scripts := map[string][]step{
		"lockstep":  {{"MAIL FROM:<a@example.org>\r\n", 1}, {"RCPT TO:<b@example.org>\r\n", 1}, {"DATA\r\n", 1}, {text + ".\r\n", 1}},
		"pipelined": {{"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n", 3}, {text + ".\r\n", 1}},
		"bdat":      {{fmt.Sprintf("MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nBDAT %d LAST\r\n%s", len(text), text), 3}},
	}
	for _, mode := range []string{"lockstep", "pipelined", "bdat"} {
		for _, name := range []string{"mailblocks", "go-smtp"} {
			b.Run(mode+"/"+name, func(b *testing.B) {
				conn, err := net.Dial("tcp", smtpServers[name](b))
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				r := bufio.NewReader(conn)
				replies(b, r, 1)
				send(b, conn, "EHLO client.example.org\r\n")
				replies(b, r, 1)
				b.SetBytes(int64(len(text)))
				b.ReportAllocs()
				for b.Loop() {
					for _, s := range scripts[mode] {
						send(b, conn, s.out)
						replies(b, r, s.replies)
					}
				}
			})
		}
	}
}

type step struct {
	out     string
	replies int
}

// send writes without a copy, so that allocations counted are the server's.
func send(b *testing.B, w io.Writer, s string) {
	if _, err := w.Write(unsafe.Slice(unsafe.StringData(s), len(s))); err != nil {
		b.Fatal(err)
	}
}

// replies reads n replies, which must not be failures.
func replies(b *testing.B, r *bufio.Reader, n int) {
	for n > 0 {
		l, err := r.ReadSlice('\n')
		if err != nil || len(l) < 4 || l[0] > '3' {
			b.Fatalf("%q %v", l, err)
		}
		if l[3] == ' ' {
			n--
		}
	}
}
