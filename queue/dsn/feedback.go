package dsn

import (
	"bufio"
	"io"
	"mime"
	"mime/multipart"
	"net/netip"
	"net/textproto"
	"strconv"
	"strings"
	"time"
)

// Feedback is a complaint as a mailbox provider sends it about a message (ARF, RFC 5965). Strings are as they stand in it,
// unfolded; nothing in it is authenticated.
type Feedback struct {
	Type      string // lower case: abuse, fraud, virus, not-spam, auth-failure, other
	UserAgent string
	Version   string

	MailFrom     string // Original-Mail-From, without angle brackets
	RcptTo       []string
	EnvelopeID   string
	ReportingMTA string // without its type
	SourceIP     netip.Addr
	Arrived      time.Time // Arrival-Date or Received-Date
	Incidents    int       // 1 unless it says otherwise

	AuthResults     []string
	ReportedDomains []string
	ReportedURIs    []string

	// Text is the part for people, at most 64 KiB of it.
	Text string

	// Header is that of the message complained about, MessageID its Message-ID.
	Header    textproto.MIMEHeader
	MessageID string
}

// ParseFeedback reads a message that may be a feedback report. ErrNotReport (wrapped): it is not. What is odd in it is skipped; one
// without a Feedback-Type is no report (RFC 5965, 3.1).
func ParseFeedback(r io.Reader) (*Feedback, error) {
	f := &Feedback{}
	if err := eachPart(r, "feedback-report", f.part); err != nil {
		return nil, err
	}
	if f.Type == "" {
		return nil, ErrNotReport
	}
	return f, nil
}

func (f *Feedback) part(n int, part *multipart.Part) {
	kind, _, err := mime.ParseMediaType(part.Header.Get("Content-Type"))
	if err != nil {
		kind = "text/plain"
	}
	content := decoded(part)
	switch kind {
	case "message/feedback-report":
		if f.Type == "" {
			f.fields(io.LimitReader(content, maxStatus))
		}
	case "message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers":
		f.Header = returnedHeader(content)
		f.MessageID = clean(f.Header.Get("Message-Id"), true)
	default:
		if n == 0 && strings.HasPrefix(kind, "text/") {
			f.Text = readText(content)
		}
	}
}

// fields reads the part for programs (RFC 5965, 3.1 to 3.3).
func (f *Feedback) fields(r io.Reader) {
	h, _ := textproto.NewReader(bufio.NewReader(r)).ReadMIMEHeader() // what came before it broke off
	one := func(name string) string { return clean(h.Get(name), true) }
	list := func(name string) (all []string) {
		for _, v := range h.Values(name) {
			if v = clean(v, true); v != "" && len(all) < 1000 {
				all = append(all, v)
			}
		}
		return all
	}
	f.Type = strings.ToLower(comment(h.Get("Feedback-Type")))
	f.UserAgent, f.Version = one("User-Agent"), one("Version")
	f.MailFrom = bare(one("Original-Mail-From"))
	for _, to := range list("Original-Rcpt-To") {
		f.RcptTo = append(f.RcptTo, bare(to))
	}
	f.EnvelopeID = one("Original-Envelope-Id")
	_, f.ReportingMTA = typed(h.Get("Reporting-MTA"))
	if ip, err := netip.ParseAddr(strings.Trim(comment(h.Get("Source-IP")), "[]")); err == nil {
		f.SourceIP = ip
	}
	if f.Arrived = parseDate(h.Get("Arrival-Date")); f.Arrived.IsZero() {
		f.Arrived = parseDate(h.Get("Received-Date"))
	}
	f.Incidents = 1
	if n, err := strconv.Atoi(comment(h.Get("Incidents"))); err == nil && n > 0 {
		f.Incidents = n
	}
	f.AuthResults, f.ReportedDomains, f.ReportedURIs = list("Authentication-Results"), list("Reported-Domain"), list("Reported-URI")
}

// bare takes angle brackets away.
func bare(s string) string {
	if len(s) >= 2 && s[0] == '<' && s[len(s)-1] == '>' {
		return s[1 : len(s)-1]
	}
	return s
}
