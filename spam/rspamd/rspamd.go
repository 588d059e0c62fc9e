// Package rspamd is a check that asks Rspamd over HTTP, and teaches it. What it found, symbol by symbol, becomes reasons.
package rspamd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/internal/daemon"
)

// ErrRefused says that Rspamd answered, but not with a result.
var ErrRefused = errors.New("rspamd: refused")

// Client asks an Rspamd. It is safe for concurrent use.
type Client struct {
	// URL is that of a normal worker, such as "http://127.0.0.1:11333".
	URL string

	// Controller is the URL of the controller, for Learn, such as "http://127.0.0.1:11334".
	Controller string

	// Password is sent along, if it is not empty.
	Password string

	// Weight is what a point of Rspamd's is in log-odds. Zero means 0.5. The score is counted from
	// JunkAt on.
	Weight float64

	// JunkAt is the score, in Rspamd's points, at which a message is as likely spam as not. Zero means 6, its "add header".
	JunkAt float64

	// HTTP does the requests. Nil means http.DefaultClient. Its time limits are ctx's.
	HTTP *http.Client
}

var _ spam.Check = (*Client)(nil)

// Name returns "rspamd".
func (c *Client) Name() string { return "rspamd" }

// Stage returns [spam.Data].
func (c *Client) Stage() spam.Stage { return spam.Data }

// answer is what /checkv2 says.
type answer struct {
	Action  string            `json:"action"`
	Score   *float64          `json:"score"`
	Symbols map[string]symbol `json:"symbols"`
	Skipped bool              `json:"is_skipped"`
}

type symbol struct {
	Score   float64  `json:"score"`
	Options []string `json:"options"`
}

// actions are what Rspamd asks for. "rewrite subject" and "add header" are both for what is likely spam.
var actions = map[string]spam.Action{
	"no action": spam.Accept, "greylist": spam.Defer, "soft reject": spam.Defer,
	"add header": spam.Junk, "rewrite subject": spam.Junk, "quarantine": spam.Junk, "reject": spam.Reject, "discard": spam.Reject,
}

// Check asks for a verdict.
func (c *Client) Check(ctx context.Context, e *spam.Envelope, m *spam.Message) (spam.Verdict, error) {
	unsure := spam.Verdict{Unsure: true, Probability: 0.5}
	body, err := m.Open()
	if err != nil {
		return unsure, err
	}
	text, err := c.post(ctx, c.URL+"/checkv2", e, body, m.Size)
	if err != nil {
		return unsure, err
	}
	var a answer
	if err := json.Unmarshal(text, &a); err != nil || a.Score == nil && !a.Skipped {
		return unsure, fmt.Errorf("%w: its answer is not a result: %s", ErrRefused, daemon.Text(string(text)))
	}
	if a.Skipped && actions[a.Action] == spam.Accept {
		return unsure, nil
	}
	if a.Score == nil {
		a.Score = new(float64)
	}
	weight := cmp.Or(c.Weight, 0.5)
	v := spam.Verdict{Score: (*a.Score - cmp.Or(c.JunkAt, 6)) * weight, Action: actions[a.Action]}
	v.Probability = 1 / (1 + math.Exp(-v.Score))
	if v.Action == spam.Defer {
		v.Reply = "try again later"
	}
	rest := v.Score
	for name, s := range a.Symbols {
		if s.Score != 0 {
			v.Reasons = append(v.Reasons, spam.Reason{Name: "rspamd-" + daemon.Text(name), Text: daemon.Text(strings.Join(s.Options[:min(len(s.Options), 5)], ", ")), Score: s.Score * weight})
			rest -= s.Score * weight
		}
	}
	if math.Abs(rest) > 1e-9 {
		v.Reasons = append(v.Reasons, spam.Reason{Name: "rspamd", Text: "its threshold and rounding", Score: rest})
	}
	slices.SortFunc(v.Reasons, func(a, b spam.Reason) int {
		return cmp.Or(cmp.Compare(math.Abs(b.Score), math.Abs(a.Score)), cmp.Compare(a.Name, b.Name))
	})
	return v, nil
}

// Learn teaches Rspamd, by its Controller. It knows no taking back: other labels than ham and spam
// are not learned. That it knows the message already is no error.
func (c *Client) Learn(ctx context.Context, e *spam.Envelope, m *spam.Message, l spam.Label) error {
	if l != spam.Ham && l != spam.Spam {
		return nil
	}
	body, err := m.Open()
	if err != nil {
		return err
	}
	_, err = c.post(ctx, c.Controller+"/learn"+l.String(), e, body, m.Size)
	return err
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 4 << 20

func (c *Client) post(ctx context.Context, url string, e *spam.Envelope, body io.Reader, size int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, io.NopCloser(body))
	if err != nil {
		return nil, fmt.Errorf("rspamd: %w", err)
	}
	req.ContentLength = size
	if size == 0 {
		req.Body = http.NoBody
	}
	c.describe(req.Header, e)
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, daemon.Trouble(ctx, "rspamd", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, daemon.Trouble(ctx, "rspamd", err)
	case resp.StatusCode == http.StatusAlreadyReported: // it knows the message
		return text, nil
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: %s: %s", ErrRefused, resp.Status, daemon.Text(string(text)))
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("%w: an answer of over %d octets", ErrRefused, maxAnswer)
	}
	return text, nil
}

// describe tells the envelope in the fields that Rspamd knows.
func (c *Client) describe(h http.Header, e *spam.Envelope) {
	add := func(name, value string) {
		if value = daemon.Clean(value); value != "" {
			h.Add(name, value)
		}
	}
	add("Password", c.Password)
	if e == nil {
		return
	}
	if e.Remote.IsValid() {
		add("IP", e.Remote.Unmap().String())
	}
	add("Helo", e.Hello)
	add("Hostname", e.RemoteName)
	add("From", e.Sender)
	for _, r := range e.Recipients {
		add("Rcpt", r)
	}
	add("User", e.Identity)
}
