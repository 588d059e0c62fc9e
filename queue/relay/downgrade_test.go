package relay_test

import (
	"context"
	"crypto/tls"
	"io"
	"strings"
	"testing"
	"time"

	gomessage "github.com/emersion/go-message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/tlsrpt"
	"github.com/mailblocks/mailblocks/internal/testcert"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/smtptest"
)

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

// leaves gives the decoded content of each part that is no multipart, with its type and encoding.
func leaves(t *testing.T, text string) (all []string) {
	e, err := gomessage.Read(strings.NewReader(text))
	require.True(t, err == nil || gomessage.IsUnknownCharset(err), err)
	require.NoError(t, e.Walk(func(_ []int, p *gomessage.Entity, err error) error {
		require.True(t, err == nil || gomessage.IsUnknownCharset(err), err)
		kind, _, _ := p.Header.ContentType()
		encoding := p.Header.Get("Content-Transfer-Encoding")
		if p.MultipartReader() != nil {
			all = append(all, kind+" "+encoding)
			return nil
		}
		b, err := io.ReadAll(p.Body)
		require.NoError(t, err)
		all = append(all, kind+" "+encoding+": "+string(b))
		return nil
	}))
	return all
}

func TestDowngrade(t *testing.T) {
	for _, c := range []struct {
		name, text string
		body       queue.BodyKind
		want       []string // nil: refused
	}{
		{
			"text", "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße\n=x\n", queue.Body8BitMIME,
			[]string{"text/plain quoted-printable: Grüße\r\n=x\r\n"},
		},
		{"no MIME at all", "Subject: x\n\nGr\xfc\xdfe\n", queue.Body8BitMIME, []string{"text/plain quoted-printable: Gr\xfc\xdfe\r\n"}},
		{
			"parts", "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\nContent-Transfer-Encoding: 8bit\n\npreamble\n--b\n" +
				"Content-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n<b>ü</b>\n--b\nContent-Type: application/x\nContent-Transfer-Encoding: binary\n\n\xff\xfe\n" +
				"--b\nContent-Type: image/x\nContent-Transfer-Encoding: base64\n\n/w==\n--b\n\nplain\n--b--\nepilogue\n", queue.BodyBinaryMIME,
			[]string{"multipart/mixed 7bit", "text/html quoted-printable: <b>ü</b>", "application/x base64: \xff\xfe", "image/x base64: \xff", "text/plain : plain"},
		},
		{
			"message in message", "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"a b\"\n\n--a b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\n" +
				"Subject: in\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nü\n--a b--\n", queue.Body8BitMIME,
			[]string{
				"multipart/mixed 7bit",
				"message/rfc822 7bit: Subject: in\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=BC",
			},
		},
		{"long line", "MIME-Version: 1.0\n\n" + strings.Repeat("x", 1200) + "ü\n", queue.Body8BitMIME, []string{"text/plain quoted-printable: " + strings.Repeat("x", 1200) + "ü\r\n"}},
		{"DKIM-Signature", "DKIM-Signature: v=1\nMIME-Version: 1.0\n\nü\n", queue.Body8BitMIME, nil},
		{"signed part", "MIME-Version: 1.0\nContent-Type: multipart/signed; boundary=b\n\n--b\n\nü\n--b\n\nsig\n--b--\n", queue.Body8BitMIME, nil},
		{"header beyond ASCII", "Subject: ü\n\nü\n", queue.Body8BitMIME, nil},
		{"header of a part beyond ASCII", "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Description: ü\n\nx\n--b--\n", queue.Body8BitMIME, nil},
		{"base64 that is not", "MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\nü\n", queue.Body8BitMIME, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := crlf(c.text)
			server := smtptest.NewServer(t, func(s *smtp.Server) { s.Extensions = smtp.ExtSize })
			net := newInternet("dest.test. A 192.0.2.1")
			net.hosts["192.0.2.1:25"] = server.Addr
			tr := net.transport(t)
			prepared := ""
			tr.Prepare = func(_ context.Context, _ *queue.Attempt, body io.ReadSeeker) (io.Reader, error) {
				b, err := io.ReadAll(body)
				prepared = string(b)
				return strings.NewReader(prepared), err
			}
			refused := tr.Deliver(t.Context(), attempt(text, queue.Envelope{Body: c.body}, "a@dest.test"))[0]
			require.Equal(t, queue.Permanent, refused.Result, "without Downgrade nothing is converted")
			tr.Downgrade = true
			out := tr.Deliver(t.Context(), attempt(text, queue.Envelope{Body: c.body}, "a@dest.test"))[0]
			if c.want == nil {
				assert.Equal(t, refused, out)
				return
			}
			require.Equal(t, queue.Delivered, out.Result, out.Text)
			got := string(server.Messages()[0].Data)
			assert.Equal(t, prepared, got, "what is signed is what is sent")
			for _, line := range strings.Split(got, "\r\n") {
				assert.LessOrEqual(t, len(line), 998)
				assert.True(t, isPlain(line), line)
			}
			assert.Equal(t, c.want, leaves(t, got))
		})
	}
}

