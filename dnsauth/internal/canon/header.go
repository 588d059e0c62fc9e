// Package canon is what DKIM and ARC share: the canonicalizations of header and
// body (RFC 6376, 3.4), and the choice of the header fields that are signed
// (RFC 6376, 5.4.2).
package canon

import "github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"

// AppendHeader appends field i as the header hash takes it, without a line end.
func AppendHeader(dst []byte, h *msgheader.Header, i int, relaxed bool) []byte {
	if !relaxed {
		return append(dst, h.Field(i)...)
	}
	return AppendRelaxed(dst, h.Name(i), h.Value(i))
}

// AppendRelaxed is RFC 6376, 3.4.2: name in lower case, value unfolded, each run
// of whitespace one space, none at the ends.
func AppendRelaxed(dst, name, value []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return AppendRelaxedValue(append(dst, ':'), value)
}

// AppendRelaxedValue is the value's part of AppendRelaxed.
func AppendRelaxedValue(dst, value []byte) []byte {
	start := len(dst)
	space := false
	for i, c := range value {
		switch {
		case c == ' ' || c == '\t':
			space = true
		case c == '\n' || c == '\r' && i+1 < len(value) && value[i+1] == '\n':
			// A fold: the whitespace that follows stands for it.
		default:
			if space && len(dst) > start {
				dst = append(dst, ' ')
			}
			space = false
			dst = append(dst, c)
		}
	}
	return dst
}
