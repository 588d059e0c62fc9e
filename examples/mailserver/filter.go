package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/mailblocks/mailblocks/spam"
)

// filter is the spam filter: one model for all, and a small one for each user.
type filter struct {
	store      *spam.File
	classifier *spam.Classifier
}

func openFilter(dir string) (*filter, error) {
	store, err := spam.OpenFile(filepath.Join(dir, "model"))
	if err != nil {
		return nil, err
	}
	c, err := spam.NewClassifier(context.Background(), store, nil)
	if err != nil {
		_ = store.Close()
		return nil, err
	}
	return &filter{store, c}, nil
}

func (f *filter) close() error { return f.store.Close() }

// check judges a message for a user, and returns the fields to put before it. A filter in
// trouble lets mail pass: it is reported, and no mail is lost for it.
func (f *filter) check(ctx context.Context, user string, text io.Reader) (fields string, junk bool) {
	m, err := spam.Parse(text, spam.Limits{})
	var v spam.Verdict
	if err == nil {
		v, err = f.classifier.Score(ctx, user, m)
	}
	if err != nil {
		slog.Error("spam not checked", slog.Any("err", err))
		return "", false
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
	return fields, junk
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
func (f *filter) train(ctx context.Context, user string, text io.Reader, l label) error {
	id := sha256.New()
	text, err := asChecked(text)
	if err != nil {
		return err
	}
	m, err := spam.Parse(io.TeeReader(text, id), spam.Limits{})
	if err != nil {
		return err
	}
	if _, err := io.Copy(id, text); err != nil { // what lies beyond the limits of Parse
		return err
	}
	as := spam.Ham
	if l == isSpam {
		as = spam.Spam
	}
	return f.classifier.Learn(ctx, user, hex.EncodeToString(id.Sum(nil)), m, as)
}

// asChecked returns a stored message as check saw it: without the fields that were put before
// it since, which would tell the classifier its own verdict.
func asChecked(text io.Reader) (io.Reader, error) {
	r := bufio.NewReader(text)
	for {
		line, err := r.Peek(len("Return-Path:"))
		if err != nil && err != io.EOF {
			return nil, err
		}
		ours := strings.HasPrefix(string(line), "Return-Path:") || strings.HasPrefix(string(line), "X-Spam-")
		if !ours {
			return r, nil
		}
		for folded := true; folded; {
			if _, err := r.ReadString('\n'); err != nil {
				return r, nil
			}
			next, _ := r.Peek(1)
			folded = len(next) == 1 && (next[0] == ' ' || next[0] == '\t')
		}
	}
}
