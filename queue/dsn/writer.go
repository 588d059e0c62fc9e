package dsn

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/queue"
)

// A Writer writes reports. Its zero value works; it is safe for concurrent use.
type Writer struct {
	// Hostname is the Reporting-MTA and the domain of From and Message-ID. Empty means os.Hostname.
	Hostname string

	// From is what stands in the From field, as in a header: `"Mail Service" <postmaster@example.org>`.
	// Empty means Mail Delivery System <MAILER-DAEMON@Hostname>.
	From string

	// MaxReturn is the size, in octets, up to which a message is returned whole in a failure report: with RET=FULL,
	// and with neither FULL nor HDRS. Of larger ones the header is returned.
	// Zero means 10 MiB and 64 KiB; negative returns headers only.
	MaxReturn, MaxReturnUnasked int64

	// Text, if not nil, writes the part for people in place of ours: plain text, lines
	// ending in LF.
	Text func(r *queue.Report) string
}

func (w *Writer) hostname() string {
	if w.Hostname != "" {
		return w.Hostname
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "localhost"
	}
	return name
}

// maxHeader bounds the header that is returned, in octets.
const maxHeader = 64 << 10

// Report builds the message that tells r: it is a queue.ReportFunc. The Body is an io.Closer when it
// reads from r.Open. When the message can not be read the report goes without it, which is better than
// no report; so the error is always nil.
func (w *Writer) Report(ctx context.Context, r *queue.Report) (*queue.Message, error) {
	facts := w.examine(r)
	p := &page{host: clean(w.hostname(), false), global: facts.global, direct: facts.direct}
	p.boundary = p.host[:min(len(p.host), 30)] + "/" + rand.Text()
	if strings.ContainsAny(p.boundary, " \"\\") {
		p.boundary = rand.Text()
	}
	w.header(p, r, facts)
	w.text(p, r)
	w.status(p, r)
	body := w.returned(p, r, facts)
	m := &queue.Message{
		Envelope: queue.Envelope{
			Recipients: []queue.Recipient{{Address: r.Envelope.ReversePath, Notify: queue.NotifyNever}},
			UTF8:       facts.direct,
		},
		Body: body,
	}
	if facts.eightBit || facts.direct {
		m.Envelope.Body = queue.Body8BitMIME
	}
	return m, nil
}

// facts are what decides the form of a report.
type facts struct {
	global    bool   // RFC 6533: there is something that ASCII can not say
	direct    bool   // UTF-8 may stand in the report as it is: its reader knows SMTPUTF8
	whole     bool   // the message is returned, not only its header
	eightBit  bool   // the part returned has octets beyond ASCII, and is sent as 8bit
	lost      bool   // the message can not be read: nothing of it is returned
	header    []byte // of the message
	messageID string
}

func (w *Writer) examine(r *queue.Report) *facts {
	f := &facts{direct: !ascii(r.Envelope.ReversePath)}
	f.global = f.direct || r.Envelope.UTF8
	for _, rcpt := range r.Recipients {
		f.global = f.global || !ascii(rcpt.Address)
	}
	limit := int64(-1)
	if r.Kind == queue.ReportFailure && r.Envelope.Body != queue.BodyBinaryMIME {
		switch r.Envelope.Return { // RFC 3461, 6.2: other kinds never return the body
		case queue.ReturnFull:
			if limit = w.MaxReturn; limit == 0 {
				limit = 10 << 20
			}
		case queue.ReturnDefault:
			if limit = w.MaxReturnUnasked; limit == 0 {
				limit = 64 << 10
			}
		}
	}
	f.whole = r.Size <= limit
	if err := f.read(r); err != nil {
		f.lost, f.whole, f.eightBit, f.header = true, false, false, nil
	}
	if !f.global && !f.whole && f.eightBit {
		// A header is not worth a report that some host can not take.
		f.header = []byte(clean8(string(f.header)))
		f.eightBit = false
	}
	if f.global && !f.direct {
		f.eightBit = false // it is encoded
	}
	return f
}

// read looks at the message.
func (f *facts) read(r *queue.Report) error {
	body, err := r.Open()
	if err != nil {
		return err
	}
	defer body.Close()
	header, err := readHeader(body)
	if err != nil {
		return err
	}
	f.header = lines(header)
	f.messageID = messageID(f.header)
	f.eightBit = !ascii(string(f.header))
	if f.whole && !f.eightBit {
		f.eightBit, err = beyondASCII(body)
	}
	return err
}

