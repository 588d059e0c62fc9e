package mimetree

import "strings"

// An Address is one of a list. A group is shown as IMAP does (RFC 9051, 7.5.2): Mailbox
// holds its name and Host is empty at its start, both are empty at its end.
type Address struct {
	Name    string // phrase, without quotes, encoded words as they are
	Route   string // RFC 822 source route
	Mailbox string // local-part, without quotes
	Host    string
}

// What is shown where an address lacks a part: an empty host would look like a group.
const (
	missingMailbox = "MISSING_MAILBOX"
	missingHost    = "MISSING_DOMAIN"
)

// ParseAddresses takes an address list (RFC 5322, 3.4), obsolete and broken ones included:
// every octet of it is looked at, none is an error.
func ParseAddresses(s string) []Address {
	p := addressParser{lexer: lexer{in: s}}
	for !p.end() {
		p.one()
	}
	if p.inGroup {
		p.out = append(p.out, Address{})
	}
	return p.out
}

type addressParser struct {
	lexer
	out     []Address
	inGroup bool
}

// one takes an address, the start or the end of a group, or a stray separator.
func (p *addressParser) one() {
	words, comment := p.words()
	next := byte(',')
	if p.pos < len(p.in) {
		next = p.in[p.pos]
		p.pos++
	}
	switch next {
	case '<':
		a := p.angle()
		if a.Name = words.phrase(); a.Name == "" {
			_, a.Name = p.words()
		}
		p.add(a)
		p.skipTo(",;")
	case '@':
		p.note = ""
		host := p.domain()
		if comment == "" {
			comment = strings.TrimSpace(p.note)
		}
		p.add(Address{Name: comment, Mailbox: words.joined(), Host: host})
		p.skipTo(",;")
	case ':':
		if !p.inGroup {
			p.inGroup = true
			p.out = append(p.out, Address{Mailbox: orElse(words.phrase(), missingMailbox)})
		}
	default: // a separator, or something stray
		if name := words.joined(); name != "" {
			p.add(Address{Name: comment, Mailbox: name})
		}
		if next == ';' && p.inGroup {
			p.inGroup = false
			p.out = append(p.out, Address{})
		}
	}
}

func (p *addressParser) add(a Address) {
	a.Mailbox, a.Host = orElse(a.Mailbox, missingMailbox), orElse(a.Host, missingHost)
	p.out = append(p.out, a)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// skipTo goes on to the next separator, behind a comma, before a semicolon.
func (p *addressParser) skipTo(separators string) {
	for !p.end() {
		switch c := p.in[p.pos]; {
		case c == '"':
			p.quoted()
		case c == ';':
			return
		case strings.IndexByte(separators, c) >= 0:
			p.pos++
			return
		default:
			p.pos++
		}
	}
}

// wordList is a run of words, with what stood between them.
type wordList []struct {
	text  string
	space bool // there was a blank before it
}

func (w wordList) phrase() string {
	var b strings.Builder
	for i, x := range w {
		if i > 0 && x.space {
			b.WriteByte(' ')
		}
		b.WriteString(x.text)
	}
	return b.String()
}

func (w wordList) joined() string {
	var b strings.Builder
	for _, x := range w {
		b.WriteString(x.text)
	}
	return b.String()
}

// words takes atoms and quoted strings up to a special, and returns the last comment too.
func (p *addressParser) words() (w wordList, comment string) {
	space := false
	for p.pos < len(p.in) {
		c := p.in[p.pos]
		word := ""
		switch {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			p.pos++
			space = true
			continue
		case c == '(':
			comment = strings.TrimSpace(p.comment())
			space = true
			continue
		case c == ')': // of no comment
			p.pos++
			continue
		case c == '"':
			word = p.quoted()
		case strings.IndexByte("<>@,;:", c) >= 0:
			return w, comment
		default:
			start := p.pos
			for p.pos < len(p.in) && p.in[p.pos] != ' ' && p.in[p.pos] != '\t' && strings.IndexByte("()<>@,;:\"\r\n", p.in[p.pos]) < 0 {
				p.pos++
			}
			word = p.in[start:p.pos]
		}
		w = append(w, struct {
			text  string
			space bool
		}{word, space})
		space = false
	}
	return w, comment
}

// angle takes what stands between < and >.
func (p *addressParser) angle() (a Address) {
	if !p.end() && p.in[p.pos] == '@' {
		start := p.pos
		if i := strings.IndexAny(p.in[p.pos:], ":>"); i >= 0 && p.in[p.pos+i] == ':' {
			p.pos += i + 1
			a.Route = strings.TrimSpace(p.in[start : p.pos-1])
		}
	}
	words, _ := p.words()
	a.Mailbox = words.joined()
	if p.accept('@') {
		a.Host = p.domain()
	}
	// Up to the bracket, or to what must be another address.
	for !p.end() {
		c := p.in[p.pos]
		if c == ',' || c == ';' {
			break
		}
		p.pos++
		if c == '>' {
			break
		}
	}
	return a
}

// domain takes a domain or a domain literal, without blanks and comments.
func (p *addressParser) domain() string {
	var b strings.Builder
	for !p.end() {
		c := p.in[p.pos]
		if c == '[' {
			end := strings.IndexByte(p.in[p.pos:], ']')
			if end < 0 {
				end = len(p.in) - p.pos - 1
			}
			b.WriteString(p.in[p.pos : p.pos+end+1])
			p.pos += end + 1
			continue
		}
		if strings.IndexByte("<>@,;:\"", c) >= 0 {
			break
		}
		// A blank ends a domain unless a dot stands next to it (RFC 5322, 4.4: obs-domain).
		start := p.pos
		for p.pos < len(p.in) && strings.IndexByte(" \t\r\n()<>@,;:\"[", p.in[p.pos]) < 0 {
			p.pos++
		}
		piece := p.in[start:p.pos]
		if piece == "" { // a parenthesis of no comment
			p.pos++
			continue
		}
		if b.Len() > 0 && !strings.HasPrefix(piece, ".") && !strings.HasSuffix(b.String(), ".") {
			p.pos = start
			break
		}
		b.WriteString(piece)
	}
	return b.String()
}
