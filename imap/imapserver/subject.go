package imapserver

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// baseSubject returns what is left of a decoded subject without what replies, forwards and
// mailing lists put around it, and whether it was a reply or a forward (RFC 5256, 2.1).
func baseSubject(s string) (base string, isReply bool) {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\t' || r == '\r' || r == '\n' }), " ")
	for {
		for { // subj-trailer
			s = strings.TrimRight(s, " ")
			if !hasSuffixFold(s, "(fwd)") {
				break
			}
			s, isReply = s[:len(s)-len("(fwd)")], true
		}
		for { // subj-leader, and blobs in front of something
			s = strings.TrimLeft(s, " ")
			last, rest := s, s // before the last blob, and behind it
			for {
				behind, is := cutBlob(rest)
				if !is {
					break
				}
				last, rest = rest, behind
			}
			behind, is := cutReply(rest)
			if is {
				s, isReply = behind, true
				continue
			}
			if s = rest; s == "" {
				s = last // a blob is the subject when nothing else is
			}
			break
		}
		if !hasPrefixFold(s, "[fwd:") || !strings.HasSuffix(s, "]") {
			return s, isReply
		}
		s, isReply = s[len("[fwd:"):len(s)-1], true
	}
}

// cutBlob takes a subj-blob: brackets without brackets inside, and the blanks behind them.
func cutBlob(s string) (rest string, ok bool) {
	if s == "" || s[0] != '[' {
		return s, false
	}
	i := strings.IndexAny(s[1:], "[]") + 1
	if i == 0 || s[i] == '[' {
		return s, false
	}
	return strings.TrimLeft(s[i+1:], " "), true
}

// cutReply takes a subj-refwd.
func cutReply(s string) (rest string, ok bool) {
	rest = s
	switch {
	case hasPrefixFold(s, "re"):
		rest = s[2:]
	case hasPrefixFold(s, "fwd"):
		rest = s[3:]
	case hasPrefixFold(s, "fw"):
		rest = s[2:]
	default:
		return s, false
	}
	rest, _ = cutBlob(strings.TrimLeft(rest, " "))
	if rest == "" || rest[0] != ':' {
		return s, false
	}
	return rest[1:], true
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && equalFold(s[:len(prefix)], prefix)
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && equalFold(s[len(s)-len(suffix):], suffix)
}

// casemap returns s in the form in which i;unicode-casemap compares octets (RFC 5051, 2):
// characters in title case and decomposed. What is no UTF-8 is compared as it is
// (RFC 5255, 4.6).
func casemap(s string) string {
	if isASCII(s) {
		return strings.ToUpper(s)
	}
	if !utf8.ValidString(s) {
		return s
	}
	return norm.NFKD.String(strings.Map(unicode.ToTitle, s))
}
