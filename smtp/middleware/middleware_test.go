package middleware_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/middleware"
)

// keep is the handler under the middleware.
type keep struct {
	smtp.Base
	got  string
	rcpt error
}

func (k *keep) Data(_ context.Context, _ *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	b, err := io.ReadAll(body)
	k.got = string(b)
	return &smtp.Reply{Code: 250, Text: "queued as Q1"}, err
}

func (k *keep) Rcpt(context.Context, *smtp.Transaction, *smtp.Recipient) error { return k.rcpt }

func transaction() *smtp.Transaction {
	return &smtp.Transaction{From: "a@example.org", Recipients: []*smtp.Recipient{{Address: "b@example.org"}},
		Session: &smtp.Session{ID: "S", Hostname: "mx.test", Hello: "client.test", Extended: true, Remote: netip.MustParseAddrPort("192.0.2.1:1234")}}
}

func code(err error) int {
	var r *smtp.Reply
	if errors.As(err, &r) {
		return r.Code
	}
	return 0
}

// Each that looks at the header, with the message cut in every way.
func TestHeaders(t *testing.T) {
	cases := map[string]struct {
		with     smtp.Middleware
		in, want string // want is a prefix up to "|", then the rest of the message
		code     int
	}{
		"received":           {middleware.Received(), "A: b\r\n\r\nx\r\n", "Received: from client.test ([192.0.2.1])\r\n\tby mx.test with ESMTP id S.0\r\n\tfor <b@example.org>; |A: b\r\n\r\nx\r\n", 0},
		"two hops":           {middleware.MaxHops(2), "Received: a\r\nReceived: b\r\n\r\nReceived: c\r\n", "|Received: a\r\nReceived: b\r\n\r\nReceived: c\r\n", 0},
		"three hops":         {middleware.MaxHops(2), "received: a\r\n x\r\nRECEIVED : b\r\nReceived: c\r\n\r\n", "", 554},
		"complete":           {middleware.FixUp(""), "Date: x\r\nMessage-Id: <y>\r\n\r\nz\r\n", "|Date: x\r\nMessage-Id: <y>\r\n\r\nz\r\n", 0},
		"no id":              {middleware.FixUp("d.test"), "Date: x\r\n\r\nz\r\n", "Message-ID: <|Date: x\r\n\r\nz\r\n", 0},
		"no date":            {middleware.FixUp(""), "Message-Id: <y>\r\n\r\nDate: z\r\n", "Date: |Message-Id: <y>\r\n\r\nDate: z\r\n", 0},
		"neither":            {middleware.FixUp(""), "\r\nDate: z\r\n", "Message-ID: <|\r\nDate: z\r\n", 0},
		"no empty line":      {middleware.FixUp(""), "Date: x\r\nMessage-ID: <y>\r\n", "|Date: x\r\nMessage-ID: <y>\r\n", 0},
		"empty":              {middleware.MaxHops(0), "", "|", 0},
		"an endless header":  {middleware.MaxHops(0), strings.Repeat("A: b\r\n", 100_000), "|" + strings.Repeat("A: b\r\n", 100_000), 0},
		"a name in a folded": {middleware.FixUp(""), "Subject: a\r\n Date: b\r\nMessage-ID: <y>\r\nDate: x\r\n\r\n", "|Subject: a\r\n Date: b\r\nMessage-ID: <y>\r\nDate: x\r\n\r\n", 0},
	}
	for name, c := range cases {
		for how, r := range map[string]io.Reader{
			"whole": strings.NewReader(c.in), "octets": iotest.OneByteReader(strings.NewReader(c.in)), "EOF with data": iotest.DataErrReader(strings.NewReader(c.in)),
		} {
			if how == "octets" && len(c.in) > 10000 {
				continue
			}
			k := &keep{}
			_, err := smtp.Chain(k, c.with).Data(t.Context(), transaction(), r)
			assert.Equal(t, c.code, code(err), name)
			if c.code != 0 {
				continue
			}
			prefix, rest, _ := strings.Cut(c.want, "|")
			assert.True(t, strings.HasPrefix(k.got, prefix) && strings.HasSuffix(k.got, rest), "%s, %s: %.200q", name, how, k.got)
			if prefix == "" {
				assert.Len(t, k.got, len(rest), name)
			}
		}
	}
}

func TestHeaderErrorsPass(t *testing.T) {
	trouble := errors.New("gone")
	for _, m := range []smtp.Middleware{middleware.MaxHops(0), middleware.FixUp(""), middleware.Received(), middleware.Log(slog.New(slog.DiscardHandler))} {
		for _, text := range []string{"", "A: b\r\n", "A: b\r\n\r\nx"} {
			_, err := smtp.Chain(&keep{}, m).Data(t.Context(), transaction(), io.MultiReader(strings.NewReader(text), iotest.ErrReader(trouble)))
			assert.ErrorIs(t, err, trouble)
		}
	}
}

