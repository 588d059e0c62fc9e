package msgheader

import "strings"

// Escape puts a backslash before each octet of s that is one of special: inside a quoted
// string or a comment (RFC 5322, 3.2.1).
func Escape(s, special string) string {
	if !strings.ContainsAny(s, special) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if strings.IndexByte(special, s[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
