package dmarcrpt

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"
	"github.com/mailblocks/mailblocks/dnsauth/internal/reportfile"
)

// Failure is a report about one message that failed (RFC 9991; RFC 6591, 3).
type Failure struct {
	UserAgent         string // who made the report; empty means "mailblocks"
	OriginalMailFrom  string // without angle brackets
	OriginalRcptTo    string
	Arrival           time.Time // zero when not known
	SourceIP          string
	ReportedDomain    string
	AuthResults       string   // value of the Authentication-Results field
	AuthFailure       string   // dkim, spf or dmarc
	IdentityAlignment []string // methods that were not aligned; empty means "none"
	DeliveryResult    string   // delivered, spam, policy, reject or other; may be empty
	Incidents         int64    // 0 means 1

	// DKIMDomain, DKIMIdentity and DKIMSelector are of the signature at fault.
	DKIMDomain, DKIMIdentity, DKIMSelector string

	// SPFDNS is the SPF record at fault.
	SPFDNS string

	// Original is the message's header, or the whole message.
	Original []byte
}

// fields are the machine-readable part's, but for those with values of their own.
func (f *Failure) fields() []struct {
	name  string
	value *string
} {
	return []struct {
		name  string
		value *string
	}{
		{"User-Agent", &f.UserAgent}, {"Source-IP", &f.SourceIP}, {"Reported-Domain", &f.ReportedDomain},
		{"Authentication-Results", &f.AuthResults}, {"Auth-Failure", &f.AuthFailure}, {"Delivery-Result", &f.DeliveryResult},
		{"DKIM-Domain", &f.DKIMDomain}, {"DKIM-Identity", &f.DKIMIdentity}, {"DKIM-Selector", &f.DKIMSelector}, {"SPF-DNS", &f.SPFDNS},
	}
}

// line makes a value one line: what a peer sent may hold others.
func line(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
}

// Write writes the body of the message, a multipart/report, and returns the value
// for its Content-Type field. The caller writes the header.
func (f *Failure) Write(w io.Writer) (contentType string, err error) {
	mw := multipart.NewWriter(w)
	part := func(typ string, body []byte) {
		if err != nil {
			return
		}
		var p io.Writer
		if p, err = mw.CreatePart(textproto.MIMEHeader{"Content-Type": {typ}}); err == nil {
			_, err = p.Write(body)
		}
	}
	part("text/plain; charset=utf-8", []byte("This is an authentication failure report for a message from "+line(f.ReportedDomain)+",\r\nreceived from "+line(f.SourceIP)+".\r\n"))
	part("message/feedback-report", f.report())
	typ := "message/rfc822"
	if !hasBody(f.Original) {
		typ = "text/rfc822-headers"
	}
	part(typ, f.Original)
	if err == nil {
		err = mw.Close()
	}
	if err != nil {
		return "", fmt.Errorf("dmarcrpt: write failure report: %w", err)
	}
	return `multipart/report; report-type=feedback-report; boundary="` + mw.Boundary() + `"`, nil
}

func hasBody(msg []byte) bool {
	var c msgheader.Collector
	n, done, _ := c.Write(msg) // without a limit it doesn't fail
	return done && n < len(msg)
}

func (f *Failure) report() []byte {
	var b bytes.Buffer
	add := func(name, value string) {
		if value = line(value); value != "" {
			b.WriteString(name + ": " + value + "\r\n")
		}
	}
	add("Feedback-Type", "auth-failure")
	add("Version", "1")
	if f.UserAgent == "" {
		add("User-Agent", "mailblocks")
	}
	for _, x := range f.fields() {
		add(x.name, *x.value)
	}
	add("Original-Mail-From", "<"+f.OriginalMailFrom+">")
	if f.OriginalRcptTo != "" {
		add("Original-Rcpt-To", "<"+f.OriginalRcptTo+">")
	}
	if !f.Arrival.IsZero() {
		add("Arrival-Date", f.Arrival.Format(time.RFC1123Z))
	}
	alignment := "none"
	if len(f.IdentityAlignment) > 0 {
		alignment = strings.Join(f.IdentityAlignment, ", ")
	}
	add("Identity-Alignment", alignment)
	if f.Incidents > 1 {
		add("Incidents", strconv.FormatInt(f.Incidents, 10))
	}
	return b.Bytes()
}

// ParseFailure reads the failure report in a message.
func ParseFailure(msg io.Reader) (*Failure, error) {
	parts, err := reportfile.Message(msg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	for i, p := range parts {
		if p.Type != "message/feedback-report" {
			continue
		}
		f, err := parseFields(p.Data)
		if err == nil && i+1 < len(parts) {
			f.Original = parts[i+1].Data
		}
		return f, err
	}
	return nil, fmt.Errorf("%w: message without a feedback report", ErrReport)
}

func parseFields(text []byte) (*Failure, error) {
	f := &Failure{Incidents: 1}
	h := msgheader.Parse(text)
	typ := ""
	for i := range h.Fields {
		name, value := string(h.Name(i)), line(string(h.Value(i)))
		value = strings.TrimSpace(value)
		for _, x := range f.fields() {
			if strings.EqualFold(x.name, name) {
				*x.value = value
			}
		}
		switch strings.ToLower(name) {
		case "feedback-type":
			typ = strings.ToLower(value)
		case "original-mail-from":
			f.OriginalMailFrom = strings.TrimSuffix(strings.TrimPrefix(value, "<"), ">")
		case "original-rcpt-to":
			f.OriginalRcptTo = strings.TrimSuffix(strings.TrimPrefix(value, "<"), ">")
		case "arrival-date":
			f.Arrival, _ = time.Parse(time.RFC1123Z, value) // zero if it is no date
		case "identity-alignment":
			f.IdentityAlignment = nil
			for m := range strings.SplitSeq(value, ",") {
				if m = strings.ToLower(strings.TrimSpace(m)); m != "" && m != "none" {
					f.IdentityAlignment = append(f.IdentityAlignment, m)
				}
			}
		case "incidents":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && n > 0 {
				f.Incidents = n
			}
		}
	}
	if typ != "auth-failure" {
		return nil, fmt.Errorf("%w: feedback of type %q", ErrReport, typ[:min(len(typ), 40)])
	}
	return f, nil
}
