package dmarcrpt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/textproto"
	"strings"
	"time"
)

// Mail says how to send a report by mail.
type Mail struct {
	From      string    // address of the author; its domain signs the message
	To        string    // the destination's address
	Submitter string    // our domain
	Date      time.Time // zero: now
}

// WriteMail writes the report as a message (RFC 9990, 3.5.2), with the report in gzip and a line of text for those
// who read it. It must be signed such that DMARC passes for the domain of m.From. Line ends are CRLF.
func (r *Report) WriteMail(w io.Writer, m Mail) error {
	for _, s := range []string{m.From, m.To, m.Submitter, r.Policy.Domain, r.Metadata.ID} {
		if s == "" || strings.ContainsAny(s, "\r\n\"<>") {
			return fmt.Errorf("dmarcrpt: %q can not stand in a header", s)
		}
	}
	if m.Date.IsZero() {
		m.Date = time.Now()
	}
	packed, err := r.Gzip()
	if err != nil {
		return err
	}
	mw := multipart.NewWriter(w)
	_, err = fmt.Fprintf(w, "From: <%s>\r\nTo: <%s>\r\nSubject: Report Domain: %s\r\n Submitter: %s\r\n Report-ID: <%s>\r\nDate: %s\r\nMessage-ID: <%s>\r\n"+
		"Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"%s\"\r\n\r\n",
		m.From, m.To, r.Policy.Domain, m.Submitter, r.Metadata.ID, m.Date.Format(time.RFC1123Z), r.messageID(m.Submitter), mw.Boundary())
	if err == nil {
		err = r.writeParts(mw, m.Submitter, packed)
	}
	if err != nil {
		return fmt.Errorf("dmarcrpt: write report %s: %w", r.Metadata.ID, err)
	}
	return nil
}

// messageID is the report's own, so that a report sent again is known for what it is.
func (r *Report) messageID(submitter string) string {
	if strings.Contains(r.Metadata.ID, "@") {
		return r.Metadata.ID
	}
	return r.Metadata.ID + "@" + submitter
}

func (r *Report) writeParts(mw *multipart.Writer, submitter string, packed []byte) error {
	text, err := mw.CreatePart(textproto.MIMEHeader{"Content-Type": {"text/plain; charset=us-ascii"}})
	if err != nil {
		return err
	}
	begin, end := time.Unix(r.Metadata.DateRange.Begin, 0).UTC(), time.Unix(r.Metadata.DateRange.End, 0).UTC()
	_, err = fmt.Fprintf(text, "This is a DMARC aggregate report about mail from %s\r\nthat %s received from %s to %s.\r\n",
		r.Policy.Domain, submitter, begin.Format(time.RFC3339), end.Format(time.RFC3339))
	if err != nil {
		return err
	}
	file, err := mw.CreatePart(textproto.MIMEHeader{
		"Content-Type":              {"application/gzip"},
		"Content-Disposition":       {`attachment; filename="` + r.FileName(submitter) + `"`},
		"Content-Transfer-Encoding": {"base64"},
	})
	if err != nil {
		return err
	}
	lines := &lineWriter{w: file}
	enc := base64.NewEncoder(base64.StdEncoding, lines)
	_, err = enc.Write(packed)
	return errors.Join(err, enc.Close(), lines.end(), mw.Close())
}

// lineWriter breaks what is written into lines of 76 octets (RFC 2045, 6.8).
type lineWriter struct {
	w io.Writer
	n int
}

func (l *lineWriter) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if l.n == 76 {
			if err := l.end(); err != nil {
				return 0, err
			}
		}
		k := min(len(rest), 76-l.n)
		if _, err := l.w.Write(rest[:k]); err != nil {
			return 0, err
		}
		l.n += k
		rest = rest[k:]
	}
	return len(p), nil
}

func (l *lineWriter) end() error {
	l.n = 0
	_, err := io.WriteString(l.w, "\r\n")
	return err
}
