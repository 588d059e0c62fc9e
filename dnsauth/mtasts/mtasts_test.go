package mtasts_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/mtasts"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/internal/testcert"
)

func TestRecord(t *testing.T) {
	for text, id := range map[string]string{
		"v=STSv1; id=20160831085700Z;":           "20160831085700Z",
		"v=STSv1;id=1":                           "1",
		"v=STSv1 ; id=a ; x=y:/@ ;":              "a",
		"v=STSv1; x-1.y_z=1; id=b; id=c":         "b",
		"v=STSv1; id=" + strings.Repeat("9", 32): strings.Repeat("9", 32),
		"v=STSv1; id=" + strings.Repeat("9", 33): "",
		"v=STSv1":                                "",
		"v=STSv1;":                               "",
		"v=STSv1; ID=1":                          "",
		"v=stsv1; id=1":                          "",
		" v=STSv1; id=1":                         "",
		"id=1; v=STSv1":                          "",
		"v=STSv1; id=a-b":                        "",
		"v=STSv1; id=1;;":                        "",
		"v=STSv1; id=1; x":                       "",
		"v=STSv1; id=1; -x=1":                    "",
		"v=STSv1; id=1; x=a b":                   "",
		"v=STSv1; id=1; " + strings.Repeat("x", 33) + "=1": "",
		"v=STSv1; id=":   "",
		"v=STSv12; id=1": "",
	} {
		r, err := mtasts.ParseRecord(text)
		if id == "" {
			assert.ErrorIs(t, err, mtasts.ErrRecord, text)
			continue
		}
		if assert.NoError(t, err, text) {
			assert.Equal(t, id, r.ID, text)
		}
	}
}

const good = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmx: backupmx.example.com\r\nmax_age: 604800\r\n"

func TestPolicy(t *testing.T) {
	p, err := mtasts.ParsePolicy(good)
	require.NoError(t, err)
	assert.Equal(t, &mtasts.Policy{Mode: mtasts.Enforce, MX: []string{"mail.example.com", "*.example.net", "backupmx.example.com"}, MaxAge: 168 * time.Hour}, p)
	assert.Equal(t, good, p.String())

	for _, text := range []string{
		strings.ReplaceAll(good, "\r\n", "\n"),
		strings.TrimSuffix(good, "\r\n"),
		strings.ReplaceAll(good, ": ", ":"),
		strings.ReplaceAll(good, "\r\n", "  \t\r\n"),
		good + "mode: none\r\nversion: x\r\nx-new: grüße und mehr\r\n",
		strings.ReplaceAll(good, "mail.example.com", "MAIL.example.com."),
	} {
		q, err := mtasts.ParsePolicy(text)
		if assert.NoError(t, err, text) {
			assert.Equal(t, p, q)
		}
	}
	q, err := mtasts.ParsePolicy("version: STSv1\nmode: none\nmax_age: 9999999999\n")
	require.NoError(t, err)
	assert.Equal(t, 31557600*time.Second, q.MaxAge)
	for name, text := range map[string]string{
		"empty":        "",
		"html":         "<html>",
		"no mx":        "version: STSv1\nmode: enforce\nmax_age: 1\n",
		"no mode":      "version: STSv1\nmx: a.test\nmax_age: 1\n",
		"no age":       "version: STSv1\nmode: testing\nmx: a.test\n",
		"no version":   "mode: testing\nmx: a.test\nmax_age: 1\n",
		"version 2":    "version: STSv2\nmode: testing\nmx: a.test\nmax_age: 1\n",
		"mode case":    "version: STSv1\nmode: Enforce\nmx: a.test\nmax_age: 1\n",
		"field case":   "Version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 1\n",
		"negative age": "version: STSv1\nmode: enforce\nmx: a.test\nmax_age: -1\n",
		"plus":         "version: STSv1\nmode: enforce\nmx: a.test\nmax_age: +1\n",
		"long age":     "version: STSv1\nmode: enforce\nmx: a.test\nmax_age: 10000000000\n",
		"inner star":   "version: STSv1\nmode: enforce\nmx: a.*.test\nmax_age: 1\n",
		"part star":    "version: STSv1\nmode: enforce\nmx: a*.test\nmax_age: 1\n",
		"star":         "version: STSv1\nmode: enforce\nmx: *\nmax_age: 1\n",
		"address":      "version: STSv1\nmode: enforce\nmx: [192.0.2.1]\nmax_age: 1\n",
		"u-label":      "version: STSv1\nmode: enforce\nmx: bücher.example\nmax_age: 1\n",
		"utf-8":        "version: STSv1\nmode: none\nx: \xff\nmax_age: 1\n",
		"many":         "version: STSv1\nmode: enforce\nmax_age: 1\n" + strings.Repeat("mx: a.test\n", 1001),
	} {
		_, err := mtasts.ParsePolicy(text)
		assert.ErrorIs(t, err, mtasts.ErrPolicy, name)
	}
}

