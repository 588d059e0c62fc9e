// Command smtpsink takes every message for everybody and throws it away, as fast as it
// can. It shows how little a server needs, and is what to point a load generator at.
//
//	go run ./examples/smtpsink -listen 127.0.0.1:2525
//
// It prints "listening smtp ADDR" when it is ready (port 0 picks a free one) and, when it is
// interrupted, what it received.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mailblocks/mailblocks/smtp"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "smtpsink:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("smtpsink", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:2525", "`address` to listen on, or unix:PATH")
	lmtp := flags.Bool("lmtp", false, "speak LMTP")
	size := flags.Int64("size", 0, "limit a message to so many `octets`; 0 is 32 MiB")
	if err := flags.Parse(args); err != nil {
		return err
	}

	var messages, octets atomic.Int64
	srv := &smtp.Server{
		MaxMessageBytes:          *size,
		MaxRecipients:            -1,
		MaxConnections:           -1,
		MaxConnectionsPerAddress: -1,
		Handler: smtp.HandlerFunc(func(_ context.Context, _ *smtp.Transaction, body smtp.Body) error {
			n, err := io.Copy(io.Discard, body)
			if err == nil {
				messages.Add(1)
				octets.Add(n)
			}
			return err
		}),
	}
	if *lmtp {
		srv.Mode = smtp.ModeLMTP
	}

	network, addr := "tcp", *listen
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "listening %v %v\n", srv.Mode, l.Addr())

	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		stopped <- srv.Shutdown(drain)
	}()
	if err := srv.Serve(l); !errors.Is(err, smtp.ErrServerClosed) {
		return err
	}
	err = <-stopped
	fmt.Fprintf(out, "received %d messages, %d octets\n", messages.Load(), octets.Load())
	return err
}
