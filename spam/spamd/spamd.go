// Package spamd is a check that asks SpamAssassin's daemon, by the SPAMC/SPAMD protocol 1.5, and teaches its Bayes.
package spamd

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/internal/daemon"
)

// ErrRefused says that the daemon answered, but not with a result.
var ErrRefused = errors.New("spamd: refused")

// Client asks a daemon. It is safe for concurrent use.
type Client struct {
	// Addr is where the daemon listens: "host:port" or "unix:/path".
	Addr string

	// User names whose preferences and Bayes count. Nil means the daemon's own.
	User func(e *spam.Envelope) string

	// MaxSize is the size in octets from which a message is not sent: it is not judged then. Zero means 500 KiB, as spamc has it.
	MaxSize int64

	// Weight is what a point of SpamAssassin's is in log-odds. Zero means 0.6. The score is counted from the
	// daemon's threshold.
	Weight float64
}

var _ spam.Check = (*Client)(nil)

// Name returns "spamd".
func (c *Client) Name() string { return "spamd" }

// Stage returns [spam.Data].
func (c *Client) Stage() spam.Stage { return spam.Data }

// Check asks for the message's score. The names of the tests that hit are the text of its reason.
func (c *Client) Check(ctx context.Context, e *spam.Envelope, m *spam.Message) (spam.Verdict, error) {
	v := spam.Verdict{Unsure: true, Probability: 0.5}
	body, err := m.Open()
	if err != nil {
		return v, err
	}
	if m.Size > cmp.Or(c.MaxSize, 500<<10) {
		v.Reasons = []spam.Reason{{Name: "spamd-too-large", Text: fmt.Sprintf("%d octets", m.Size)}}
		return v, nil
	}
	head, symbols, err := c.ask(ctx, "SYMBOLS", e, "", body, m.Size)
	if err != nil {
		return v, err
	}
	score, threshold, err := parseSpam(head.Get("Spam"))
	if err != nil {
		return v, err
	}
	v.Unsure = false
	v.Score = (score - threshold) * cmp.Or(c.Weight, 0.6)
	v.Probability = 1 / (1 + math.Exp(-v.Score))
	if v.Score >= 0 {
		v.Action = spam.Junk
	}
	v.Reasons = []spam.Reason{{Name: "spamd", Text: daemon.Text(symbols), Score: v.Score}}
	return v, nil
}

// Learn teaches the daemon's Bayes (it must run with --allow-tell). Unlabelled forgets the message; a neutral one is not learned.
func (c *Client) Learn(ctx context.Context, e *spam.Envelope, m *spam.Message, l spam.Label) error {
	body, err := m.Open()
	if err != nil {
		return err
	}
	var fields string
	switch l {
	case spam.Ham, spam.Spam:
		fields = "Message-class: " + l.String() + "\r\nSet: local\r\n"
	case spam.Unlabelled:
		fields = "Remove: local\r\n"
	default:
		return nil
	}
	_, _, err = c.ask(ctx, "TELL", e, fields, body, m.Size)
	return err
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 1 << 20

func (c *Client) ask(ctx context.Context, method string, e *spam.Envelope, fields string, body io.Reader, size int64) (head textproto.MIMEHeader, text string, err error) {
	conn, release, err := daemon.Dial(ctx, c.Addr)
	if err != nil {
		return nil, "", fmt.Errorf("spamd: %w", err)
	}
	defer release()
	if c.User != nil && e != nil {
		if user := c.User(e); user != "" {
			if strings.ContainsAny(user, "\r\n") {
				return nil, "", errors.New("spamd: a user's name holds a line end")
			}
			fields += "User: " + user + "\r\n"
		}
	}
	// Answers are read while the message is sent: the daemon may refuse before it has read all.
	sent := make(chan error, 1)
	go func() { // ends with the message, or with the connection
		_, err := fmt.Fprintf(conn, "%s SPAMC/1.5\r\nContent-length: %d\r\n%s\r\n", method, size, fields)
		if err == nil {
			_, err = io.Copy(conn, body)
		}
		sent <- err
	}()
	head, text, err = readAnswer(conn)
	if err == nil || errors.Is(err, ErrRefused) {
		return head, text, err
	}
	select {
	case sendErr := <-sent:
		err = cmp.Or(sendErr, err)
	default:
	}
	return nil, "", daemon.Trouble(ctx, "spamd", err)
}

func readAnswer(conn io.Reader) (head textproto.MIMEHeader, text string, err error) {
	r := textproto.NewReader(bufio.NewReader(io.LimitReader(conn, maxAnswer)))
	line, err := r.ReadLine()
	if err != nil {
		return nil, "", noEOF(err)
	}
	words := strings.SplitN(line, " ", 3)
	if len(words) < 3 || !strings.HasPrefix(words[0], "SPAMD/") {
		return nil, "", fmt.Errorf("%w: it answered %q", ErrRefused, daemon.Text(line))
	}
	if words[1] != "0" {
		return nil, "", fmt.Errorf("%w: %s", ErrRefused, daemon.Text(words[2]))
	}
	if head, err = r.ReadMIMEHeader(); err != nil {
		return nil, "", noEOF(err)
	}
	b, err := io.ReadAll(r.R)
	if n, lengthErr := strconv.Atoi(head.Get("Content-Length")); err == nil && lengthErr == nil && len(b) < n {
		err = io.ErrUnexpectedEOF
	}
	return head, string(b), err
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// parseSpam reads "True ; 7.5 / 5.0".
func parseSpam(s string) (score, threshold float64, err error) {
	_, numbers, _ := strings.Cut(s, ";")
	a, b, ok := strings.Cut(numbers, "/")
	if ok {
		score, err = strconv.ParseFloat(strings.TrimSpace(a), 64)
		if err == nil {
			threshold, err = strconv.ParseFloat(strings.TrimSpace(b), 64)
		}
	}
	if !ok || err != nil || math.IsNaN(score-threshold) || math.IsInf(score-threshold, 0) {
		return 0, 0, fmt.Errorf("%w: its score is %q", ErrRefused, daemon.Text(s))
	}
	return score, threshold, nil
}
