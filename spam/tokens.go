package spam

import (
	"math/bits"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// TokenizerVersion names the way features are taken from messages. A model that was learned
// with another version knows features this one never meets: it has to be learned again.
const TokenizerVersion = 2

// A kind says where a word stood. Words of different kinds are different features.
type kind uint8

const (
	kindBody kind = iota
	kindPair
	kindSubject
	kindFrom
	kindAddress // an address or domain of From, Reply-To, Return-Path
	kindTo
	kindField     // the name of a header field
	kindFieldWord // a word of another field
	kindOrder     // two field names in a row
	kindNetwork   // of Received
	kindMarkup
	kindHidden
	kindHost // of links
	kindPath
	kindAttachment
	kindStructure // MIME types, charsets, sizes
	kindDefect
	kindCount
)

var kindNames = [kindCount]string{"word", "words", "subject", "from", "address", "to", "field", "header-word", "field-order",
	"network", "markup", "hidden-word", "link-host", "link-path", "attachment", "structure", "defect"}

// The cells of a model: the first half belong to the strings of bytes, the other to words.
const (
	gramBits  = 18
	wordBits  = 18
	wordBase  = 1 << gramBits
	cellCount = 1<<gramBits + 1<<wordBits

	headBytes = 3000 // of the raw message, whose strings of four bytes are features
	maxWord   = 40   // octets; longer ones are features by their length
)

// A word is one feature that can be shown.
type word struct {
	cell uint32
	kind kind
	text string // shares the memory of the message
}

// features are what the classifier sees of a message: each feature once, those of the text at
// the end of each list. Who writes a message can add any text to it, so the text never takes
// the voice of the rest.
type features struct {
	words     []word
	grams     []uint32
	textWords int // words[textWords:] are of the text
	textGrams int // grams[textGrams:] are of the body
	received  bool
}

// receivedCell counts the messages with a Received field.
var receivedCell = wordBase + wordCell(hash(kindSeed(kindField), "received"))

func kindSeed(k kind) uint64 { return hashStart + uint64(k)*0x9E3779B97F4A7C15 }

func wordCell(h uint64) uint32 {
	h ^= h >> 29
	h *= 0xBF58476D1CE4E5B9
	return uint32(h >> (64 - wordBits))
}

// tokens returns the features of m, taken on the first call.
func (m *Message) tokens() *features {
	m.once.Do(func() { m.features = tokenize(m) })
	return m.features
}

// tokenScratch is reused between messages.
type tokenScratch struct {
	seen bitSet
	gram bitSet
	word []word
	list []uint32
}

// A bitSet holds cells of words, or of strings of bytes.
type bitSet [1 << (gramBits - 6)]uint64

// drain appends what is in the set, in ascending order, and empties it.
func (b *bitSet) drain(list []uint32) []uint32 {
	for at, w := range b {
		if w == 0 {
			continue
		}
		b[at] = 0
		for ; w != 0; w &= w - 1 {
			list = append(list, uint32(at<<6+bits.TrailingZeros64(w)))
		}
	}
	return list
}

var scratchPool = sync.Pool{New: func() any { return &tokenScratch{} }}

type tokenizer struct {
	*tokenScratch
	m *Message
}

func tokenize(m *Message) *features {
	t := tokenizer{tokenScratch: scratchPool.Get().(*tokenScratch), m: m}
	t.word, t.list = t.word[:0], t.list[:0]
	t.header()
	t.structure()
	t.links()
	f := &features{textWords: len(t.word), received: m.Get("received") != ""}
	t.text(m.Text, kindBody)
	t.text(m.Hidden, kindHidden)
	f.words = slices.Clone(t.word)

	head := m.raw[:min(len(m.raw), headBytes)]
	body := min(m.body, len(head))
	t.grams(head[:body])
	t.list = t.gram.drain(t.list)
	f.textGrams = len(t.list)
	t.grams(head[body:])
	t.list = t.gram.drain(t.list)
	f.grams = slices.Clone(t.list)
	for _, w := range t.word {
		t.seen[(w.cell-wordBase)>>6] = 0
	}
	clear(t.word)
	scratchPool.Put(t.tokenScratch)
	return f
}

// grams adds the strings of four bytes, which see all that a spammer's program does its own
// way: spacing, case, order of fields, forms of dates and boundaries.
func (t *tokenizer) grams(b []byte) {
	if len(b) < 4 {
		return
	}
	v := uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
	for _, c := range b[3:] {
		v = v<<8 | uint32(c)
		h := v * 0x9E3779B1 >> (32 - gramBits)
		t.gram[h>>6] |= 1 << (h & 63)
	}
}

const (
	hashStart = 0xcbf29ce484222325
	hashPrime = 0x100000001b3
)

func hash(h uint64, s string) uint64 {
	for i := 0; i < len(s); i++ {
		h = (h ^ uint64(s[i])) * hashPrime
	}
	return h
}

func (t *tokenizer) add(k kind, s string) {
	t.addHash(k, s, hash(kindSeed(k), s))
}

func (t *tokenizer) addHash(k kind, s string, h uint64) {
	i := wordCell(h)
	if t.seen[i>>6]&(1<<(i&63)) != 0 || len(t.word) >= t.m.limits.Tokens {
		return
	}
	t.seen[i>>6] |= 1 << (i & 63)
	t.word = append(t.word, word{cell: wordBase + i, kind: k, text: s})
}

// fieldsOfWords are read for their words, each under its own name.
var skipFields = map[string]bool{"subject": true, "from": true, "to": true, "cc": true, "reply-to": true, "received": true, "return-path": true,
	"date": true, "dkim-signature": true, "arc-seal": true, "arc-message-signature": true, "references": true, "in-reply-to": true,
	"content-type": true, "authentication-results": true, "arc-authentication-results": true, "received-spf": true}

func (t *tokenizer) header() {
	m := t.m
	before := ""
	for i := range m.Fields {
		f := &m.Fields[i]
		t.add(kindField, f.Name)
		h := hash(hash(hashStart+uint64(kindOrder), before)*hashPrime, f.Name)
		t.addHash(kindOrder, f.Name, h)
		before = f.Name
		switch f.Name {
		case "subject":
			t.text(f.Value, kindSubject)
			t.subject(f.Value)
		case "from":
			t.text(f.Value, kindFrom)
		case "to", "cc", "delivered-to":
			t.text(f.Value, kindTo)
		case "received":
			t.received(f.Value)
		case "return-path":
			t.address("r:", splitAddress(f.Value))
		case "date":
			if i := strings.LastIndexAny(f.Value, "+-"); i >= 0 {
				t.add(kindFieldWord, f.Value[i:])
			}
			if i := strings.LastIndexByte(f.Value, ':'); i >= 0 && i+3 <= len(f.Value) {
				t.add(kindStructure, f.Value[i+3:])
			}
		default:
			if skipFields[f.Name] || len(f.Name) > maxWord {
				continue
			}
			seed := hash(hashStart+uint64(kindFieldWord), f.Name)
			v := f.Value[:min(len(f.Value), 300)]
			eachWord(v, func(w string, _ bool) { t.addHash(kindFieldWord, w, hashFold(seed*hashPrime, w)) })
		}
	}
	t.address("f:", m.From)
	t.address("p:", m.ReplyTo)
	if m.ReplyTo.Addr != "" && m.ReplyTo.Domain() != m.From.Domain() {
		t.add(kindStructure, "reply-to elsewhere")
	}
	if strings.Contains(m.From.Name, "@") {
		t.add(kindStructure, "address as name")
	}
}

func (t *tokenizer) address(role string, a Address) {
	if a.Addr == "" || len(a.Addr) > 200 {
		return
	}
	h := hash(hashStart+uint64(kindAddress), role)
	t.addHash(kindAddress, a.Addr, hash(h, a.Addr))
	d := a.Domain()
	for n := 0; d != "" && n < 4; n++ {
		t.addHash(kindAddress, d, hash(h, "@")^hash(h, d))
		_, d, _ = strings.Cut(d, ".")
	}
}

// subject adds how a subject is written.
func (t *tokenizer) subject(s string) {
	upper, lower, other := 0, 0, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z':
			upper++
		case c >= 'a' && c <= 'z':
			lower++
		case c >= 0x80:
			other++
		}
	}
	if upper > 4 && lower == 0 {
		t.add(kindStructure, "subject in capitals")
	}
	if other > 0 {
		t.add(kindStructure, "subject beyond ascii")
	}
	if strings.ContainsAny(s, "!") {
		t.add(kindStructure, "subject!")
	}
	if strings.ContainsAny(s, "?") {
		t.add(kindStructure, "subject?")
	}
	if strings.Contains(s, "   ") {
		t.add(kindStructure, "subject with gap")
	}
}

