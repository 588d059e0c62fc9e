package authres

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"
)

// Header is the content of an Authentication-Results field.
type Header struct {
	ServID  string // authserv-id: who checked
	Version int    // of the syntax; 0 when it was left out, which means 1
	Results []Result
}

// Result is what one method found.
type Result struct {
	Method        string // such as "spf" or "dkim", lower-case
	MethodVersion int    // 0 when it was left out
	Value         string // such as "pass", lower-case
	Comment       string // the comments behind the value, for people
	Reason        string
	Props         []Prop
}

// Prop is a property that a method looked at: ptype.property=pvalue.
type Prop struct {
	Type  string // such as "smtp" or "header", lower-case
	Name  string // such as "mailfrom" or "d"
	Value string
}

// Get returns the value of a property, empty without it.
func (r *Result) Get(typ, name string) string {
	for _, p := range r.Props {
		if strings.EqualFold(p.Type, typ) && strings.EqualFold(p.Name, name) {
			return p.Value
		}
	}
	return ""
}

// String returns the field's value, folded, with CRLF between its lines but
// none at the end. Parse of it gives the same results, as far as they were
// printable and shorter than 512 octets each.
func (h *Header) String() string {
	w := writer{col: len("Authentication-Results: ")}
	w.word(value(h.ServID))
	if h.Version > 1 {
		w.word(strconv.Itoa(h.Version))
	}
	if len(h.Results) == 0 {
		w.b.WriteString("; none")
		return w.b.String()
	}
	for i := range h.Results {
		h.Results[i].write(&w)
	}
	return w.b.String()
}

// Field returns the whole field with its name and a CRLF at its end, ready to
// stand in front of a message.
func (h *Header) Field() string {
	return "Authentication-Results: " + h.String() + "\r\n"
}

func (r *Result) write(w *writer) {
	w.b.WriteByte(';')
	w.fold()
	method := keyword(r.Method)
	if r.MethodVersion > 1 {
		method += "/" + strconv.Itoa(r.MethodVersion)
	}
	w.word(method + "=" + keyword(r.Value))
	if c := printable(r.Comment); c != "" {
		w.comment(c)
	}
	if r.Reason != "" {
		w.word("reason=" + quote(printable(r.Reason)))
	}
	for _, p := range r.Props {
		w.word(keyword(p.Type) + "." + keyword(p.Name) + "=" + value(p.Value))
	}
}

// writer folds a field between words (RFC 5322, 2.1.1).
type writer struct {
	b   strings.Builder
	col int
	any bool // the line holds a word
}

const lineLength = 78

func (w *writer) fold() {
	w.b.WriteString("\r\n\t")
	w.col, w.any = 8, false
}

func (w *writer) word(s string) {
	if w.any && w.col+1+len(s) > lineLength {
		w.fold()
	}
	if w.any {
		w.b.WriteByte(' ')
		w.col++
	}
	w.b.WriteString(s)
	w.col += len(s)
	w.any = true
}

// comment writes a comment word by word, so that long ones fold.
func (w *writer) comment(s string) {
	words := strings.Fields(s)
	for i, word := range words {
		word = msgheader.Escape(word, `()\`)
		if i == 0 {
			word = "(" + word
		}
		if i == len(words)-1 {
			word += ")"
		}
		w.word(word)
	}
}

// maxText bounds one value, so that no line passes 998 octets even if every
// character is escaped.
const maxText = 440

// printable makes s one line of valid UTF-8 without control characters.
func printable(s string) string {
	ok := len(s) <= maxText && utf8.ValidString(s)
	for i := 0; ok && i < len(s); i++ {
		ok = s[i] >= ' ' && s[i] != 0x7f
	}
	if ok {
		return s
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError:
			return '?'
		case r < ' ' || 0x7f <= r && r < 0xa0 || r == 0x2028 || r == 0x2029:
			return ' '
		}
		return r
	}, s)
	if len(s) > maxText {
		s = s[:maxText]
		for len(s) > 0 && !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	return s
}

// keyword reduces s to what a Keyword may be (RFC 5321, 4.1.2).
func keyword(s string) string {
	out := make([]byte, 0, len(s))
	for i := range min(len(s), 64) {
		if c := s[i]; isKeyword(c) {
			out = append(out, c)
		} else {
			out = append(out, '-')
		}
	}
	for len(out) > 0 && out[len(out)-1] == '-' {
		out = out[:len(out)-1]
	}
	if len(out) == 0 {
		return "unknown"
	}
	return strings.ToLower(string(out))
}

func isKeyword(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
}

// value returns s as a token, an address, or a quoted-string.
func value(s string) string {
	s = printable(s)
	local, domain, at := strings.Cut(s, "@")
	if at && (local == "" || isToken(local)) && isToken(domain) || !at && isToken(s) {
		return s
	}
	return quote(s)
}

func quote(s string) string { return `"` + msgheader.Escape(s, `"\`) + `"` }

// isToken is RFC 2045, 5.1.
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
