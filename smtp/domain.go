package smtp

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// SameDomain reports whether two domains, as they stand behind "@", are the same: whatever the
// case of their letters, and with U-labels and A-labels taken for each other (RFC 5890, 2.3.2).
// Address literals are compared by their addresses.
func SameDomain(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	x, okA := literal(a)
	y, okB := literal(b)
	if okA || okB {
		return okA && okB && x == y
	}
	if isASCII(a) == isASCII(b) && isASCII(a) {
		return false
	}
	u, errA := idna.Lookup.ToASCII(a)
	v, errB := idna.Lookup.ToASCII(b)
	return errA == nil && errB == nil && strings.EqualFold(u, v)
}

func literal(s string) (a netip.Addr, ok bool) {
	if len(s) < 3 || s[0] != '[' || s[len(s)-1] != ']' {
		return a, false
	}
	return parseLiteral(s)
}