func isPlain(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// FuzzDowngrade: whatever is converted is 7 bits, and does not change when it is converted again.
func FuzzDowngrade(f *testing.F) {
	f.Add([]byte("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\xff\r\n--b--\r\n"))
	f.Add([]byte("Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\n\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		out, err := relay.Downgrade(strings.NewReader(string(text)))
		if err != nil {
			return
		}
		require.True(t, isPlain(string(out)))
		again, err := relay.Downgrade(strings.NewReader(string(out)))
		require.NoError(t, err)
		require.Equal(t, string(out), string(again))
	})
}

// TestInternationalDomains: an address whose domain alone is beyond ASCII goes to a host without SMTPUTF8 all the same.
func TestInternationalDomains(t *testing.T) {
	server := smtptest.NewServer(t, func(s *smtp.Server) { s.Extensions = smtp.ExtSize })
	net := newInternet("xn--grn-ioa.test. A 192.0.2.1")
	net.hosts["192.0.2.1:25"] = server.Addr
	tr := net.transport(t)
	out := tr.Deliver(t.Context(), attempt(message, queue.Envelope{UTF8: true, ReversePath: "me@blau-grün.test"}, "a@grün.test"))
	require.Equal(t, queue.Delivered, out[0].Result, out[0].Text)
	got := server.Messages()[0]
	assert.Equal(t, "me@xn--blau-grn-d6a.test", got.From)
	assert.Equal(t, "a@xn--grn-ioa.test", got.To[0].Address)
	out = tr.Deliver(t.Context(), attempt(message, queue.Envelope{UTF8: true}, "ä@grün.test"))
	assert.Equal(t, []string{"permanent 5.6.7"}, results(out))
	out = tr.Deliver(t.Context(), attempt("Subject: ü\r\n\r\n", queue.Envelope{UTF8: true}, "a@grün.test"))
	assert.Equal(t, []string{"permanent 5.6.7"}, results(out))
}

// TestTLSResults: what a report (RFC 8460) learns of sessions.
func TestTLSResults(t *testing.T) {
	cert, roots, err := testcert.New("mx.test")
	require.NoError(t, err)
	wrong, _, err := testcert.New("other.test")
	require.NoError(t, err)
	good, bad := &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{Certificates: []tls.Certificate{wrong}}
	sts := tlsrpt.Policy{Type: tlsrpt.STS, Lines: []string{"version: STSv1"}}
	for _, c := range []struct {
		name   string
		server *tls.Config
		sec    relay.Security
		want   string
		up     bool
	}{
		{"success", good, relay.Security{}, "no-policy-found success", true},
		{"no STARTTLS", nil, relay.Security{}, "no-policy-found starttls-not-supported", true},
		{"no policy, bad certificate", bad, relay.Security{}, "no-policy-found success", true},
		{"required, no STARTTLS", nil, relay.Security{Level: relay.Encrypted, Policy: tlsrpt.Policy{Type: tlsrpt.TLSA}}, "tlsa starttls-not-supported", false},
		{"required, wrong name", bad, relay.Security{Level: relay.Verified, Policy: sts}, "sts certificate-host-mismatch", false},
		{"testing, good", good, relay.Security{Observe: true, Policy: sts}, "sts success", true},
		{"testing, bad", bad, relay.Security{Observe: true, Policy: sts}, "sts certificate-host-mismatch", true},
		{"policy not to be had", good, relay.Security{Failure: tlsrpt.STSFetchError}, "no-policy-found sts-policy-fetch-error", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := smtptest.NewServer(t, func(s *smtp.Server) { s.TLS = c.server })
			net := newInternet("dest.test. MX 5 mx.test.\nmx.test. A 192.0.2.1\nmx.test. AAAA 2001:db8::1")
			net.hosts["192.0.2.1:25"] = server.Addr
			tr := net.transport(t)
			var got []string
			tr.TLSResult = func(_ time.Time, s tlsrpt.Session) {
				line := string(s.Policy.Type) + " success"
				if f := s.Failure; f != nil {
					line = string(s.Policy.Type) + " " + string(f.Type)
					assert.Equal(t, "mx.test", f.MXHost)
					assert.Equal(t, "192.0.2.1", f.ReceivingIP)
				}
				assert.Equal(t, "dest.test", s.Policy.Domain)
				got = append(got, line)
			}
			tr.Security = func(context.Context, string, resolver.MX, bool) (relay.Security, error) {
				c.sec.Config = &tls.Config{RootCAs: roots}
				return c.sec, nil
			}
			out := tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@Dest.test"))
			assert.Equal(t, c.up, out[0].Result == queue.Delivered, out[0].Text)
			assert.Equal(t, []string{c.want}, got, "the address that refuses connections says nothing about TLS")
		})
	}
}
