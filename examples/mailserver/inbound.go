package main

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth"
	"github.com/mailblocks/mailblocks/dnsauth/authres"
	"github.com/mailblocks/mailblocks/dnsauth/dkim"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/bodybuf"
	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/spam"
)

// inbound takes mail from anybody for our own users: checks who sent it, whether it is spam,
// and puts it into their mailboxes.
type inbound struct {
	smtp.Base
	*server
	trusted bool // LMTP: the server in front of us has checked the sender
}

// checkKey is where a transaction keeps its dnsauth.Check.
type checkKey struct{}

func (h *inbound) Mail(ctx context.Context, tx *smtp.Transaction) error {
	if h.trusted || h.cfg.noAuth {
		return nil
	}
	// SPF and the reverse name are looked up while the client sends its message.
	tx.Set(checkKey{}, dnsauth.Start(ctx, dnsauth.Config{Resolver: h.resolver, ServID: h.cfg.hostname}, dnsauth.Session{
		IP: tx.Session.Remote.Addr(), Helo: tx.Session.Hello, MailFrom: tx.From,
	}))
	return nil
}

func (h *inbound) Rcpt(_ context.Context, _ *smtp.Transaction, r *smtp.Recipient) error {
	if _, domain := smtp.SplitAddress(r.Address); !h.accounts.isLocal(domain) {
		return &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "we do not relay"}
	}
	if _, ok := h.accounts.find(r.Address); !ok {
		return errNoUser
	}
	return nil
}

func (h *inbound) Data(ctx context.Context, tx *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	buf := new(bodybuf.Buffer)
	defer buf.Close()
	check, _ := tx.Value(checkKey{}).(*dnsauth.Check)
	in := io.Reader(body)
	if check != nil {
		in = io.TeeReader(in, check)
	}
	// Results that came along under our name are forged (RFC 8601, 5).
	if _, err := io.Copy(buf, authres.StripReader(in, h.cfg.hostname)); err != nil {
		return nil, err
	}
	m := &mail{from: tx.From, body: buf, size: buf.Size(), box: imap.Inbox, trace: tx.Received(time.Now(), tx.ID())}
	var report *dnsauth.Report
	if check != nil {
		var err error
		if report, err = check.Finish(); err != nil {
			return nil, err
		}
		m.trace = report.AuthenticationResults + m.trace
		switch report.Disposition {
		case dnsauth.Reject:
			return nil, &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "refused: " + report.Reason}
		case dnsauth.Quarantine:
			m.box = junk
		}
	}
	if h.filter != nil {
		fields, isSpam := h.filter.check(ctx, spamEnvelope(tx, report), m.reader())
		m.trace = fields + m.trace
		if isSpam {
			m.box = junk
		}
	}
	if err := h.deliverLocal(ctx, tx, m); err != nil {
		return nil, err
	}
	slog.Info("delivered", slog.String("session", tx.Session.ID), slog.String("from", tx.From),
		slog.Int("recipients", len(tx.Recipients)), slog.String("mailbox", m.box), slog.Int64("size", m.size))
	return &smtp.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 6, 0}, Text: "delivered as " + tx.ID()}, nil
}

// spamEnvelope tells the spam filter what the session knows.
func spamEnvelope(tx *smtp.Transaction, report *dnsauth.Report) *spam.Envelope {
	e := &spam.Envelope{Remote: tx.Session.Remote.Addr(), Hello: tx.Session.Hello, Sender: tx.From, Time: time.Now()}
	for _, r := range tx.Recipients {
		e.Recipients = append(e.Recipients, r.Address)
	}
	if report == nil {
		return e
	}
	if r := report.SPF; r != nil && r.Status == spf.Pass {
		e.Authenticated = append(e.Authenticated, strings.ToLower(r.Domain))
	}
	for _, r := range report.DKIM {
		if r.Status == dkim.Pass {
			e.Authenticated = append(e.Authenticated, strings.ToLower(r.Domain()))
		}
	}
	return e
}

// owner returns the user whose training counts for the message: of its only recipient.
func (a *accounts) owner(e *spam.Envelope) string {
	if len(e.Recipients) != 1 {
		return ""
	}
	user, _ := a.find(e.Recipients[0])
	return user
}