// received adds names and networks of one Received field (RFC 5321, 4.4).
func (t *tokenizer) received(v string) {
	v, _, _ = strings.Cut(v, ";")
	v = v[:min(len(v), 400)]
	eachWord(v, func(w string, _ bool) {
		if w[0] >= '0' && w[0] <= '9' && strings.Count(w, ".") == 3 {
			for n := 0; n < 3; n++ { // the address, its /24, its /16
				t.add(kindNetwork, w)
				w = w[:strings.LastIndexByte(w, '.')]
			}
			return
		}
		t.add(kindNetwork, w)
		if i := strings.IndexByte(w, '.'); i > 0 && i+1 < len(w) {
			t.add(kindNetwork, w[i+1:])
		}
	})
}

func (t *tokenizer) structure() {
	m := t.m
	for _, d := range m.Defects {
		t.add(kindDefect, d)
	}
	for i := range m.Parts {
		p := &m.Parts[i]
		t.add(kindStructure, p.Type)
		if p.Charset != "" {
			t.add(kindStructure, p.Charset)
		}
		if p.Encoding != "" {
			t.add(kindStructure, p.Encoding)
		}
		if p.Name != "" {
			t.text(p.Name, kindAttachment)
			if i := strings.LastIndexByte(p.Name, '.'); i >= 0 && len(p.Name)-i < 10 {
				t.add(kindAttachment, p.Name[i:])
			}
		}
		if p.Attachment {
			t.add(kindStructure, "attachment")
		}
	}
	t.add(kindStructure, [...]string{"no text", "a line of text", "short text", "some text", "long text", "very long text"}[min(bits.Len(uint(len(m.Text)/64))/2, 5)])
	if m.Hidden != "" {
		t.add(kindStructure, "hidden text")
	}
	for _, tag := range m.markup {
		t.add(kindMarkup, tag)
	}
}

