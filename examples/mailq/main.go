// Command mailq looks at a queue and works on it. The queue must not be in use: a server
// that runs has its own page for this.
//
//	mailq -queue DIR [filters] [list | show | hold | release | kick | expire | remove]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/spool"
)

// operations are the commands that change what they find.
var operations = map[string]queue.Op{
	"hold": queue.OpHold, "release": queue.OpRelease, "kick": queue.OpKick, "expire": queue.OpExpire, "remove": queue.OpRemove,
}

func main() {
	err := run(context.Background(), os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case errors.Is(err, queue.ErrBusy):
		fmt.Fprintln(os.Stderr, "mailq: a server has this queue in use: look at its queue page")
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "mailq:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("mailq", flag.ContinueOnError)
	dir := fs.String("queue", "", "`folder` of the queue")
	var f queue.Filter
	fs.Func("id", "`id` of a message; repeatable", func(s string) error { f.IDs = append(f.IDs, queue.ID(s)); return nil })
	fs.StringVar(&f.Route, "route", "", "destination `domain`")
	fs.StringVar(&f.Sender, "from", "", "`sender`: an address, @domain, or <>")
	fs.StringVar(&f.Recipient, "to", "", "`recipient`: an address or @domain")
	older := fs.Duration("older", 0, "messages at least this `old`")
	all := fs.Bool("all", false, "change messages although no filter is given")
	if err := fs.Parse(args); err != nil {
		return err
	}
	command := fs.Arg(0)
	if command == "" {
		command = "list"
	}
	if *dir == "" || fs.NArg() > 1 {
		fs.Usage()
		return flag.ErrHelp
	}
	if *older > 0 {
		f.Before = time.Now().Add(-*older)
	}
	if _, err := os.Stat(*dir); err != nil {
		return err // opening would make one
	}
	store, err := spool.Open(*dir, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	op, changes := operations[command]
	switch {
	case command == "list" || command == "show":
		return list(ctx, store, f, command == "show", out)
	case !changes:
		return fmt.Errorf("what is %q?", command)
	case !*all && len(f.IDs) == 0 && f.Route == "" && f.Sender == "" && f.Recipient == "" && *older == 0:
		return errors.New("that would change every message: name some, or say -all")
	}
	n, err := store.Alter(ctx, f, queue.Change{Op: op})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %d\n", command, n)
	return nil
}

// list prints a line for each message and one for each recipient; show, the message too.
func list(ctx context.Context, store queue.Store, f queue.Filter, show bool, out io.Writer) error {
	n, octets := 0, int64(0)
	for e, err := range store.List(ctx, f) {
		if err != nil {
			return err
		}
		n++
		octets += e.Size
		sender := e.Envelope.ReversePath
		if sender == "" {
			sender = "<>"
		}
		fmt.Fprintf(out, "%s  %s  %8d  %s\n", e.ID, e.Envelope.Arrived.Format(time.DateTime), e.Size, sender)
		for _, r := range e.Envelope.Recipients {
			last := ""
			if r.Last.Text != "" {
				last = fmt.Sprintf(" (%d %s)", r.Last.Code, strings.Join(strings.Fields(r.Last.Text), " "))
			}
			fmt.Fprintf(out, "    %s: %d attempts, next %s%s\n", r.Address, r.Attempts, r.Due.Format(time.DateTime), last)
		}
		for _, item := range e.Items {
			if item.State == queue.ItemHeld {
				fmt.Fprintf(out, "    %s: held\n", item.Route)
			}
		}
		if show {
			if err := copyBody(ctx, store, e.ID, out); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(out, "%d messages, %d octets\n", n, octets)
	return nil
}

func copyBody(ctx context.Context, store queue.Store, id queue.ID, out io.Writer) error {
	body, err := store.Open(ctx, id)
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(out, body); err != nil {
		return err
	}
	_, err = fmt.Fprintln(out)
	return err
}
