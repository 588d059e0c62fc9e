package tlsrpt_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/tlsrpt"
	"github.com/mailblocks/mailblocks/internal/shared"
)

func TestRecord(t *testing.T) {
	for text, want := range map[string][]string{
		"v=TLSRPTv1;rua=mailto:reports@example.com":                        {"mailto:reports@example.com"},
		"v=TLSRPTv1; rua=https://r.example.com/v1 , mailto:a@b.test; x=y;": {"https://r.example.com/v1", "mailto:a@b.test"},
		"v=TLSRPTv1; rua=ftp://x.test":                                     nil,
		"v=TLSRPTv1; rua=mailto:a":                                         nil,
		"v=TLSRPTv1; rua=":                                                 nil,
		"v=TLSRPTv1;":                                                      nil,
		"v=TLSRPTv1; x":                                                    nil,
		"v=TLSRPTv2; rua=mailto:a@b.test":                                  nil,
		"v=tlsrptv1; rua=mailto:a@b.test":                                  nil,
		"v=TLSRPTv1; rua=mailto:a@b.test!10m":                              nil,
	} {
		r, err := tlsrpt.ParseRecord(text)
		if want == nil {
			assert.ErrorIs(t, err, tlsrpt.ErrRecord, text)
		} else if assert.NoError(t, err, text) {
			assert.Equal(t, want, r.URIs)
		}
	}
	z := new(resolver.Zones)
	z.AddTXT("_smtp._tls.example.org", "v=TLSRPTv1;rua=mailto:r@example.org")
	z.AddTXT("_smtp._tls.two.test", "v=TLSRPTv1;rua=mailto:r@example.org")
	z.AddTXT("_smtp._tls.two.test", "v=TLSRPTv1;rua=mailto:s@example.org")
	z.AddTXT("_smtp._tls.other.test", "hello")
	r, err := tlsrpt.Lookup(t.Context(), z, "Example.org")
	require.NoError(t, err)
	assert.Equal(t, "v=TLSRPTv1; rua=mailto:r@example.org", r.String())
	for _, domain := range []string{"two.test", "none.test", "other.test"} {
		_, err := tlsrpt.Lookup(t.Context(), z, domain)
		assert.ErrorIs(t, err, tlsrpt.ErrNoRecord, domain)
	}
}

// TestSamples reads the published samples; see README.md beside them.
func TestSamples(t *testing.T) {
	dir := shared.Path(t, "conformance", "dnsauth", "reports", "tlsrpt")
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	parsed := make(map[string]*tlsrpt.Report)
	for _, e := range entries {
		data, err := os.ReadFile(dir + "/" + e.Name())
		require.NoError(t, err)
		var r *tlsrpt.Report
		if strings.HasSuffix(e.Name(), ".eml") {
			r, err = tlsrpt.ParseMessage(bytes.NewReader(data))
		} else {
			r, err = tlsrpt.Parse(data)
		}
		require.NoError(t, err, e.Name())
		parsed[e.Name()] = r
		packed, err := r.Gzip()
		require.NoError(t, err)
		again, err := tlsrpt.Parse(packed)
		require.NoError(t, err)
		assert.Equal(t, r, again)
	}
	require.Len(t, parsed, 5)
	assert.Equal(t, parsed["rpt01.json"], parsed["rpt01.eml"])
	assert.Equal(t, parsed["rpt02.json"], parsed["rpt02.eml"])
	assert.EqualValues(t, 5326, parsed["rpt01.json"].Policies[0].Summary.Successful)
	assert.Equal(t, tlsrpt.CertificateExpired, parsed["rpt01.json"].Policies[0].Failures[0].Type)
	assert.Equal(t, tlsrpt.NoPolicy, parsed["rpt03.json"].Policies[0].Policy.Type)
}

