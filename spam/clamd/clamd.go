// Package clamd is a check that has ClamAV's daemon look for viruses. A message goes to it by INSTREAM, in chunks; the
// daemon may answer before it has seen all, and then no more is sent.
package clamd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/internal/daemon"
)

// ErrTooLarge says that a message is larger than the daemon accepts (its StreamMaxLength).
var ErrTooLarge = errors.New("clamd: message is too large to be scanned")

// Client asks a daemon. It is safe for concurrent use.
type Client struct {
	// Addr is where the daemon listens: "host:port" or "unix:/path".
	Addr string

	// MaxSize is the size in octets from which a message is not sent. Zero means 25 MiB, the daemon's own default.
	MaxSize int64

	// Action is what a virus asks for. Zero means [spam.Reject].
	Action spam.Action

	// TooLarge is what a message that was not scanned for its size asks for. Zero means [spam.Accept].
	TooLarge spam.Action
}

var _ spam.Check = (*Client)(nil)

// Name returns "clamd".
func (c *Client) Name() string { return "clamd" }

// Stage returns [spam.Data].
func (c *Client) Stage() spam.Stage { return spam.Data }

// Check scans the message. That it is too large is a reason in the verdict, not an error.
func (c *Client) Check(ctx context.Context, _ *spam.Envelope, m *spam.Message) (spam.Verdict, error) {
	v := spam.Verdict{Unsure: true, Probability: 0.5}
	body, err := m.Open()
	if err != nil {
		return v, err
	}
	virus, err := c.Scan(ctx, body)
	switch {
	case errors.Is(err, ErrTooLarge):
		v.Action, v.Reply = c.TooLarge, "message is too large to be scanned"
		v.Reasons = []spam.Reason{{Name: "clamd-too-large", Text: fmt.Sprintf("%d octets", m.Size)}}
		return v, nil
	case err != nil:
		return v, err
	case virus == "":
		return v, nil
	}
	v = spam.Verdict{Score: 20, Probability: 1, Action: c.Action, Reply: "message contains a virus"}
	if v.Action == spam.Accept {
		v.Action = spam.Reject
	}
	v.Reasons = []spam.Reason{{Name: "virus", Text: daemon.Text(virus), Score: v.Score}}
	return v, nil
}

const chunkSize = 64 << 10

// Scan sends what r yields and returns the name of the virus in it, "" for none. ErrTooLarge.
func (c *Client) Scan(ctx context.Context, r io.Reader) (virus string, err error) {
	conn, release, err := daemon.Dial(ctx, c.Addr)
	if err != nil {
		return "", fmt.Errorf("clamd: %w", err)
	}
	defer release()

	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // ends with the answer, or with the connection
		text, err := bufio.NewReader(io.LimitReader(conn, 4096)).ReadString(0)
		answers <- answer{strings.TrimSuffix(text, "\x00"), err}
	}()
	sent := c.send(conn, r)
	if errors.Is(sent, ErrTooLarge) || sent != nil && !isNetwork(sent) {
		return "", sent // nothing was wrong with the daemon
	}
	// It may have hung up on us and still have said why.
	a := <-answers
	switch {
	case a.err == nil:
		return verdict(a.text)
	case sent != nil:
		return "", daemon.Trouble(ctx, "clamd", sent)
	case a.err == io.EOF:
		a.err = io.ErrUnexpectedEOF
	}
	return "", daemon.Trouble(ctx, "clamd", a.err)
}

// Ping asks the daemon whether it lives.
func (c *Client) Ping(ctx context.Context) error {
	conn, release, err := daemon.Dial(ctx, c.Addr)
	if err != nil {
		return fmt.Errorf("clamd: %w", err)
	}
	defer release()
	if _, err := io.WriteString(conn, "zPING\x00"); err != nil {
		return daemon.Trouble(ctx, "clamd", err)
	}
	text, err := bufio.NewReader(io.LimitReader(conn, 64)).ReadString(0)
	if err != nil {
		return daemon.Trouble(ctx, "clamd", err)
	}
	if text != "PONG\x00" {
		return fmt.Errorf("clamd: it answered %q", text)
	}
	return nil
}

func (c *Client) send(w io.Writer, r io.Reader) error {
	left := c.MaxSize
	if left <= 0 {
		left = 25 << 20
	}
	if _, err := io.WriteString(w, "zINSTREAM\x00"); err != nil {
		return err
	}
	buf := make([]byte, 4+chunkSize)
	for {
		n, err := io.ReadFull(r, buf[4:])
		if left -= int64(n); left < 0 {
			return ErrTooLarge
		}
		binary.BigEndian.PutUint32(buf, uint32(n))
		if n > 0 {
			if _, err := w.Write(buf[:4+n]); err != nil {
				return err
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			_, err := w.Write(make([]byte, 4))
			return err
		default:
			return fmt.Errorf("clamd: read message: %w", err)
		}
	}
}

func isNetwork(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

func verdict(text string) (virus string, err error) {
	text = strings.TrimSpace(text)
	_, said, _ := strings.Cut(text, ": ")
	switch {
	case strings.HasPrefix(text, "INSTREAM size limit exceeded"):
		return "", ErrTooLarge
	case said == "OK":
		return "", nil
	case strings.HasSuffix(said, " FOUND"):
		return strings.TrimSuffix(said, " FOUND"), nil
	}
	return "", fmt.Errorf("clamd: it answered %q", text)
}
