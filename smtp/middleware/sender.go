package middleware

import (
	"context"

	"github.com/mailblocks/mailblocks/smtp"
)

// RequireAuth refuses MAIL to clients that have not authenticated (530 5.7.0). ModeSubmission does
// so by itself; this is for servers that decide otherwise: unless says who may go
// without, such as a network of one's own. It may be nil.
func RequireAuth(unless func(s *smtp.Session) bool) smtp.Middleware {
	return func(next smtp.Handler) smtp.Handler { return requireAuth{smtp.Pass{Handler: next}, unless} }
}

type requireAuth struct {
	smtp.Pass
	unless func(s *smtp.Session) bool
}

func (h requireAuth) Mail(ctx context.Context, tx *smtp.Transaction) error {
	if s := tx.Session; !s.Authenticated() && (h.unless == nil || !h.unless(s)) {
		return &smtp.Reply{Code: 530, Enhanced: smtp.EnhancedCode{5, 7, 0}, Text: "authentication required"}
	}
	return h.Pass.Mail(ctx, tx)
}

// SenderLogin refuses MAIL from an address that an authenticated identity may not use (550
// 5.7.1), as allowed says; it is asked about the null sender, too. Sessions without
// identity pass.
func SenderLogin(allowed func(ctx context.Context, identity, from string) (bool, error)) smtp.Middleware {
	return func(next smtp.Handler) smtp.Handler { return senderLogin{smtp.Pass{Handler: next}, allowed} }
}

type senderLogin struct {
	smtp.Pass
	allowed func(ctx context.Context, identity, from string) (bool, error)
}

func (h senderLogin) Mail(ctx context.Context, tx *smtp.Transaction) error {
	if id := tx.Session.Identity; id != "" {
		ok, err := h.allowed(ctx, id, tx.From)
		if err != nil {
			return err
		}
		if !ok {
			return &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "this sender address is not yours"}
		}
	}
	return h.Pass.Mail(ctx, tx)
}