func (t *tokenizer) links() {
	for i := range t.m.Links {
		l := &t.m.Links[i]
		scheme, rest, ok := strings.Cut(l.URL, ":")
		if ok && len(scheme) <= 8 {
			t.add(kindPath, scheme)
		} else {
			rest = l.URL
		}
		rest = strings.TrimLeft(rest, "/")
		host, path := rest, ""
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			host, path = rest[:i], rest[i:]
		}
		if i := strings.LastIndexByte(host, '@'); i >= 0 {
			t.add(kindStructure, "login in link")
			host = host[i+1:]
		}
		host, port, _ := strings.Cut(host, ":")
		if port != "" {
			t.add(kindStructure, "port in link")
		}
		host = strings.ToLower(host[:min(len(host), 100)])
		if host != "" && host[len(host)-1] >= '0' && host[len(host)-1] <= '9' {
			t.add(kindStructure, "number as host")
		}
		for n := 0; host != "" && n < 5; n++ {
			t.add(kindHost, host)
			_, host, _ = strings.Cut(host, ".")
		}
		n := 0
		eachWord(path[:min(len(path), 200)], func(w string, _ bool) {
			if n++; n <= 12 {
				t.add(kindPath, w)
			}
		})
	}
	t.add(kindStructure, [...]string{"no links", "a link", "some links", "links", "many links"}[min(bits.Len(uint(len(t.m.Links))), 4)])
}

