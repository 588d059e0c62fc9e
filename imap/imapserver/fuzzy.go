package imapserver

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Fuzzy matching (RFC 6203): a string that is not found as it stands is looked for by its
// words, and each of those by its beginning. What is found of it is the message's relevancy.
const (
	maxFuzzyWords = 8
	stemWorth     = 0.6 // of a word of which only the beginning is there
	leastFuzzy    = 0.5 // of the string must be there
)

// stringKey takes a string to look for and makes the key that looks for it.
func (p *searchParser) stringKey(exact func(needle) criterion) criterion {
	s := p.text()
	if p.fuzzy == 0 {
		return exact(newNeedle(s, p.c.comparator.fold))
	}
	whole := exact(newNeedle(s, fold))
	type word struct{ full, stem criterion }
	var words []word
	for w := range strings.FieldsFuncSeq(s, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '@' && r != '.' }) {
		if len(words) == maxFuzzyWords {
			break
		}
		if p.count += 2; p.count > maxSearchKeys {
			p.c.dec.Fail("search program too complex")
		}
		words = append(words, word{exact(newNeedle(w, fold)), exact(newNeedle(stem(w), fold))})
	}
	return criterion{whole.cost, func(m *candidate) bool {
		score := 0.0
		if whole.match(m) {
			score = 1
		} else {
			for _, w := range words {
				switch {
				case w.full.match(m):
					score += 1 / float64(len(words))
				case w.stem.match(m):
					score += stemWorth / float64(len(words))
				}
			}
			if score == 1 { // but not as it stands
				score = 0.95
			}
		}
		if score < leastFuzzy {
			return false
		}
		m.score += score
		m.scored++
		return true
	}}
}

// stem returns the first three quarters of a word, but not less than three letters.
func stem(word string) string {
	n := max((utf8.RuneCountInString(word)*3+3)/4, 3)
	for i := range word {
		if n == 0 {
			return word[:i]
		}
		n--
	}
	return word
}

// relevancy returns how well the message matched, from 1 to 100 (RFC 6203, 4).
func (m *candidate) relevancy() uint8 {
	if m.scored == 0 {
		return 100
	}
	return uint8(min(max(int(m.score/float64(m.scored)*100+0.5), 1), 100))
}
