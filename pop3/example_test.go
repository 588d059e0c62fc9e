package pop3_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/textproto"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/memstore"
	"github.com/mailblocks/mailblocks/pop3"
	"github.com/mailblocks/mailblocks/pop3/maildrop"
)

// Serve a mailbox by POP3.
func Example() {
	ctx := context.Background()
	store := memstore.New().Open()
	inbox, err := store.Open(ctx, imap.Inbox)
	if err != nil {
		log.Fatal(err)
	}
	_, err = inbox.Append(ctx, []imap.NewMessage{{Body: strings.NewReader("Subject: hello\r\n\r\nHi.\r\n")}})
	if err != nil {
		log.Fatal(err)
	}

	var locks maildrop.Locks
	server := &pop3.Server{
		Authenticator: accounts{}, // checks passwords; package saslauth has ready-made ones
		Open: func(ctx context.Context, identity string) (pop3.Maildrop, error) {
			box, err := store.Open(ctx, imap.Inbox)
			if err != nil {
				return nil, err
			}
			return locks.Open(ctx, identity, box)
		},
		TLSConfig:         &tls.Config{}, // with a certificate, for STLS
		AllowInsecureAuth: true,          // for this example only
		Logger:            slog.New(slog.DiscardHandler),
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()

	c, err := textproto.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	for _, command := range []string{"", "USER alice", "PASS wonder land", "QUIT"} {
		if command != "" {
			_ = c.PrintfLine("%s", command)
		}
		line, err := c.ReadLine()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(line)
	}
	if err := server.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	if err := <-done; !errors.Is(err, pop3.ErrServerClosed) {
		log.Fatal(err)
	}
	// Output:
	// +OK POP3 server ready
	// +OK send PASS
	// +OK 1 messages (23 octets)
	// +OK goodbye
}
