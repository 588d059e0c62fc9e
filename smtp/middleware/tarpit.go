package middleware

import (
	"context"
	"errors"
	"time"

	"github.com/mailblocks/mailblocks/smtp"
)

// Tarpit delays the refusal of a recipient once a session has had more than so many, which
// makes guessing of addresses slow. The delay ends early with the session's context.
func Tarpit(after int, delay time.Duration) smtp.Middleware {
	return func(next smtp.Handler) smtp.Handler {
		return &tarpit{smtp.Pass{Handler: next}, after, delay}
	}
}

type tarpit struct {
	smtp.Pass
	after int
	delay time.Duration
}

func (h *tarpit) Rcpt(ctx context.Context, tx *smtp.Transaction, r *smtp.Recipient) error {
	err := h.Pass.Rcpt(ctx, tx, r)
	var reply *smtp.Reply
	if err == nil || !errors.As(err, &reply) || !reply.Permanent() {
		return err
	}
	n, _ := tx.Session.Value(h).(int)
	tx.Session.Set(h, n+1)
	if n >= h.after {
		wait := time.NewTimer(h.delay)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	return err
}