func TestRequireAuth(t *testing.T) {
	tx := transaction()
	assert.Equal(t, 530, code(smtp.Chain(&keep{}, middleware.RequireAuth(nil)).Mail(t.Context(), tx)))
	local := middleware.RequireAuth(func(s *smtp.Session) bool { return s.TLS != nil })
	assert.Equal(t, 530, code(smtp.Chain(&keep{}, local).Mail(t.Context(), tx)))
	tx.Session.TLS = &tls.ConnectionState{}
	assert.NoError(t, smtp.Chain(&keep{}, local).Mail(t.Context(), tx))
}

func TestSenderLogin(t *testing.T) {
	own := middleware.SenderLogin(func(_ context.Context, identity, from string) (bool, error) {
		if identity == "broken" {
			return false, errors.New("database is down")
		}
		return identity == from, nil
	})
	h := smtp.Chain(&keep{}, own)
	tx := transaction()
	assert.NoError(t, h.Mail(t.Context(), tx), "no identity")
	tx.Session.Identity = "a@example.org"
	assert.NoError(t, h.Mail(t.Context(), tx))
	tx.Session.Identity = "c@example.org"
	assert.Equal(t, 550, code(h.Mail(t.Context(), tx)))
	tx.Session.Identity = "broken"
	err := h.Mail(t.Context(), tx)
	require.Error(t, err)
	assert.Zero(t, code(err))
}

func TestRateLimit(t *testing.T) {
	now := time.Unix(1e9, 0)
	h := smtp.Chain(&keep{}, middleware.RateLimit(middleware.Limits{
		Messages: middleware.Rate{N: 3, Per: time.Minute}, Recipients: middleware.Rate{N: 5, Per: time.Minute}, Entries: 2,
		Now: func() time.Time { return now },
	}))
	tx := transaction()
	for range 3 {
		require.NoError(t, h.Mail(t.Context(), tx))
	}
	require.Equal(t, 450, code(h.Mail(t.Context(), tx)))
	other := transaction()
	other.Session.Remote = netip.MustParseAddrPort("[2001:db8::1]:1")
	require.NoError(t, h.Mail(t.Context(), other))
	other.Session.Identity = "alice"
	for range 3 {
		require.NoError(t, h.Mail(t.Context(), other), "counted by identity, and the table is full")
	}
	require.Equal(t, 450, code(h.Mail(t.Context(), other)))
	now = now.Add(20 * time.Second)
	require.NoError(t, h.Mail(t.Context(), other))
	require.Equal(t, 450, code(h.Mail(t.Context(), other)))
	for range 5 {
		require.NoError(t, h.Rcpt(t.Context(), tx, tx.Recipients[0]))
	}
	require.Equal(t, 450, code(h.Rcpt(t.Context(), tx, tx.Recipients[0])))
}

func TestTarpit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keep{rcpt: &smtp.Reply{Code: 550, Text: "no"}}
		h := smtp.Chain(k, middleware.Tarpit(2, time.Minute))
		tx := transaction()
		begin := time.Now()
		for range 2 {
			assert.Equal(t, 550, code(h.Rcpt(t.Context(), tx, tx.Recipients[0])))
		}
		assert.Zero(t, time.Since(begin))
		assert.Equal(t, 550, code(h.Rcpt(t.Context(), tx, tx.Recipients[0])))
		assert.Equal(t, time.Minute, time.Since(begin))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		assert.Equal(t, 550, code(h.Rcpt(ctx, tx, tx.Recipients[0])))
		k.rcpt = nil
		assert.NoError(t, h.Rcpt(t.Context(), tx, tx.Recipients[0]))
		assert.Equal(t, time.Minute, time.Since(begin))
	})
}

func TestLog(t *testing.T) {
	var out bytes.Buffer
	h := smtp.Chain(&keep{}, middleware.Log(slog.New(slog.NewTextHandler(&out, nil))))
	_, err := h.Data(t.Context(), transaction(), strings.NewReader("hello\r\n"))
	require.NoError(t, err)
	assert.Contains(t, out.String(), `msg="message accepted" session=S remote=192.0.2.1:1234 from=a@example.org rcpt=[b@example.org] size=7 reply="250 queued as Q1"`)
	out.Reset()
	_, err = smtp.Chain(smtp.Base{}, middleware.Log(slog.New(slog.NewTextHandler(&out, nil)))).Data(t.Context(), transaction(), strings.NewReader(""))
	require.Error(t, err)
	assert.Contains(t, out.String(), "message refused")
}

func Example() {
	accept := smtp.HandlerFunc(func(_ context.Context, _ *smtp.Transaction, body smtp.Body) error {
		_, err := io.Copy(io.Discard, body)
		return err
	})
	srv := &smtp.Server{Mode: smtp.ModeSubmission, Handler: smtp.Chain(accept,
		middleware.RateLimit(middleware.Limits{Messages: middleware.Rate{N: 100, Per: time.Hour}}),
		middleware.SenderLogin(func(_ context.Context, identity, from string) (bool, error) { return identity == from, nil }),
		middleware.FixUp("example.org"),
		middleware.Received(), // inside FixUp, so that it stands on top
	)}
	_ = srv // srv.ListenAndServe(":587")
}
