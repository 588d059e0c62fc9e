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
	stream                bool
	idle                  int
	body                  []byte

	left             atomic.Int64
	accepted, failed atomic.Int64
	mu               sync.Mutex
	latencies        []time.Duration
	held             []*smtp.Client
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
	mode := flags.String("mode", "pipelined", "lockstep, pipelined, bdat, or with messages pipelined behind each other, stream or bdat-stream")
	flags.IntVar(&l.idle, "idle", 0, "further connections, which say EHLO and then nothing while the others work")
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
	case "stream":
		l.stream = true
	case "bdat-stream":
		l.stream, l.opt.Chunking = true, true
	default:
		return fmt.Errorf("no mode %q", *mode)
	}
	l.opt.TLSPolicy = smtp.TLSNever
	l.body = message(*size)
	l.left.Store(int64(l.messages))

	if err := l.holdIdle(ctx, out); err != nil {
		return err
	}
	begin := time.Now()
	errs := make([]error, l.connections)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = l.worker(ctx) })
	}
	wg.Wait()
	l.report(out, time.Since(begin))
	for _, c := range l.held {
		c.Close()
	}
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

// holdIdle makes the idle connections, which stay for the life of the process.
func (l *load) holdIdle(ctx context.Context, out io.Writer) error {
	if l.idle == 0 {
		return nil
	}
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for n := i; n < l.idle && errs[i] == nil; n += len(errs) {
				c, err := smtp.Dial(ctx, l.addr, &l.opt)
				if errs[i] = err; err == nil {
					l.mu.Lock()
					l.held = append(l.held, c)
					l.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	fmt.Fprintf(out, "%d idle connections\n", len(l.held))
	return errors.Join(errs...)
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
		var begun []time.Time // of the messages on their way
		messages := func(yield func(smtp.Message) bool) {
			for n := 0; l.perConnection == 0 || n < l.perConnection; n++ {
				if l.left.Add(-1) < 0 {
					return
				}
				begun = append(begun, time.Now())
				if !yield(smtp.Message{Envelope: env, Body: bytes.NewReader(l.body)}) {
					return
				}
			}
		}
		done := func(res *smtp.Result, err error) {
			took = append(took, time.Since(begun[0]))
			begun = slices.Delete(begun, 0, 1)
			if err == nil && res.All() {
				l.accepted.Add(1)
			} else {
				l.failed.Add(1)
			}
		}
		if l.stream {
			if err := c.SendAll(ctx, messages, done); err != nil {
				return err
			}
		} else {
			for m := range messages {
				res, err := c.Send(ctx, m.Envelope, m.Body)
				if err != nil {
					return err
				}
				done(res, nil)
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
