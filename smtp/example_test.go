package smtp_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"strings"

	"github.com/mailblocks/mailblocks/smtp"
)

// A server that receives mail, in twenty lines.
func Example() {
	received := make(chan string, 1)
	srv := &smtp.Server{
		Hostname: "mx.example.org",
		Handler: smtp.HandlerFunc(func(ctx context.Context, tx *smtp.Transaction, body smtp.Body) error {
			message, err := io.ReadAll(body)
			if err != nil {
				return err
			}
			received <- fmt.Sprintf("from %s to %s: %s", tx.From, tx.Recipients[0].Address, message)
			return nil // we are responsible for it now
		}),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // srv.ListenAndServe(":25") in earnest
	if err != nil {
		log.Fatal(err)
	}
	go srv.Serve(l)
	defer srv.Shutdown(context.Background())

	// And a client that sends to it.
	ctx := context.Background()
	c, err := smtp.Dial(ctx, l.Addr().String(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Quit(ctx)
	result, err := c.Send(ctx, &smtp.Envelope{
		From: "alice@example.org",
		To:   []smtp.Recipient{{Address: "bob@example.org"}},
	}, strings.NewReader("Subject: hello\r\n\r\nHello, Bob.\r\n"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Recipients[0])
	fmt.Println(strings.ReplaceAll(<-received, "\r\n", "|"))
	// Output:
	// 250 2.0.0 message accepted
	// from alice@example.org to bob@example.org: Subject: hello||Hello, Bob.|
}

// localOnly refuses recipients of other domains.
type localOnly struct{ smtp.Base }

func (localOnly) Rcpt(_ context.Context, _ *smtp.Transaction, r *smtp.Recipient) error {
	if _, domain := smtp.SplitAddress(r.Address); domain != "example.org" {
		return &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "we do not relay"}
	}
	return nil
}

// A Handler of one's own embeds Base.
func ExampleBase() {
	srv := &smtp.Server{Handler: localOnly{}}
	_ = srv // srv.ListenAndServe(":25")
}

// wantTLS refuses mail from afar without TLS. A Middleware embeds Pass and writes the methods
// it acts around.
type wantTLS struct{ smtp.Pass }

func (m wantTLS) Mail(ctx context.Context, tx *smtp.Transaction) error {
	if tx.Session.TLS == nil && !tx.Session.Remote.Addr().IsLoopback() {
		return &smtp.Reply{Code: 530, Enhanced: smtp.EnhancedCode{5, 7, 0}, Text: "TLS, please"}
	}
	return m.Pass.Mail(ctx, tx)
}

func ExampleMiddleware() {
	tlsFromAfar := func(next smtp.Handler) smtp.Handler { return wantTLS{smtp.Pass{Handler: next}} }
	srv := &smtp.Server{Handler: smtp.Chain(localOnly{}, tlsFromAfar)}
	_ = srv
}
