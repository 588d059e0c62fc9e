package smtp

import (
	"errors"
	"strconv"
	"unicode/utf8"
)

// xtext (RFC 3461, 4):
//
//	xtext   = *( xchar / hexchar )
//	xchar   = %d33-126 except "+" and "="
//	hexchar = "+" 2HEXDIG                    ; upper case; lower is understood, too

var errXtext = errors.New("smtp: not xtext")

const hexDigits = "0123456789ABCDEF"

// appendXtext appends s encoded as xtext.
func appendXtext(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c > ' ' && c < 0x7f && c != '+' && c != '=' {
			b = append(b, c)
		} else {
			b = append(b, '+', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return b
}

// decodeXtext decodes s. What comes out must be text: printable ASCII and, with
// allow8bit, UTF-8; it is to stand in headers of reports, where a line end would do harm.
func decodeXtext(s []byte, allow8bit bool) (string, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '+':
			if i+2 >= len(s) {
				return "", errXtext
			}
			hi, ok1 := unhex(s[i+1])
			lo, ok2 := unhex(s[i+2])
			if !ok1 || !ok2 {
				return "", errXtext
			}
			c = hi<<4 | lo
			i += 2
		case c <= ' ' || c == '=' || c == 0x7f:
			return "", errXtext
		}
		if c < ' ' || c == 0x7f || c >= 0x80 && !allow8bit {
			return "", errXtext
		}
		out = append(out, c)
	}
	if allow8bit && !utf8.Valid(out) {
		return "", errXtext
	}
	for _, r := range string(out) {
		if 0x80 <= r && r < 0xa0 {
			return "", errXtext // control characters, too
		}
	}
	return string(out), nil
}

// decodeUTF8Xtext decodes the address of ORCPT's type utf-8: xtext whose non-ASCII (and a few
// other) characters stand as \x{HEX}, or as themselves (RFC 6533, 3).
func decodeUTF8Xtext(s []byte) (string, error) {
	text, err := decodeXtext(s, true)
	if err != nil {
		return "", err
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+3 >= len(text) || text[i+1] != 'x' || text[i+2] != '{' {
			out = append(out, text[i])
			continue
		}
		end := i + 3
		for end < len(text) && text[end] != '}' {
			end++
		}
		if end == len(text) {
			return "", errXtext
		}
		r, err := strconv.ParseUint(text[i+3:end], 16, 32)
		if err != nil || r < ' ' || r >= 0x7f && r < 0xa0 || !utf8.ValidRune(rune(r)) {
			return "", errXtext
		}
		out = utf8.AppendRune(out, rune(r))
		i = end
	}
	return string(out), nil
}

// appendUTF8Xtext encodes an address for ORCPT's type utf-8 in ASCII: the form
// utf-8-addr-xtext, which is valid with and without SMTPUTF8 (RFC 6533, 3).
func appendUTF8Xtext(b []byte, s string) []byte {
	for _, r := range s {
		if r > ' ' && r < 0x7f && r != '+' && r != '=' && r != '\\' {
			b = append(b, byte(r))
			continue
		}
		b = append(b, `\x{`...)
		for shift := 20; shift >= 0; shift -= 4 {
			if r>>shift != 0 || shift < 8 {
				b = append(b, hexDigits[r>>shift&15])
			}
		}
		b = append(b, '}')
	}
	return b
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}
