package smtp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/smtptest"
)

func dialTest(t *testing.T, addr string, opt *smtp.ClientOptions) *smtp.Client {
	if opt == nil {
		opt = &smtp.ClientOptions{}
	}
	if opt.Hello == "" {
		opt.Hello = "client.test"
	}
	c, err := smtp.Dial(t.Context(), addr, opt)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func to(addresses ...string) (list []smtp.Recipient) {
	for _, a := range addresses {
		list = append(list, smtp.Recipient{Address: a})
	}
	return list
}

// The ways a client can send.
var ways = map[string]smtp.ClientOptions{
	"pipelined":        {},
	"lockstep":         {NoPipelining: true},
	"chunked":          {Chunking: true},
	"chunked lockstep": {Chunking: true, NoPipelining: true},
}

func TestSendManyMessages(t *testing.T) {
	for name, opt := range ways {
		t.Run(name, func(t *testing.T) {
			s := smtptest.NewServer(t)
			c := dialTest(t, s.Addr, &opt)
			bodies := []string{"", "x", "a\r\n.\r\nb\r\n", ".", "..", "\r\n", strings.Repeat("0123456789abcdef\r\n", 40000)}
			for _, body := range bodies {
				res, err := c.Send(t.Context(), &smtp.Envelope{From: "a@example.org", To: to("b@example.org", "c@example.org")}, strings.NewReader(body))
				require.NoError(t, err)
				require.True(t, res.All(), "%v", res)
				require.Equal(t, 250, res.Data.Code)
			}
			require.NoError(t, c.Quit(t.Context()))
			got := s.Wait(t.Context(), t, len(bodies))
			for i, body := range bodies {
				if body != "" && !strings.HasSuffix(body, "\r\n") {
					body += "\r\n"
				}
				assert.Equal(t, body, string(got[i].Data))
				assert.Equal(t, "a@example.org", got[i].From)
				assert.Equal(t, to("b@example.org", "c@example.org"), got[i].To)
			}
			_, err := c.Send(t.Context(), &smtp.Envelope{To: to("b@example.org")}, strings.NewReader(""))
			require.ErrorIs(t, err, smtp.ErrClientClosed)
		})
	}
}

func TestSendReplies(t *testing.T) {
	for name, opt := range ways {
		t.Run(name, func(t *testing.T) {
			c := dialTest(t, start(t, newServer(t, "full", &testHandler{})), &opt)
			send := func(from string, rcpts ...string) *smtp.Result {
				res, err := c.Send(t.Context(), &smtp.Envelope{From: from, To: to(rcpts...)}, strings.NewReader("hello\r\n"))
				require.NoError(t, err)
				return res
			}
			codes := func(r *smtp.Result) (c []int) {
				for _, reply := range r.Recipients {
					c = append(c, reply.Code)
				}
				return c
			}
			res := send("queued@example.org", "unknown@example.org", "b@example.org", "busy@example.org")
			assert.Equal(t, []int{550, 250, 450}, codes(res))
			assert.Equal(t, "550 5.1.1 no such user\r\n", res.Recipients[0].Raw)
			assert.Equal(t, smtp.EnhancedCode{5, 1, 1}, res.Recipients[0].Enhanced)
			assert.Equal(t, "no such user", res.Recipients[0].Text)
			assert.Equal(t, "queued as Q1", res.Data.Text)

			res = send("unknown@example.org", "b@example.org", "c@example.org")
			assert.Equal(t, []int{550, 550}, codes(res))
			assert.Nil(t, res.Data)

			assert.Equal(t, []int{550, 550}, codes(send("a@example.org", "unknown@example.org", "unknown@example.org")))
			assert.Equal(t, []int{550, 550}, codes(send("spam@example.org", "b@example.org", "unknown@example.org")))
			assert.Equal(t, []int{451}, codes(send("failed@example.org", "b@example.org")))
			assert.Equal(t, []int{250}, codes(send("a@example.org", "b@example.org")))
		})
	}
}

func TestSendLMTP(t *testing.T) {
	c := dialTest(t, start(t, newServer(t, "lmtp", &testHandler{})), &smtp.ClientOptions{LMTP: true})
	for range 2 {
		res, err := c.Send(t.Context(), &smtp.Envelope{From: "a@example.org",
			To: to("b@example.org", "full@example.org", "unknown@example.org", "lost@example.org", "b@example.org")}, strings.NewReader("x\r\n"))
		require.NoError(t, err)
		var codes []int
		for _, r := range res.Recipients {
			codes = append(codes, r.Code)
		}
		assert.Equal(t, []int{250, 452, 550, 550, 250}, codes)
	}
}

func TestSendManyRecipients(t *testing.T) {
	srv := newServer(t, "full", &testHandler{})
	srv.MaxRecipients = -1
	c := dialTest(t, start(t, srv), nil)
	list := make([]smtp.Recipient, 1000)
	for i := range list {
		list[i].Address = "b@example.org"
	}
	res, err := c.Send(t.Context(), &smtp.Envelope{To: list}, strings.NewReader("x\r\n"))
	require.NoError(t, err)
	assert.True(t, res.All())
}

func TestSendObeysLimits(t *testing.T) {
	c := dialTest(t, start(t, newServer(t, "mta", &testHandler{})), nil)
	res, err := c.Send(t.Context(), &smtp.Envelope{To: to("a@b.test", "b@b.test", "c@b.test", "d@b.test")}, strings.NewReader("x\r\n"))
	require.NoError(t, err)
	assert.Equal(t, 250, res.Recipients[2].Code)
	assert.Equal(t, 452, res.Recipients[3].Code)
	res, err = c.Send(t.Context(), &smtp.Envelope{Params: smtp.MailParams{Size: 1001}, To: to("a@b.test")}, strings.NewReader("x\r\n"))
	require.NoError(t, err)
	assert.Equal(t, 552, res.Recipients[0].Code)
}

// What the client sends has CRLF at the end of each line, and no bare CR or LF, whatever it is given.
func TestSendMendsNewlines(t *testing.T) {
	for name, opt := range ways {
		t.Run(name, func(t *testing.T) {
			s := smtptest.NewServer(t)
			c := dialTest(t, s.Addr, &opt)
			for in, want := range map[string]string{
				"a\n.\nb":            "a\r\n.\r\nb\r\n",
				"a\n.\r\nb\r\n":      "a\r\n.\r\nb\r\n",
				"a\r.\rb\r":          "a\r\n.\r\nb\r\n",
				"a\r\n.\nb\r\n":      "a\r\n.\r\nb\r\n",
				"a\r\r\n.\r\n":       "a\r\n\r\n.\r\n",
				"a\n\r.\r\n":         "a\r\n\r\n.\r\n",
				"a\x00\r\n\x00.\r\n": "a\x00\r\n\x00.\r\n",
				"\n":                 "\r\n",
				"\r":                 "\r\n",
			} {
				for cut, r := range map[string]io.Reader{
					"whole": strings.NewReader(in), "octets": iotest.OneByteReader(strings.NewReader(in)),
				} {
					before := len(s.Messages())
					res, err := c.Send(t.Context(), &smtp.Envelope{To: to("b@example.org")}, r)
					require.NoError(t, err)
					require.True(t, res.All())
					got := s.Wait(t.Context(), t, before+1)
					require.Len(t, got, before+1)
					assert.Equal(t, want, string(got[before].Data), "%q by %s", in, cut)
				}
			}
		})
	}
}

func TestSendBinary(t *testing.T) {
	s := smtptest.NewServer(t, func(s *smtp.Server) { s.Extensions = ^smtp.Extensions(0) })
	c := dialTest(t, s.Addr, nil)
	body := bytes.Repeat([]byte("\n\r\x00\xff.\n"), 100_000)
	res, err := c.Send(t.Context(), &smtp.Envelope{Params: smtp.MailParams{Body: smtp.BodyBinary}, To: to("b@example.org")}, bytes.NewReader(body))
	require.NoError(t, err)
	require.True(t, res.All())
	assert.True(t, bytes.Equal(body, s.Messages()[0].Data))
}

func TestSendNeedsExtension(t *testing.T) {
	c := dialTest(t, start(t, newServer(t, "bare", &testHandler{})), nil)
	for want, env := range map[string]smtp.Envelope{
		"SMTPUTF8":      {From: "a@exämple.test", To: to("b@example.org")},
		"8BITMIME":      {Params: smtp.MailParams{Body: smtp.Body8Bit}, To: to("b@example.org")},
		"CHUNKING":      {Params: smtp.MailParams{Body: smtp.BodyBinary}, To: to("b@example.org")},
		"REQUIRETLS":    {Params: smtp.MailParams{RequireTLS: true}, To: to("b@example.org")},
		"FUTURERELEASE": {Params: smtp.MailParams{HoldFor: 1e9}, To: to("b@example.org")},
		"DELIVERBY":     {Params: smtp.MailParams{DeliverBy: smtp.DeliverBy{Mode: 'N'}}, To: to("b@example.org")},
	} {
		_, err := c.Send(t.Context(), &env, strings.NewReader("x"))
		var x *smtp.ExtensionError
		require.ErrorAs(t, err, &x)
		assert.Equal(t, want, x.Extension)
		assert.True(t, x.Reply().Permanent())
	}
	// The rest is left out, and the session still stands.
	res, err := c.Send(t.Context(), &smtp.Envelope{
		Params: smtp.MailParams{Size: 5, Return: smtp.ReturnFull, EnvelopeID: "id", Auth: "<>", Priority: 3, Solicit: "org.example:ADV"},
		To:     []smtp.Recipient{{Address: "b@example.org", Params: smtp.RcptParams{Notify: smtp.NotifyNever, Original: "x@y"}}},
	}, strings.NewReader("x"))
	require.NoError(t, err)
	assert.True(t, res.All())
}

func TestSendRefusesInjection(t *testing.T) {
	c := dialTest(t, start(t, newServer(t, "full", &testHandler{})), nil)
	bad := func(env smtp.Envelope) {
		t.Helper()
		_, err := c.Send(t.Context(), &env, strings.NewReader("x"))
		require.Error(t, err)
		var conn *smtp.ConnError
		require.False(t, errors.As(err, &conn), "%v", err)
	}
	bad(smtp.Envelope{From: "a@b.test>\r\nRCPT TO:<c@d.test", To: to("b@example.org")})
	bad(smtp.Envelope{To: to("b@example.org\nDATA")})
	bad(smtp.Envelope{To: to("")})
	bad(smtp.Envelope{To: nil})
	bad(smtp.Envelope{To: to("b@example.org> NOTIFY=NEVER")})
	bad(smtp.Envelope{Params: smtp.MailParams{Solicit: "a SIZE=1"}, To: to("b@example.org")})
	bad(smtp.Envelope{Params: smtp.MailParams{Other: []smtp.Param{{Key: "XFOO", Value: "1\r\nQUIT"}}}, To: to("b@example.org")})
	bad(smtp.Envelope{Params: smtp.MailParams{Other: []smtp.Param{{Key: "XFOO X", Value: "1"}}}, To: to("b@example.org")})
	_, err := c.Command(t.Context(), "NOOP\r\nQUIT")
	require.Error(t, err)
	require.NoError(t, c.Noop(t.Context()))
}

func TestClientTLS(t *testing.T) {
	cases := map[string]struct {
		policy smtp.TLSPolicy
		offers bool
		want   bool
	}{
		"opportunistic, offered":     {smtp.TLSOpportunistic, true, true},
		"opportunistic, not offered": {smtp.TLSOpportunistic, false, false},
		"required":                   {smtp.TLSRequired, true, true},
		"never":                      {smtp.TLSNever, true, false},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			s := smtptest.NewServer(t, func(s *smtp.Server) {
				if test.offers {
					s.TLS = serverTLS(t)
				}
			})
			c := dialTest(t, s.Addr, &smtp.ClientOptions{TLSPolicy: test.policy, TLS: clientTLS(t)})
			assert.Equal(t, test.want, c.TLS() != nil)
			_, err := c.Send(t.Context(), &smtp.Envelope{To: to("b@example.org")}, strings.NewReader("x"))
			require.NoError(t, err)
			assert.Equal(t, test.want, s.Messages()[0].TLS)
		})
	}
	t.Run("required, not offered", func(t *testing.T) {
		s := smtptest.NewServer(t)
		_, err := smtp.Dial(t.Context(), s.Addr, &smtp.ClientOptions{TLSPolicy: smtp.TLSRequired})
		var ce *smtp.ConnError
		require.ErrorAs(t, err, &ce)
		assert.Equal(t, smtp.PhaseTLS, ce.Phase)
		assert.ErrorIs(t, err, smtp.ErrNoTLS)
	})
	t.Run("not trusted", func(t *testing.T) {
		s := smtptest.NewServer(t, func(s *smtp.Server) { s.TLS = serverTLS(t) })
		_, err := smtp.Dial(t.Context(), s.Addr, nil)
		var ce *smtp.ConnError
		require.ErrorAs(t, err, &ce)
		assert.Equal(t, smtp.PhaseTLS, ce.Phase)
	})
	t.Run("implicit", func(t *testing.T) {
		srv := newServer(t, "tls", &testHandler{})
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		done := make(chan error)
		go func() { done <- srv.ServeTLS(l) }()
		c, err := smtp.DialTLS(t.Context(), l.Addr().String(), &smtp.ClientOptions{TLS: clientTLS(t)})
		require.NoError(t, err)
		assert.NotNil(t, c.TLS())
		_, offered := c.Extension("STARTTLS")
		assert.False(t, offered)
		require.NoError(t, c.Quit(t.Context()))
		require.NoError(t, srv.Close())
		<-done
	})
}

