package relay_test

import (
	"context"
	"log"
	"os"
	"os/signal"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/dsn"
	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/queue/spool"
	"github.com/mailblocks/mailblocks/smtp"
)

// A relay: what clients on this machine send is queued and delivered to the world.
func Example() {
	const hostname = "mx.example.org"
	store, err := spool.Open("/var/spool/relay", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	transport := &relay.Transport{
		Resolver: &resolver.Cache{Next: &resolver.Client{}},
		Hostname: hostname,
	}
	defer transport.Close()

	server := &smtp.Server{Hostname: hostname, Handler: &relay.Handler{Store: store}}
	go server.ListenAndServe("127.0.0.1:2525")
	defer server.Close()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	runner := queue.Runner{
		Store:     store,
		Transport: transport,
		Report:    (&dsn.Writer{Hostname: hostname}).Report,
	}
	if err := runner.Run(ctx); err != nil {
		log.Print(err)
	}
}