func TestMatches(t *testing.T) {
	p, err := mtasts.ParsePolicy(good)
	require.NoError(t, err)
	for host, want := range map[string]bool{
		"mail.example.com": true, "MAIL.Example.COM.": true, "a.example.net": true, "*.example.net": true,
		"example.net": false, "a.b.example.net": false, "xmail.example.com": false, "": false, ".example.net": true, "example.com": false,
	} {
		assert.Equal(t, want, p.Matches(host), host)
	}
}

// host is a policy host with the zone that leads to it.
type host struct {
	client *mtasts.Client
	zones  *resolver.Zones
	hits   atomic.Int32
	mu     sync.Mutex
	serve  http.HandlerFunc
	now    time.Time
}

func newHost(t *testing.T, names ...string) *host {
	h := &host{zones: resolver.MustParseZones(`
		_mta-sts.example.org. TXT "v=STSv1; id=1;"
		mta-sts.example.org. A 192.0.2.1
	`), now: time.Unix(1e9, 0)}
	h.set(good)
	cert, roots, err := testcert.New(names...)
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.hits.Add(1)
		h.mu.Lock()
		serve := h.serve
		h.mu.Unlock()
		if r.URL.Path != "/.well-known/mta-sts.txt" {
			http.NotFound(w, r)
			return
		}
		serve(w, r)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.Config.ErrorLog = nil
	server.StartTLS()
	t.Cleanup(server.Close)
	h.client = &mtasts.Client{
		Resolver: h.zones,
		TLS:      &tls.Config{RootCAs: roots},
		Now:      func() time.Time { return h.now },
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr != "192.0.2.1:443" {
				return nil, errors.New("unexpected address " + addr)
			}
			return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
		},
	}
	return h
}

func (h *host) handle(f http.HandlerFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serve = f
}

func (h *host) set(policy string) {
	h.handle(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(policy))
	})
}

func (h *host) policy(t *testing.T) *mtasts.Found {
	t.Helper()
	f, err := h.client.Policy(t.Context(), "Example.org")
	require.NoError(t, err)
	return f
}

func TestCache(t *testing.T) {
	h := newHost(t, "mta-sts.example.org")
	f := h.policy(t)
	require.NoError(t, f.Problem)
	assert.Equal(t, mtasts.Enforce, f.Policy.Mode)
	assert.Equal(t, good, f.Text)
	assert.False(t, f.Cached)
	assert.True(t, h.policy(t).Cached)
	assert.EqualValues(t, 1, h.hits.Load())

	// A new id fetches a new policy.
	h.zones.Remove("_mta-sts.example.org", 0)
	h.zones.AddTXT("_mta-sts.example.org", "v=STSv1; id=2;")
	h.set(strings.Replace(good, "enforce", "testing", 1))
	f = h.policy(t)
	assert.Equal(t, mtasts.Testing, f.Policy.Mode)
	assert.Equal(t, "2", f.ID)

	// After a day it is fetched again; a failure leaves what is known.
	h.now = h.now.Add(25 * time.Hour)
	h.handle(http.NotFound)
	f = h.policy(t)
	assert.Equal(t, mtasts.Testing, f.Policy.Mode)
	assert.ErrorIs(t, f.Problem, mtasts.ErrFetch)
	assert.EqualValues(t, 3, h.hits.Load())
	assert.ErrorIs(t, h.policy(t).Problem, mtasts.ErrPaused)
	assert.EqualValues(t, 3, h.hits.Load())
	h.now = h.now.Add(6 * time.Minute)
	assert.ErrorIs(t, h.policy(t).Problem, mtasts.ErrFetch)
	assert.EqualValues(t, 4, h.hits.Load())

	// So does a record that is gone, until the policy expires.
	h.zones.Remove("_mta-sts.example.org", 0)
	f = h.policy(t)
	assert.NotNil(t, f.Policy)
	assert.Error(t, f.Problem)
	assert.False(t, f.Record)
	h.now = h.now.Add(168 * time.Hour)
	f = h.policy(t)
	assert.Nil(t, f.Policy)
	assert.NoError(t, f.Problem)
}

