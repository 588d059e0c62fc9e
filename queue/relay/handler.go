package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/smtp"
)

// A Handler is an smtp.Handler that puts messages into a queue. It accepts every sender and every
// recipient: embed it, or wrap it, and refuse in Mail and Rcpt those that are not to be served, or it
// is an open relay.
type Handler struct {
	smtp.Base

	// Store takes the messages. Required.
	Store queue.Store

	// Change, if not nil, has the last word on a message before it is enqueued: its Tag, its routes,
	// what stands before its Body. An error refuses it.
	Change func(ctx context.Context, tx *smtp.Transaction, m *queue.Message) error

	// Queued, if not nil, is told the ID of each message.
	Queued func(ctx context.Context, tx *smtp.Transaction, id queue.ID)

	// MaxReceived is how many Received fields a message may have before it counts as looping. 0 means 100.
	MaxReceived int
}

var _ smtp.Handler = (*Handler)(nil)

// Data enqueues the message with our Received field before it. The reply names its ID.
func (h *Handler) Data(ctx context.Context, tx *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	now := time.Now()
	m := queue.Message{
		Envelope: Envelope(tx, now),
		Body:     io.MultiReader(strings.NewReader(tx.Received(now, "")), LimitHops(body, h.MaxReceived)),
		SizeHint: tx.Params.Size,
	}
	if h.Change != nil {
		if err := h.Change(ctx, tx, &m); err != nil {
			return nil, err
		}
	}
	ids, err := h.Store.Enqueue(ctx, m)
	if err != nil {
		return nil, refusal(err)
	}
	if h.Queued != nil {
		h.Queued(ctx, tx, ids[0])
	}
	return &smtp.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 0, 0}, Text: "queued as " + string(ids[0])}, nil
}

// refusal gives an Enqueue's error the reply it deserves.
func refusal(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return &smtp.Reply{Code: 452, Enhanced: smtp.EnhancedCode{4, 3, 1}, Text: "insufficient system storage", Cause: err}
	}
	return err
}

// Envelope makes the queue's envelope of a transaction. HOLDFOR and HOLDUNTIL become HoldUntil.
func Envelope(tx *smtp.Transaction, now time.Time) queue.Envelope {
	p := &tx.Params
	e := queue.Envelope{
		ReversePath: tx.From, Return: queue.ReturnKind(p.Return), EnvID: p.EnvelopeID,
		UTF8: p.UTF8, RequireTLS: p.RequireTLS, Priority: int8(min(max(p.Priority, -9), 9)),
		HoldUntil: p.HoldUntil, Arrived: now,
	}
	switch p.Body {
	case smtp.Body8Bit:
		e.Body = queue.Body8BitMIME
	case smtp.BodyBinary:
		e.Body = queue.BodyBinaryMIME
	}
	if p.HoldFor > 0 {
		e.HoldUntil = now.Add(p.HoldFor)
	}
	if by := p.DeliverBy; by.Mode != 0 {
		e.DeliverBy = queue.DeliverBy{
			Time: now.Add(time.Duration(by.Seconds) * time.Second), Return: by.Mode == 'R', Trace: by.Trace,
		}
	}
	for _, r := range tx.Recipients {
		e.Recipients = append(e.Recipients, Recipient(r))
	}
	return e
}

// Recipient makes the queue's recipient of one of a transaction's.
func Recipient(r *smtp.Recipient) queue.Recipient {
	q := queue.Recipient{Address: r.Address, Notify: queue.Notify(r.Params.Notify)}
	if r.Params.Original != "" {
		q.ORcpt = r.Params.OriginalType + ";" + r.Params.Original
	}
	return q
}

const defaultMaxReceived = 100

var (
	errHops       = errors.New("too many Received fields")
	errHeaderEnds = errors.New("the header has ended")
)

// LimitHops gives a message as it is read from r, and fails with a 554 5.4.6 *smtp.Reply when its header has
// more than limit Received fields (RFC 5321, 6.3). 0 means 100.
func LimitHops(r io.Reader, limit int) io.Reader {
	if limit == 0 {
		limit = defaultMaxReceived
	}
	return &hopReader{r: r, scan: headerScan{limit: limit}}
}

type hopReader struct {
	r    io.Reader
	scan headerScan
	done bool
}

func (h *hopReader) Read(p []byte) (int, error) {
	n, err := h.r.Read(p)
	if h.done {
		return n, err
	}
	switch _, scanErr := h.scan.Write(p[:n]); {
	case errors.Is(scanErr, errHeaderEnds):
		h.done = true
	case scanErr != nil:
		return 0, &smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 4, 6}, Text: "routing loop detected", Cause: scanErr}
	}
	return n, err
}

// headerScan is written a message and looks at its header: it counts Received fields, and notes octets
// beyond ASCII, and TLS-Required. Write fails with errHops, or at the header's end with errHeaderEnds.
type headerScan struct {
	limit int
	count int
	utf8  bool
	plain bool     // TLS-Required: No (RFC 8689, 5)
	line  [24]byte // the beginning of the line
	n     int      // octets of the line so far
}

var (
	received    = []byte("received:")
	tlsRequired = []byte("tls-required:")
)

// maxScan is how far a header is looked for its end, in octets.
const maxScan = 1 << 20

// read writes itself the header that r begins with.
func (h *headerScan) read(r io.Reader) error {
	buf := make([]byte, 2<<10)
	for total := 0; total < maxScan; {
		n, err := r.Read(buf)
		total += n
		if _, scanErr := h.Write(buf[:n]); scanErr == errHeaderEnds {
			return nil
		} else if scanErr != nil {
			return scanErr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *headerScan) Write(p []byte) (int, error) {
	for _, c := range p {
		if c >= 0x80 {
			h.utf8 = true
		}
		if c == '\n' {
			if h.n == 0 || h.n == 1 && h.line[0] == '\r' {
				return 0, errHeaderEnds
			}
			line := h.line[:min(h.n, len(h.line))]
			if n := len(tlsRequired); len(line) > n && bytes.EqualFold(line[:n], tlsRequired) {
				h.plain = bytes.EqualFold(bytes.TrimSpace(line[n:]), []byte("no"))
			}
			h.n = 0
			continue
		}
		if h.n < len(h.line) {
			h.line[h.n] = c
			if n := len(received); h.n == n-1 && bytes.EqualFold(h.line[:n], received) {
				if h.count++; h.count > h.limit {
					return 0, errHops
				}
			}
		}
		h.n++
	}
	return len(p), nil
}
