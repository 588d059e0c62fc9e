// Command imapmem is an IMAP server in a page: mailboxes in memory, one account for each
// -user, who may share mailboxes with the others, no TLS unless a certificate is given. Conformance and load tests drive it where no
// disk is to be part of the measurement.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/imapserver"
	"github.com/mailblocks/mailblocks/imap/memstore"
	"github.com/mailblocks/mailblocks/smtp/saslauth"
)

func main() {
	addr := flag.String("imap", "127.0.0.1:1143", "`address` to listen on; port 0 picks a free one")
	certFile := flag.String("tls-cert", "", "certificate `file`, for STARTTLS")
	keyFile := flag.String("tls-key", "", "key `file`")
	passwords := make(map[string]string)
	flag.Func("user", "account, as `NAME:PASSWORD`; repeatable", func(s string) error {
		name, password, ok := strings.Cut(s, ":")
		if !ok || name == "" || password == "" {
			return errors.New("want NAME:PASSWORD")
		}
		passwords[name] = password
		return nil
	})
	flag.Parse()
	if err := run(*addr, *certFile, *keyFile, passwords); err != nil {
		log.Fatal("imapmem: ", err)
	}
}

func run(addr, certFile, keyFile string, passwords map[string]string) error {
	auth, err := saslauth.Static(passwords)
	if err != nil {
		return err
	}
	users := slices.Collect(maps.Keys(passwords))
	var mu sync.Mutex
	mail := make(map[string]*memstore.Storage)
	server := &imapserver.Server{
		Authenticator:     auth,
		AllowInsecureAuth: true,
		MaxConnsPerAddr:   -1,
		Login: func(_ context.Context, identity string) (imap.Store, error) {
			mu.Lock()
			defer mu.Unlock()
			if mail[identity] == nil {
				mail[identity] = memstore.New()
			}
			return mail[identity].Open(), nil
		},
		Owners: func(context.Context, string) ([]string, error) { return users, nil },
	}
	if certFile != "" {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return err
		}
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Println("listening imap", ln.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(drain)
}