func TestSurvivesRestart(t *testing.T) {
	h := newHost(t, "mta-sts.example.org")
	h.client.Store = mtasts.Dir(t.TempDir())
	require.NotNil(t, h.policy(t).Policy)

	h.zones.Fail("_mta-sts.example.org", 0, resolver.ErrServFail)
	again := &mtasts.Client{Resolver: h.zones, Store: h.client.Store, Now: h.client.Now}
	f, err := again.Policy(t.Context(), "example.org")
	require.NoError(t, err)
	assert.Equal(t, mtasts.Enforce, f.Policy.Mode)
	assert.ErrorIs(t, f.Problem, resolver.ErrServFail)
	f, err = again.Policy(t.Context(), "other.test")
	require.NoError(t, err)
	assert.Equal(t, &mtasts.Found{}, f)
	_, err = again.Policy(t.Context(), "a..b")
	assert.Error(t, err)
	_, err = mtasts.Dir(t.TempDir()).Load(t.Context(), "../x")
	assert.Error(t, err)
}

func TestRefusesWhatIsServed(t *testing.T) {
	text := func(status int, typ, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", typ)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, c := range map[string]struct {
		f    http.HandlerFunc
		want error
	}{
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/.well-known/mta-sts.txt?", http.StatusFound)
		}, mtasts.ErrFetch},
		"204":       {text(204, "text/plain", ""), mtasts.ErrFetch},
		"html":      {text(200, "text/html", good), mtasts.ErrFetch},
		"too large": {text(200, "text/plain", good+strings.Repeat("x: y\n", 20000)), mtasts.ErrFetch},
		"malformed": {text(200, "text/plain", "mode: enforce"), mtasts.ErrPolicy},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, "mta-sts.example.org")
			h.handle(c.f)
			f := h.policy(t)
			assert.Nil(t, f.Policy)
			assert.True(t, f.Record)
			assert.ErrorIs(t, f.Problem, c.want)
			assert.EqualValues(t, 1, h.hits.Load())
		})
	}
	t.Run("parameter", func(t *testing.T) {
		h := newHost(t, "mta-sts.example.org")
		h.handle(text(200, "Text/Plain; charset=us-ascii; x", good))
		assert.NotNil(t, h.policy(t).Policy)
	})
	t.Run("certificate", func(t *testing.T) {
		h := newHost(t, "example.org")
		f := h.policy(t)
		assert.Nil(t, f.Policy)
		assert.ErrorIs(t, f.Problem, mtasts.ErrCertificate)
		assert.Zero(t, h.hits.Load())
	})
	t.Run("no host", func(t *testing.T) {
		h := newHost(t, "mta-sts.example.org")
		h.zones.Remove("mta-sts.example.org", 0)
		assert.ErrorIs(t, h.policy(t).Problem, resolver.ErrNXDomain)
	})
	t.Run("two records", func(t *testing.T) {
		h := newHost(t, "mta-sts.example.org")
		h.zones.AddTXT("_mta-sts.example.org", "v=STSv1; id=2")
		assert.ErrorIs(t, h.policy(t).Problem, mtasts.ErrRecord)
		assert.Zero(t, h.hits.Load())
	})
}

func TestOneFetchAtOnce(t *testing.T) {
	h := newHost(t, "mta-sts.example.org")
	arrived, release := make(chan struct{}), make(chan struct{})
	h.handle(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-release
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte(good))
	})
	// The first caller gives up; the fetch goes on for the others.
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := h.client.Policy(ctx, "example.org")
		first <- err
	}()
	<-arrived
	cancel()
	require.ErrorIs(t, <-first, context.Canceled)
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			f, err := h.client.Policy(t.Context(), "example.org")
			assert.NoError(t, err)
			assert.NotNil(t, f.Policy)
		})
	}
	close(release)
	wg.Wait()
	assert.EqualValues(t, 1, h.hits.Load())
}

func FuzzRecord(f *testing.F) {
	f.Add("v=STSv1; id=20160831085700Z; a.b-c_d=x:y;")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := mtasts.ParseRecord(text)
		if err != nil {
			return
		}
		again, err := mtasts.ParseRecord(r.String())
		require.NoError(t, err)
		assert.Equal(t, r, again)
	})
}

func FuzzPolicy(f *testing.F) {
	f.Add(good)
	f.Add("version:STSv1\nmode:none\nmax_age:0\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := mtasts.ParsePolicy(text)
		if err != nil {
			return
		}
		again, err := mtasts.ParsePolicy(p.String())
		require.NoError(t, err)
		assert.Equal(t, p, again)
		for _, mx := range p.MX {
			assert.True(t, p.Matches(strings.Replace(mx, "*", "x", 1)))
		}
	})
}
