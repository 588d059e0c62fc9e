package dsn

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/mailblocks/mailblocks/queue"
)

// status writes the part for programs (RFC 3464, 2).
func (w *Writer) status(p *page, r *queue.Report) {
	kind := "message/delivery-status"
	if p.global {
		kind = "message/global-delivery-status"
	}
	p.part(kind, "Delivery report")
	s := &page{host: p.host, global: p.global}
	if r.Envelope.EnvID != "" {
		s.field("Original-Envelope-Id", r.Envelope.EnvID)
	}
	s.field("Reporting-MTA", "dns; "+p.host)
	if !r.Envelope.Arrived.IsZero() {
		s.field("Arrival-Date", date(r.Envelope.Arrived))
	}
	if by := r.Envelope.DeliverBy.Time; !by.IsZero() { // RFC 2852, 5
		s.field("Deliver-By-Date", date(by))
	}
	for i := range r.Recipients {
		s.WriteString("\r\n")
		s.recipient(r, &r.Recipients[i])
	}
	p.content(s.String())
}

func (p *page) recipient(r *queue.Report, rcpt *queue.Recipient) {
	if rcpt.ORcpt != "" {
		p.field("Original-Recipient", p.typed(rcpt.ORcpt))
	}
	if ascii(rcpt.Address) {
		p.field("Final-Recipient", "rfc822; "+rcpt.Address)
	} else {
		p.field("Final-Recipient", "utf-8; "+rcpt.Address)
	}
	p.field("Action", action(r.Kind, rcpt))
	p.field("Status", statusCode(r.Kind, rcpt))
	if rcpt.Last.RemoteMTA != "" {
		p.field("Remote-MTA", "dns; "+rcpt.Last.RemoteMTA)
	}
	switch o := &rcpt.Last; {
	case r.Kind == queue.ReportSuccess:
	case o.Code != 0:
		p.field("Diagnostic-Code", "smtp; "+asciiText(diagnostic(o)))
	case o.Text != "":
		p.field("Diagnostic-Code", "x-mailblocks; "+asciiText(clean(o.Text, true)))
	}
	if rcpt.Attempts > 0 && !r.Now.IsZero() {
		p.field("Last-Attempt-Date", date(r.Now))
	}
	if r.Kind == queue.ReportDelay && !r.RetryUntil.IsZero() {
		p.field("Will-Retry-Until", date(r.RetryUntil))
	}
}

// typed formats an ORCPT value. A utf-8 address is written out in the UTF-8 form of a report
// (RFC 6533, 3).
func (p *page) typed(orcpt string) string {
	kind, address, ok := strings.Cut(orcpt, ";")
	if !ok {
		kind, address = "rfc822", orcpt
	}
	if strings.EqualFold(kind, "utf-8") && p.global {
		if plain, ok := unembed(address); ok {
			address = plain
		}
	}
	if strings.EqualFold(kind, "rfc822") && !ascii(address) {
		kind = "utf-8"
	}
	return kind + "; " + address
}

func action(k queue.ReportKind, rcpt *queue.Recipient) string {
	switch {
	case k == queue.ReportFailure:
		return "failed"
	case k == queue.ReportDelay:
		return "delayed"
	case rcpt.Last.Handover.Relayed():
		return "relayed"
	}
	return "delivered"
}

// statusCode gives the enhanced code where it is one of the right class, else the generic one.
func statusCode(k queue.ReportKind, rcpt *queue.Recipient) string {
	o := &rcpt.Last
	if k == queue.ReportSuccess {
		if validStatus(o.Enhanced) && o.Enhanced[0] == '2' {
			return o.Enhanced
		}
		return "2.0.0"
	}
	if validStatus(o.Enhanced) && o.Enhanced[0] != '2' {
		if k == queue.ReportDelay { // while there is hope it is not permanent, whatever a host said when it refused to talk
			return "4" + o.Enhanced[1:]
		}
		return o.Enhanced
	}
	switch {
	case k == queue.ReportDelay || o.Code >= 400 && o.Code < 500 || o.Code == 0 && o.Result != queue.Permanent:
		return "4.0.0"
	}
	return "5.0.0"
}