func TestClientAuth(t *testing.T) {
	s := smtptest.NewServer(t, func(s *smtp.Server) {
		s.Authenticator = plainAuth{}
		s.TLS = serverTLS(t)
		s.Mode = smtp.ModeSubmission
	})
	opt := &smtp.ClientOptions{TLS: clientTLS(t), Auth: sasl.NewPlainClient("", "alice", "wonderland")}
	c := dialTest(t, s.Addr, opt)
	_, err := c.Send(t.Context(), &smtp.Envelope{To: to("b@example.org")}, strings.NewReader("x"))
	require.NoError(t, err)
	assert.Equal(t, "alice", s.Messages()[0].Identity)

	opt.Auth = sasl.NewPlainClient("", "alice", "wrong")
	_, err = smtp.Dial(t.Context(), s.Addr, opt)
	var ce *smtp.ConnError
	require.ErrorAs(t, err, &ce)
	assert.Equal(t, smtp.PhaseAuth, ce.Phase)
	var r *smtp.Reply
	require.ErrorAs(t, err, &r)
	assert.Equal(t, 535, r.Code)

	opt.Auth = unproved{sasl.NewPlainClient("", "alice", "wonderland")}
	_, err = smtp.Dial(t.Context(), s.Addr, opt)
	assert.ErrorIs(t, err, errUnproved, "the server let us in without its part of the exchange")

	opt.Auth, opt.TLSPolicy = sasl.NewPlainClient("", "alice", "wonderland"), smtp.TLSNever
	_, err = smtp.Dial(t.Context(), s.Addr, opt)
	require.Error(t, err, "credentials in the clear")
}

