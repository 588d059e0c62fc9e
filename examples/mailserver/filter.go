package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/phish"
	"github.com/mailblocks/mailblocks/spam/reputation"
)

// filter is the spam filter: statistics with one model for all and a small one for each user,
// signs of phishing, and the reputation of who sends. The reputation is in memory, and lost
// with the process. DNS lists would be further checks of the chain (package spam/checks); they
// are off, because whose lists one may ask is for the operator to say.
type filter struct {
	store      *spam.File
	classifier *spam.Classifier
	memory     spam.Memory
	reputation *reputation.Reputation
	chain      spam.Chain
}

// openFilter opens the filter in a folder. Owner names the user whose training counts for a
// message, or nobody.
func openFilter(dir string, owner func(*spam.Envelope) string) (*filter, error) {
	store, err := spam.OpenFile(filepath.Join(dir, "model"))
	if err != nil {
		return nil, err
	}
	c, err := spam.NewClassifier(context.Background(), store, nil)
	if err != nil {
		_ = store.Close()
		return nil, err
	}
	f := &filter{store: store, classifier: c}
	f.reputation = reputation.New(&f.memory, reputation.Options{})
	f.chain = spam.Chain{Checks: []spam.Check{c.Statistics(owner), phish.New(phish.Options{}), f.reputation}}
	return f, nil
}

func (f *filter) close() error { return f.store.Close() }

// check judges a message, and returns the fields to put before it. A filter in trouble lets
// mail pass: it is reported, and no mail is lost for it.
func (f *filter) check(ctx context.Context, e *spam.Envelope, text io.Reader) (fields string, junk bool) {
	m, err := spam.Parse(text, spam.Limits{})
	if err != nil {
		slog.Error("spam not checked", slog.Any("err", err))
		return "", false
	}
	v, failures := f.chain.Run(ctx, spam.Data, e, m)
	for _, failed := range failures {
		slog.Error("spam check failed", slog.String("check", failed.Check), slog.Any("err", failed.Err))
	}
	junk = v.Action >= spam.Junk
	yes := "NO"
	if junk {
		yes = "YES"
	}
	fields = fmt.Sprintf("X-Spam-Status: %s, %s score=%.2f\r\n", yes, v, v.Score)
	if junk {
		fields += "X-Spam-Flag: YES\r\n"
	}
	if len(v.Reasons) > 0 {
		fields += "X-Spam-Reasons:"
		for _, r := range v.Reasons[:min(len(v.Reasons), 8)] {
			fields += "\r\n\t" + printable(r.String())
		}
		fields += "\r\n"
	}
	return fields + formatOrigin(e), junk
}

// originField keeps what the reputation has to know of a message when its reader judges it.
const originField = "X-Spam-Origin:"

func formatOrigin(e *spam.Envelope) string {
	names := append([]string{e.Remote.String()}, e.Authenticated...)
	return originField + " " + printable(strings.Join(names, " ")) + "\r\n"
}

func parseOrigin(line string) *spam.Envelope {
	e := &spam.Envelope{}
	if names := strings.Fields(strings.TrimPrefix(line, originField)); len(names) > 0 {
		e.Remote, _ = netip.ParseAddr(names[0]) // there is none for mail that came by LMTP
		e.Authenticated = names[1:]
	}
	return e
}

// printable makes a header field's line of what came from a message.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s[:min(len(s), 200)])
}

// train teaches what a user says of a message. Saying it again changes nothing; saying the
// contrary takes it back.
func (f *filter) train(ctx context.Context, user string, text io.Reader, l spam.Label) error {
	sum := sha256.New()
	text, origin, err := asChecked(text)
	if err != nil {
		return err
	}
	m, err := spam.Parse(io.TeeReader(text, sum), spam.Limits{})
	if err != nil {
		return err
	}
	if _, err := io.Copy(sum, text); err != nil { // what lies beyond the limits of Parse
		return err
	}
	id := hex.EncodeToString(sum.Sum(nil))
	if err := f.classifier.Learn(ctx, user, id, m, l); err != nil || origin == nil {
		return err
	}
	return f.repute(ctx, user+" "+id, origin, l)
}

// repute teaches the reputation, once for each judgement.
func (f *filter) repute(ctx context.Context, key string, e *spam.Envelope, l spam.Label) error {
	before := spam.Unlabelled
	err := f.memory.Update(ctx, "judged "+key, 30*24*time.Hour, func(old []byte) []byte {
		before = spam.Unlabelled
		if len(old) == 1 {
			before = spam.Label(old[0])
		}
		return []byte{byte(l)}
	})
	if err != nil || before == l {
		return err
	}
	return errors.Join(f.reputation.Unlearn(ctx, e, before), f.reputation.Learn(ctx, e, l))
}

// asChecked returns a stored message as check saw it: without the fields that were put before
// it since, which would tell the classifier its own verdict. Origin is who sent it, or nil.
func asChecked(text io.Reader) (_ io.Reader, origin *spam.Envelope, err error) {
	r := bufio.NewReader(text)
	for {
		start, err := r.Peek(len("Return-Path:"))
		if err != nil && err != io.EOF {
			return nil, nil, err
		}
		ours := strings.HasPrefix(string(start), "Return-Path:") || strings.HasPrefix(string(start), "X-Spam-")
		if !ours {
			return r, origin, nil
		}
		for folded := true; folded; {
			line, err := r.ReadString('\n')
			if err != nil {
				return r, origin, nil
			}
			if strings.HasPrefix(line, originField) {
				origin = parseOrigin(line)
			}
			next, _ := r.Peek(1)
			folded = len(next) == 1 && (next[0] == ' ' || next[0] == '\t')
		}
	}
}
