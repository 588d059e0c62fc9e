package dmarcrpt_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/dmarcrpt"
	"github.com/mailblocks/mailblocks/internal/shared"
)

// TestSamples reads the published samples; see README.md beside them.
func TestSamples(t *testing.T) {
	dir := shared.Path(t, "conformance", "dnsauth", "reports", "dmarc")
	files, err := filepath.Glob(filepath.Join(dir, "*.xml"))
	require.NoError(t, err)
	mails, err := filepath.Glob(filepath.Join(dir, "mox", "*.eml"))
	require.NoError(t, err)
	require.Len(t, files, 5)
	require.Len(t, mails, 5)
	for _, name := range append(files, mails...) {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		var r *dmarcrpt.Report
		if strings.HasSuffix(name, ".eml") {
			r, err = dmarcrpt.ParseMessage(bytes.NewReader(data))
		} else {
			r, err = dmarcrpt.Parse(data)
		}
		require.NoError(t, err, name)
		assert.NotEmpty(t, r.Records, name)
		assert.Positive(t, r.Records[0].Row.Count, name)
		assert.NotEmpty(t, r.Records[0].Identifiers.HeaderFrom, name)
		packed, err := r.Gzip()
		require.NoError(t, err)
		again, err := dmarcrpt.Parse(packed)
		require.NoError(t, err, name)
		assert.Equal(t, r, again, name)
	}
	data, err := os.ReadFile(filepath.Join(dir, "001.xml"))
	require.NoError(t, err)
	r, err := dmarcrpt.Parse(data)
	require.NoError(t, err)
	assert.EqualValues(t, 123, r.Records[0].Row.Count)
	assert.Equal(t, "abc123", r.Records[0].Auth.DKIM[0].Selector)
	assert.Equal(t, dmarcrpt.DateRange{Begin: 161212415, End: 161221511}, r.Metadata.DateRange)
}

func record(ip string) dmarcrpt.Record {
	return dmarcrpt.Record{
		Row:         dmarcrpt.Row{SourceIP: ip, Evaluated: dmarcrpt.Evaluated{Disposition: "none", DKIM: "pass", SPF: "fail", Reasons: []dmarcrpt.Reason{{Type: "other", Comment: "a<b"}}}},
		Identifiers: dmarcrpt.Identifiers{HeaderFrom: "example.org", EnvelopeFrom: "example.org"},
		Auth: dmarcrpt.AuthResults{
			DKIM: []dmarcrpt.DKIMResult{{Domain: "example.org", Selector: "s", Result: "pass"}},
			SPF:  []dmarcrpt.SPFResult{{Domain: "example.org", Scope: "mfrom", Result: "fail"}},
		},
	}
}

func TestCollect(t *testing.T) {
	c := dmarcrpt.Collector{MaxRecords: 3}
	p := dmarcrpt.Policy{Domain: "Example.org", Policy: "reject", AlignDKIM: "r", Testing: "n", DiscoveryMethod: "treewalk"}
	for i := range 5 {
		for range i + 1 {
			c.Add(p, record(fmt.Sprintf("192.0.2.%d", i)))
		}
	}
	c.Add(dmarcrpt.Policy{Domain: "a.test", Policy: "none"}, record("2001:db8::1"))
	reports := c.Take()
	require.Len(t, reports, 2)
	assert.Empty(t, c.Take())
	assert.Equal(t, "a.test", reports[0].Policy.Domain)
	r := reports[1]
	require.Len(t, r.Records, 3)
	assert.EqualValues(t, 3, r.Records[0].Row.Count)
	assert.Equal(t, "192.0.2.2", r.Records[0].Row.SourceIP)

	r.Metadata = dmarcrpt.Metadata{Organization: "Example & Co", Email: "d@example.net", ID: "1", DateRange: dmarcrpt.DateRange{Begin: 1, End: 2}}
	var b bytes.Buffer
	require.NoError(t, r.Write(&b))
	assert.Contains(t, b.String(), `<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">`)
	assert.Contains(t, b.String(), "Example &amp; Co")
	assert.Equal(t, "mx.test!example.org!1!2.xml.gz", r.FileName("mx.test"))
	assert.Equal(t, "Report Domain: example.org Submitter: mx.test Report-ID: <1>", r.Subject("mx.test"))
	again, err := dmarcrpt.Parse(b.Bytes())
	require.NoError(t, err)
	assert.Equal(t, r, again)

	// The order of what the schema has in sequences.
	order := []string{"<version>", "<report_metadata>", "<policy_published>", "<record>", "<row>", "<disposition>", "<dkim>pass", "<spf>fail", "<reason>", "<identifiers>", "<auth_results>", "<dkim>\n", "<spf>\n"}
	at := 0
	for _, element := range order {
		i := strings.Index(b.String()[at:], element)
		require.GreaterOrEqual(t, i, 0, element)
		at += i
	}
}