var errUnproved = errors.New("no proof")

// unproved is a mechanism that waits for the server's proof in vain.
type unproved struct{ sasl.Client }

func (unproved) Proved() error { return errUnproved }

func TestClientPhases(t *testing.T) {
	cases := map[string]struct {
		script string
		phase  smtp.Phase
		code   int
	}{
		"421 for a greeting": {"S: 421 4.3.2 go away\nS.", smtp.PhaseGreeting, 421},
		"554 for a greeting": {"S: 554 no mail here\nC.", smtp.PhaseGreeting, 554},
		"closed":             {"S.", smtp.PhaseGreeting, 0},
		"HTTP":               {"S: HTTP/1.1 400 Bad Request\nC.", smtp.PhaseGreeting, 0},
		"a line without end": {"S! 220 " + strings.Repeat("x", 5000) + "\nC.", smtp.PhaseGreeting, 0},
		"an endless reply":   {"S* 220-more", smtp.PhaseGreeting, 0},
		"two codes":          {"S: 220-a\nS: 250 b\nC.", smtp.PhaseGreeting, 0},
		"250 for a greeting": {"S: 250 hi\nC.", smtp.PhaseGreeting, 250},
		"EHLO refused":       {"S: 220 hi\nC: EHLO client.test\nS: 550 no\nC: HELO client.test\nS: 550 no\nC.", smtp.PhaseHello, 550},
		"EHLO later":         {"S: 220 hi\nC: EHLO client.test\nS: 451 later\nC.", smtp.PhaseHello, 451},
		"STARTTLS refused":   {"S: 220 hi\nC: EHLO client.test\nS: 250-x\nS: 250 STARTTLS\nC: STARTTLS\nS: 454 no\nC.", smtp.PhaseTLS, 454},
		"STARTTLS injected":  {"S: 220 hi\nC: EHLO client.test\nS: 250-x\nS: 250 STARTTLS\nC: STARTTLS\nS! 220 go\\r\\n250 AUTH PLAIN\\r\\n\nC.", smtp.PhaseTLS, 0},
		"no handshake":       {"S: 220 hi\nC: EHLO client.test\nS: 250-x\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nS! 500 what?\\r\\n\nS.", smtp.PhaseTLS, 0},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := smtp.Dial(t.Context(), smtptest.Script(t, nil, test.script), &smtp.ClientOptions{Hello: "client.test", TLS: clientTLS(t)})
			var ce *smtp.ConnError
			require.ErrorAs(t, err, &ce)
			assert.Equal(t, test.phase, ce.Phase)
			var r *smtp.Reply
			if errors.As(err, &r) {
				assert.Equal(t, test.code, r.Code)
			} else {
				assert.Zero(t, test.code)
			}
		})
	}
	t.Run("no connection", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		require.NoError(t, l.Close())
		_, err = smtp.Dial(t.Context(), l.Addr().String(), nil)
		var ce *smtp.ConnError
		require.ErrorAs(t, err, &ce)
		assert.Equal(t, smtp.PhaseConnect, ce.Phase)
	})
}

