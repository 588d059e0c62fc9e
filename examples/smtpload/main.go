// Command smtpload sends messages to a server over several connections at once, and says how fast
// the server took them.
//
//	go run ./examples/smtpload -addr 127.0.0.1:2525 -connections 8 -messages 100000
//
// It is for servers of one's own: it sends as much as they take.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mailblocks/mailblocks/smtp"
)

type load struct {
	addr                  string
	connections, messages int
	perConnection         int
	from, to              string
	rcpts                 int
	opt                   smtp.ClientOptions
	body                  []byte

	left             atomic.Int64
	accepted, failed atomic.Int64
	mu               sync.Mutex
	latencies        []time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "smtpload:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var l load
	flags := flag.NewFlagSet("smtpload", flag.ContinueOnError)
	flags.StringVar(&l.addr, "addr", "127.0.0.1:2525", "`address` of the server, or unix:PATH")
	flags.IntVar(&l.connections, "connections", 4, "connections at a time")
	flags.IntVar(&l.messages, "messages", 10000, "messages to send in all")
	flags.IntVar(&l.perConnection, "per-connection", 0, "messages on one connection before the next is made; 0 is all")
	flags.StringVar(&l.from, "from", "sender@example.org", "sender")
	flags.StringVar(&l.to, "to", "recipient@example.org", "recipient")
	flags.IntVar(&l.rcpts, "rcpts", 1, "recipients of each message")
	size := flags.Int("size", 4096, "`octets` of a message")
	mode := flags.String("mode", "pipelined", "lockstep, pipelined or bdat")
	flags.BoolVar(&l.opt.LMTP, "lmtp", false, "speak LMTP")
	if err := flags.Parse(args); err != nil {
		return err
	}
	switch *mode {
	case "lockstep":
		l.opt.NoPipelining = true
	case "pipelined":
	case "bdat":
		l.opt.Chunking = true
	default:
		return fmt.Errorf("no mode %q", *mode)
	}
	l.opt.TLSPolicy = smtp.TLSNever
	l.body = message(*size)
	l.left.Store(int64(l.messages))

	begin := time.Now()
	errs := make([]error, l.connections)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = l.worker(ctx) })
	}
	wg.Wait()
	l.report(out, time.Since(begin))
	return errors.Join(errs...)
}

// message makes a message of about size octets.
func message(size int) []byte {
	var b bytes.Buffer
	b.WriteString("From: Sender <sender@example.org>\r\nTo: Recipient <recipient@example.org>\r\nSubject: load\r\n\r\n")
	line := strings.Repeat("0123456789", 7) + "\r\n"
	for b.Len() < size {
		b.WriteString(line[max(0, b.Len()+len(line)-max(size, b.Len()+2)):])
	}
	return b.Bytes()
}

// worker sends until there is nothing left.
func (l *load) worker(ctx context.Context) error {
	env := &smtp.Envelope{From: l.from, To: slices.Repeat([]smtp.Recipient{{Address: l.to}}, l.rcpts)}
	var took []time.Duration
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.latencies = append(l.latencies, took...)
	}()
	for l.left.Load() > 0 {
		c, err := smtp.Dial(ctx, l.addr, &l.opt)
		if err != nil {
			return err
		}
		for n := 0; l.perConnection == 0 || n < l.perConnection; n++ {
			if l.left.Add(-1) < 0 {
				break
			}
			begin := time.Now()
			res, err := c.Send(ctx, env, bytes.NewReader(l.body))
			if err != nil {
				return err
			}
			took = append(took, time.Since(begin))
			if res.All() {
				l.accepted.Add(1)
			} else {
				l.failed.Add(1)
			}
		}
		if err := c.Quit(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) report(out io.Writer, took time.Duration) {
	fmt.Fprintf(out, "accepted %d messages of %d octets in %v, refused %d: %.0f messages/s, %.1f MB/s\n",
		l.accepted.Load(), len(l.body), took.Round(time.Millisecond), l.failed.Load(),
		float64(l.accepted.Load())/took.Seconds(), float64(l.accepted.Load())*float64(len(l.body))/took.Seconds()/1e6)
	if len(l.latencies) == 0 {
		return
	}
	slices.Sort(l.latencies)
	at := func(p float64) time.Duration { return l.latencies[int(p*float64(len(l.latencies)-1))] }
	fmt.Fprintf(out, "time per message: median %v, 99%% %v, longest %v\n", at(0.5), at(0.99), at(1))
}
