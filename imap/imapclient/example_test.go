package imapclient_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"strings"

	"github.com/emersion/go-sasl"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/imapclient"
	"github.com/mailblocks/mailblocks/imap/imapserver"
	"github.com/mailblocks/mailblocks/imap/memstore"
)

// Read the mail that nobody has read.
func Example() {
	addr := serve()
	ctx := context.Background()
	// In earnest: imapclient.DialTLS(ctx, "imap.example.org:993", nil)
	c, err := imapclient.Dial(ctx, addr, &imapclient.ClientOptions{TLSPolicy: imapclient.TLSNever, InsecureAuth: true})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Logout(ctx)
	if err := c.Login(ctx, "ann", "secret"); err != nil {
		log.Fatal(err)
	}
	if _, err := c.Select(ctx, "INBOX", nil); err != nil {
		log.Fatal(err)
	}
	unseen, err := c.Search(ctx, imapclient.Criteria{}.NotFlag(imap.FlagSeen), nil)
	if err != nil || len(unseen.All) == 0 {
		log.Fatal("nothing new ", err)
	}
	what := imapclient.FetchItems{Envelope: true, Sections: []imapclient.Section{{Kind: imapclient.Text}}}
	for m, err := range c.Fetch(ctx, imapclient.UIDs(unseen.All), what) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.UID, m.Envelope.From[0], imapclient.DecodeHeader(m.Envelope.Subject))
		for body, err := range m.Bodies() {
			if err != nil {
				log.Fatal(err)
			}
			text, err := io.ReadAll(body) // of any size: it comes as it is read
			fmt.Printf("%q %v\n", text, err)
		}
	}
	// Output:
	// 1 bob@example.org Grüße
	// "Hello, Ann.\r\n" <nil>
}

// Wait for new mail.
func ExampleClient_Idle() {
	addr := serve()
	ctx := context.Background()
	opt := &imapclient.ClientOptions{TLSPolicy: imapclient.TLSNever, InsecureAuth: true}
	news := make(chan uint32, 1)
	opt.Handler.Exists = func(messages uint32) {
		select {
		case news <- messages:
		default: // who listens has not looked yet, and will
		}
	}
	c, err := imapclient.Dial(ctx, addr, opt)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(ctx, "ann", "secret"); err != nil {
		log.Fatal(err)
	}
	if _, err := c.Select(ctx, "INBOX", nil); err != nil {
		log.Fatal(err)
	}
	idle, wake := context.WithCancel(ctx)
	go deliver(addr)
	go func() {
		fmt.Println("messages:", <-news)
		wake()
	}()
	if err := c.Idle(idle); err != nil {
		log.Fatal(err)
	}
	// Now the connection is free for other commands.
	fmt.Println(c.Noop(ctx))
	// Output:
	// messages: 2
	// <nil>
}

// deliver appends a message to ann's INBOX.
func deliver(addr string) {
	ctx := context.Background()
	c, err := imapclient.Dial(ctx, addr, &imapclient.ClientOptions{TLSPolicy: imapclient.TLSNever, InsecureAuth: true})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Logout(ctx)
	if err := c.Auth(ctx, sasl.NewPlainClient("", "ann", "secret")); err != nil {
		log.Fatal(err)
	}
	mail := imapclient.AppendMessage{Body: strings.NewReader("From: bob@example.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nHello, Ann.\r\n")}
	if _, err := c.Append(ctx, "INBOX", mail); err != nil {
		log.Fatal(err)
	}
}

// serve starts a server for the examples, with one message, and returns its address.
func serve() string {
	mail := memstore.New()
	server := &imapserver.Server{
		Authenticator:     oneUser{},
		Login:             func(context.Context, string) (imap.Store, error) { return mail.Open(), nil },
		AllowInsecureAuth: true,
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve(ln)
	deliver(ln.Addr().String())
	return ln.Addr().String()
}

type oneUser struct{}

func (oneUser) Mechanisms(*tls.ConnectionState) []string { return []string{sasl.Plain} }

func (oneUser) Start(_ context.Context, _ string, _ netip.AddrPort, _ *tls.ConnectionState, done func(string) error) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "ann" || password != "secret" {
			return errors.New("unknown user or wrong password")
		}
		return done(user)
	}), nil
}