func TestClientHELO(t *testing.T) {
	c := dialTest(t, smtptest.Script(t, nil, `
		S: 220 old.test
		C: EHLO client.test
		S: 500 what?
		C: HELO client.test
		S: 250 old.test
		C: MAIL FROM:<a@b.test>
		S: 250 ok
		C: RCPT TO:<c@d.test>
		S: 250 ok
		C: DATA
		S: 354 go
		C: ..x
		C: .
		S: 250 fine
		C: QUIT
		S: 221 bye
		S.`), nil)
	res, err := c.Send(t.Context(), &smtp.Envelope{From: "a@b.test", Params: smtp.MailParams{Size: 5}, To: to("c@d.test")}, strings.NewReader(".x"))
	require.NoError(t, err)
	assert.True(t, res.All())
	require.NoError(t, c.Quit(t.Context()))
}

const hello = "S: 220 hi\nC: EHLO client.test\nS: 250-x\nS: 250 PIPELINING\nC: MAIL FROM:<>\nC: RCPT TO:<c@d.test>\nC: RCPT TO:<e@f.test>\nC: DATA\n"

func TestSendHostile(t *testing.T) {
	cases := map[string]struct {
		script string
		codes  []int // of Recipients; 0 is nil
		broken bool
	}{
		"354 without recipients":    {"S: 250 ok\nS: 550 no\nS: 450 no\nS: 354 go\nC: .\nS: 554 nobody\nC.", []int{550, 450}, false},
		"354 without a sender":      {"S: 550 no\nS: 503 no\nS: 503 no\nS: 354 go\nC: .\nS: 554 nobody\nC.", []int{550, 550}, false},
		"421 instead of RCPT":       {"S: 250 ok\nS: 550 no\nS: 421 bye\nS.", []int{550, 0}, true},
		"closed instead of RCPT":    {"S: 250 ok\nS: 550 no\nS.", []int{550, 0}, true},
		"250 instead of 354":        {"S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 250 ok\nC.", []int{0, 0}, true},
		"354 instead of RCPT":       {"S: 250 ok\nS: 354 go\nC.", []int{0, 0}, true},
		"DATA refused":              {"S: 250 ok\nS: 250 ok\nS: 550 no\nS: 452 full\nC.", []int{452, 550}, false},
		"closed behind the dot":     {"S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC>\nS.", []int{0, 0}, true},
		"refused behind the dot":    {"S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC>\nS: 554 5.7.1 spam\nC.", []int{554, 554}, false},
		"354 behind the dot":        {"S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC>\nS: 354 more\nC.", []int{0, 0}, true},
		"garbage behind the dot":    {"S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\nC>\nS: fine, thanks\nC.", []int{0, 0}, true},
		"two replies, then nothing": {"S: 250 ok\nS: 250 ok\nS! 250 o\nS.", []int{0, 0}, true},
	}
	for name, test := range cases {
		t.Run(name, func(t *testing.T) {
			c := dialTest(t, smtptest.Script(t, nil, hello+test.script), nil)
			res, err := c.Send(t.Context(), &smtp.Envelope{To: to("c@d.test", "e@f.test")}, strings.NewReader("x\r\n"))
			if test.broken {
				var ce *smtp.ConnError
				require.ErrorAs(t, err, &ce)
				assert.Equal(t, smtp.PhaseSession, ce.Phase)
			} else {
				require.NoError(t, err)
			}
			var codes []int
			for _, r := range res.Recipients {
				if r == nil {
					codes = append(codes, 0)
				} else {
					codes = append(codes, r.Code)
				}
			}
			if name == "two replies, then nothing" || test.broken && strings.Contains(name, "behind the dot") {
				assert.Equal(t, []int{0, 0}, codes)
			} else {
				assert.Equal(t, test.codes, codes)
			}
			c.Close()
		})
	}
}

