package smtp

import (
	"bytes"
	"strings"
)

// NO-SOLICITING (RFC 3865): a server says which kinds of solicitation it does not want, and a
// client of which kinds its message is:
//
//	Solicitation-keywords = word *( "," word )        ; at most 1,000 octets
//	word                  = ALPHA *( ALPHA / DIGIT / "." / "-" / "_" / ":" )

const maxSolicit = 1000

// validSolicit reports whether v is a list of keywords.
func validSolicit(v []byte) bool {
	if len(v) > maxSolicit {
		return false
	}
	for word := range bytes.SplitSeq(v, []byte{','}) {
		if len(word) == 0 || !isAlnum(word[0]) || word[0] <= '9' {
			return false
		}
		for _, ch := range word {
			if !isAlnum(ch) && strings.IndexByte(".-_:", ch) < 0 {
				return false
			}
		}
	}
	return true
}

// unsolicited returns the first of the server's keywords that is among a message's, or "". Case
// does not matter.
func unsolicited(server []string, message string) string {
	if message == "" {
		return ""
	}
	for word := range strings.SplitSeq(message, ",") {
		for _, not := range server {
			if strings.EqualFold(word, not) {
				return not
			}
		}
	}
	return ""
}
