package dsn

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"strings"
	"time"
)

// A Report is a delivery status notification as it was received. Strings are as they stand in it,
// unfolded; nothing in it is authenticated.
type Report struct {
	EnvelopeID   string // Original-Envelope-Id
	ReportingMTA string // without its type
	ArrivalDate  time.Time
	Recipients   []RecipientStatus

	// Text is the part for people, at most 64 KiB of it.
	Text string

	// MessageID is that of the message the report is about, from the part returned; "" when there is none.
	MessageID string
}

// RecipientStatus is what a report says about one recipient (RFC 3464, 2.3).
type RecipientStatus struct {
	// Original and Final are addresses, their types ("rfc822", "utf-8") apart. Original is "" when the
	// report does not have it.
	OriginalType, Original string
	FinalType, Final       string

	Action     string // lower case: failed, delayed, delivered, relayed, expanded
	Status     string // "5.1.1"; comments cut off
	RemoteMTA  string // without its type
	Diagnostic string // without its type
	DiagType   string // lower case: smtp

	LastAttempt, WillRetryUntil time.Time
}

// ErrNotReport: the message is no delivery status notification.
var ErrNotReport = errors.New("queue/dsn: message is not a delivery report")

// maxStatus bounds the status part, and the text, in octets.
const (
	maxStatus = 1 << 20
	maxText   = 64 << 10
)

// Parse reads a message, header and body, that may be a delivery report. ErrNotReport (wrapped): it is
// not. What is odd in a report is skipped; one without any recipient is no report.
func Parse(r io.Reader) (*Report, error) {
	rep := &Report{}
	if err := eachPart(r, "delivery-status", rep.part); err != nil {
		return nil, err
	}
	if len(rep.Recipients) == 0 {
		return nil, ErrNotReport
	}
	return rep, nil
}

// eachPart calls f for the parts of a multipart/report of that type (RFC 6522, 3), as many as there are before it breaks off.
func eachPart(r io.Reader, reportType string, f func(n int, part *multipart.Part)) error {
	m, err := mail.ReadMessage(bufio.NewReader(io.LimitReader(r, 64<<20)))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotReport, err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	report := kind == "multipart/report" && strings.EqualFold(params["report-type"], reportType)
	// OpenSMTPD's are so; whether there is a status part tells them from other mail.
	report = report || kind == "multipart/mixed" && reportType == "delivery-status"
	if err != nil || !report || params["boundary"] == "" {
		return ErrNotReport
	}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for n := range 10 {
		part, err := parts.NextRawPart()
		if err != nil {
			break // what came before it may do
		}
		f(n, part)
	}
	return nil
}

func (rep *Report) part(n int, part *multipart.Part) {
	kind, _, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
	if err != nil {
		kind = "text/plain"
	}
	content := decoded(part)
	switch kind {
	case "message/delivery-status", "message/global-delivery-status":
		if rep.Recipients == nil {
			rep.status(io.LimitReader(content, maxStatus))
		}
	case "message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers":
		rep.MessageID = clean(returnedHeader(content).Get("Message-Id"), true)
	default:
		if n == 0 && strings.HasPrefix(kind, "text/") {
			rep.Text = readText(content)
		}
	}
}

func returnedHeader(r io.Reader) textproto.MIMEHeader {
	h, _ := textproto.NewReader(bufio.NewReader(io.LimitReader(r, maxStatus))).ReadMIMEHeader() // what came before it broke off
	return h
}

func readText(r io.Reader) string {
	text, err := io.ReadAll(io.LimitReader(r, maxText))
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(text), "\uFFFD")
}

func decoded(part *multipart.Part) io.Reader {
	switch strings.ToLower(strings.TrimSpace(part.Header.Get("Content-Transfer-Encoding"))) {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, part)
	case "quoted-printable":
		return quotedprintable.NewReader(part)
	}
	return part
}

// status reads groups of fields with empty lines between them.
func (rep *Report) status(r io.Reader) {
	tr := textproto.NewReader(bufio.NewReader(r))
	for first := true; len(rep.Recipients) < 10_000; first = false {
		h, err := tr.ReadMIMEHeader()
		if first {
			rep.EnvelopeID = clean(h.Get("Original-Envelope-Id"), true)
			_, rep.ReportingMTA = typed(h.Get("Reporting-MTA"))
			rep.ArrivalDate = parseDate(h.Get("Arrival-Date"))
		}
		if h.Get("Final-Recipient") != "" || h.Get("Original-Recipient") != "" {
			rep.Recipients = append(rep.Recipients, recipientStatus(h))
		}
		if err != nil {
			return
		}
	}
}

func recipientStatus(h textproto.MIMEHeader) RecipientStatus {
	var s RecipientStatus
	s.OriginalType, s.Original = address(h.Get("Original-Recipient"))
	s.FinalType, s.Final = address(h.Get("Final-Recipient"))
	s.Action = strings.ToLower(comment(h.Get("Action")))
	s.Status = comment(h.Get("Status"))
	_, s.RemoteMTA = typed(h.Get("Remote-MTA"))
	s.DiagType, s.Diagnostic = typed(h.Get("Diagnostic-Code"))
	s.LastAttempt = parseDate(h.Get("Last-Attempt-Date"))
	s.WillRetryUntil = parseDate(h.Get("Will-Retry-Until"))
	return s
}

// typed divides "type; value".
func typed(s string) (kind, value string) {
	kind, value, ok := strings.Cut(clean(s, true), ";")
	if !ok {
		return "", strings.TrimSpace(kind)
	}
	return strings.ToLower(strings.TrimSpace(kind)), strings.TrimSpace(value)
}

// address is typed, for addresses: what is written with \x{…} is decoded, and the angle brackets that some
// put around are taken away.
func address(s string) (kind, addr string) {
	kind, addr = typed(s)
	if kind == "utf-8" {
		if plain, ok := unembed(addr); ok {
			addr = plain
		}
	}
	if len(addr) > 2 && addr[0] == '<' && addr[len(addr)-1] == '>' {
		addr = addr[1 : len(addr)-1]
	}
	return kind, addr
}

// comment cuts off what follows the first word.
func comment(s string) string {
	fields := strings.FieldsFunc(clean(s, true), func(r rune) bool { return r == ' ' || r == '(' })
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}

func parseDate(s string) time.Time {
	t, err := mail.ParseDate(s)
	if err != nil {
		return time.Time{}
	}
	return t
}