func TestCollect(t *testing.T) {
	var c tlsrpt.Collector
	c.MaxFailures = 2
	at := time.Date(2026, 11, 22, 23, 59, 59, 0, time.UTC)
	sts := tlsrpt.Policy{Type: tlsrpt.STS, Domain: "Example.org", Lines: []string{"version: STSv1"}, MXHost: tlsrpt.Strings{"*.example.org"}}
	expired := &tlsrpt.Failure{Type: tlsrpt.CertificateExpired, MXHost: "mx.example.org"}
	for range 3 {
		c.Add(at, tlsrpt.Session{Policy: sts})
		c.Add(at, tlsrpt.Session{Policy: sts, Failure: expired})
	}
	for i := range 5 {
		c.Add(at, tlsrpt.Session{Policy: sts, Failure: &tlsrpt.Failure{Type: tlsrpt.ValidationFailure, Reason: fmt.Sprint(i)}})
	}
	c.Add(at.Add(time.Second), tlsrpt.Session{Policy: sts})
	c.Add(at, tlsrpt.Session{Policy: tlsrpt.Policy{Type: tlsrpt.NoPolicy, Domain: "example.net"}})

	got := c.Take(at)
	require.Len(t, got, 2)
	require.Len(t, got["example.org"], 1)
	res := got["example.org"][0]
	assert.Equal(t, tlsrpt.Summary{Successful: 3, Failed: 8}, res.Summary)
	require.Len(t, res.Failures, 2)
	assert.Equal(t, tlsrpt.Failure{Type: tlsrpt.CertificateExpired, MXHost: "mx.example.org", Count: 3}, res.Failures[0])
	assert.Empty(t, c.Take(at))
	assert.Len(t, c.Take(at.Add(time.Second)), 1)

	r := tlsrpt.Report{Organization: "Example", Contact: "tls@mx.test", ID: "1", DateRange: tlsrpt.Day(at), Policies: got["example.org"]}
	assert.Equal(t, "mx.test!example.org!1795305600!1795391999.json.gz", r.FileName("example.org"))
	var b bytes.Buffer
	require.NoError(t, r.Write(&b))
	assert.True(t, json.Valid(b.Bytes()))
	assert.Contains(t, b.String(), `"start-datetime": "2026-11-22T00:00:00Z"`)
}

func TestClassify(t *testing.T) {
	for want, err := range map[tlsrpt.ResultType]error{
		tlsrpt.CertificateMismatch:  fmt.Errorf("x: %w", x509.HostnameError{Certificate: &x509.Certificate{}}),
		tlsrpt.CertificateExpired:   x509.CertificateInvalidError{Reason: x509.Expired},
		tlsrpt.CertificateUntrusted: x509.UnknownAuthorityError{},
		tlsrpt.ValidationFailure:    os.ErrDeadlineExceeded,
	} {
		assert.Equal(t, want, tlsrpt.Classify(err))
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"organization-name":"x","report-id":"1","policies":[{"policy":{"policy-type":"sts","mx-host":"a"},"failure-details":[{"result-type":"y"}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := tlsrpt.Parse(data)
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		if r.Write(&first) != nil {
			return // a time beyond what RFC 3339 can say
		}
		again, err := tlsrpt.Parse(first.Bytes())
		require.NoError(t, err)
		require.NoError(t, again.Write(&second))
		assert.Equal(t, first.String(), second.String())
	})
}

func FuzzRecord(f *testing.F) {
	f.Add("v=TLSRPTv1; rua=https://r.example.com/v1 , mailto:a@b.test; x=y;")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := tlsrpt.ParseRecord(text)
		if err != nil {
			return
		}
		again, err := tlsrpt.ParseRecord(r.String())
		require.NoError(t, err)
		assert.Equal(t, r, again)
	})
}

// TestCollectorSave: what was saved is loaded as it was, and adds up with what there is.
func TestCollectorSave(t *testing.T) {
	at := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	var c, d tlsrpt.Collector
	sts := tlsrpt.Policy{Type: tlsrpt.STS, Domain: "Example.org", Lines: []string{"version: STSv1", "mode: testing"}, MXHost: tlsrpt.Strings{"*.example.org"}}
	failure := &tlsrpt.Failure{Type: tlsrpt.CertificateExpired, MXHost: "mx.example.org"}
	for i := range 3 {
		c.Add(at.AddDate(0, 0, i), tlsrpt.Session{Policy: sts})
		c.Add(at.AddDate(0, 0, i), tlsrpt.Session{Policy: sts, Failure: failure})
	}
	var saved bytes.Buffer
	require.NoError(t, c.Save(&saved))
	text := saved.String()
	require.NoError(t, d.Load(&saved))
	assert.Equal(t, c.Days(), d.Days())
	require.Len(t, d.Days(), 3)
	d.Add(at, tlsrpt.Session{Policy: sts, Failure: failure})
	assert.Equal(t, c.Take(at.AddDate(0, 0, 1)), d.Take(at.AddDate(0, 0, 1)))
	got := d.Take(at)["example.org"]
	require.Len(t, got, 1)
	assert.Equal(t, tlsrpt.Summary{Successful: 1, Failed: 2}, got[0].Summary)
	assert.Equal(t, int64(2), got[0].Failures[0].Count)
	for _, bad := range []string{"", "[]", `{"2026-13-01":[]}`, text[:len(text)/2]} {
		assert.Error(t, new(tlsrpt.Collector).Load(strings.NewReader(bad)), bad)
	}
}
