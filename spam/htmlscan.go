package spam

import (
	"bytes"
	"html"
	"unicode/utf8"

	"golang.org/x/net/html/atom"
)

// An htmlScanner cuts HTML into text, tags and comments (HTML, 13.2.5, without its errors).
// It allocates nothing: what it returns is part of what it reads, or valid until its next call.
type htmlScanner struct {
	rest []byte
	raw  string // the name of the element whose content is text up to its end tag

	text   []byte // of htmlText, as it stands in the source
	tag    atom.Atom
	name   [32]byte
	closed bool // the tag ended in "/>"
}

type htmlToken uint8

const (
	htmlEOF htmlToken = iota
	htmlText
	htmlStart // its attributes follow, by attr, which has to be called to the last
	htmlEnd
	htmlComment
	htmlDeclaration
)

// rawText elements hold no tags (HTML, 13.1.2).
func rawText(t atom.Atom) bool {
	switch t {
	case atom.Script, atom.Style, atom.Title, atom.Textarea, atom.Iframe, atom.Noembed, atom.Noframes, atom.Xmp, atom.Plaintext:
		return true
	}
	return false
}

func (s *htmlScanner) next() htmlToken {
	if len(s.raw) > 0 {
		n := s.rawEnd()
		s.raw = ""
		if n > 0 {
			return s.cutText(n)
		}
	}
	if len(s.rest) == 0 {
		return htmlEOF
	}
	for i := 0; ; i++ {
		j := bytes.IndexByte(s.rest[i:], '<')
		if j < 0 || i+j+1 >= len(s.rest) {
			return s.cutText(len(s.rest))
		}
		i += j
		c := s.rest[i+1]
		if !isAlpha(c) && c != '/' && c != '!' && c != '?' {
			continue // no tag
		}
		if i > 0 {
			return s.cutText(i)
		}
		break
	}
	c := s.rest[1]
	switch {
	case isAlpha(c):
		s.rest = s.rest[1:]
		s.tagName()
		return htmlStart
	case c == '/' && len(s.rest) > 2 && isAlpha(s.rest[2]):
		s.rest = s.rest[2:]
		s.tagName()
		s.skip(">")
		return htmlEnd
	case bytes.HasPrefix(s.rest, []byte("<!--")):
		s.rest = s.rest[min(len("<!--"), len(s.rest)):]
		if bytes.HasPrefix(s.rest, []byte(">")) || bytes.HasPrefix(s.rest, []byte("->")) {
			s.skip(">")
		} else {
			s.skip("-->")
		}
		return htmlComment
	}
	declaration := c == '!' && len(s.rest) > 2 && isAlpha(s.rest[2])
	s.skip(">")
	if declaration {
		return htmlDeclaration
	}
	return htmlComment
}

func (s *htmlScanner) cutText(n int) htmlToken {
	s.text, s.rest = s.rest[:n], s.rest[n:]
	return htmlText
}

// skip goes to what follows the next sign, or to the end.
func (s *htmlScanner) skip(sign string) {
	if i := bytes.Index(s.rest, []byte(sign)); i >= 0 {
		s.rest = s.rest[i+len(sign):]
	} else {
		s.rest = nil
	}
}

// rawEnd returns how long the text is before the end tag of the element s.raw.
func (s *htmlScanner) rawEnd() int {
	for i := 0; ; i += 2 {
		j := bytes.Index(s.rest[i:], []byte("</"))
		if j < 0 {
			return len(s.rest)
		}
		i += j
		after := s.rest[i+2:]
		if len(after) > len(s.raw) && bytes.EqualFold(after[:len(s.raw)], []byte(s.raw)) {
			switch after[len(s.raw)] {
			case ' ', '\t', '\r', '\n', '\f', '/', '>':
				return i
			}
		}
	}
}

func (s *htmlScanner) tagName() {
	n := 0
	for n < len(s.rest) && !isTagBreak(s.rest[n]) {
		n++
	}
	s.tag = atom.Lookup(lowerTo(s.name[:0], s.rest[:n]))
	s.rest = s.rest[n:]
	s.closed = false
}

func isTagBreak(c byte) bool { return isHTMLSpace(c) || c == '/' || c == '>' }

func isHTMLSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '\f'
}

