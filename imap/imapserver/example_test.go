package imapserver_test

import (
	"bufio"
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
	"github.com/mailblocks/mailblocks/imap/imapserver"
	"github.com/mailblocks/mailblocks/imap/memstore"
)

// oneUser lets ann in, with a password that should be kept better.
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

// Serve mail from memory, and ask it for the capabilities of a plain connection.
func Example() {
	mail := memstore.New()
	server := &imapserver.Server{
		Authenticator: oneUser{},
		Login: func(ctx context.Context, identity string) (imap.Store, error) {
			return mail.Open(), nil
		},
		// Without a TLSConfig there is no STARTTLS, and without TLS no login, unless:
		AllowInsecureAuth: true,
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve(ln)
	defer server.Shutdown(context.Background())

	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "a LOGIN ann secret\r\nb STATUS INBOX (MESSAGES)\r\nc LOGOUT\r\n")
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "* STATUS") {
			fmt.Println(lines.Text())
		}
	}
	// Output: * STATUS INBOX (MESSAGES 0)
}

// trainer is a Store that learns what its user moves into Junk.
type trainer struct {
	imap.Store
	learn func(body io.Reader)
}

func (s trainer) Open(ctx context.Context, name string) (imap.Mailbox, error) {
	mb, err := s.Store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return trainedMailbox{mb, s}, nil
}

// trainedMailbox overrides the one method it has an interest in. Unwrap keeps the optional
// interfaces of the mailbox below it within reach.
type trainedMailbox struct {
	imap.Mailbox
	store trainer
}

func (mb trainedMailbox) Unwrap() imap.Mailbox { return mb.Mailbox }

func (mb trainedMailbox) Copy(ctx context.Context, set imap.UIDSet, dst string, move bool) (imap.Copied, error) {
	if dst == "Junk" {
		// The messages are read before they move; a real filter would do it later.
		d, err := mb.Changes(ctx, 0)
		if err != nil {
			return imap.Copied{}, err
		}
		for m, err := range d.Messages {
			if err != nil {
				return imap.Copied{}, err
			}
			if !set.Contains(m.UID) {
				continue
			}
			if body, err := mb.Body(ctx, m.UID); err == nil {
				mb.store.learn(io.NewSectionReader(body, 0, body.Size()))
				body.Close()
			}
		}
	}
	return mb.Mailbox.Copy(ctx, set, dst, move)
}

// Wrap a Store to see what IMAP clients do to mail: here, a filter learns what is moved
// into Junk, by COPY or by MOVE.
func ExampleServer_wrappedStore() {
	ctx := context.Background()
	mail := memstore.New()
	var store imap.Store = trainer{mail.Open(), func(body io.Reader) {
		text, _ := io.ReadAll(body)
		fmt.Printf("learn %q\n", text)
	}}
	// This is what Server.Login would return. The rest is what the server does with it.
	if err := store.Create(ctx, "Junk", &imap.CreateOptions{SpecialUse: imap.UseJunk}); err != nil {
		log.Fatal(err)
	}
	inbox, err := store.Open(ctx, imap.Inbox)
	if err != nil {
		log.Fatal(err)
	}
	done, err := inbox.Append(ctx, []imap.NewMessage{{Body: strings.NewReader("Subject: win\r\n\r\n")}})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := inbox.Copy(ctx, imap.NumSetOf(done.UIDs...), "Junk", true); err != nil {
		log.Fatal(err)
	}
	recent, err := imap.Recent(ctx, inbox, false) // reaches the store's own upgrade
	fmt.Println(recent.Len(), err)
	// Output:
	// learn "Subject: win\r\n\r\n"
	// 0 <nil>
}