func TestMail(t *testing.T) {
	r := &dmarcrpt.Report{
		Metadata: dmarcrpt.Metadata{Organization: "x", Email: "d@example.net", ID: "17-example.org@mx.test", DateRange: dmarcrpt.DateRange{Begin: 0, End: 86400}},
		Policy:   dmarcrpt.Policy{Domain: "example.org", Policy: "none"},
	}
	for i := range 300 {
		r.Records = append(r.Records, record(fmt.Sprint("192.0.2.", i)))
	}
	var b bytes.Buffer
	m := dmarcrpt.Mail{From: "dmarc@mx.test", To: "rua@example.org", Submitter: "mx.test", Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	require.NoError(t, r.WriteMail(&b, m))
	again, err := dmarcrpt.ParseMessage(bytes.NewReader(b.Bytes()))
	require.NoError(t, err)
	assert.Equal(t, r, again)
	msg, err := mail.ReadMessage(&b)
	require.NoError(t, err)
	assert.Equal(t, "Report Domain: example.org Submitter: mx.test Report-ID: <17-example.org@mx.test>", msg.Header.Get("Subject"))
	assert.Equal(t, "<17-example.org@mx.test>", msg.Header.Get("Message-Id"))
	body, err := io.ReadAll(msg.Body)
	require.NoError(t, err)
	assert.Contains(t, string(body), `filename="mx.test!example.org!0!86400.xml.gz"`)
	for line := range strings.SplitSeq(strings.ReplaceAll(string(body), "\r\n", "\n"), "\n") {
		assert.LessOrEqual(t, len(line), 78)
		assert.NotContains(t, line, "\r")
	}

	m.To = "a@example.org>\r\nBcc: <b@example.org"
	assert.Error(t, r.WriteMail(io.Discard, m))
	m.To, r.Policy.Domain = "rua@example.org", "x\ny"
	assert.Error(t, r.WriteMail(io.Discard, m))
}

// TestSchema has another program validate a report that uses every element.
func TestSchema(t *testing.T) {
	schema := shared.Path(t, "rfc", "dmarc-xml-0.2.xsd")
	if _, err := exec.LookPath("xmllint"); err != nil {
		shared.Missing(t, "xmllint")
	}
	full := record("2001:db8::1")
	full.Row.Count = 7
	full.Row.Evaluated.Disposition = "quarantine"
	full.Row.Evaluated.Reasons = append(full.Row.Evaluated.Reasons, dmarcrpt.Reason{Type: "mailing_list"})
	full.Identifiers.EnvelopeTo = "example.net"
	full.Auth.DKIM[0].Human = "all is <well>"
	full.Auth.SPF[0].Human = "not \"allowed\" & so on"
	for name, r := range map[string]*dmarcrpt.Report{
		"full": {
			Version: "2.0",
			Metadata: dmarcrpt.Metadata{Organization: "Example & Co", Email: "d@example.net", ExtraContact: "https://example.net/", ID: "1@example.net",
				DateRange: dmarcrpt.DateRange{Begin: 1, End: 2}, Errors: []string{"DNS was slow"}, Generator: "mailblocks"},
			Policy: dmarcrpt.Policy{Domain: "example.org", Policy: "reject", Subdomains: "none", Nonexistent: "quarantine", AlignDKIM: "r", AlignSPF: "s",
				DiscoveryMethod: "treewalk", Options: "1:d", Testing: "y"},
			Records: []dmarcrpt.Record{full, record("192.0.2.1")},
		},
		"least": {
			Metadata: dmarcrpt.Metadata{Organization: "x", Email: "d@example.net", ID: "1", DateRange: dmarcrpt.DateRange{Begin: 1, End: 2}},
			Policy:   dmarcrpt.Policy{Domain: "example.org", Policy: "none"},
			Records: []dmarcrpt.Record{{Row: dmarcrpt.Row{SourceIP: "192.0.2.1", Count: 1, Evaluated: dmarcrpt.Evaluated{Disposition: "none", DKIM: "fail", SPF: "fail"}},
				Identifiers: dmarcrpt.Identifiers{HeaderFrom: "example.org"}}},
		},
	} {
		file := filepath.Join(t.TempDir(), "report.xml")
		f, err := os.Create(file)
		require.NoError(t, err)
		require.NoError(t, r.Write(f))
		require.NoError(t, f.Close())
		out, err := exec.Command("xmllint", "--nonet", "--noout", "--schema", schema, file).CombinedOutput()
		assert.NoError(t, err, "%s: %s", name, out)
	}
}

func TestHostile(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(bytes.Repeat([]byte(" "), 20<<20))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	for name, data := range map[string][]byte{
		"empty": nil, "html": []byte("<html/>"), "no domain": []byte("<feedback/>"), "bomb": b.Bytes(),
		"entities": []byte(`<!DOCTYPE f [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><feedback><policy_published><domain>&b;</domain></policy_published></feedback>`),
		"deep":     []byte("<feedback>" + strings.Repeat("<a>", 100000)),
		"charset":  []byte(`<?xml version="1.0" encoding="nonsense"?><feedback/>`),
	} {
		_, err := dmarcrpt.Parse(data)
		assert.ErrorIs(t, err, dmarcrpt.ErrReport, name)
	}
	r, err := dmarcrpt.Parse([]byte("<?xml version=\"1.0\" encoding=\"iso-8859-1\"?><feedback><report_metadata><org_name> M\xfcller\n</org_name></report_metadata><policy_published><domain>a.test</domain></policy_published></feedback>"))
	require.NoError(t, err)
	assert.Equal(t, "Müller", r.Metadata.Organization)
}

func TestFailure(t *testing.T) {
	f := &dmarcrpt.Failure{
		UserAgent: "test/1", OriginalMailFrom: "a@example.org", OriginalRcptTo: "b@example.net", Arrival: time.Date(2026, 11, 22, 10, 0, 0, 0, time.FixedZone("", 0)),
		SourceIP: "192.0.2.1", ReportedDomain: "example.org", AuthResults: "mx.test; dmarc=fail header.from=example.org", AuthFailure: "dmarc",
		IdentityAlignment: []string{"dkim", "spf"}, DeliveryResult: "reject", Incidents: 2, DKIMDomain: "x.test", DKIMSelector: "s", SPFDNS: "txt : example.org : \"v=spf1 -all\"",
		Original: []byte("From: a@example.org\r\nSubject: x\r\n"),
	}
	var b bytes.Buffer
	typ, err := f.Write(&b)
	require.NoError(t, err)
	got, err := dmarcrpt.ParseFailure(strings.NewReader("Content-Type: " + typ + "\r\n\r\n" + b.String()))
	require.NoError(t, err)
	assert.True(t, f.Arrival.Equal(got.Arrival))
	got.Arrival = f.Arrival
	assert.Equal(t, f, got)
	assert.Contains(t, b.String(), "text/rfc822-headers")

	f.ReportedDomain = "x\r\nBcc: all"
	b.Reset()
	_, err = f.Write(&b)
	require.NoError(t, err)
	assert.NotContains(t, b.String(), "\nBcc")
	_, err = dmarcrpt.ParseFailure(strings.NewReader("Content-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\n"))
	assert.ErrorIs(t, err, dmarcrpt.ErrReport)
	_, err = dmarcrpt.ParseFailure(strings.NewReader("From: x\r\n\r\n"))
	assert.ErrorIs(t, err, dmarcrpt.ErrReport)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`<feedback><version>1</version><report_metadata><org_name>x</org_name></report_metadata><policy_published><domain>a</domain></policy_published><record><row><count>1</count></row></record></feedback>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := dmarcrpt.Parse(data)
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		require.NoError(t, r.Write(&first))
		again, err := dmarcrpt.Parse(first.Bytes())
		require.NoError(t, err)
		require.NoError(t, again.Write(&second))
		assert.Equal(t, first.String(), second.String())
	})
}

func FuzzFailure(f *testing.F) {
	f.Add("Feedback-Type: auth-failure\r\nReported-Domain: x\r\n y\r\nIncidents: 3\r\nIdentity-Alignment: dkim, spf\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		first, err := dmarcrpt.ParseFailure(strings.NewReader("Content-Type: message/feedback-report\r\n\r\n" + text))
		if err != nil {
			return
		}
		var b bytes.Buffer
		typ, err := first.Write(&b)
		require.NoError(t, err)
		again, err := dmarcrpt.ParseFailure(strings.NewReader("Content-Type: " + typ + "\r\n\r\n" + b.String()))
		require.NoError(t, err)
		assert.Equal(t, first.ReportedDomain, again.ReportedDomain)
		assert.Equal(t, first.IdentityAlignment, again.IdentityAlignment)
		assert.Equal(t, first.Incidents, again.Incidents)
	})
}
