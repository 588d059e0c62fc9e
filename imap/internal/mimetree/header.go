package mimetree

import (
	"bytes"
	"slices"
	"strings"
)

// Envelope has the fields that ENVELOPE shows (RFC 9051, 7.5.2), unfolded, otherwise as they
// stand in the header. When a field is there twice, the last one counts, of addresses all.
type Envelope struct {
	// Empty lists the fields that are there without a value: they show as an empty string,
	// not as NIL.
	Empty                 []string
	Date, Subject         string
	From, Sender, ReplyTo []Address
	To, CC, BCC           []Address
	InReplyTo, MessageID  string
	// References is the field of that name: ENVELOPE does not show it, threads are made of it.
	References string
}

// header parses a header and its blank line, up to a delimiter of bounds. The fields that
// are of interest go to p.
func (t *tree) header(p *Part, bounds [][]byte, isMessage bool) stop {
	if isMessage {
		p.Envelope = new(Envelope)
	}
	var name string  // of the field being read, lower case; empty when of no interest
	var value []byte // of the same field
	done := func() {
		if name != "" {
			p.field(name, string(value))
		}
		name, value = "", value[:0]
	}
	begin := true // the next piece begins a line
	for {
		start := t.place()
		line := t.line()
		if len(line) == 0 {
			done()
			return stop{t.place(), -1, false}
		}
		whole := line[len(line)-1] == '\n'
		text := bytes.TrimSuffix(bytes.TrimSuffix(line, newline), []byte("\r"))
		switch {
		case !begin || len(text) > 0 && (text[0] == ' ' || text[0] == '\t'):
			if name != "" {
				value = append(value, t.keep(text)...)
			}
		case len(text) == 0:
			done()
			return stop{t.place(), -1, false}
		default:
			if which, last := match(line, bounds); which >= 0 {
				done()
				return stop{start, which, last}
			}
			done()
			if before, after, ok := bytes.Cut(text, []byte(":")); ok {
				if name = wanted(bytes.TrimRight(before, " \t"), isMessage); name != "" {
					value = append(value[:0], t.keep(after)...)
				}
			}
		}
		begin = whole
	}
}

// keep returns as much of b as there is room for.
func (t *tree) keep(b []byte) []byte {
	b = b[:min(len(b), maxKept-t.kept)]
	t.kept += len(b)
	return b
}

var mimeFields = []string{"content-description", "content-disposition", "content-id", "content-language",
	"content-location", "content-md5", "content-transfer-encoding", "content-type"}

var envelopeFields = []string{"bcc", "cc", "date", "from", "in-reply-to", "message-id", "references", "reply-to", "sender", "subject", "to"}

// wanted returns the name of a field in lower case, if it is one that we keep.
func wanted(name []byte, isMessage bool) string {
	if len(name) < 2 || len(name) > len("content-transfer-encoding") {
		return ""
	}
	var lower [len("content-transfer-encoding")]byte
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	list := envelopeFields
	if lower[0] == 'c' && lower[1] == 'o' {
		list = mimeFields
	} else if !isMessage {
		return ""
	}
	if i, ok := slices.BinarySearch(list, string(lower[:len(name)])); ok {
		return list[i]
	}
	return ""
}

func (p *Part) field(name, value string) {
	value = strings.Trim(value, " \t")
	if p.Envelope != nil {
		e := p.Envelope
		if value == "" && len(e.Empty) < len(envelopeFields) {
			e.Empty = append(e.Empty, name)
		}
		switch name {
		case "date":
			e.Date = value
		case "subject":
			e.Subject = oneSpace(value)
		case "from":
			e.From = append(e.From, ParseAddresses(value)...)
		case "sender":
			e.Sender = append(e.Sender, ParseAddresses(value)...)
		case "reply-to":
			e.ReplyTo = append(e.ReplyTo, ParseAddresses(value)...)
		case "to":
			e.To = append(e.To, ParseAddresses(value)...)
		case "cc":
			e.CC = append(e.CC, ParseAddresses(value)...)
		case "bcc":
			e.BCC = append(e.BCC, ParseAddresses(value)...)
		case "in-reply-to":
			e.InReplyTo = value
		case "message-id":
			e.MessageID = value
		case "references":
			e.References = value
		}
	}
	first := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	switch name {
	case "content-type":
		if p.Type == "" {
			p.contentType(value)
		}
	case "content-disposition":
		if p.Disposition == "" {
			l := lexer{in: value}
			p.Disposition = l.token()
			p.DispParams = l.params()
		}
	case "content-transfer-encoding":
		l := lexer{in: value}
		first(&p.Encoding, l.token())
	case "content-id":
		first(&p.ID, value)
	case "content-description":
		first(&p.Description, value)
	case "content-md5":
		first(&p.MD5, value)
	case "content-location":
		first(&p.Location, value)
	case "content-language":
		l := lexer{in: value}
		for len(p.Language) < maxParams && !l.end() {
			if tag := l.token(); tag != "" {
				p.Language = append(p.Language, tag)
			} else {
				l.pos++
			}
		}
	}
}

