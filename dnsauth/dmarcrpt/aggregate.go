package dmarcrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"golang.org/x/text/encoding/htmlindex"

	"github.com/mailblocks/mailblocks/dnsauth/internal/reportfile"
)

// Report is an aggregate report (RFC 9990, 3.1). Values stand as they were
// reported: one that was read may have others than the RFC knows.
type Report struct {
	Version  string   `xml:"version,omitempty"`
	Metadata Metadata `xml:"report_metadata"`
	Policy   Policy   `xml:"policy_published"`
	Records  []Record `xml:"record"`
}

// Metadata says who reports about what time.
type Metadata struct {
	Organization string    `xml:"org_name"`
	Email        string    `xml:"email"`
	ExtraContact string    `xml:"extra_contact_info,omitempty"`
	ID           string    `xml:"report_id"`
	DateRange    DateRange `xml:"date_range"`
	Errors       []string  `xml:"error,omitempty"`
	Generator    string    `xml:"generator,omitempty"`
}

// DateRange is in seconds since 1970, UTC.
type DateRange struct {
	Begin int64 `xml:"begin"`
	End   int64 `xml:"end"`
}

// Policy is the record that the domain published.
type Policy struct {
	Domain          string `xml:"domain"`
	Policy          string `xml:"p"`
	Subdomains      string `xml:"sp,omitempty"`
	Nonexistent     string `xml:"np,omitempty"`
	AlignDKIM       string `xml:"adkim,omitempty"` // r or s
	AlignSPF        string `xml:"aspf,omitempty"`
	DiscoveryMethod string `xml:"discovery_method,omitempty"` // treewalk or psl
	Options         string `xml:"fo,omitempty"`
	Testing         string `xml:"testing,omitempty"` // y or n
}

// Record counts messages that are alike.
type Record struct {
	Row         Row         `xml:"row"`
	Identifiers Identifiers `xml:"identifiers"`
	Auth        AuthResults `xml:"auth_results"`
}

// Row is the client, the number of messages, and what DMARC said.
type Row struct {
	SourceIP  string    `xml:"source_ip"`
	Count     int64     `xml:"count"`
	Evaluated Evaluated `xml:"policy_evaluated"`
}

// Evaluated is the outcome of DMARC.
type Evaluated struct {
	Disposition string   `xml:"disposition"` // none, pass, quarantine or reject
	DKIM        string   `xml:"dkim"`        // pass or fail, aligned
	SPF         string   `xml:"spf"`
	Reasons     []Reason `xml:"reason,omitempty"`
}

// Reason is why the disposition is not the published policy.
type Reason struct {
	Type    string `xml:"type"`
	Comment string `xml:"comment,omitempty"`
}

// Identifiers are the domains of the message.
type Identifiers struct {
	HeaderFrom   string `xml:"header_from"`
	EnvelopeFrom string `xml:"envelope_from,omitempty"`
	EnvelopeTo   string `xml:"envelope_to,omitempty"`
}

// AuthResults are the results below DMARC. RFC 9990 has at most one of SPF.
type AuthResults struct {
	DKIM []DKIMResult `xml:"dkim,omitempty"`
	SPF  []SPFResult  `xml:"spf,omitempty"`
}

// DKIMResult is that of one signature.
type DKIMResult struct {
	Domain   string `xml:"domain"`
	Selector string `xml:"selector"`
	Result   string `xml:"result"`
	Human    string `xml:"human_result,omitempty"`
}

// SPFResult is that of SPF.
type SPFResult struct {
	Domain string `xml:"domain"`
	Scope  string `xml:"scope,omitempty"` // mfrom; helo in older reports
	Result string `xml:"result"`
	Human  string `xml:"human_result,omitempty"`
}

// namespace is that of the schema of RFC 9990.
const namespace = "urn:ietf:params:xml:ns:dmarc-2.0"

// ErrReport is wrapped by what the Parse functions return.
var ErrReport = errors.New("dmarcrpt: malformed report")

// Parse reads a report: XML alone, in gzip, or in zip, of which the first file
// counts. At most 32 MiB, and 200 times a compressed size above 1 MiB, are read.
func Parse(data []byte) (*Report, error) {
	files, err := reportfile.Expand(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrReport)
	}
	return parseXML(files[0])
}