// readHeader reads up to the empty line, or maxHeader octets, cut at the end of a line.
func readHeader(r io.Reader) ([]byte, error) {
	buf, err := io.ReadAll(io.LimitReader(r, maxHeader))
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(buf, []byte("\r\n")) {
		return nil, nil
	}
	if end := bytes.Index(buf, []byte("\r\n\r\n")); end >= 0 {
		return buf[:end+2], nil
	}
	return buf[:bytes.LastIndexByte(buf, '\n')+1], nil
}

// lines makes spaces of CRs and LFs that stand alone.
func lines(header []byte) []byte {
	for i, c := range header {
		if c == '\r' && (i+1 == len(header) || header[i+1] != '\n') || c == '\n' && (i == 0 || header[i-1] != '\r') {
			header[i] = ' '
		}
	}
	return header
}

// beyondASCII reads r, of which the header was read, to its end or to the first such octet.
func beyondASCII(r io.ReadSeeker) (bool, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return false, err
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		for _, c := range buf[:n] {
			if c >= 0x80 {
				return true, nil
			}
		}
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// messageID finds the Message-ID in a header, "" when it is missing or not what one looks like.
func messageID(header []byte) string {
	const field = "\nmessage-id:"
	h := "\n" + string(header)
	at := strings.Index(strings.ToLower(h), field)
	if at < 0 || len(h) != len(strings.ToLower(h)) {
		return ""
	}
	line, _, _ := strings.Cut(strings.ReplaceAll(h[at+len(field):], "\r\n ", " "), "\r\n")
	id := strings.TrimSpace(line)
	if len(id) < 3 || len(id) > 500 || id[0] != '<' || id[len(id)-1] != '>' || strings.ContainsAny(id, " \t") || !ascii(id) {
		return ""
	}
	return id
}

// page gathers a report up to the part that is returned.
type page struct {
	bytes.Buffer
	host     string
	boundary string
	global   bool
	direct   bool
}

// field writes a header field; the value is cleaned, and folded where it has spaces.
func (p *page) field(name, value string) {
	p.WriteString(fold(name + ": " + clean(value, p.global)))
}

func (p *page) part(contentType, description string) {
	fmt.Fprintf(p, "--%s\r\nContent-Type: %s\r\nContent-Description: %s\r\n", p.boundary, contentType, description)
}

// content writes a part's content, encoded if it has to be.
func (p *page) content(text string) {
	switch {
	case ascii(text):
		p.WriteString("\r\n" + text)
	case p.direct:
		p.WriteString("Content-Transfer-Encoding: 8bit\r\n\r\n" + text)
	default:
		p.WriteString("Content-Transfer-Encoding: base64\r\n\r\n")
		io.Copy(p, newEncoder(strings.NewReader(text)))
	}
	p.WriteString("\r\n")
}

func (w *Writer) header(p *page, r *queue.Report, f *facts) {
	from := w.From
	if from == "" {
		from = "Mail Delivery System <MAILER-DAEMON@" + p.host + ">"
	}
	subject := "Your message could not be delivered"
	switch r.Kind {
	case queue.ReportDelay:
		subject = "Your message is delayed"
	case queue.ReportSuccess:
		subject = "Your message was delivered"
	}
	p.field("From", from)
	p.field("To", "<"+r.Envelope.ReversePath+">")
	p.field("Subject", subject)
	p.field("Date", date(r.Now))
	p.field("Message-ID", "<"+rand.Text()+"@"+p.host+">")
	if f.messageID != "" {
		p.field("In-Reply-To", f.messageID)
		p.field("References", f.messageID)
	}
	p.field("Auto-Submitted", "auto-replied")
	p.field("MIME-Version", "1.0")
	fmt.Fprintf(p, "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=%q\r\n", p.boundary)
	if f.eightBit || f.direct {
		p.WriteString("Content-Transfer-Encoding: 8bit\r\n")
	}
	p.WriteString("\r\nThis is a delivery report in MIME format.\r\n\r\n")
}

func date(t time.Time) string { return t.Format("Mon, 02 Jan 2006 15:04:05 -0700") }

func (w *Writer) text(p *page, r *queue.Report) {
	var text string
	if w.Text != nil {
		text = w.Text(r)
	} else {
		text = plainText(r, p.host)
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
	charset := "us-ascii"
	if !ascii(text) {
		charset = "utf-8"
		text = strings.ToValidUTF8(text, "?")
	}
	p.part("text/plain; charset="+charset, "Notification")
	p.content(text)
}

func plainText(r *queue.Report, host string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "This is the mail system at %s.\n\n", host)
	switch r.Kind {
	case queue.ReportFailure:
		b.WriteString("Your message could not be delivered to the recipients below, and no\nfurther attempts will be made.\n")
	case queue.ReportDelay:
		b.WriteString("Your message has not been delivered to the recipients below yet. You need not\nsend it again: delivery will be attempted")
		if r.RetryUntil.IsZero() {
			b.WriteString(" for some time.\n")
		} else {
			fmt.Fprintf(&b, " until\n%s.\n", date(r.RetryUntil))
		}
	case queue.ReportSuccess:
		b.WriteString("As you asked to be told: your message has reached the recipients below.\n")
	}
	for i := range r.Recipients {
		rcpt := &r.Recipients[i]
		fmt.Fprintf(&b, "\n  <%s>\n", clean(rcpt.Address, true))
		switch {
		case r.Kind == queue.ReportSuccess && rcpt.Last.Handover.Relayed():
			b.WriteString("    was passed on to a system that does not confirm deliveries.\n")
		case r.Kind == queue.ReportSuccess:
			b.WriteString("    was delivered.\n")
		default:
			if r.Kind == queue.ReportFailure && rcpt.Last.Result != queue.Permanent {
				b.WriteString("    could not be reached before the time for delivery ran out. Lastly,\n")
			}
			if rcpt.Last.RemoteMTA != "" {
				fmt.Fprintf(&b, "    %s said:\n", clean(rcpt.Last.RemoteMTA, true))
			}
			fmt.Fprintf(&b, "    %s\n", strings.ReplaceAll(wrap(diagnostic(&rcpt.Last), 70), "\n", "\n    "))
		}
	}
	return b.String()
}

// diagnostic is an outcome in words: the reply, or what we have to say.
func diagnostic(o *queue.Outcome) string {
	text := clean(o.Text, true)
	if text == "" {
		text = "no reason was given"
	}
	if o.Code == 0 {
		return text
	}
	if o.Enhanced != "" && !strings.HasPrefix(text, o.Enhanced) {
		text = o.Enhanced + " " + text
	}
	return fmt.Sprintf("%d %s", o.Code, text)
}

// returned writes the head of the last part, and gives the whole report.
func (w *Writer) returned(p *page, r *queue.Report, f *facts) io.Reader {
	contentType := "text/rfc822-headers"
	switch {
	case f.whole && f.global:
		contentType = "message/global"
	case f.whole:
		contentType = "message/rfc822"
	case f.global:
		contentType = "message/global-headers"
	}
	end := "\r\n--" + p.boundary + "--\r\n"
	var original io.ReadSeekCloser
	if f.whole {
		var err error
		if original, err = r.Open(); err != nil {
			f.lost = true
		}
	}
	switch {
	case f.lost:
		p.WriteString(end[2:])
		return &p.Buffer
	case !f.whole:
		p.part(contentType, "Header of the message")
		p.content(string(f.header))
		p.WriteString(end[2:])
		return &p.Buffer
	}
	p.part(contentType, "The message")
	var content io.Reader = original
	switch {
	case f.global && !f.direct:
		p.WriteString("Content-Transfer-Encoding: base64\r\n")
		content = newEncoder(original)
	case f.eightBit:
		p.WriteString("Content-Transfer-Encoding: 8bit\r\n")
	}
	p.WriteString("\r\n")
	return &closing{io.MultiReader(&p.Buffer, content, strings.NewReader(end)), original}
}

// closing is a report that reads the message it returns.
type closing struct {
	io.Reader
	io.Closer
}

// encoder is base64 in lines of 76, as a reader.
type encoder struct {
	r   io.Reader
	raw [57 * 64]byte
	out []byte
	err error
}

func newEncoder(r io.Reader) io.Reader { return &encoder{r: r} }

func (e *encoder) Read(p []byte) (int, error) {
	for len(e.out) == 0 {
		if e.err != nil {
			return 0, e.err
		}
		n, err := io.ReadFull(e.r, e.raw[:])
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		e.err = err
		for raw := e.raw[:n]; len(raw) > 0; {
			line := raw[:min(57, len(raw))]
			e.out = base64.StdEncoding.AppendEncode(e.out, line)
			e.out = append(e.out, "\r\n"...)
			raw = raw[len(line):]
		}
	}
	n := copy(p, e.out)
	e.out = e.out[n:]
	if len(e.out) == 0 {
		e.out = nil
	}
	return n, nil
}