func TestSendBodyError(t *testing.T) {
	trouble := errors.New("disk on fire")
	for name, opt := range ways {
		t.Run(name, func(t *testing.T) {
			s := smtptest.NewServer(t)
			c := dialTest(t, s.Addr, &opt)
			_, err := c.Send(t.Context(), &smtp.Envelope{To: to("b@example.org")},
				io.MultiReader(strings.NewReader("half a mess"), iotest.ErrReader(trouble)))
			require.ErrorIs(t, err, trouble)
			_, err = c.Send(t.Context(), &smtp.Envelope{To: to("b@example.org")}, strings.NewReader("x"))
			require.ErrorIs(t, err, smtp.ErrClientClosed)
			assert.Empty(t, s.Messages())
		})
	}
}

func TestContextEndsSend(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := dialTest(t, smtptest.Script(t, nil, hello+"S: 250 ok\nC."), &smtp.ClientOptions{Log: func(_ bool, text string) {
		if strings.HasPrefix(text, "250 ok") { // behind all that was sent
			cancel()
		}
	}})
	pr, pw := io.Pipe()
	defer pw.Close()
	_, err := c.Send(ctx, &smtp.Envelope{To: to("c@d.test", "e@f.test")}, pr)
	require.ErrorIs(t, err, context.Canceled)
}

