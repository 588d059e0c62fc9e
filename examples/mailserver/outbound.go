package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/bodybuf"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/smtp"
)

// outbound takes mail from users (RFC 6409): who they are is known, where it goes is not
// limited. Mail for our own users goes straight into their mailboxes, all other is queued.
// The middleware around it (see newFrontends) has checked the sender and mended the header.
type outbound struct {
	smtp.Base
	*server
}

func (h *outbound) Rcpt(_ context.Context, _ *smtp.Transaction, r *smtp.Recipient) error {
	local, domain := smtp.SplitAddress(r.Address)
	if _, ok := h.accounts.find(r.Address); !ok && h.accounts.isLocal(domain) {
		return errNoUser
	}
	if local == "" {
		return &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 3}, Text: "no such address"}
	}
	return nil
}

func (h *outbound) Data(ctx context.Context, tx *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	buf := new(bodybuf.Buffer)
	defer buf.Close()
	if _, err := io.Copy(buf, body); err != nil {
		return nil, err
	}
	m := &mail{from: tx.From, body: buf, size: buf.Size(), box: imap.Inbox}
	var to []queue.Recipient
	local := true
	for _, r := range tx.Recipients {
		to = append(to, relay.Recipient(r))
		if _, ok := h.accounts.find(r.Address); !ok {
			local = false
		}
	}
	if local {
		if err := h.deliverLocal(ctx, tx, m); err != nil {
			return nil, err
		}
		slog.Info("delivered", slog.String("session", tx.Session.ID), slog.String("from", tx.From), slog.Int("recipients", len(to)))
		return &smtp.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 6, 0}, Text: "delivered"}, nil
	}
	// One commit for all recipients, local ones too: nobody gets it twice because another failed.
	ids, err := h.queue.Enqueue(ctx, h.queued(tx, m, to))
	if err != nil {
		return nil, fmt.Errorf("enqueue: %w", err)
	}
	slog.Info("queued", slog.String("session", tx.Session.ID), slog.String("queue_id", string(ids[0])), slog.String("from", tx.From), slog.Int("recipients", len(to)))
	return &smtp.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 6, 0}, Text: "queued as " + string(ids[0])}, nil
}
