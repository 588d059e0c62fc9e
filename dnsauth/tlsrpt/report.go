package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/internal/reportfile"
)

// Report is a report (RFC 8460, 4.4).
type Report struct {
	Organization string    `json:"organization-name"`
	DateRange    DateRange `json:"date-range"`
	Contact      string    `json:"contact-info"` // an address
	ID           string    `json:"report-id"`
	Policies     []Result  `json:"policies"`
}

// DateRange is the time that a report covers.
type DateRange struct {
	Start time.Time `json:"start-datetime"`
	End   time.Time `json:"end-datetime"`
}

// Result is how sessions under one policy went.
type Result struct {
	Policy   Policy    `json:"policy"`
	Summary  Summary   `json:"summary"`
	Failures []Failure `json:"failure-details,omitempty"`
}

// PolicyType is the kind of a policy; reports may have others than these.
type PolicyType string

// The types of RFC 8460, 4.4.
const (
	TLSA     PolicyType = "tlsa"
	STS      PolicyType = "sts"
	NoPolicy PolicyType = "no-policy-found"
)

// Policy is what was applied.
type Policy struct {
	Type   PolicyType `json:"policy-type"`
	Lines  []string   `json:"policy-string,omitempty"` // of the MTA-STS policy, or each TLSA record
	Domain string     `json:"policy-domain,omitempty"`
	MXHost Strings    `json:"mx-host,omitempty"` // patterns
}

// Strings is a list that is written as such; a single string is read as well, as the
// text of RFC 8460 has it and its example has not.
type Strings []string

// UnmarshalJSON implements json.Unmarshaler.
func (s *Strings) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		var one string
		if err := json.Unmarshal(text, &one); err != nil {
			return err
		}
		*s = Strings{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(s))
}

// Summary counts sessions.
type Summary struct {
	Successful int64 `json:"total-successful-session-count"`
	Failed     int64 `json:"total-failure-session-count"`
}

// ResultType is why a session failed; reports may have others than these.
type ResultType string

// The types of RFC 8460, 4.3.
const (
	StartTLSNotSupported ResultType = "starttls-not-supported"
	CertificateMismatch  ResultType = "certificate-host-mismatch"
	CertificateExpired   ResultType = "certificate-expired"
	CertificateUntrusted ResultType = "certificate-not-trusted"
	ValidationFailure    ResultType = "validation-failure"
	TLSAInvalid          ResultType = "tlsa-invalid"
	DNSSECInvalid        ResultType = "dnssec-invalid"
	DANERequired         ResultType = "dane-required"
	STSFetchError        ResultType = "sts-policy-fetch-error"
	STSInvalid           ResultType = "sts-policy-invalid"
	STSWebPKIInvalid     ResultType = "sts-webpki-invalid"
)

// Failure counts sessions that failed in the same way.
type Failure struct {
	Type        ResultType `json:"result-type"`
	SendingIP   string     `json:"sending-mta-ip,omitempty"`
	MXHost      string     `json:"receiving-mx-hostname,omitempty"`
	MXHelo      string     `json:"receiving-mx-helo,omitempty"`
	ReceivingIP string     `json:"receiving-ip,omitempty"`
	Count       int64      `json:"failed-session-count"`
	MoreInfo    string     `json:"additional-information,omitempty"` // a URI
	Reason      string     `json:"failure-reason-code,omitempty"`
}

// ErrReport is wrapped by what Parse and ParseMessage return.
var ErrReport = errors.New("tlsrpt: malformed report")

// Parse reads a report: JSON, or JSON in gzip. At most 32 MiB, and 200 times a
// compressed size above 1 MiB, are read.
func Parse(data []byte) (*Report, error) {
	files, err := reportfile.Expand(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("%w: %d files", ErrReport, len(files))
	}
	r := new(Report)
	if err := json.Unmarshal(files[0], r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	if r.Organization == "" && r.ID == "" || r.Policies == nil {
		return nil, fmt.Errorf("%w: not a report", ErrReport)
	}
	return r, nil
}

// ParseMessage reads the report in a message. Whether its signature passes is the
// caller's to check first (RFC 8460, 3).
func ParseMessage(msg io.Reader) (*Report, error) {
	parts, err := reportfile.Message(msg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	for _, p := range parts {
		if strings.HasPrefix(p.Type, "application/tlsrpt") || strings.HasSuffix(p.FileName, ".json") || strings.HasSuffix(p.FileName, ".json.gz") {
			return Parse(p.Data)
		}
	}
	return nil, fmt.Errorf("%w: message without a report", ErrReport)
}

// Write writes the report as JSON.
func (r *Report) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	if err := e.Encode(r); err != nil {
		return fmt.Errorf("tlsrpt: write report %s: %w", r.ID, err)
	}
	return nil
}

// Gzip returns the report as it should be sent, of type application/tlsrpt+gzip.
func (r *Report) Gzip() ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := errors.Join(r.Write(z), z.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// FileName is the name for the report in gzip (RFC 8460, 5.1).
func (r *Report) FileName(policyDomain string) string {
	_, sender, _ := strings.Cut(r.Contact, "@")
	return sender + "!" + policyDomain + "!" + strconv.FormatInt(r.DateRange.Start.Unix(), 10) +
		"!" + strconv.FormatInt(r.DateRange.End.Unix(), 10) + ".json.gz"
}
