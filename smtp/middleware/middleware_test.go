package middleware_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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

func TestFixSender(t *testing.T) {
	for in, want := range map[string]string{
		"From: A <a@example.org>\r\n\r\nx":                                         "",
		"From: a@EXAMPLE.org\r\nSender: a@example.org\r\n\r\nx":                    "",
		"From: b@example.org\r\nSender: <a@example.org>\r\n\r\nx":                  "",
		"From: b@example.org\r\n\r\nSender: b":                                     "Sender: <a@example.org>\r\nFrom: b@example.org\r\n\r\nSender: b",
		"From: a@example.org, b@example.org\r\n\r\nx":                              "Sender: <a@example.org>\r\nFrom: a@example.org, b@example.org\r\n\r\nx",
		"From: b@example.org\r\nSender:\r\n b@example.org\r\nTo: c\r\n\r\nx":       "Sender: <a@example.org>\r\nFrom: b@example.org\r\nTo: c\r\n\r\nx",
		"Sender: b@example.org\r\nFrom: a@example.org\r\n\r\nx":                    "From: a@example.org\r\n\r\nx",
		"From: ((((\r\n\r\nx":                                                      "Sender: <a@example.org>\r\nFrom: ((((\r\n\r\nx",
		"\r\nx":                                                                    "Sender: <a@example.org>\r\n\r\nx",
		"From: a@example.org\r\nSENDER : b@example.org\r\nsender: c@d\r\nA: b\r\n": "From: a@example.org\r\nA: b\r\n",
	} {
		if want == "" {
			want = in
		}
		k := &keep{}
		tx := transaction()
		tx.Session.Identity = "a@example.org"
		_, err := smtp.Chain(k, middleware.FixSender(nil)).Data(t.Context(), tx, iotest.HalfReader(strings.NewReader(in)))
		require.NoError(t, err)
		assert.Equal(t, want, k.got)
	}
	k, tx, in := &keep{}, transaction(), "From: b@example.org\r\n\r\nx"
	_, err := smtp.Chain(k, middleware.FixSender(nil)).Data(t.Context(), tx, strings.NewReader(in))
	require.NoError(t, err)
	assert.Equal(t, in, k.got, "nobody authenticated")
	tx.Session.Identity = "alice"
	_, err = smtp.Chain(k, middleware.FixSender(nil)).Data(t.Context(), tx, strings.NewReader(in))
	require.NoError(t, err)
	assert.Equal(t, in, k.got, "not an address")
	down := errors.New("down")
	_, err = smtp.Chain(k, middleware.FixSender(func(context.Context, string) (string, error) { return "", down })).Data(t.Context(), tx, strings.NewReader(in))
	assert.ErrorIs(t, err, down)
}

func TestMaxRecipients(t *testing.T) {
	h := smtp.Chain(&keep{}, middleware.MaxRecipients(func(tx *smtp.Transaction) int {
		if tx.Session.Identity != "" {
			return -1
		}
		return 2
	}))
	tx := transaction()
	require.NoError(t, h.Rcpt(t.Context(), tx, tx.Recipients[0]))
	tx.Recipients = append(tx.Recipients, tx.Recipients[0])
	require.Equal(t, 452, code(h.Rcpt(t.Context(), tx, tx.Recipients[0])))
	tx.Session.Identity = "alice"
	require.NoError(t, h.Rcpt(t.Context(), tx, tx.Recipients[0]))
}

func TestMaxSessions(t *testing.T) {
	h := smtp.Chain(&keep{}, middleware.MaxSessions(1))
	as := func(identity string) *smtp.Transaction {
		tx := transaction()
		tx.Session.Identity = identity
		return tx
	}
	first, second, other, nobody := as("alice"), as("alice"), as("bob"), as("")
	for range 2 {
		require.NoError(t, h.Mail(t.Context(), first))
	}
	require.Equal(t, 421, code(h.Mail(t.Context(), second)))
	h.Close(t.Context(), second.Session, nil) // counted for nothing
	require.Equal(t, 421, code(h.Mail(t.Context(), as("alice"))))
	require.NoError(t, h.Mail(t.Context(), other))
	for range 2 {
		require.NoError(t, h.Mail(t.Context(), nobody))
	}
	first.Session.Identity = "carol" // XCLIENT
	require.NoError(t, h.Mail(t.Context(), first))
	require.NoError(t, h.Mail(t.Context(), second))
	require.Equal(t, 421, code(h.Mail(t.Context(), as("carol"))))
	h.Close(t.Context(), first.Session, nil)
	require.NoError(t, h.Mail(t.Context(), as("carol")))
}

func TestConnectionRate(t *testing.T) {
	h := smtp.Chain(&keep{}, middleware.RateLimit(middleware.Limits{Connections: middleware.Rate{N: 2, Per: time.Minute}, Now: func() time.Time { return time.Unix(1e9, 0) }}))
	s := transaction().Session
	for range 2 {
		require.NoError(t, h.Connect(t.Context(), s))
	}
	require.Equal(t, 421, code(h.Connect(t.Context(), s)))
	s.Remote = netip.MustParseAddrPort("192.0.2.2:1")
	require.NoError(t, h.Connect(t.Context(), s))
}

func TestTrace(t *testing.T) {
	type mark struct{}
	var spans []string
	inner := func(next smtp.Handler) smtp.Handler {
		return middleware.Trace(func(ctx context.Context, phase string, s *smtp.Session, tx *smtp.Transaction) (context.Context, func(error)) {
			assert.Equal(t, "seen", ctx.Value(mark{}), phase)
			return ctx, func(error) {}
		})(next)
	}
	h := smtp.Chain(&keep{rcpt: &smtp.Reply{Code: 550, Text: "no"}}, middleware.Trace(
		func(ctx context.Context, phase string, s *smtp.Session, tx *smtp.Transaction) (context.Context, func(error)) {
			return context.WithValue(ctx, mark{}, "seen"), func(err error) { spans = append(spans, fmt.Sprint(phase, tx != nil, code(err))) }
		}), inner)
	tx := transaction()
	s := tx.Session
	require.NoError(t, h.Connect(t.Context(), s))
	require.NoError(t, h.Hello(t.Context(), s, "x"))
	_, err := h.Auth(t.Context(), s, "PLAIN")
	require.Error(t, err)
	_, err = h.Verify(t.Context(), s, "x")
	require.NoError(t, err)
	require.NoError(t, h.Mail(t.Context(), tx))
	require.Error(t, h.Rcpt(t.Context(), tx, tx.Recipients[0]))
	_, err = h.Data(t.Context(), tx, strings.NewReader(""))
	require.NoError(t, err)
	assert.Equal(t, []string{"connectfalse 0", "hellofalse 0", "authfalse 504", "verifyfalse 0", "mailtrue 0", "rcpttrue 550", "datatrue 0"}, spans)
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
