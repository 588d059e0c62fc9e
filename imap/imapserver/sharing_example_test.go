package imapserver_test

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"net"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/imapserver"
	"github.com/mailblocks/mailblocks/imap/memstore"
)

// Bob's Store says that ann may read his Inbox; Owners lets her come to it.
func ExampleServer_sharing() {
	ctx := context.Background()
	mail := map[string]*memstore.Storage{"ann": memstore.New(), "bob": memstore.New()}
	bobs := mail["bob"].Open().(imap.Rights)
	rights, _ := imap.ParseRights("lr")
	if err := bobs.SetRights(ctx, imap.Inbox, "ann", imap.RightsOp{Rights: rights}); err != nil {
		log.Fatal(err)
	}
	server := &imapserver.Server{
		Authenticator:     oneUser{}, // ann
		AllowInsecureAuth: true,
		Login:             func(_ context.Context, identity string) (imap.Store, error) { return mail[identity].Open(), nil },
		Owners:            func(context.Context, string) ([]string, error) { return []string{"ann", "bob"}, nil },
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve(ln)
	defer server.Shutdown(ctx)

	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "a LOGIN ann secret\r\nb LIST user/bob/ *\r\nc EXAMINE user/bob/INBOX\r\nd LOGOUT\r\n")
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "* LIST") || strings.HasPrefix(line, "c ") {
			fmt.Println(line)
		}
	}
	// Output:
	// * LIST (\HasNoChildren) "/" user/bob/INBOX
	// c OK [READ-ONLY] selected
}
