package middleware

import (
	"context"

	"github.com/mailblocks/mailblocks/smtp"
)

// MaxRecipients limits the recipients of a message by who sends it, where Server.MaxRecipients is the
// same for all: limit says how many are allowed, or less than 0 for any number. Those beyond are told
// to come again (452 4.5.3; RFC 5321, 4.5.3.1.10).
func MaxRecipients(limit func(tx *smtp.Transaction) int) smtp.Middleware {
	return func(next smtp.Handler) smtp.Handler { return maxRecipients{smtp.Pass{Handler: next}, limit} }
}

type maxRecipients struct {
	smtp.Pass
	limit func(tx *smtp.Transaction) int
}

func (h maxRecipients) Rcpt(ctx context.Context, tx *smtp.Transaction, r *smtp.Recipient) error {
	if n := h.limit(tx); n >= 0 && len(tx.Recipients) >= n {
		return &smtp.Reply{Code: 452, Enhanced: smtp.EnhancedCode{4, 5, 3}, Text: "too many recipients"}
	}
	return h.Pass.Rcpt(ctx, tx, r)
}
