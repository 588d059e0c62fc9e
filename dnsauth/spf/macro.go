package spf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A macro-string (RFC 7208, 7.1) in the parts that its expansion joins:
// literal text, escapes (%%, %_, %-), and macros such as %{l1r-}.
type macroString struct {
	text string // as published
	segs []segment
}

type segment struct {
	literal string // when letter is 0 and escape false
	escape  bool   // literal came from %%, %_ or %-
	letter  byte   // lower-case
	upper   bool   // URL-escape the expansion
	digits  int    // rightmost parts to keep; 0 = all
	reverse bool
	delims  string // "" = "."
}

var errMacro = errors.New("malformed macro")

// maxMacroParts is the value that larger numbers in a transformer count as;
// no expansion has more parts.
const maxMacroParts = 1 << 20

// parseMacro parses a macro-string. In an explain-string, exp is true: spaces
// and the letters c, r and t are allowed.
func parseMacro(s string, exp bool) (macroString, error) {
	m := macroString{text: s}
	start := 0
	flush := func(end int) {
		if end > start {
			m.segs = append(m.segs, segment{literal: s[start:end]})
		}
	}
	for i := 0; i < len(s); {
		c := s[i]
		if c != '%' {
			if c < 0x21 && !(exp && c == ' ') || c > 0x7e {
				return m, fmt.Errorf("character %q in a macro string", c)
			}
			i++
			continue
		}
		flush(i)
		if i+1 == len(s) {
			return m, errMacro
		}
		switch s[i+1] {
		case '%':
			m.segs = append(m.segs, segment{literal: "%", escape: true})
			i += 2
		case '_':
			m.segs = append(m.segs, segment{literal: " ", escape: true})
			i += 2
		case '-':
			m.segs = append(m.segs, segment{literal: "%20", escape: true})
			i += 2
		case '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				return m, errMacro
			}
			seg, err := parseExpand(s[i+2:i+end], exp)
			if err != nil {
				return m, err
			}
			m.segs = append(m.segs, seg)
			i += end + 1
		default:
			return m, errMacro
		}
		start = i
	}
	flush(len(s))
	return m, nil
}

// parseExpand parses what stands between the braces.
func parseExpand(s string, exp bool) (segment, error) {
	if s == "" {
		return segment{}, errMacro
	}
	seg := segment{letter: s[0] | 0x20, upper: s[0]&0x20 == 0}
	letters := "slodiphv"
	if exp {
		letters = "slodiphvcrt"
	}
	if !isAlpha(s[0]) || strings.IndexByte(letters, seg.letter) < 0 {
		return seg, fmt.Errorf("unknown macro letter %q", s[0])
	}
	s = s[1:]
	digits := 0
	for digits < len(s) && isDigit(s[digits]) {
		digits++
	}
	if digits > 0 {
		n, err := strconv.Atoi(s[:digits])
		if err == nil && n == 0 {
			return seg, errors.New("macro keeps zero parts")
		}
		if err != nil || n > maxMacroParts {
			n = maxMacroParts
		}
		seg.digits = n
		s = s[digits:]
	}
	if s != "" && s[0]|0x20 == 'r' {
		seg.reverse = true
		s = s[1:]
	}
	for i := range len(s) {
		if strings.IndexByte(".-+,/_=", s[i]) < 0 {
			return seg, errMacro
		}
	}
	seg.delims = s
	return seg, nil
}

// isDomainSpec reports whether the macro-string ends as a domain-spec must: in
// a macro, or in a dot and a top label that is not all digits.
func (m macroString) isDomainSpec() bool {
	if len(m.segs) == 0 {
		return false
	}
	last := m.segs[len(m.segs)-1]
	if last.escape || last.letter != 0 {
		return true
	}
	tail := strings.TrimSuffix(last.literal, ".")
	dot := strings.LastIndexByte(tail, '.')
	return dot >= 0 && isTopLabel(tail[dot+1:])
}

func isTopLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	other := false
	for i := range len(s) {
		switch c := s[i]; {
		case isAlpha(c) || c == '-':
			other = true
		case !isDigit(c):
			return false
		}
	}
	return other
}

func isAlpha(c byte) bool { c |= 0x20; return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// needsPTR reports whether the expansion asks for the validated name.
func (m macroString) needsPTR() bool {
	return slices.ContainsFunc(m.segs, func(s segment) bool { return s.letter == 'p' })
}

// macroValues are what the letters stand for.
type macroValues struct {
	sender   string // s
	local    string // l
	domainOf string // o
	domain   string // d
	ip       netip.Addr
	ptr      string // p
	helo     string // h
	receiver string // r
	now      time.Time
}

// expand returns the expansion (RFC 7208, 7.3).
func (m macroString) expand(v *macroValues) string {
	if len(m.segs) == 1 && m.segs[0].letter == 0 {
		return m.segs[0].literal
	}
	var b strings.Builder
	for _, seg := range m.segs {
		if seg.letter == 0 {
			b.WriteString(seg.literal)
			continue
		}
		s := seg.transform(v.letter(seg.letter))
		if seg.upper {
			s = urlEscape(s)
		}
		b.WriteString(s)
	}
	return b.String()
}

func (v *macroValues) letter(c byte) string {
	switch c {
	case 's':
		return v.sender
	case 'l':
		return v.local
	case 'o':
		return v.domainOf
	case 'd':
		return v.domain
	case 'i':
		return dotted(v.ip)
	case 'p':
		return v.ptr
	case 'v':
		if v.ip.Is4() {
			return "in-addr"
		}
		return "ip6"
	case 'h':
		return v.helo
	case 'c':
		return v.ip.String()
	case 'r':
		return v.receiver
	case 't':
		return strconv.FormatInt(v.now.Unix(), 10)
	}
	return ""
}

// dotted is the dot-format of the i macro: IPv6 as 32 digits. They are upper
// case because the published test suite has explanations that show them so.
func dotted(ip netip.Addr) string {
	if ip.Is4() {
		return ip.String()
	}
	const digits = "0123456789ABCDEF"
	out := make([]byte, 0, 63)
	for i, b := range ip.As16() {
		if i > 0 {
			out = append(out, '.')
		}
		out = append(out, digits[b>>4], '.', digits[b&15])
	}
	return string(out)
}

func (seg segment) transform(s string) string {
	if seg.digits == 0 && !seg.reverse && seg.delims == "" {
		return s
	}
	delims := seg.delims
	if delims == "" {
		delims = "."
	}
	var parts []string
	start := 0
	for i := range len(s) {
		if strings.IndexByte(delims, s[i]) >= 0 {
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	parts = append(parts, s[start:])
	if seg.reverse {
		slices.Reverse(parts)
	}
	if seg.digits > 0 && seg.digits < len(parts) {
		parts = parts[len(parts)-seg.digits:]
	}
	return strings.Join(parts, ".")
}

// urlEscape escapes all but the unreserved characters of RFC 3986, 2.3.
func urlEscape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; isAlpha(c) || isDigit(c) || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
