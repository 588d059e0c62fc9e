// Package mutf7 is the modified UTF-7 of mailbox names (RFC 3501, 5.1.3), on the wire of
// IMAP4rev1 and in the folder names of Maildir++.
package mutf7

import (
	"encoding/base64"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

var b64 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// ErrInvalid is returned by Decode for text that is not modified UTF-7.
var ErrInvalid = errors.New("not modified UTF-7")

// Encode returns the modified UTF-7 of s. Octets that are not UTF-8 become U+FFFD. The
// runes of also, besides those that must be, are encoded: what may not stand in the name.
func Encode(s string, also string) string {
	plain := func(r rune) bool { return r >= 0x20 && r <= 0x7e && !strings.ContainsRune(also, r) }
	if !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) || r == '&' }) {
		return s
	}
	var b strings.Builder
	var run []rune
	flush := func() {
		if len(run) == 0 {
			return
		}
		units := utf16.Encode(run)
		octets := make([]byte, 0, 2*len(units))
		for _, u := range units {
			octets = append(octets, byte(u>>8), byte(u))
		}
		b.WriteByte('&')
		b.WriteString(b64.EncodeToString(octets))
		b.WriteByte('-')
		run = run[:0]
	}
	for _, r := range s {
		if !plain(r) {
			run = append(run, r)
			continue
		}
		flush()
		b.WriteRune(r)
		if r == '&' {
			b.WriteByte('-')
		}
	}
	flush()
	return b.String()
}

// Decode returns the UTF-8 of modified UTF-7 text. It takes encoded printable characters,
// which Encode never writes unless told to, but no 8-bit octets, no unpaired surrogates and
// no stray bits.
func Decode(s string) (string, error) {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == '&' || r < 0x20 || r > 0x7e }) {
		return s, nil
	}
	var b strings.Builder
	for len(s) > 0 {
		c := s[0]
		if c < 0x20 || c > 0x7e {
			return "", ErrInvalid
		}
		if c != '&' {
			b.WriteByte(c)
			s = s[1:]
			continue
		}
		coded, rest, ok := strings.Cut(s[1:], "-")
		if !ok {
			return "", ErrInvalid
		}
		s = rest
		if coded == "" {
			b.WriteByte('&')
			continue
		}
		octets, err := b64.Strict().DecodeString(coded)
		if err != nil || len(octets)%2 != 0 || strings.ContainsAny(coded, "\r\n") {
			return "", ErrInvalid
		}
		units := make([]uint16, 0, len(octets)/2)
		for i := 0; i < len(octets); i += 2 {
			units = append(units, uint16(octets[i])<<8|uint16(octets[i+1]))
		}
		for i := 0; i < len(units); i++ {
			r := rune(units[i])
			if utf16.IsSurrogate(r) {
				if i+1 == len(units) {
					return "", ErrInvalid
				}
				i++
				if r = utf16.DecodeRune(r, rune(units[i])); r == utf8.RuneError {
					return "", ErrInvalid
				}
			}
			b.WriteRune(r)
		}
	}
	return b.String(), nil
}
