package phish

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/publicsuffix"
	"golang.org/x/text/unicode/norm"
)

// author compares the names in From and Subject with the address.
func (f *finder) author() {
	name := fold(f.m.From.Name)
	if brand := f.brand(name); brand != "" && f.org != "" && !f.owns(brand, f.org) {
		score := 4.0
		if ordinary[brand] {
			score = 2
		}
		f.add("phish-brand", brand+" from "+f.org, score)
	}
	// A display name that is another address.
	if i := strings.LastIndexByte(f.m.From.Name, '@'); i > 0 {
		shown := organisation(strings.ToLower(strings.TrimRight(firstWord(f.m.From.Name[i+1:]), ">)\"'.,")))
		if shown != "" && f.org != "" && shown != f.org {
			f.add("phish-name-address", shown+" from "+f.org, 2)
		}
	}
	for _, s := range []string{f.m.From.Name, f.m.Subject} {
		if word := mixed(s); word != "" {
			f.add("phish-mixed-script", word, 4)
		}
		if strings.ContainsFunc(s, invisible) {
			f.add("phish-invisible", s, 2.5)
		}
		if s != "" && styled(s) {
			f.add("phish-styled-letters", s, 4)
		}
	}
	if from, reply := f.org, organisation(f.m.ReplyTo.Domain()); from != "" && reply != "" && from != reply && freemail[reply] && !freemail[from] {
		f.add("phish-reply-to", reply+" for "+from, 1)
	}
}

// brand returns the known name that stands in a folded text as a whole word, the longest one.
func (f *finder) brand(text string) string {
	if text == "" {
		return ""
	}
	found := ""
	has := func(name string) {
		if (len(name) > len(found) || len(name) == len(found) && name < found) && wholeWord(text, name) {
			found = name
		}
	}
	for name, domains := range f.c.o.Brands {
		if len(domains) > 0 {
			has(name)
		}
	}
	for name := range brands {
		if _, replaced := f.c.o.Brands[name]; !replaced {
			has(name)
		}
	}
	return found
}

func (f *finder) owns(brand, org string) bool {
	domains, ok := f.c.o.Brands[brand]
	if !ok {
		domains = brands[brand]
	}
	return slices.Contains(domains, org) || slices.ContainsFunc(domains, func(d string) bool { return organisation(d) == org })
}

func wholeWord(text, word string) bool {
	for i := 0; ; {
		j := strings.Index(text[i:], word)
		if j < 0 {
			return false
		}
		i += j
		end := i + len(word)
		before := i == 0 || !letter(text[:i], true)
		after := end == len(text) || !letter(text[end:], false)
		if before && after {
			return true
		}
		i++
	}
}

func letter(s string, last bool) bool {
	rs := []rune(s)
	r := rs[0]
	if last {
		r = rs[len(rs)-1]
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r)
}

// fold makes of a text what its reader takes it for: compatibility forms and letters of other alphabets that look like Latin ones
// become those, what can't be seen is dropped.
func fold(s string) string {
	s = norm.NFKC.String(s)
	return strings.ToLower(strings.Map(func(r rune) rune {
		if invisible(r) {
			return -1
		}
		if l, ok := lookalikes[r]; ok {
			return l
		}
		return r
	}, s))
}

// lookalikes are the letters of Cyrillic and Greek that look like Latin ones in most fonts.
var lookalikes = func() map[rune]rune {
	m := map[rune]rune{}
	other, latin := []rune("АВЕЅІЈКМНОРСТХаеѕіјорсухԁԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧαιοορν"), []rune("ABESIJKMHOPCTXaesijopcyxdqwABEZHIKMNOPTYXaioopv")
	for i, r := range other {
		m[r] = latin[i]
	}
	return m
}()

func invisible(r rune) bool {
	switch {
	case r >= 0x200b && r <= 0x200c, r >= 0x2060 && r <= 0x2064, r == 0xfeff, r == 0x00ad, r == 0x115f, r == 0x1160, r == 0x3164, r == 0xffa0, r == 0x180e, r >= 0x202a && r <= 0x202e:
		return true
	}
	return false
}

// mixed returns a word with Latin letters and ones of Cyrillic or Greek that look like them.
func mixed(s string) string {
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return !unicode.IsLetter(r) }) {
		latin, disguised, other := 0, 0, 0
		for _, r := range word {
			switch _, looks := lookalikes[r]; {
			case unicode.Is(unicode.Latin, r):
				latin++
			case looks:
				disguised++
			default:
				other++
			}
		}
		if latin > 1 && disguised > 0 && other == 0 {
			return word
		}
	}
	return ""
}

// styled reports whether a text has letters of mathematics in place of ordinary ones.
func styled(s string) bool {
	n := 0
	for _, r := range s {
		if r >= 0x1d400 && r <= 0x1d7ff {
			n++
		}
	}
	return n >= 3
}

var freemail = map[string]bool{
	"gmail.com": true, "googlemail.com": true, "yahoo.com": true, "hotmail.com": true, "outlook.com": true, "aol.com": true, "mail.ru": true, "yandex.ru": true,
	"yandex.com": true, "protonmail.com": true, "proton.me": true, "gmx.de": true, "gmx.net": true, "gmx.com": true, "web.de": true, "icloud.com": true, "mail.com": true, "163.com": true, "126.com": true, "qq.com": true,
}

// organisation returns the registered domain of a name, or "".
func organisation(domain string) string {
	org, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(strings.TrimSuffix(domain, ".")))
	if err != nil {
		return ""
	}
	return org
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(s), " ")
	return word
}

// clean makes one line without control characters.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "")
	}
	return s
}
