// Command popfetch fetches mail by POP3 into a Maildir, each message once, whatever happens
// in between: a fetch that is killed neither loses a message nor fetches one twice.
//
//	popfetch -server pop.example.org:995 -user alice -password-file FILE -maildir DIR [-delete]
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/mailblocks/mailblocks/maildir"
	"github.com/mailblocks/mailblocks/pop3"
)

type options struct {
	server, user, password string
	maildir                string
	startTLS, insecure     bool
	plain, remove          bool
	quiet                  bool
}

func main() {
	var o options
	var passwordFile string
	flag.StringVar(&o.server, "server", "", "`HOST:PORT`; TLS from the start unless -starttls or -plain")
	flag.StringVar(&o.user, "user", "", "`name` to log in as")
	flag.StringVar(&passwordFile, "password-file", "", "`file` with the password; - reads it from standard input")
	flag.StringVar(&o.maildir, "maildir", "", "`folder` to deliver to; made where there is none")
	flag.BoolVar(&o.startTLS, "starttls", false, "start TLS by STLS")
	flag.BoolVar(&o.plain, "plain", false, "no TLS at all: the password can be read on the way")
	flag.BoolVar(&o.insecure, "insecure", false, "accept any certificate")
	flag.BoolVar(&o.remove, "delete", false, "delete from the server what was fetched")
	flag.BoolVar(&o.quiet, "quiet", false, "show no progress")
	flag.Parse()
	if o.server == "" || o.user == "" || passwordFile == "" || o.maildir == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	password, err := readPassword(passwordFile)
	if err == nil {
		o.password = password
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		err = fetch(ctx, o, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "popfetch:", err)
		os.Exit(1)
	}
}

func readPassword(file string) (string, error) {
	in := os.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, 4<<10))
	return strings.TrimRight(string(b), "\r\n"), err
}

func fetch(ctx context.Context, o options, progress io.Writer) error {
	dir := maildir.Dir(o.maildir)
	if err := dir.Init(); err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(o.server)
	if err != nil {
		return err
	}
	done, err := openJournal(filepath.Join(o.maildir, "popfetch-"+fileName(o.user+"@"+host)), dir)
	if err != nil {
		return err
	}
	defer done.close()

	opt := &pop3.ClientOptions{TLS: &tls.Config{InsecureSkipVerify: o.insecure, ServerName: host}, InsecureAuth: o.plain} //nolint:gosec // asked for by -insecure
	dial := pop3.DialTLS
	if o.startTLS || o.plain {
		dial = pop3.Dial
	}
	if o.plain {
		opt.TLSPolicy = pop3.TLSNever
	}
	c, err := dial(ctx, o.server, opt)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Login(ctx, o.user, o.password); err != nil {
		return err
	}
	list, err := c.List(ctx)
	if err != nil {
		return err
	}
	var numbers []int
	uids := make(map[int]string, len(list))
	there := make(map[string]bool, len(list))
	for _, m := range list {
		if m.UID == "" {
			return errors.New("the server has no UIDL: what was fetched before cannot be told")
		}
		uids[m.Number], there[m.UID] = m.UID, true
		if !done.has(m.UID) {
			numbers = append(numbers, m.Number)
		}
	}
	n := 0
	err = c.Fetch(ctx, numbers, func(number int, r io.Reader, err error) error {
		if err != nil {
			return fmt.Errorf("message %d: %w", number, err)
		}
		if err := done.deliver(ctx, uids[number], r); err != nil {
			return err
		}
		n++
		if !o.quiet {
			fmt.Fprintf(progress, "\r%d of %d fetched", n, len(numbers))
		}
		return nil
	})
	if !o.quiet {
		fmt.Fprintf(progress, "\r%d of %d fetched, %d were here\n", n, len(numbers), len(list)-len(numbers))
	}
	if err != nil {
		return err
	}
	if o.remove {
		for _, m := range list {
			if err := c.Delete(ctx, m.Number); err != nil {
				return err
			}
		}
	}
	if err := c.Quit(ctx); err != nil {
		return err
	}
	// What the server does not have any more needs no remembering, once the deletion is sure.
	return done.keepOnly(func(uid string) bool { return there[uid] })
}

// fileName makes one of a user and a host.
func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == '\\' || r == ':' || r < ' ' {
			return '_'
		}
		return r
	}, s)
}
