// Command mboxconv copies mail from an mbox file into a Maildir, or the other way, with
// flags, keywords and dates. It notes what is done: run again, after an interruption or when
// the source has grown, it copies what is left.
//
//	mboxconv [-mailbox NAME] [-dialect DIALECT] MBOX MAILDIR
//	mboxconv [-mailbox NAME] [-dialect DIALECT] MAILDIR MBOX
//	mboxconv -tree [-dirname NAME] [-dialect DIALECT] FOLDER FOLDER
//
// With -tree it copies a whole Maildir++ tree into a tree of mbox files, or the other way, with
// subscriptions and special uses. Messages get new UIDs, in their order.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/maildir"
	"github.com/mailblocks/mailblocks/mbox"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "mboxconv:", err)
		os.Exit(1)
	}
}

// A job is one conversion.
type job struct {
	mailbox string
	dialect mbox.Dialect
	dirName string
	out     io.Writer

	copied, before int // messages: now, and in earlier runs
}

func run(ctx context.Context, args []string, out io.Writer) error {
	j := job{out: out}
	fs := flag.NewFlagSet("mboxconv", flag.ContinueOnError)
	fs.StringVar(&j.mailbox, "mailbox", imap.Inbox, "`name` of the folder in the Maildir")
	fs.Func("dialect", "of the mbox: mboxrd, mboxo, mboxcl, mboxcl2, dovecot; default: as detected, or mboxrd", func(s string) (err error) {
		j.dialect, err = mbox.ParseDialect(s)
		return err
	})
	tree := fs.Bool("tree", false, "copy all mailboxes of a folder of mbox files into a Maildir, or the other way")
	fs.StringVar(&j.dirName, "dirname", "", "with -tree: each mbox is a file of this `name` in a folder, so that folders with messages can have children")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 2 {
		fs.Usage()
		return flag.ErrHelp
	}
	from, to := fs.Arg(0), fs.Arg(1)
	if *tree {
		err := j.convertTree(ctx, from, to)
		fmt.Fprintf(out, "%d messages copied, %d were there\n", j.copied, j.before)
		return err
	}
	convert := j.toMaildir
	root := to
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		convert, root = j.toMbox, from
		if _, err := os.Stat(filepath.Join(from, "cur")); err != nil {
			return fmt.Errorf("%s is not a Maildir: %w", from, err) // opening would make one
		}
	}
	store, err := maildir.Open(root, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	if !info.IsDir() && j.mailbox != imap.Inbox {
		if err := store.Create(ctx, j.mailbox, nil); err != nil && !errors.Is(err, imap.ErrMailboxExists) {
			return err
		}
	}
	box, err := store.Open(ctx, j.mailbox)
	if err != nil {
		return err
	}
	defer box.Close()
	err = convert(ctx, box, from, to)
	fmt.Fprintf(out, "%d messages copied, %d were there\n", j.copied, j.before)
	return err
}

// progress says once in a while how far it is.
func (j *job) progress(done, all int64) {
	if j.copied%1000 == 0 && all > 0 {
		fmt.Fprintf(j.out, "%d messages, %d %%\n", j.copied, 100*done/all)
	}
}
