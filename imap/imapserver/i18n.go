package imapserver

import (
	"context"
	"strings"
)

// A comparator says which strings are alike for SEARCH, SORT and THREAD, and in which order
// they come (RFC 5255, 4; RFC 4790).
type comparator struct {
	name  string
	fold  func(out, b []byte) []byte // appends b in the form in which substrings are looked for
	order func(string) string        // returns the form whose octets are compared
	facts itemKind                   // what the cache calls facts in this form
}

// comparators are those there are, the default one first.
var comparators = []comparator{
	{"i;unicode-casemap", fold, casemap, itemFacts},
	{"i;ascii-casemap", func(out, b []byte) []byte {
		for _, c := range b {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			out = append(out, c)
		}
		return out
	}, upperASCII, itemFactsASCII},
	{"i;octet", func(out, b []byte) []byte { return append(out, b...) }, func(s string) string { return s }, itemFactsOctet},
}

func upperASCII(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			r -= 'a' - 'A'
		}
		return r
	}, s)
}

// maxWanted bounds the comparators, or languages, that one command may ask for.
const maxWanted = 50

// wanted takes the arguments of COMPARATOR or LANGUAGE.
func (c *conn) wanted() (args []string) {
	for c.dec.Accept(' ') {
		if args = append(args, c.dec.AString()); len(args) > maxWanted {
			c.dec.Fail("too many arguments")
		}
	}
	return args
}

// cmdComparator shows or changes the active comparator (RFC 5255, 4.7).
func (c *conn) cmdComparator(context.Context) reply {
	args := c.wanted()
	if !c.end() {
		return c.syntax()
	}
	if len(args) == 0 {
		c.enc.Raw("* COMPARATOR ").Raw(c.comparator.name).CRLF()
		return ok("that is it")
	}
	var matches []*comparator
	taken := make(map[string]bool)
	for _, arg := range args {
		for i := range comparators {
			x := &comparators[i]
			// A pattern has "*", which patterns of LIST have as well.
			is := strings.EqualFold(arg, "default") && x.name == comparators[0].name ||
				!strings.Contains(arg, "%") && matchPattern(strings.ToLower(arg), x.name)
			if is && !taken[x.name] {
				taken[x.name] = true
				matches = append(matches, x)
			}
		}
	}
	if len(matches) == 0 {
		return no("BADCOMPARATOR", "there is no such comparator")
	}
	c.comparator = matches[0]
	c.enc.Raw("* COMPARATOR ").Raw(c.comparator.name)
	if len(matches) > 1 {
		names := make([]string, len(matches))
		for i, x := range matches {
			names[i] = x.name
		}
		c.enc.Raw(" (").Raw(strings.Join(names, " ")).Raw(")")
	}
	c.enc.CRLF()
	return ok("strings are compared with %s", c.comparator.name)
}

// cmdLanguage lets the client choose the language of texts, of which we have one
// (RFC 5255, 3.2).
func (c *conn) cmdLanguage(context.Context) reply {
	args := c.wanted()
	if !c.end() {
		return c.syntax()
	}
	if len(args) == 0 {
		c.enc.Raw("* LANGUAGE (EN i-default)").CRLF()
		return ok("these are the languages")
	}
	for _, arg := range args {
		tag := strings.ToLower(arg)
		switch {
		case tag == "default" || tag == "i-default" || tag == "*":
			c.enc.Raw("* LANGUAGE (i-default)").CRLF()
			return ok("now speaking English")
		case tag == "en" || strings.HasPrefix(tag, "en-"): // as RFC 4647, 3.4 looks up
			c.enc.Raw("* LANGUAGE (EN)").CRLF()
			return ok("now speaking English")
		}
	}
	return no("", "no such language is spoken here")
}
