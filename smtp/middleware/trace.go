package middleware

import (
	"context"

	"github.com/emersion/go-sasl"

	"github.com/mailblocks/mailblocks/smtp"
)

// Trace calls begin before each decision of the Handlers inside, with the phase ("connect", "hello", "auth",
// "verify", "mail", "rcpt" or "data"), the session, and the transaction where there is one (else
// nil). Its context is what those Handlers get, and end is called with their result: a span
// of a tracing library fits in between. See smtp.Trace for counting what the Server itself does.
func Trace(begin func(ctx context.Context, phase string, s *smtp.Session, tx *smtp.Transaction) (inner context.Context, end func(error))) smtp.Middleware {
	return func(next smtp.Handler) smtp.Handler { return trace{smtp.Pass{Handler: next}, begin} }
}

type trace struct {
	smtp.Pass
	begin func(ctx context.Context, phase string, s *smtp.Session, tx *smtp.Transaction) (context.Context, func(error))
}

func (h trace) Connect(ctx context.Context, s *smtp.Session) error {
	ctx, end := h.begin(ctx, "connect", s, nil)
	err := h.Pass.Connect(ctx, s)
	end(err)
	return err
}

func (h trace) Hello(ctx context.Context, s *smtp.Session, name string) error {
	ctx, end := h.begin(ctx, "hello", s, nil)
	err := h.Pass.Hello(ctx, s, name)
	end(err)
	return err
}

func (h trace) Auth(ctx context.Context, s *smtp.Session, mech string) (sasl.Server, error) {
	ctx, end := h.begin(ctx, "auth", s, nil)
	srv, err := h.Pass.Auth(ctx, s, mech)
	end(err)
	return srv, err
}

func (h trace) Verify(ctx context.Context, s *smtp.Session, arg string) (*smtp.Reply, error) {
	ctx, end := h.begin(ctx, "verify", s, nil)
	r, err := h.Pass.Verify(ctx, s, arg)
	end(err)
	return r, err
}

func (h trace) Mail(ctx context.Context, tx *smtp.Transaction) error {
	ctx, end := h.begin(ctx, "mail", tx.Session, tx)
	err := h.Pass.Mail(ctx, tx)
	end(err)
	return err
}

func (h trace) Rcpt(ctx context.Context, tx *smtp.Transaction, r *smtp.Recipient) error {
	ctx, end := h.begin(ctx, "rcpt", tx.Session, tx)
	err := h.Pass.Rcpt(ctx, tx, r)
	end(err)
	return err
}

func (h trace) Data(ctx context.Context, tx *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	ctx, end := h.begin(ctx, "data", tx.Session, tx)
	r, err := h.Pass.Data(ctx, tx, body)
	end(err)
	return r, err
}
