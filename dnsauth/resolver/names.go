package resolver

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// idnaLookup converts as browsers and mail clients do: mapped to lower case,
// without the STD3 rule, since "_dmarc" and "_domainkey" are names we ask for.
var idnaLookup = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.Transitional(false),
	idna.StrictDomainName(false),
)

// ToASCII returns name in lower case, in A-labels (RFC 5890, 2.3.2.1), without
// a final dot. It returns an error that wraps [ErrName] when a label is empty
// or longer than 63 octets, the name longer than 253, or U-labels don't convert.
func ToASCII(name string) (string, error) {
	n := strings.TrimSuffix(name, ".")
	if !isASCII(n) {
		a, err := idnaLookup.ToASCII(n)
		if err != nil {
			return "", &Error{Name: name, Err: ErrName}
		}
		n = a
	}
	if !validName(n) {
		return "", &Error{Name: name, Err: ErrName}
	}
	return strings.ToLower(n), nil
}

func validName(n string) bool {
	if n == "" || len(n) > 253 {
		return false
	}
	for label := range strings.SplitSeq(n, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// ReverseName returns the name under in-addr.arpa or ip6.arpa that belongs to
// addr (RFC 1035, 3.5; RFC 3596, 2.5), without the final dot. An IPv4-mapped
// IPv6 address counts as IPv4.
func ReverseName(addr netip.Addr) string {
	if addr = addr.Unmap(); addr.Is4() {
		return ReverseLabels(addr) + ".in-addr.arpa"
	}
	return ReverseLabels(addr) + ".ip6.arpa"
}

// ReverseLabels returns the address as the labels that stand in front of
// in-addr.arpa, ip6.arpa, or the zone of a DNS list (RFC 5782, 2.1 and 2.4):
// four decimal numbers or 32 hexadecimal digits, last part first.
func ReverseLabels(addr netip.Addr) string {
	addr = addr.Unmap()
	if addr.Is4() {
		b := addr.As4()
		return netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]}).String()
	}
	const digits = "0123456789abcdef"
	b := addr.As16()
	out := make([]byte, 0, 63)
	for i := 15; i >= 0; i-- {
		out = append(out, digits[b[i]&15], '.', digits[b[i]>>4])
		if i > 0 {
			out = append(out, '.')
		}
	}
	return string(out)
}

// EscapeName returns the presentation form (RFC 1035, 5.1) of a name whose
// labels are plain octets between dots, as they come out of a message or an SPF
// macro: octets that are special there are escaped, so that they arrive at the
// server as they are.
func EscapeName(name string) string {
	plain := true
	for i := range len(name) {
		c := name[i]
		plain = plain && c > ' ' && c <= '~' && !isSpecial(c)
	}
	if plain {
		return name
	}
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c < ' ' || c > '~':
			b.WriteByte('\\')
			b.WriteByte('0' + c/100)
			b.WriteByte('0' + c/10%10)
			b.WriteByte('0' + c%10)
		case c == ' ' || isSpecial(c):
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// isSpecial names the characters that miekg/dns escapes when it prints names.
func isSpecial(c byte) bool { return strings.IndexByte(`'@;()"\`, c) >= 0 }