// oneSpace makes one space of each run of blanks: folds leave tabs and more behind, which
// lists of messages would show.
func oneSpace(s string) string {
	if !strings.Contains(s, "\t") && !strings.Contains(s, "  ") {
		return s
	}
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' }), " ")
}

// contentType takes a usable Content-Type; of another one nothing is kept, and the part is
// what it would be without one (RFC 2045, 5.2).
func (p *Part) contentType(value string) {
	l := lexer{in: value}
	typ := l.token()
	if typ == "" || !l.accept('/') {
		return
	}
	sub := l.token()
	if sub == "" {
		return
	}
	p.Type, p.Subtype, p.Params = typ, sub, l.params()
}

// lexer takes MIME tokens from a field, forgiving whatever it can.
type lexer struct {
	in   string
	pos  int
	note string // the last comment that was skipped
}

// end skips blanks and comments and reports whether nothing is left.
func (l *lexer) end() bool {
	for l.pos < len(l.in) {
		switch l.in[l.pos] {
		case ' ', '\t', '\r', '\n':
			l.pos++
		case '(':
			l.note = l.comment()
		default:
			return false
		}
	}
	return true
}

// comment takes a comment and returns what is in it.
func (l *lexer) comment() string {
	var b strings.Builder
	depth := 0
	for l.pos < len(l.in) {
		c := l.in[l.pos]
		l.pos++
		switch {
		case c == '(':
			if depth++; depth == 1 {
				continue
			}
		case c == ')':
			if depth--; depth == 0 {
				return b.String()
			}
		case c == '\\' && l.pos < len(l.in):
			c = l.in[l.pos]
			l.pos++
		}
		b.WriteByte(c)
	}
	return b.String()
}

func (l *lexer) accept(c byte) bool {
	if !l.end() && l.in[l.pos] == c {
		l.pos++
		return true
	}
	return false
}

// token takes what comes next up to a blank or one of ()<>@,;:\"/[]?= .
func (l *lexer) token() string {
	l.end()
	start := l.pos
	for l.pos < len(l.in) && l.in[l.pos] > ' ' && l.in[l.pos] != 0x7f && strings.IndexByte(`()<>@,;:\"/[]?=`, l.in[l.pos]) < 0 {
		l.pos++
	}
	return l.in[start:l.pos]
}

// quoted takes a quoted string; its end may be missing.
func (l *lexer) quoted() string {
	var b strings.Builder
	for l.pos++; l.pos < len(l.in); l.pos++ {
		c := l.in[l.pos]
		switch {
		case c == '"':
			l.pos++
			return b.String()
		case c == '\\' && l.pos+1 < len(l.in):
			l.pos++
			c = l.in[l.pos]
		}
		b.WriteByte(c)
	}
	return b.String()
}

// params takes ";"-separated parameters up to the end. Values without quotes go up to the
// next ";" or blank, whatever they hold.
func (l *lexer) params() []Param {
	var out []Param
	for !l.end() && len(out) < maxParams {
		if !l.accept(';') {
			l.pos++
			continue
		}
		name := l.token()
		if name == "" || !l.accept('=') {
			continue
		}
		var value string
		if !l.end() && l.in[l.pos] == '"' {
			value = l.quoted()
		} else {
			start := l.pos
			for l.pos < len(l.in) && strings.IndexByte("; \t\r\n", l.in[l.pos]) < 0 {
				l.pos++
			}
			value = l.in[start:l.pos]
		}
		out = append(out, Param{name, value})
	}
	return joinContinued(out)
}

// joinContinued puts parameters together that RFC 2231, 3 split: name*0, name*1 ... becomes
// name, or name* when a piece is encoded, as RFC 2231, 8 asks of IMAP servers.
func joinContinued(params []Param) []Param {
	var out []Param
	at := make(map[string]int) // lower-case base name: index in out
	for _, p := range params {
		base, rest, ok := strings.Cut(p.Name, "*")
		number := strings.TrimSuffix(rest, "*")
		if !ok || number == "" || strings.Trim(number, "0123456789") != "" {
			out = append(out, p)
			continue
		}
		encoded := strings.HasSuffix(rest, "*")
		key := strings.ToLower(base)
		i, seen := at[key]
		if !seen {
			if encoded {
				base += "*"
			}
			at[key] = len(out)
			out = append(out, Param{base, p.Value})
			continue
		}
		out[i].Value += p.Value
	}
	return out
}
