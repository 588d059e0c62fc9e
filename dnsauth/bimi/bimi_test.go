package bimi_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/bimi"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

func TestRecord(t *testing.T) {
	for text, want := range map[string]*bimi.Record{
		"v=BIMI1; l=https://example.org/a.svg; a=https://example.org/a.pem;": {Location: "https://example.org/a.svg", Evidence: "https://example.org/a.pem"},
		"v=BIMI1;l=https://example.org/a.svg":                                {Location: "https://example.org/a.svg"},
		"v=BIMI1; l=; a=;":                                                   {},
		"v=BIMI1; a=":                                                        nil,
		"v=BIMI1; l=http://example.org/a.svg":                                nil,
		"v=BIMI1; l=https://u@example.org/a.svg":                             nil,
		"v=BIMI2; l=":                                                        nil,
		"l=; v=BIMI1":                                                        nil,
		"v=BIMI1; l=; l=":                                                    nil,
	} {
		got, err := bimi.ParseRecord(text)
		assert.Equal(t, want, got, text)
		if want == nil {
			assert.ErrorIs(t, err, bimi.ErrRecord, text)
		} else {
			assert.NoError(t, err)
			assert.Equal(t, want.Location == "", got.Declines())
		}
	}
}

func TestLookup(t *testing.T) {
	z := new(resolver.Zones)
	z.AddTXT("default._bimi.example.org", "v=BIMI1; l=https://example.org/a.svg")
	z.AddTXT("s1._bimi.news.example.org", "v=BIMI1; l=;")
	z.AddTXT("default._bimi.bad.example.org", "v=BIMI1; l=x")
	z.AddTXT("default._bimi.two.example.org", "v=BIMI1; l=")
	z.AddTXT("default._bimi.two.example.org", "v=BIMI1; l=; a=")
	z.Fail("default._bimi.down.test", 0, resolver.ErrServFail)
	f, err := bimi.Lookup(t.Context(), z, "news.example.org", "example.org", "")
	require.NoError(t, err)
	assert.Equal(t, "example.org", f.Domain)
	f, err = bimi.Lookup(t.Context(), z, "news.example.org", "example.org", "s1")
	require.NoError(t, err)
	assert.True(t, f.Record.Declines())
	for domain, want := range map[string]error{"bad.example.org": bimi.ErrRecord, "two.example.org": bimi.ErrNoRecord, "none.test": bimi.ErrNoRecord, "a..b": bimi.ErrNoRecord, "down.test": resolver.ErrServFail} {
		_, err := bimi.Lookup(t.Context(), z, domain, "", "")
		assert.ErrorIs(t, err, want, domain)
	}
}

func TestEligible(t *testing.T) {
	assert.True(t, bimi.Eligible(true, "reject", "", 100))
	assert.True(t, bimi.Eligible(true, "quarantine", "reject", 100))
	assert.False(t, bimi.Eligible(true, "quarantine", "reject", 50))
	assert.False(t, bimi.Eligible(true, "reject", "none", 100))
	assert.False(t, bimi.Eligible(true, "none", "", 100))
	assert.False(t, bimi.Eligible(false, "reject", "", 100))
}

const svg = `<svg xmlns="http://www.w3.org/2000/svg" version="1.2" baseProfile="tiny-ps"><title>x</title><use href="#a"/></svg>`

func TestFetch(t *testing.T) {
	body, status := svg, 200
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://"+r.Host, http.StatusFound)
			return
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	defer server.Close()
	got, err := bimi.Fetch(t.Context(), server.Client(), server.URL+"/a.svg")
	require.NoError(t, err)
	assert.Equal(t, svg, string(got))
	_, err = bimi.Fetch(t.Context(), server.Client(), server.URL+"/away")
	assert.ErrorIs(t, err, bimi.ErrIndicator)
	_, err = bimi.Fetch(t.Context(), nil, "http://example.org/")
	assert.ErrorIs(t, err, bimi.ErrIndicator)
	body = svg + strings.Repeat(" ", 1<<20)
	_, err = bimi.Fetch(t.Context(), server.Client(), server.URL)
	assert.ErrorIs(t, err, bimi.ErrIndicator)
	body, status = svg, 404
	_, err = bimi.Fetch(t.Context(), server.Client(), server.URL)
	assert.ErrorIs(t, err, bimi.ErrIndicator)
	for _, bad := range []string{
		"", "hello", "<html/>", `<svg><script/></svg>`, `<svg onload="x()"/>`, `<svg><use href="https://x.test/"/></svg>`,
		`<!DOCTYPE svg [<!ENTITY a "b">]><svg/>`, "<svg>", strings.Repeat("<svg>", 300), `<svg><image/></svg>`,
	} {
		assert.ErrorIs(t, bimi.CheckSVG([]byte(bad)), bimi.ErrIndicator, bad)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add("v=BIMI1; l=https://example.org/a.svg; a=https://example.org/a.pem;")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := bimi.ParseRecord(text)
		if err != nil {
			return
		}
		again, err := bimi.ParseRecord(r.String())
		require.NoError(t, err)
		assert.Equal(t, r, again)
	})
}

func Example() {
	zones := new(resolver.Zones)
	zones.AddTXT("default._bimi.example.org", "v=BIMI1; l=https://example.org/logo.svg")
	found, err := bimi.Lookup(context.Background(), zones, "news.example.org", "example.org", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(found.Domain, found.Record.Location)
	// Output: example.org https://example.org/logo.svg
}
