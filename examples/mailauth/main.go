// Mailauth checks and signs messages from the command line.
//
//	mailauth verify -ip ADDR -helo NAME -from ADDR [-dns HOST:PORT] [-json] < message
//	mailauth spf    -ip ADDR -helo NAME -from ADDR
//	mailauth dkim   < message
//	mailauth dmarc  -spf-pass DOMAIN -dkim-pass DOMAIN... -author ADDR
//	mailauth sign   -domain NAME -selector NAME -key FILE... < message > signed
//	mailauth keygen -domain NAME -selector NAME -type rsa|ed25519 -key FILE
//	mailauth check-domain NAME
//
// A message whose first line ends in LF alone is read with CRLF line ends.
// With -json, results are one JSON object on standard output; its fields are
// those of output in json.go.
//
// The exit status is 0 when the outcome is good (verify: nothing speaks against
// the message; spf, dkim, dmarc: pass; check-domain: nothing is wrong), 1 when it
// is not, and 2 for wrong use and trouble of our own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command is one of the program's commands with its flags and streams.
type command struct {
	flags *flag.FlagSet
	in    io.Reader
	out   io.Writer

	dns      string
	json     bool
	timeout  time.Duration
	at       int64
	ip       string
	helo     string
	from     string
	author   string
	servID   string
	domain   string
	selector string
	keyType  string
	keys     list
	spfPass  string
	dkimPass list
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// errBad means that the outcome is bad; it has been printed.
var errBad = errors.New("bad outcome")

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	commands := map[string]func(*command, context.Context) error{
		"verify": (*command).verify, "spf": (*command).spf, "dkim": (*command).dkim, "dmarc": (*command).dmarc,
		"sign": (*command).sign, "keygen": (*command).keygen, "check-domain": (*command).checkDomain,
	}
	if len(args) == 0 || commands[args[0]] == nil {
		fmt.Fprintln(errOut, "usage: mailauth verify|spf|dkim|dmarc|sign|keygen|check-domain [flags]")
		return 2
	}
	c := &command{in: in, out: out, flags: flag.NewFlagSet("mailauth "+args[0], flag.ContinueOnError)}
	f := c.flags
	f.SetOutput(errOut)
	f.StringVar(&c.dns, "dns", "", "ask the name server at `HOST:PORT` instead of the system's")
	f.BoolVar(&c.json, "json", false, "print the result as JSON")
	f.DurationVar(&c.timeout, "timeout", 30*time.Second, "time limit for all look-ups")
	f.Int64Var(&c.at, "at", 0, "check as if it were this time, in `seconds` since 1970")
	f.StringVar(&c.ip, "ip", "", "client `address`")
	f.StringVar(&c.helo, "helo", "", "client's HELO `name`")
	f.StringVar(&c.from, "from", "", "MAIL FROM `address`, empty for <>")
	f.StringVar(&c.author, "author", "", "value of the From `field`")
	f.StringVar(&c.servID, "servid", "localhost", "our `name` in header fields")
	f.StringVar(&c.domain, "domain", "", "signing `domain`")
	f.StringVar(&c.selector, "selector", "", "key's `selector`")
	f.StringVar(&c.keyType, "type", "rsa", "rsa or ed25519")
	f.Var(&c.keys, "key", "PEM `file` of a private key; sign takes several, with -selector NAME,NAME")
	f.StringVar(&c.spfPass, "spf-pass", "", "MAIL FROM `domain` that passed SPF")
	f.Var(&c.dkimPass, "dkim-pass", "signing `domain` that passed DKIM, repeatable")
	if f.Parse(args[1:]) != nil {
		return 2
	}
	switch err := commands[args[0]](c, ctx); {
	case err == nil:
		return 0
	case errors.Is(err, errBad):
		return 1
	default:
		fmt.Fprintln(errOut, "mailauth:", err)
		return 2
	}
}

// resolver returns a resolver for the name server asked for.
func (c *command) resolver() resolver.Resolver {
	client := &resolver.Client{}
	if c.dns != "" {
		client.Servers = []string{c.dns}
	}
	return &resolver.Cache{Next: client}
}

func (c *command) addr() (netip.Addr, error) {
	ip, err := netip.ParseAddr(c.ip)
	if err != nil {
		return ip, fmt.Errorf("-ip: %w", err)
	}
	return ip, nil
}

func (c *command) now() time.Time {
	if c.at != 0 {
		return time.Unix(c.at, 0)
	}
	return time.Now()
}