// lowerTo appends b in lower case as far as there is room.
func lowerTo(dst, b []byte) []byte {
	for _, c := range b[:min(len(b), cap(dst)-len(dst))] {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// attr returns the next attribute of a start tag, or false after the last. The key is in
// lower case, the value as it stands in the source.
func (s *htmlScanner) attr(keyBuf []byte) (key, val []byte, ok bool) {
	b := s.rest
	i := 0
	for i < len(b) && (isHTMLSpace(b[i]) || b[i] == '/') {
		i++
	}
	if i >= len(b) || b[i] == '>' {
		s.closed = i > 0 && i < len(b) && b[i-1] == '/'
		s.rest = b[min(i+1, len(b)):]
		if rawText(s.tag) && !s.closed {
			s.raw = s.tag.String()
		}
		return nil, nil, false
	}
	start := i
	for i++; i < len(b) && !isTagBreak(b[i]) && b[i] != '='; { // a first "=" belongs to the name
		i++
	}
	key = lowerTo(keyBuf[:0], b[start:i])
	for i < len(b) && isHTMLSpace(b[i]) {
		i++
	}
	if i >= len(b) || b[i] != '=' {
		s.rest = b[i:]
		return key, nil, true
	}
	for i++; i < len(b) && isHTMLSpace(b[i]); {
		i++
	}
	switch {
	case i < len(b) && (b[i] == '"' || b[i] == '\''):
		n := bytes.IndexByte(b[i+1:], b[i])
		if n < 0 {
			s.rest = nil
			return key, b[i+1:], true
		}
		val, s.rest = b[i+1:i+1+n], b[i+n+2:]
	default:
		start := i
		for i < len(b) && !isHTMLSpace(b[i]) && b[i] != '>' {
			i++
		}
		val, s.rest = b[start:i], b[i:]
	}
	return key, val, true
}

// appendUnescaped appends text with its character references resolved (HTML, 13.2.5.72) and
// line ends as LF. In the value of an attribute, "&copy=" is no reference.
func appendUnescaped(dst, b []byte, attribute bool) []byte {
	for {
		i := bytes.IndexAny(b, "&\r")
		if i < 0 {
			return append(dst, b...)
		}
		dst = append(dst, b[:i]...)
		if b[i] == '\r' {
			if dst = append(dst, '\n'); i+1 < len(b) && b[i+1] == '\n' {
				i++
			}
			b = b[i+1:]
			continue
		}
		var n int
		dst, n = appendReference(dst, b[i:], attribute)
		b = b[i+n:]
	}
}

// appendReference appends what the character reference at the start of b stands for, and
// returns its length.
func appendReference(dst, b []byte, attribute bool) ([]byte, int) {
	n := 1
	for n < len(b) && n < 34 && (isAlpha(b[n]) || b[n] >= '0' && b[n] <= '9' || b[n] == '#' && n == 1) {
		n++
	}
	name := b[1:n]
	if n < len(b) && b[n] == ';' {
		n++
	} else if attribute && n < len(b) && b[n] == '=' {
		return append(dst, '&'), 1
	}
	switch string(name) {
	case "":
		return append(dst, '&'), 1
	case "nbsp":
		return append(dst, "\u00a0"...), n
	case "amp":
		return append(dst, '&'), n
	case "lt":
		return append(dst, '<'), n
	case "gt":
		return append(dst, '>'), n
	case "quot":
		return append(dst, '"'), n
	}
	if name[0] != '#' || len(name) < 2 {
		return append(dst, html.UnescapeString(string(b[:n]))...), n
	}
	digits, base := name[1:], rune(10)
	if digits[0]|0x20 == 'x' {
		digits, base = digits[1:], 16
	}
	r := rune(0)
	for _, c := range digits {
		v := rune(hexValue(c))
		if v < 0 || v >= base || r > utf8.MaxRune {
			return append(dst, html.UnescapeString(string(b[:n]))...), n
		}
		r = r*base + v
	}
	if r < 0x20 || r >= 0x80 && r < 0xa0 || len(digits) == 0 { // some have a meaning of their own
		return append(dst, html.UnescapeString(string(b[:n]))...), n
	}
	return utf8.AppendRune(dst, r), n
}
