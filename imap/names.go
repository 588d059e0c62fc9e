package imap

import (
	"strings"
	"unicode/utf8"
)

// MaxName is the longest mailbox name that CheckName lets pass, in octets.
const MaxName = 1000

// CheckName returns ErrBadName for a name that no store should keep: one that is empty, not
// UTF-8, longer than MaxName, or that has an empty level or a control character (RFC 9051,
// 5.1). Servers check the names of their clients with it, and stores the names they are given.
func CheckName(name string) error {
	if len(name) > MaxName || !utf8.ValidString(name) {
		return ErrBadName
	}
	for level := range strings.SplitSeq(name, "/") {
		if level == "" {
			return ErrBadName
		}
	}
	for _, r := range name {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ErrBadName
		}
	}
	return nil
}
