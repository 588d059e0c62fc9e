// Command customstore is an IMAP server over a store of its own, in store.go: mail that is
// encrypted before it reaches the store below, here one in memory. store_test.go is the whole
// test that such a store needs. The one account is alice, with the password "secret".
package main

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log"
	"net"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/imapserver"
	"github.com/mailblocks/mailblocks/imap/memstore"
	"github.com/mailblocks/mailblocks/smtp/saslauth"
)

func main() {
	addr := flag.String("imap", "127.0.0.1:1143", "`address` to listen on; port 0 picks a free one")
	flag.Parse()
	auth, err := saslauth.Static(map[string]string{"alice": "secret"})
	if err != nil {
		log.Fatal(err)
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening imap", ln.Addr())
	mail, key := memstore.New(), []byte(rand.Text()[:16])
	server := &imapserver.Server{
		Authenticator:     auth,
		AllowInsecureAuth: true,
		Login:             func(context.Context, string) (imap.Store, error) { return seal(mail.Open(), key) },
	}
	log.Fatal(server.Serve(ln))
}
