package middleware

import (
	"context"
	"io"
	"log/slog"

	"github.com/mailblocks/mailblocks/smtp"
)

// Log writes a line for each message: "message accepted" at Info, with the reply if the Handler gave
// one (it may hold the queue id), or "message refused". Nil means slog.Default().
func Log(l *slog.Logger) smtp.Middleware {
	return func(next smtp.Handler) smtp.Handler { return logger{smtp.Pass{Handler: next}, l} }
}

type logger struct {
	smtp.Pass
	l *slog.Logger
}

func (h logger) Data(ctx context.Context, tx *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	counted := &counter{r: body}
	reply, err := h.Pass.Data(ctx, tx, counted)
	log := h.l
	if log == nil {
		log = slog.Default()
	}
	to := make([]string, len(tx.Recipients))
	for i, r := range tx.Recipients {
		to[i] = r.Address
	}
	attrs := []slog.Attr{slog.String("session", tx.Session.ID), slog.String("remote", tx.Session.Remote.String()),
		slog.String("from", tx.From), slog.Any("rcpt", to), slog.Int64("size", counted.n)}
	if tx.Session.Identity != "" {
		attrs = append(attrs, slog.String("identity", tx.Session.Identity))
	}
	if reply != nil {
		attrs = append(attrs, slog.String("reply", reply.Error()))
	}
	if err != nil {
		log.LogAttrs(ctx, slog.LevelInfo, "message refused", append(attrs, slog.Any("err", err))...)
	} else {
		log.LogAttrs(ctx, slog.LevelInfo, "message accepted", attrs...)
	}
	return reply, err
}

// counter counts what is read through it.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
