package dmarc

import (
	"errors"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// Errors of AuthorDomains.
var (
	ErrNoAuthor  = errors.New("dmarc: no author domain")
	ErrBadAuthor = errors.New("dmarc: an author without a valid domain")
)

// AuthorDomains returns the domains of the addresses in the value of a From
// field (RFC 9989, 5.3.1), each once, lower-case and in A-labels. Folds, nested
// comments, quoted names, groups and obsolete routes are understood. The error
// is ErrNoAuthor without any address, or ErrBadAuthor if one has no domain that
// could be looked up; the other domains are returned with it.
func AuthorDomains(from string) ([]string, error) {
	var out []string
	bad := false
	addresses := 0
	for _, a := range addresses822(from) {
		addresses++
		domain, err := resolver.ToASCII(a)
		if err != nil || strings.ContainsAny(domain, "[]\\\"()<>,;:@ ") {
			bad = true
			continue
		}
		if !slices.Contains(out, domain) {
			out = append(out, domain)
		}
	}
	switch {
	case bad:
		return out, ErrBadAuthor
	case addresses == 0:
		return nil, ErrNoAuthor
	}
	return out, nil
}

// addresses822 returns what stands behind the @ of each mailbox in an address
// list, empty for a mailbox without one. It goes over s once, whatever s holds.
func addresses822(s string) []string {
	var out []string
	m := mailbox{}
	for pos := 0; pos < len(s); {
		switch c := s[pos]; {
		case c == '(':
			pos = skipComment(s, pos)
		case c == '"':
			end := skipQuoted(s, pos, '"')
			m.add("\"")
			pos = end
		case c == '[':
			end := skipQuoted(s, pos, ']')
			m.add(s[pos:end])
			pos = end
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			pos++
		case c == '<':
			m.angle, m.hasAngle, m.at, m.any = true, true, false, true
			m.domain = m.domain[:0]
			pos++
		case c == '>':
			m.closed = m.angle
			m.angle = false
			pos++
		case c == ':' && m.angle: // the end of an obsolete route
			m.at = false
			m.domain = m.domain[:0]
			pos++
		case c == ',' && m.angle: // within a route
			pos++
		case c == ':': // a group's name ends
			m = mailbox{domain: m.domain[:0]}
			pos++
		case c == ',' || c == ';':
			out = m.flush(out)
			m = mailbox{domain: m.domain[:0]}
			pos++
		case c == '@':
			if !m.closed {
				m.at, m.any = true, true
				m.domain = m.domain[:0]
			}
			pos++
		default:
			m.add(s[pos : pos+1])
			pos++
		}
	}
	return m.flush(out)
}

// mailbox is one element of the list under way.
type mailbox struct {
	domain   []byte // behind the last @
	at       bool   // there was one
	any      bool   // there was something
	angle    bool   // we are between < and >
	hasAngle bool
	closed   bool // we are behind >
}

func (m *mailbox) add(s string) {
	m.any = true
	if m.at && !m.closed {
		m.domain = append(m.domain, s...)
	}
}

func (m *mailbox) flush(out []string) []string {
	if !m.any {
		return out // an empty element, as obsolete lists may have
	}
	return append(out, string(m.domain))
}

func skipComment(s string, pos int) int {
	depth := 0
	for ; pos < len(s); pos++ {
		switch s[pos] {
		case '\\':
			pos++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return pos + 1
			}
		}
	}
	return len(s)
}

func skipQuoted(s string, pos int, end byte) int {
	for pos++; pos < len(s); pos++ {
		switch s[pos] {
		case '\\':
			pos++
		case end:
			return pos + 1
		}
	}
	return len(s)
}
