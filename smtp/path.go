package smtp

import (
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// Paths (RFC 5321, 4.1.2, with RFC 6531, 3.3):
//
//	Path            = "<" [ A-d-l ":" ] Mailbox ">"
//	A-d-l           = "@" Domain *( "," "@" Domain )        ; accepted and dropped
//	Mailbox         = Local-part "@" ( Domain / address-literal )
//	Local-part      = Dot-string / Quoted-string
//	address-literal = "[" ( IPv4 / "IPv6:" IPv6 ) "]"
//
// Two liberties: "_" may stand in a domain, as it does in the field, and of the sizes of 4.5.3.1
// only the domain's 255 octets are kept: local parts made by VERP and SRS are longer than 64.

const (
	maxMailbox = 512
	maxDomain  = 255
)

var (
	errPath    = errors.New("smtp: not a path in angle brackets")
	errMailbox = errors.New("smtp: not a mailbox")
)

// parsePath reads a path at the start of b. It returns the mailbox (empty for <>), a
// part of b, and what follows. A path without "@" is returned only for "postmaster".
func parsePath(b []byte) (mailbox, rest []byte, err error) {
	if len(b) == 0 || b[0] != '<' {
		return nil, nil, errPath
	}
	b = b[1:]
	if len(b) > 0 && b[0] == '>' {
		return b[:0], b[1:], nil
	}
	for len(b) > 0 && b[0] == '@' { // source route
		n := scanDomain(b[1:])
		if n == 0 || n+1 >= len(b) {
			return nil, nil, errPath
		}
		switch sep := b[n+1]; {
		case sep == ':':
			b = b[n+2:]
			if len(b) > 0 && b[0] == '@' {
				return nil, nil, errPath
			}
		case sep == ',' && n+2 < len(b) && b[n+2] == '@':
			b = b[n+2:]
		default:
			return nil, nil, errPath
		}
	}
	n := scanMailbox(b)
	if n == 0 || n > maxMailbox || n >= len(b) || b[n] != '>' {
		return nil, nil, errPath
	}
	return b[:n], b[n+1:], nil
}

// scanMailbox returns the length of the mailbox at the start of b, or 0.
func scanMailbox(b []byte) int {
	n := scanLocal(b)
	if n == 0 {
		return 0
	}
	if n >= len(b) || b[n] != '@' {
		if eqFold(b[:n], "POSTMASTER") {
			return n
		}
		return 0
	}
	n++
	d := 0
	if n < len(b) && b[n] == '[' {
		d = scanLiteral(b[n:])
	} else {
		d = scanDomain(b[n:])
	}
	if d == 0 {
		return 0
	}
	return n + d
}

// scanLocal returns the length of the local part at the start of b, or 0.
func scanLocal(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	if b[0] == '"' {
		for i := 1; i < len(b); i++ {
			switch c := b[i]; {
			case c == '"':
				return i + 1
			case c == '\\':
				i++
				if i == len(b) || b[i] < ' ' || b[i] >= 0x7f {
					return 0
				}
			case c < ' ' || c == 0x7f:
				return 0
			}
		}
		return 0
	}
	i := 0
	for i < len(b) {
		switch c := b[i]; {
		case atext[c]:
		case c == '.':
			if i == 0 || b[i-1] == '.' {
				return 0
			}
		default:
			if i > 0 && b[i-1] == '.' {
				return 0
			}
			return i
		}
		i++
	}
	if b[i-1] == '.' {
		return 0
	}
	return i
}

// scanDomain returns the length of the domain at the start of b, or 0.
func scanDomain(b []byte) int {
	i, label := 0, 0
	for i < len(b) {
		c := b[i]
		switch {
		case isAlnum(c), c >= 0x80, c == '_':
			label++
		case c == '-' && label > 0:
			label++
		case c == '.' && label > 0 && b[i-1] != '-':
			label = 0
		default:
			goto end
		}
		if label > 63 && c < 0x80 || i >= maxDomain {
			return 0
		}
		i++
	}
end:
	if i == 0 || b[i-1] == '.' || b[i-1] == '-' {
		return 0
	}
	return i
}

// scanLiteral returns the length of the address literal at the start of b, or 0.
func scanLiteral(b []byte) int {
	for i := 1; i < len(b) && i < 64; i++ {
		if b[i] == ']' {
			if _, ok := parseLiteral(string(b[:i+1])); ok {
				return i + 1
			}
			return 0
		}
	}
	return 0
}

// parseLiteral reads "[192.0.2.1]" or "[IPv6:2001:db8::1]".
func parseLiteral(s string) (netip.Addr, bool) {
	s = s[1 : len(s)-1]
	if len(s) > 5 && strings.EqualFold(s[:5], "IPv6:") {
		a, err := netip.ParseAddr(s[5:])
		return a, err == nil && a.Is6() && a.Zone() == ""
	}
	a, err := netip.ParseAddr(s)
	return a, err == nil && a.Is4()
}

// has8bit reports whether b has an octet over 127.
func has8bit(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return true
		}
	}
	return false
}

// checkMailbox says why addr can not stand in a path, or returns nil. The empty
// address is the null sender.
func checkMailbox(addr string) error {
	if addr == "" {
		return nil
	}
	b := []byte(addr)
	if n := scanMailbox(b); n != len(b) || n > maxMailbox || !utf8.Valid(b) {
		return errMailbox
	}
	return nil
}

// SplitAddress divides a mailbox, as in Transaction.From, into its local part,
// unquoted, and its domain as written. An address without "@" has no domain.
func SplitAddress(addr string) (local, domain string) {
	at := strings.LastIndexByte(addr, '@')
	if at < 0 {
		return addr, ""
	}
	local, domain = addr[:at], addr[at+1:]
	if len(local) < 2 || local[0] != '"' || local[len(local)-1] != '"' {
		return local, domain
	}
	local = local[1 : len(local)-1]
	if strings.IndexByte(local, '\\') < 0 {
		return local, domain
	}
	out := make([]byte, 0, len(local))
	for i := 0; i < len(local); i++ {
		if local[i] == '\\' && i+1 < len(local) {
			i++
		}
		out = append(out, local[i])
	}
	return string(out), domain
}

// JoinAddress is the inverse of SplitAddress: it quotes the local part where that is needed. A local
// part that no quoting can carry (control characters) makes an address that no
// path accepts.
func JoinAddress(local, domain string) string {
	if domain == "" {
		return local
	}
	if scanLocal([]byte(local)) == len(local) && local != "" && local[0] != '"' {
		return local + "@" + domain
	}
	b := append(make([]byte, 0, len(local)+len(domain)+4), '"')
	for i := 0; i < len(local); i++ {
		if c := local[i]; c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, local[i])
	}
	return string(append(append(b, '"', '@'), domain...))
}

// atext are the characters of an atom (RFC 5322, 3.2.3), and UTF-8 (RFC 6531, 3.3).
var atext = func() (t [256]bool) {
	for c := range t {
		t[c] = isAlnum(byte(c)) || c >= 0x80 || c < 0x80 && strings.IndexByte("!#$%&'*+-/=?^_`{|}~", byte(c)) >= 0
	}
	return t
}()

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// eqFold compares b with s, which is in upper case ASCII.
func eqFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		c := b[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != s[i] {
			return false
		}
	}
	return true
}
