package authres

import (
	"errors"
	"strconv"
	"strings"
)

// ErrSyntax is what Parse returns for a value it can not make sense of.
var ErrSyntax = errors.New("authres: malformed Authentication-Results")

// maxResults bounds what Parse returns of one field.
const maxResults = 100

// Parse reads the value of an Authentication-Results field, folds included. It
// takes what servers really write: values that should be quoted, several
// semicolons, properties that break off. It stops at the first element it can
// not read, with what it has read and an error.
func Parse(s string) (*Header, error) {
	p := &parser{s: s}
	h := new(Header)
	var ok bool
	if h.ServID, ok = p.value(";"); !ok {
		return nil, ErrSyntax
	}
	if v, ok := p.number(); ok {
		h.Version = v
	}
	for {
		p.skip()
		if p.end() {
			return h, nil
		}
		if !p.take(';') {
			return h, ErrSyntax
		}
		p.skip()
		if p.end() || p.s[p.pos] == ';' {
			continue
		}
		r, none, err := p.result()
		if err != nil {
			return h, err
		}
		if none {
			continue
		}
		if len(h.Results) == maxResults {
			return h, ErrSyntax
		}
		h.Results = append(h.Results, r)
	}
}

// parser goes over a value once.
type parser struct {
	s        string
	pos      int
	comments []string // skipped since they were last taken
}

func (p *parser) end() bool { return p.pos >= len(p.s) }

func (p *parser) take(c byte) bool {
	if !p.end() && p.s[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

// skip skips white space and comments.
func (p *parser) skip() {
	for !p.end() {
		switch p.s[p.pos] {
		case ' ', '\t', '\r', '\n':
			p.pos++
		case '(':
			p.comments = append(p.comments, p.comment())
		default:
			return
		}
	}
}

// comment reads a comment, which may nest, without its outer parentheses.
func (p *parser) comment() string {
	var b strings.Builder
	depth := 0
	for ; !p.end(); p.pos++ {
		c := p.s[p.pos]
		switch {
		case c == '\\' && p.pos+1 < len(p.s):
			p.pos++
			b.WriteByte(p.s[p.pos])
			continue
		case c == '(':
			if depth++; depth == 1 {
				continue
			}
		case c == ')':
			if depth--; depth == 0 {
				p.pos++
				return strings.Join(strings.Fields(b.String()), " ")
			}
		}
		b.WriteByte(c)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// takeComments returns the comments skipped so far.
func (p *parser) takeComments() string {
	s := strings.Join(p.comments, " ")
	p.comments = p.comments[:0]
	return strings.TrimSpace(s)
}

// value reads a quoted-string, or what stands up to white space, a comment, or
// a character of stop. The two may follow each other directly, as in
// "a b"@example.org.
func (p *parser) value(stop string) (string, bool) {
	p.skip()
	start := p.pos
	var b strings.Builder
	for !p.end() {
		c := p.s[p.pos]
		switch {
		case c == '"':
			p.quoted(&b)
			continue
		case c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '(' || strings.IndexByte(stop, c) >= 0:
			return b.String(), p.pos > start
		}
		b.WriteByte(c)
		p.pos++
	}
	return b.String(), p.pos > start
}

func (p *parser) quoted(b *strings.Builder) {
	for p.pos++; !p.end(); p.pos++ {
		switch c := p.s[p.pos]; c {
		case '\\':
			if p.pos+1 < len(p.s) {
				p.pos++
				b.WriteByte(p.s[p.pos])
			}
		case '"':
			p.pos++
			return
		case '\r', '\n':
		default:
			b.WriteByte(c)
		}
	}
}

// number reads 1*DIGIT, and nothing if something else stands there.
func (p *parser) number() (int, bool) {
	p.skip()
	start := p.pos
	for !p.end() && '0' <= p.s[p.pos] && p.s[p.pos] <= '9' {
		p.pos++
	}
	n, err := strconv.Atoi(p.s[start:p.pos])
	if err != nil {
		p.pos = start
		return 0, false
	}
	return n, true
}

// word reads a keyword.
func (p *parser) word() string {
	p.skip()
	start := p.pos
	for !p.end() && isKeyword(p.s[p.pos]) {
		p.pos++
	}
	return strings.ToLower(p.s[start:p.pos])
}

// result reads one resinfo, or the word none.
func (p *parser) result() (r Result, none bool, err error) {
	p.takeComments()
	if r.Method = p.word(); r.Method == "" {
		return r, false, ErrSyntax
	}
	p.skip()
	if r.Method == "none" && (p.end() || p.s[p.pos] == ';') {
		return r, true, nil
	}
	if p.take('/') {
		r.MethodVersion, _ = p.number()
		p.skip()
	}
	if !p.take('=') {
		return r, false, ErrSyntax
	}
	if r.Value = p.word(); r.Value == "" {
		return r, false, ErrSyntax
	}
	for {
		p.skip()
		if p.end() || p.s[p.pos] == ';' {
			break
		}
		if err := p.property(&r); err != nil {
			return r, false, err
		}
	}
	r.Comment = p.takeComments()
	return r, false, nil
}

// property reads reason=value or ptype.property=pvalue.
func (p *parser) property(r *Result) error {
	name := p.word()
	if name == "" {
		return ErrSyntax
	}
	p.skip()
	if p.take('=') {
		v, _ := p.value(";")
		switch name {
		case "reason":
			r.Reason = v
		case "action": // some servers tell what they did; there is no property type
			r.Props = append(r.Props, Prop{Type: "policy", Name: name, Value: v})
		}
		return nil
	}
	if !p.take('.') {
		return ErrSyntax
	}
	prop := Prop{Type: name, Name: p.word()}
	p.skip()
	if prop.Name == "" || !p.take('=') {
		return ErrSyntax
	}
	prop.Value, _ = p.value(";")
	r.Props = append(r.Props, prop)
	return nil
}
