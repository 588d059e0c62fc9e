package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/smtp"
)

// A mail is a message on its way into mailboxes: trace fields, and the octets behind them.
type mail struct {
	from  string // return path
	trace string // header fields put before the message
	body  io.ReaderAt
	size  int64
	box   string // where to: imap.Inbox, or Junk
}

func (m *mail) reader() io.Reader {
	return io.MultiReader(strings.NewReader(m.trace), io.NewSectionReader(m.body, 0, m.size))
}

// junk is the mailbox for spam.
const junk = "Junk"

// deliver appends m to the mailbox of a user. When it returns nil the message is durable.
func (a *accounts) deliver(ctx context.Context, user string, m *mail) error {
	store, err := a.store(user)
	if err != nil {
		return err
	}
	box, err := store.Open(ctx, m.box)
	if errors.Is(err, imap.ErrNoMailbox) && m.box == junk {
		if err = store.Create(ctx, junk, &imap.CreateOptions{SpecialUse: imap.UseJunk}); err == nil || errors.Is(err, imap.ErrMailboxExists) {
			box, err = store.Open(ctx, junk)
		}
	}
	if err != nil {
		return err
	}
	defer box.Close()
	head := "Return-Path: <" + m.from + ">\r\n"
	_, err = box.Append(ctx, []imap.NewMessage{{
		Body: io.MultiReader(strings.NewReader(head), m.reader()),
		Size: int64(len(head)+len(m.trace)) + m.size,
	}})
	return err
}

// deliverLocal appends m to the mailboxes of those recipients that are local users, and
// queues it for those where that fails for now. A recipient's verdict tells what became of
// it; the error is set when nobody is responsible for the message for some recipient.
func (s *server) deliverLocal(ctx context.Context, tx *smtp.Transaction, m *mail) error {
	var later []queue.Recipient
	for _, r := range tx.Recipients {
		user, ok := s.accounts.find(r.Address)
		if !ok {
			r.Verdict = errNoUser
			continue
		}
		err := s.accounts.deliver(ctx, user, m)
		if err == nil {
			s.metrics.delivered(m.box)
			continue
		}
		slog.Warn("delivery put off", slog.String("session", tx.Session.ID), slog.String("rcpt", r.Address), slog.Any("err", err))
		if tx.Session.Mode == smtp.ModeLMTP {
			r.Verdict = deliveryReply(err) // its client keeps the message
			continue
		}
		later = append(later, relay.Recipient(r))
	}
	if len(later) == 0 {
		return nil
	}
	_, err := s.queue.Enqueue(ctx, s.queued(tx, m, later))
	return err
}

func deliveryReply(err error) *smtp.Reply {
	if errors.Is(err, imap.ErrOverQuota) {
		return &smtp.Reply{Code: 452, Enhanced: smtp.EnhancedCode{4, 2, 2}, Text: "mailbox full", Cause: err}
	}
	return &smtp.Reply{Code: 451, Enhanced: smtp.EnhancedCode{4, 3, 0}, Text: "mailbox not available now", Cause: err}
}

var errNoUser = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 1}, Text: "no such user here"}

// queued makes the message that the queue keeps of a transaction, for some recipients.
func (s *server) queued(tx *smtp.Transaction, m *mail, to []queue.Recipient) queue.Message {
	env := relay.Envelope(tx, time.Now())
	env.Recipients, env.Tag = to, m.box
	return queue.Message{Envelope: env, Body: m.reader(), SizeHint: int64(len(m.trace)) + m.size}
}

// Deliver implements queue.Transport: mail for our own domains into mailboxes, all other by
// the relay.
func (s *server) Deliver(ctx context.Context, a *queue.Attempt) []queue.Outcome {
	if !s.accounts.isLocal(a.Route) && a.Route != "local" {
		return s.relay.Deliver(ctx, a)
	}
	outcomes := make([]queue.Outcome, len(a.Recipients))
	for i, r := range a.Recipients {
		outcomes[i] = s.deliverQueued(ctx, a, r.Address)
	}
	return outcomes
}

func (s *server) deliverQueued(ctx context.Context, a *queue.Attempt, address string) queue.Outcome {
	user, ok := s.accounts.find(address)
	if !ok {
		return queue.Outcome{Result: queue.Permanent, Code: errNoUser.Code, Enhanced: "5.1.1", Text: errNoUser.Text}
	}
	body, err := a.Open()
	if err != nil {
		return queue.Outcome{Result: queue.Deferred, Text: "message cannot be read now"}
	}
	defer body.Close()
	m := &mail{from: a.Envelope.ReversePath, body: readerAt{body}, size: a.Size, box: a.Envelope.Tag}
	if m.box == "" {
		m.box = imap.Inbox // a report of our own
	}
	if err := s.accounts.deliver(ctx, user, m); err != nil {
		slog.Warn("delivery put off", slog.String("queue_id", string(a.ID)), slog.String("rcpt", address), slog.Any("err", err))
		r := deliveryReply(err)
		return queue.Outcome{Result: queue.Temporary, Code: r.Code, Enhanced: fmt.Sprintf("%d.%d.%d", r.Enhanced[0], r.Enhanced[1], r.Enhanced[2]), Text: r.Text}
	}
	s.metrics.delivered(m.box)
	return queue.Outcome{Result: queue.Delivered}
}

// readerAt reads a queued body that one goroutine has for itself.
type readerAt struct{ io.ReadSeeker }

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	if _, err := r.Seek(off, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r.ReadSeeker, p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}
