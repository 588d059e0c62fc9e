package relay_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/tlsrpt"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/memstore"
	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/smtptest"
)

// poster is an HTTP server that takes reports, or does not.
type poster struct {
	status int
	got    []string // content types
	report *tlsrpt.Report
}

func (p *poster) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	p.got = append(p.got, r.Method+" "+r.URL.String()+" "+r.Header.Get("Content-Type"))
	p.report, err = tlsrpt.Parse(b)
	w.WriteHeader(p.status)
	return w.Result(), err
}

// TestTLSReporter goes through two days with a restart in the first: what was counted before it is reported, by mail or HTTPS, once.
func TestTLSReporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		dir := t.TempDir()
		store := memstore.New()
		defer store.Close()
		zones := resolver.MustParseZones(`
			_smtp._tls.mail.test. TXT "v=TLSRPTv1; rua=mailto:tls%2Breports@mail.test"
			_smtp._tls.web.test.  TXT "v=TLSRPTv1; rua=https://web.test/report"
			_smtp._tls.bad.test.  TXT "v=TLSRPTv1; rua=ftp://bad.test"
			none.test.            TXT "x"
		`)
		web := &poster{status: 503}
		start := func() (*relay.TLSReporter, func()) {
			r := &relay.TLSReporter{
				Store: store, Resolver: zones, Organization: "Us", Contact: "tls@us.test", Dir: dir,
				HTTP: &http.Client{Transport: web}, Logger: slog.New(slog.DiscardHandler),
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- r.Run(ctx) }()
			return r, func() {
				cancel()
				require.NoError(t, <-done)
			}
		}
		note := func(r *relay.TLSReporter, domain string, failure *tlsrpt.Failure) {
			r.Note(time.Now(), tlsrpt.Session{Policy: tlsrpt.Policy{Type: tlsrpt.NoPolicy, Domain: domain}, Failure: failure})
		}
		r, stop := start()
		for _, domain := range []string{"mail.test", "web.test", "bad.test", "none.test"} {
			note(r, domain, nil)
			note(r, domain, &tlsrpt.Failure{Type: tlsrpt.StartTLSNotSupported, MXHost: "mx." + domain})
		}
		stop()
		r, stop = start()
		note(r, "mail.test", &tlsrpt.Failure{Type: tlsrpt.StartTLSNotSupported, MXHost: "mx.mail.test"})
		pass(23 * time.Hour)
		assert.Empty(t, queued(t, store), "the day is not over")
		pass(3 * time.Hour)
		entries := queued(t, store)
		require.Len(t, entries, 1)
		e := entries[0].Envelope
		assert.Equal(t, "tls@us.test", e.ReversePath)
		assert.Equal(t, "tls+reports@mail.test", e.Recipients[0].Address)
		assert.Equal(t, queue.NotifyNever, e.Recipients[0].Notify)
		body, err := store.Open(t.Context(), entries[0].ID)
		require.NoError(t, err)
		text, err := io.ReadAll(body)
		require.NoError(t, err)
		for _, field := range []string{"TLS-Report-Domain: mail.test", "TLS-Report-Submitter: us.test", "TLS-Required: No", "Subject: Report Domain: mail.test\r\n\tSubmitter: us.test\r\n\tReport-ID: <"} {
			assert.Contains(t, string(text), field)
		}
		got, err := tlsrpt.ParseMessage(strings.NewReader(string(text)))
		require.NoError(t, err)
		require.Len(t, got.Policies, 1)
		assert.Equal(t, tlsrpt.Summary{Successful: 1, Failed: 2}, got.Policies[0].Summary, "both runs count")
		assert.Equal(t, int64(2), got.Policies[0].Failures[0].Count)
		assert.Equal(t, 24*time.Hour-time.Second, got.DateRange.End.Sub(got.DateRange.Start))

		tries := len(web.got)
		assert.Greater(t, tries, 1, "it is tried again")
		stop()
		web.status = 201
		_, stop = start()
		pass(12 * time.Hour)
		assert.Len(t, web.got, tries+1, "and after a restart, until it is taken")
		assert.Equal(t, "POST https://web.test/report application/tlsrpt+gzip", web.got[tries])
		assert.Equal(t, tlsrpt.Summary{Successful: 1, Failed: 1}, web.report.Policies[0].Summary)
		pass(48 * time.Hour)
		assert.Len(t, web.got, tries+1)
		assert.Len(t, queued(t, store), 1, "there is nothing new to tell")
		stop()
	})
}

// TestTLSRequiredNo: RFC 8689, 5. A message that says so goes even where the domain's policy would have none of it.
func TestTLSRequiredNo(t *testing.T) {
	for _, c := range []struct {
		name, text string
		require    bool
		want       queue.Result
	}{
		{"no", "Subject: x\r\ntls-required:  NO \r\n\r\n", false, queue.Delivered},
		{"in the body", "Subject: x\r\n\r\nTLS-Required: No\r\n", false, queue.RouteDown},
		{"another word", "TLS-Required: Nope\r\n\r\n", false, queue.RouteDown},
		{"REQUIRETLS counts more", "TLS-Required: No\r\n\r\n", true, queue.RouteDown},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := smtptest.NewServer(t, func(s *smtp.Server) {})
			net := newInternet("dest.test. A 192.0.2.1")
			net.hosts["192.0.2.1:25"] = server.Addr
			tr := net.transport(t)
			tr.Security = func(context.Context, string, resolver.MX, bool) (relay.Security, error) {
				return relay.Security{Level: relay.Verified}, nil
			}
			out := tr.Deliver(t.Context(), attempt(c.text, queue.Envelope{RequireTLS: c.require}, "a@dest.test"))
			assert.Equal(t, c.want, out[0].Result, out[0].Text)
		})
	}
}
