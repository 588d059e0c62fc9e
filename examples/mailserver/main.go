// Command mailserver is the reference server: every package of the module joined into one
// program. Without arguments it makes a data folder, a certificate and two accounts, prints
// a line to try for each protocol, and serves until it is interrupted.
//
// Read it in this order: config.go (the command line), server.go (who knows whom),
// inbound.go and outbound.go (what becomes of a message), deliver.go (into mailboxes and out
// of the queue), training.go (Junk), accounts.go, keys.go, web.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// drainTime is how long sessions and deliveries may go on after SIGTERM.
const drainTime = 25 * time.Second

func main() {
	cfg, err := parseConfig(os.Args[1:], os.Stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "mailserver:", err)
		}
		os.Exit(2)
	}
	slog.SetDefault(cfg.newLogger(os.Stderr))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mailserver:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then drains.
func run(ctx context.Context, cfg *config, out *os.File) error {
	s, err := newServer(cfg)
	if err != nil {
		return err
	}
	if err := s.listen(out); err != nil {
		return errors.Join(err, s.close())
	}
	s.introduce(out)
	<-ctx.Done()
	slog.Info("draining")
	drain, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return s.shutdown(drain)
}