func TestContextEndsDial(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	addr := smtptest.Script(t, nil, "C.")
	_, err := smtp.Dial(ctx, addr, &smtp.ClientOptions{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		defer cancel()
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	require.ErrorIs(t, err, context.Canceled)
}

func TestClientKeepsVerbatimReplies(t *testing.T) {
	c := dialTest(t, smtptest.Script(t, nil, `
		S: 220-first
		S: 220 second
		C: EHLO client.test
		S: 250-mx.test greets you
		S: 250-AUTH=LOGIN
		S: 250-size 100
		S: 250 AUTH PLAIN
		C: VRFY x
		S: 550-5.1.1 who
		S: 550-5.1.1
		S: 550 5.1.1 is that
		C.`), nil)
	assert.Equal(t, "first\nsecond", c.Greeting().Text)
	p, _ := c.Extension("AUTH")
	assert.ElementsMatch(t, []string{"LOGIN", "PLAIN"}, strings.Fields(p))
	p, _ = c.Extension("SIZE")
	assert.Equal(t, "100", p)
	r, err := c.Verify(t.Context(), "x")
	require.Error(t, err)
	assert.Equal(t, "who\n\nis that", r.Text)
	assert.Equal(t, "550-5.1.1 who\r\n550-5.1.1\r\n550 5.1.1 is that\r\n", r.Raw)
	c.Close()
}

func TestClientOverTLSConn(t *testing.T) {
	srv := newServer(t, "tls", &testHandler{})
	l, err := tls.Listen("tcp", "127.0.0.1:0", srv.TLS)
	require.NoError(t, err)
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	c, err := smtp.NewClient(t.Context(), tls.Client(conn, clientTLS(t)), "mx.example.org", nil)
	require.NoError(t, err)
	assert.NotNil(t, c.TLS())
	require.NoError(t, c.Quit(t.Context()))
	require.NoError(t, srv.Close())
	<-done
}

func TestUnixSocket(t *testing.T) {
	h := &testHandler{}
	srv := newServer(t, "lmtp", h)
	path := filepath.Join(t.TempDir(), "lmtp")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	require.Error(t, srv.ListenAndServe("unix:"+path), "in use")
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	c := dialTest(t, "unix:"+path, &smtp.ClientOptions{LMTP: true})
	res, err := c.Send(t.Context(), &smtp.Envelope{To: to("b@example.org", "full@example.org")}, strings.NewReader("x\r\n"))
	require.NoError(t, err)
	assert.Equal(t, 250, res.Recipients[0].Code)
	assert.Equal(t, 452, res.Recipients[1].Code)
	require.NoError(t, c.Quit(t.Context()))
	require.NoError(t, srv.Shutdown(t.Context()))
	require.ErrorIs(t, <-done, smtp.ErrServerClosed)
}

func TestClientLog(t *testing.T) {
	var lines []string
	s := smtptest.NewServer(t, func(s *smtp.Server) { s.Authenticator, s.InsecureAuth = plainAuth{}, true })
	c := dialTest(t, s.Addr, &smtp.ClientOptions{InsecureAuth: true, Auth: sasl.NewPlainClient("", "alice", "wonderland"),
		Log: func(sent bool, line string) {
			if sent {
				line = "> " + line
			}
			lines = append(lines, line)
		}})
	_, err := c.Send(t.Context(), &smtp.Envelope{From: "a@example.org", To: to("b@example.org")}, strings.NewReader("secret\r\n"))
	require.NoError(t, err)
	all := strings.Join(lines, "\n")
	assert.Contains(t, all, "> EHLO client.test\n250-mx.test\n")
	assert.Contains(t, all, "> AUTH PLAIN\n235 2.7.0 authenticated\n> MAIL FROM:<a@example.org>\n")
	assert.NotContains(t, all, "AGFsaWNl")
	assert.NotContains(t, all, "secret")
}

func TestMailMax(t *testing.T) {
	srv := newServer(t, "bare", &testHandler{})
	srv.Keywords = []string{"LIMITS MAILMAX=2 RCPTMAX=5"}
	c := dialTest(t, start(t, srv), nil)
	for left := 2; left > 0; left-- {
		require.Equal(t, left, c.MessagesLeft())
		res, err := c.Send(t.Context(), &smtp.Envelope{To: to("b@example.org")}, strings.NewReader("x"))
		require.NoError(t, err)
		require.True(t, res.All())
	}
	_, err := c.Send(t.Context(), &smtp.Envelope{To: to("b@example.org")}, strings.NewReader("x"))
	var ce *smtp.ConnError
	require.ErrorAs(t, err, &ce)
	require.ErrorIs(t, err, smtp.ErrMailMax)
}

// Replies sent ahead are not taken for those to commands still to come.
func TestUnaskedReplies(t *testing.T) {
	for text, want := range map[string]int{"250 sender ok": 250, "421 going down": 421} {
		c := dialTest(t, smtptest.Script(t, nil, "S: 220 hi\nC: EHLO client.test\nS! 250 x\\r\\n"+text+"\\r\\n\nC."), nil)
		_, err := c.Send(t.Context(), &smtp.Envelope{To: to("b@example.org")}, strings.NewReader("x"))
		var ce *smtp.ConnError
		require.ErrorAs(t, err, &ce)
		var r *smtp.Reply
		require.ErrorAs(t, err, &r)
		assert.Equal(t, want, r.Code)
		assert.Equal(t, want != 421, errors.Is(err, smtp.ErrProtocol))
	}
}
