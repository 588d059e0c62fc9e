package wire

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrBadUTF7 is returned for text that is not modified UTF-7.
var ErrBadUTF7 = errors.New("malformed modified UTF-7")

var utf7 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// DecodeUTF7 turns a mailbox name in modified UTF-7 (RFC 3501, 5.1.3) into UTF-8. Names must
// be in their one canonical form: no base64 for what is printable, no base64 next to base64.
func DecodeUTF7(s string) (string, error) {
	if strings.IndexByte(s, '&') < 0 {
		for i := range len(s) {
			if s[i] < ' ' || s[i] > '~' {
				return "", ErrBadUTF7
			}
		}
		return s, nil
	}
	var out strings.Builder
	after := false // just behind base64
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < ' ' || c > '~' {
			return "", ErrBadUTF7
		}
		if c != '&' {
			out.WriteByte(c)
			after = false
			continue
		}
		end := strings.IndexByte(s[i:], '-')
		if end < 0 {
			return "", ErrBadUTF7
		}
		code := s[i+1 : i+end]
		i += end
		if code == "" {
			out.WriteByte('&')
			after = false
			continue
		}
		octets, err := utf7.Strict().DecodeString(code)
		if err != nil || len(octets) == 0 || len(octets)%2 != 0 || after {
			return "", ErrBadUTF7
		}
		units := make([]uint16, len(octets)/2)
		for j := range units {
			units[j] = uint16(octets[2*j])<<8 | uint16(octets[2*j+1])
		}
		for j := 0; j < len(units); j++ {
			r := rune(units[j])
			if utf16.IsSurrogate(r) {
				if j+1 == len(units) {
					return "", ErrBadUTF7
				}
				if r = utf16.DecodeRune(r, rune(units[j+1])); r == utf8.RuneError {
					return "", ErrBadUTF7
				}
				j++
			} else if r >= ' ' && r <= '~' {
				return "", ErrBadUTF7
			}
			out.WriteRune(r)
		}
		after = true
	}
	return out.String(), nil
}

// EncodeUTF7 turns a mailbox name in UTF-8 into modified UTF-7. Octets that are not UTF-8
// become U+FFFD.
func EncodeUTF7(s string) string {
	plain := true
	for i := range len(s) {
		plain = plain && s[i] >= ' ' && s[i] <= '~' && s[i] != '&'
	}
	if plain {
		return s
	}
	var out strings.Builder
	var wide []byte
	flush := func() {
		if len(wide) > 0 {
			out.WriteByte('&')
			out.WriteString(utf7.EncodeToString(wide))
			out.WriteByte('-')
			wide = wide[:0]
		}
	}
	for _, r := range s {
		switch {
		case r == '&':
			flush()
			out.WriteString("&-")
		case r >= ' ' && r <= '~':
			flush()
			out.WriteRune(r)
		default:
			for _, u := range utf16.AppendRune(nil, r) {
				wide = append(wide, byte(u>>8), byte(u))
			}
		}
	}
	flush()
	return out.String()
}
