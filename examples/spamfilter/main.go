// Command spamfilter learns from mail and judges it.
//
//	spamfilter -db FILE train ham|spam LISTFILE    learn the messages of a list
//	spamfilter -db FILE score LISTFILE             print "SCORE ham|spam|unsure" for each message
//	spamfilter -db FILE online LISTFILE            the same, and learn each message after it was judged
//	spamfilter -db FILE explain PATH               judge a message and print the reasons
//	spamfilter -db FILE stats                      print what was learned
//	spamfilter -db FILE snapshot NAME              keep what was learned, to go back to it
//	spamfilter -db FILE rollback NAME              go back
//	spamfilter -db FILE forget SENDER              forget what an address or a domain sent
//
// A LISTFILE holds one path a line, with "LABEL<TAB>" before it for online; "-" is the standard
// input. A path is that of a message, an mbox or a Maildir. A file whose name ends in .eml is
// always one message.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/spam"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "spamfilter:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: spamfilter -db FILE train ham|spam LISTFILE | score LISTFILE | online LISTFILE | explain PATH | stats | snapshot NAME | rollback NAME | forget SENDER")

type program struct {
	c        *spam.Classifier
	in       io.Reader
	out      *bufio.Writer
	progress io.Writer
	user     string
	started  time.Time
	done     int
}

func run(ctx context.Context, args []string, in io.Reader, out, progress io.Writer) (err error) {
	flags := flag.NewFlagSet("spamfilter", flag.ContinueOnError)
	flags.SetOutput(progress)
	db := flags.String("db", "spamfilter.db", "the `file` of what was learned")
	user := flags.String("user", "", "learn and judge for this user")
	if err := flags.Parse(args); err != nil {
		return err
	}
	args = flags.Args()
	store, err := spam.OpenFile(*db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	c, err := spam.NewClassifier(ctx, store, nil)
	if err != nil {
		return err
	}
	p := &program{c: c, in: in, out: bufio.NewWriter(out), progress: progress, user: *user, started: time.Now()}
	defer func() { err = errors.Join(err, p.out.Flush()) }()
	switch {
	case len(args) == 3 && args[0] == "train":
		label, err := spam.ParseLabel(args[1])
		if err != nil {
			return err
		}
		return p.list(ctx, args[2], func(_ string, m *spam.Message) error {
			return p.c.Learn(ctx, p.user, "", m, label)
		})
	case len(args) == 2 && args[0] == "score":
		return p.list(ctx, args[1], func(_ string, m *spam.Message) error { return p.score(ctx, m) })
	case len(args) == 2 && args[0] == "online":
		return p.list(ctx, args[1], func(label string, m *spam.Message) error {
			l, err := spam.ParseLabel(label)
			if err != nil {
				return err
			}
			if err := p.score(ctx, m); err != nil {
				return err
			}
			return p.c.Learn(ctx, p.user, "", m, l)
		})
	case len(args) == 2 && args[0] == "explain":
		return messages(args[1], func(m *spam.Message) error { return p.explain(ctx, m) })
	case len(args) == 2 && args[0] == "snapshot":
		return c.Snapshot(ctx, args[1])
	case len(args) == 2 && args[0] == "rollback":
		return c.Rollback(ctx, args[1])
	case len(args) == 2 && args[0] == "forget":
		n, err := c.Forget(ctx, spam.Forgetting{Sender: args[1]})
		fmt.Fprintf(p.out, "%d messages forgotten\n", n)
		return err
	case len(args) == 1 && args[0] == "stats":
		s := c.Stats()
		fmt.Fprintf(p.out, "ham %d\nspam %d\nwords %d\nkept %d\ntokenizer %d\n", s.Ham, s.Spam, s.Words, s.Kept, spam.TokenizerVersion)
		list, err := store.Snapshots(ctx)
		for _, shot := range list {
			fmt.Fprintf(p.out, "snapshot %s %s\n", shot.Name, shot.Time.Format(time.RFC3339))
		}
		return err
	}
	return errUsage
}

// list calls f with each message of a list, and ends at the first path that can not be read.
func (p *program) list(ctx context.Context, name string, f func(label string, m *spam.Message) error) error {
	r := p.in
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		r = file
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := ctx.Err(); err != nil {
			return err
		}
		line := strings.TrimRight(lines.Text(), "\r")
		if line == "" {
			continue
		}
		label, path, ok := strings.Cut(line, "\t")
		if !ok {
			label, path = "", line
		}
		err := messages(path, func(m *spam.Message) error {
			if p.done++; p.done%1000 == 0 {
				fmt.Fprintf(p.progress, "%d messages, %.0f a second\n", p.done, float64(p.done)/time.Since(p.started).Seconds())
			}
			return f(label, m)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return lines.Err()
}

func (p *program) score(ctx context.Context, m *spam.Message) error {
	v, err := p.c.Score(ctx, p.user, m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.out, "%.6f %s\n", v.Score, v)
	return err
}

func (p *program) explain(ctx context.Context, m *spam.Message) error {
	v, err := p.c.Score(ctx, p.user, m)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.out, "%s: score %.2f, probability %.4f, action %s\n", v, v.Score, v.Probability, v.Action)
	for _, r := range v.Reasons {
		fmt.Fprintf(p.out, "%+8.2f  %-14s %s\n", r.Score, r.Name, r.Text)
	}
	if len(m.Defects) > 0 {
		fmt.Fprintf(p.out, "defects: %s\n", strings.Join(m.Defects, " "))
	}
	return nil
}