func parseXML(text []byte) (*Report, error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	d.CharsetReader = func(label string, input io.Reader) (io.Reader, error) {
		e, err := htmlindex.Get(label)
		if err != nil {
			return nil, err
		}
		return e.NewDecoder().Reader(input), nil
	}
	var doc struct {
		XMLName xml.Name `xml:"feedback"`
		Report
	}
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	r := &doc.Report
	r.eachText(func(s *string) { *s = strings.TrimSpace(*s) })
	if r.Policy.Domain == "" || r.Metadata.ID == "" && r.Metadata.Organization == "" {
		return nil, fmt.Errorf("%w: domain or reporter is missing", ErrReport)
	}
	return r, nil
}

// eachText calls f for each text of the report.
func (r *Report) eachText(f func(*string)) {
	m, p := &r.Metadata, &r.Policy
	for _, s := range []*string{&r.Version, &m.Organization, &m.Email, &m.ExtraContact, &m.ID, &m.Generator,
		&p.Domain, &p.Policy, &p.Subdomains, &p.Nonexistent, &p.AlignDKIM, &p.AlignSPF, &p.DiscoveryMethod, &p.Options, &p.Testing} {
		f(s)
	}
	for i := range m.Errors {
		f(&m.Errors[i])
	}
	for i := range r.Records {
		c := &r.Records[i]
		for _, s := range []*string{&c.Row.SourceIP, &c.Row.Evaluated.Disposition, &c.Row.Evaluated.DKIM, &c.Row.Evaluated.SPF,
			&c.Identifiers.HeaderFrom, &c.Identifiers.EnvelopeFrom, &c.Identifiers.EnvelopeTo} {
			f(s)
		}
		for j := range c.Row.Evaluated.Reasons {
			f(&c.Row.Evaluated.Reasons[j].Type)
			f(&c.Row.Evaluated.Reasons[j].Comment)
		}
		for j := range c.Auth.DKIM {
			d := &c.Auth.DKIM[j]
			for _, s := range []*string{&d.Domain, &d.Selector, &d.Result, &d.Human} {
				f(s)
			}
		}
		for j := range c.Auth.SPF {
			d := &c.Auth.SPF[j]
			for _, s := range []*string{&d.Domain, &d.Scope, &d.Result, &d.Human} {
				f(s)
			}
		}
	}
}

// ParseMessage reads the aggregate report in a message.
func ParseMessage(msg io.Reader) (*Report, error) {
	parts, err := reportfile.Message(msg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	for _, p := range parts {
		name := strings.ToLower(p.FileName)
		switch {
		case strings.HasSuffix(p.Type, "/xml"), strings.HasSuffix(p.Type, "zip"), // gzip, zip, x-zip ...
			strings.HasSuffix(name, ".xml"), strings.HasSuffix(name, ".gz"), strings.HasSuffix(name, ".zip"):
			return Parse(p.Data)
		}
	}
	return nil, fmt.Errorf("%w: message without a report", ErrReport)
}

// Write writes the report as XML that is valid by the schema of RFC 9990,
// Appendix A, as far as its values are among those the RFC knows.
func (r *Report) Write(w io.Writer) error {
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return fmt.Errorf("dmarcrpt: write report %s: %w", r.Metadata.ID, err)
	}
	e := xml.NewEncoder(w)
	e.Indent("", " ")
	err := e.EncodeElement(r, xml.StartElement{Name: xml.Name{Space: namespace, Local: "feedback"}})
	if err := errors.Join(err, e.Close()); err != nil {
		return fmt.Errorf("dmarcrpt: write report %s: %w", r.Metadata.ID, err)
	}
	return nil
}

// Gzip returns the report as it is sent, of type application/gzip.
func (r *Report) Gzip() ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := errors.Join(r.Write(z), z.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// FileName is the name for the report in gzip; receiver is our domain.
func (r *Report) FileName(receiver string) string {
	return receiver + "!" + r.Policy.Domain + "!" + strconv.FormatInt(r.Metadata.DateRange.Begin, 10) +
		"!" + strconv.FormatInt(r.Metadata.DateRange.End, 10) + ".xml.gz"
}

// Subject is that of the message that carries the report.
func (r *Report) Subject(receiver string) string {
	return "Report Domain: " + r.Policy.Domain + " Submitter: " + receiver + " Report-ID: <" + r.Metadata.ID + ">"
}