// validStatus checks the form of RFC 3464, 2.3.4.
func validStatus(s string) bool {
	parts := strings.Split(s, ".")
	if len(parts) != 3 || s[0] != '2' && s[0] != '4' && s[0] != '5' || len(parts[0]) != 1 {
		return false
	}
	for _, part := range parts {
		if len(part) < 1 || len(part) > 3 || len(part) > 1 && part[0] == '0' {
			return false
		}
		for _, c := range []byte(part) {
			if c < '0' || c > '9' {
				return false
			}
		}
	}
	return true
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// clean makes text fit for a field: one line, no control characters, UTF-8 or ASCII. What can not be
// said is a question mark, or, in ASCII, \x{…} as RFC 6533 writes it.
func clean(s string, utf8Too bool) string {
	plain := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	var b strings.Builder
	space := false
	for _, r := range strings.ToValidUTF8(s, "?") {
		switch {
		case r == '\r' || r == '\n' || r == '\t':
			space = true
			continue
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0:
			r = '?'
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		space = false
		if r < utf8.RuneSelf || utf8Too {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x{%X}`, r)
		}
	}
	return b.String()
}

// clean8 replaces what is not ASCII in a header that is returned.
func clean8(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] >= utf8.RuneSelf {
			b[i] = '?'
		}
	}
	return string(b)
}

// asciiText is clean, but for text that is no address: what is not ASCII is a question mark.
func asciiText(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= utf8.RuneSelf {
			return '?'
		}
		return r
	}, s)
}

// maxWord is how many octets a line may have at most without a space; those of the mail may have 998.
const maxWord = 900

// fold breaks a field into lines of 78 octets where it has spaces, and ends it.
func fold(field string) string {
	var b strings.Builder
	for len(field) > 78 {
		at := strings.LastIndexByte(field[:78], ' ')
		if at <= 0 || strings.TrimSpace(field[:at]) == "" || strings.HasSuffix(field[:at], ":") {
			at = len(field)
			if next := strings.IndexByte(field[78:], ' '); next >= 0 {
				at = 78 + next
			}
			if at > maxWord { // a space is put where there is none, lest the line become too long
				at = maxWord
				for !utf8.RuneStart(field[at]) {
					at--
				}
				field = field[:at] + " " + field[at:]
			}
			if at == len(field) {
				break
			}
		}
		b.WriteString(field[:at] + "\r\n")
		field = field[at:]
	}
	b.WriteString(field + "\r\n")
	return b.String()
}

// wrap breaks text at spaces into lines of about width.
func wrap(text string, width int) string {
	var b strings.Builder
	line := 0
	for i, word := range strings.Fields(text) {
		for ; len(word) > maxWord; word = word[maxWord:] {
			b.WriteString(word[:maxWord] + "\n")
		}
		if i > 0 {
			if line+1+len(word) > width {
				b.WriteByte('\n')
				line = 0
			} else {
				b.WriteByte(' ')
				line++
			}
		}
		b.WriteString(word)
		line += len(word)
	}
	return b.String()
}

// unembed decodes \x{…}; ok is false when s is not of that form.
func unembed(s string) (string, bool) {
	var b strings.Builder
	for s != "" {
		rest, isCode := strings.CutPrefix(s, `\x{`)
		if !isCode {
			if s[0] == '\\' {
				return "", false
			}
			_, size := utf8.DecodeRuneInString(s)
			b.WriteString(s[:size])
			s = s[size:]
			continue
		}
		hex, after, closed := strings.Cut(rest, "}")
		var r rune
		if !closed || len(hex) < 2 || len(hex) > 6 {
			return "", false
		}
		for _, c := range []byte(hex) {
			switch {
			case c >= '0' && c <= '9':
				r = r<<4 | rune(c-'0')
			case c >= 'A' && c <= 'F':
				r = r<<4 | rune(c-'A'+10)
			default:
				return "", false
			}
		}
		if r < ' ' || r == 0x7f || !utf8.ValidRune(r) {
			return "", false
		}
		b.WriteRune(r)
		s = after
	}
	return b.String(), true
}