// text adds the words of s, and pairs of them.
func (t *tokenizer) text(s string, k kind) {
	seed := kindSeed(k)
	var before uint64
	pairs := k == kindBody || k == kindSubject
	eachWord(s, func(w string, wide bool) {
		if len(w) > maxWord {
			t.add(kindStructure, "long word")
			before = 0
			return
		}
		h := hashFold(seed, w)
		t.addHash(k, w, h)
		if pairs && before != 0 && !wide {
			t.addHash(kindPair, w, before*hashPrime^h)
		}
		before = h
	})
}

// hashFold is hash of the word in lower case.
func hashFold(h uint64, s string) uint64 {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= utf8.RuneSelf {
			return hashFoldRunes(h, s[i:])
		}
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		h = (h ^ uint64(c)) * hashPrime
	}
	return h
}

func hashFoldRunes(h uint64, s string) uint64 {
	for _, r := range s {
		if !isIgnorable(r) {
			h = (h ^ uint64(unicode.ToLower(r))) * hashPrime
		}
	}
	return h
}

// eachWord calls f with each word of s: a run of letters, digits and signs that stand in
// words. Han, Kana and Hangul have no spaces: their words are pairs of characters.
func eachWord(s string, f func(w string, wide bool)) {
	start, end := -1, 0
	wideAt := -1 // where the wide character before began
	flush := func() {
		if start >= 0 && end-start > 1 {
			f(s[start:end], false)
		}
		start = -1
	}
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			switch {
			case isAlpha(c) || c >= '0' && c <= '9' || c == '$' || c == '!' || c == '%':
				if start < 0 {
					start = i
				}
				end = i + 1
			case c == '.' || c == '\'' || c == '-' || c == '_' || c == '@' || c == ',':
				// Inside a word, not at its end.
				if start >= 0 && end < i {
					flush()
				}
				if c == ',' && start >= 0 && (i+1 >= len(s) || s[i+1] < '0' || s[i+1] > '9') {
					flush()
				}
			default:
				flush()
			}
			wideAt = -1
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case isIgnorable(r): // it neither ends a word nor makes another of it
		case isWide(r):
			flush()
			if wideAt >= 0 {
				f(s[wideAt:i+n], true)
			}
			wideAt = i
		case unicode.IsLetter(r) || unicode.IsMark(r) || unicode.IsDigit(r):
			if start < 0 {
				start = i
			}
			end = i + n
			wideAt = -1
		default:
			flush()
			wideAt = -1
		}
		i += n
	}
	flush()
}

// isIgnorable reports whether a character shows nothing: those of no width, soft hyphens and
// fillers, which hide words from filters.
func isIgnorable(r rune) bool {
	switch {
	case r < 0xAD:
		return false
	case r == 0xAD, r == 0x34F, r == 0x115F, r == 0x1160, r == 0x180E, r == 0x2800, r == 0x3164, r == 0xFEFF, r == 0xFFA0:
		return true
	}
	return r >= 0x200B && r <= 0x200F || r >= 0x202A && r <= 0x202E || r >= 0x2060 && r <= 0x206F || r >= 0xFE00 && r <= 0xFE0F || r >= 0xE0000 && r <= 0xE0FFF
}

func isWide(r rune) bool {
	return r >= 0x2E80 && r <= 0x9FFF && r != 0x3000 || r >= 0xAC00 && r <= 0xD7A3 || r >= 0xF900 && r <= 0xFAFF || r >= 0x20000 && r <= 0x3FFFF
}
