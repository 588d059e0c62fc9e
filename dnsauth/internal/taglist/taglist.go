// Package taglist parses the tag=value lists of RFC 6376, 3.2, which DKIM
// signatures and keys, ARC, DMARC, TLSRPT and BIMI records share.
package taglist

import (
	"errors"
	"strings"
)

// Tag is one tag=value pair.
type Tag struct {
	Name  string
	Value string // without surrounding whitespace; whitespace inside is kept

	// Start and End delimit in the list's text everything between the "="
	// and the ";" or the end.
	Start, End int
}

// List is a parsed tag list, in the order of the text.
type List []Tag

// Errors of Parse.
var (
	ErrSyntax    = errors.New("malformed tag list")
	ErrDuplicate = errors.New("tag appears twice")
	ErrTooMany   = errors.New("too many tags")
)

// maxTags bounds a list; the longest of any RFC has 13.
const maxTags = 64

// Parse parses s. Empty tags between semicolons are errors unless lenient is
// set; one semicolon at the end is not.
func Parse(s string, lenient bool) (List, error) {
	list := make(List, 0, 12)
	for pos := 0; pos < len(s); {
		end := strings.IndexByte(s[pos:], ';')
		if end < 0 {
			end = len(s)
		} else {
			end += pos
		}
		spec := s[pos:end]
		next := end + 1
		eq := strings.IndexByte(spec, '=')
		switch {
		case eq >= 0:
		case trim(spec) == "" && (lenient || next > len(s) && len(list) > 0):
			pos = next
			continue
		default:
			return nil, ErrSyntax
		}
		name := trim(spec[:eq])
		if !isName(name) {
			return nil, ErrSyntax
		}
		if len(list) == maxTags {
			return nil, ErrTooMany
		}
		for i := range list {
			if list[i].Name == name {
				return nil, ErrDuplicate
			}
		}
		value := trim(spec[eq+1:])
		for i := range len(value) {
			if c := value[i]; c < ' ' && !isSpace(c) || c == 0x7f {
				return nil, ErrSyntax
			}
		}
		list = append(list, Tag{Name: name, Value: value, Start: pos + eq + 1, End: end})
		pos = next
	}
	if len(list) == 0 {
		return nil, ErrSyntax
	}
	return list, nil
}

// Get returns the value of the tag called name.
func (l List) Get(name string) (value string, ok bool) {
	if t := l.Tag(name); t != nil {
		return t.Value, true
	}
	return "", false
}

// Tag returns the tag called name, or nil.
func (l List) Tag(name string) *Tag {
	for i := range l {
		if l[i].Name == name {
			return &l[i]
		}
	}
	return nil
}

// Unspaced returns s without any whitespace, as base64 values are read.
func Unspaced(s string) string {
	if !strings.ContainsAny(s, " \t\r\n") {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := range len(s) {
		if !isSpace(s[i]) {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// Split cuts a value at sep and trims each part.
func Split(s string, sep string) []string {
	parts := strings.Split(s, sep)
	for i := range parts {
		parts[i] = trim(parts[i])
	}
	return parts
}

func isName(s string) bool {
	if s == "" || !isAlpha(s[0]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlpha(c) && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return true
}

func isAlpha(c byte) bool { c |= 0x20; return 'a' <= c && c <= 'z' }
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func trim(s string) string {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}
