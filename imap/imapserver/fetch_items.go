package imapserver

import (
	"slices"
	"strconv"
	"strings"

	"github.com/mailblocks/mailblocks/imap/internal/mimetree"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// itemKind is what a FETCH item shows.
type itemKind uint8

const (
	itemFlags itemKind = iota
	itemUID
	itemDate
	itemSize
	itemModSeq
	itemEnvelope
	itemBody          // BODY without a section
	itemBodyStructure // extended
	itemSection       // BODY[...] and RFC822...
	itemBinary        // BINARY[...]
	itemBinarySize
	itemEmailID
	itemThreadID
	itemSaveDate
	itemPreview
	itemDigest // no item, but what the cache calls a digest
	// No items: what the cache calls sortFacts, for each comparator.
	itemFacts
	itemFactsASCII
	itemFactsOctet
)

// fetchItem is one item of a FETCH (RFC 9051, 6.4.5).
type fetchItem struct {
	kind  itemKind
	label string // what the response calls it

	number  []uint32 // of the part
	text    mimetree.Text
	fields  []string // HEADER.FIELDS and HEADER.FIELDS.NOT
	kept    bool     // a digest has all of the fields
	not     bool
	seen    bool // reading it sets \Seen
	partial bool
	offset  int64
	count   int64
}

// Bounds on one FETCH.
const (
	maxItems      = 200
	maxFieldNames = 500
	maxPartDepth  = 100
)

var simpleItems = map[string]fetchItem{
	"FLAGS":         {kind: itemFlags},
	"UID":           {kind: itemUID},
	"INTERNALDATE":  {kind: itemDate},
	"RFC822.SIZE":   {kind: itemSize},
	"MODSEQ":        {kind: itemModSeq},
	"ENVELOPE":      {kind: itemEnvelope},
	"BODYSTRUCTURE": {kind: itemBodyStructure},
	"RFC822":        {kind: itemSection, seen: true},
	"RFC822.HEADER": {kind: itemSection, text: mimetree.Header},
	"RFC822.TEXT":   {kind: itemSection, text: mimetree.Body, seen: true},
	"EMAILID":       {kind: itemEmailID},
	"THREADID":      {kind: itemThreadID},
	"SAVEDATE":      {kind: itemSaveDate},
	"PREVIEW":       {kind: itemPreview},
}

var fetchMacros = map[string][]string{
	"FAST": {"FLAGS", "INTERNALDATE", "RFC822.SIZE"},
	"ALL":  {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"},
	"FULL": {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"},
}

// fetchItems takes the items of a FETCH.
func (c *conn) fetchItems() (items []fetchItem) {
	if c.dec.Peek() != '(' {
		name := c.dec.Letters()
		if macro, is := fetchMacros[name]; is {
			for _, name := range macro {
				items = append(items, namedItem(name))
			}
			return items
		}
		return []fetchItem{c.fetchItem(name)}
	}
	n := 0
	c.dec.List(func() {
		it := c.fetchItem(c.dec.Letters())
		if n++; n > maxItems {
			c.dec.Fail("too many items")
		}
		// Once is enough. BODY[1] and BODY.PEEK[1] are shown alike, but not the same.
		same := func(other fetchItem) bool {
			return other.label == it.label && other.count == it.count && other.seen == it.seen
		}
		if !slices.ContainsFunc(items, same) {
			items = append(items, it)
		}
	})
	if c.dec.OK() && len(items) == 0 {
		c.dec.Fail("expected items")
	}
	return items
}

func namedItem(name string) fetchItem {
	if name == "BODY" {
		return fetchItem{kind: itemBody, label: name}
	}
	it := simpleItems[name]
	it.label = name
	return it
}

func (c *conn) fetchItem(name string) fetchItem {
	section := c.dec.Peek() == '['
	switch {
	case name == "BODY" && !section:
		return namedItem(name)
	case !section:
		if _, is := simpleItems[name]; !is {
			c.dec.Fail("no such item")
		}
		if name == "PREVIEW" {
			// LAZY allows us to have none yet (RFC 8970, 4.1), which we do not need.
			c.dec.AcceptWord(" (LAZY)")
		}
		return namedItem(name)
	}
	it := fetchItem{kind: itemSection, seen: true}
	switch name {
	case "BODY":
	case "BODY.PEEK":
		name, it.seen = "BODY", false
	case "BINARY":
		it.kind = itemBinary
	case "BINARY.PEEK":
		name, it.kind, it.seen = "BINARY", itemBinary, false
	case "BINARY.SIZE":
		it.kind, it.seen = itemBinarySize, false
	default:
		c.dec.Fail("no such item")
	}
	c.dec.Expect('[')
	spec := c.dec.Letters()
	text := sectionSpec(&c.dec, &it, spec)
	if it.kind != itemSection && text != "" {
		c.dec.Fail("BINARY takes a part's number alone")
	}
	it.kept = it.kind == itemSection && len(it.fields) > 0 && len(it.number) == 0 && !it.not &&
		!slices.ContainsFunc(it.fields, func(name string) bool { return !mimetree.IsKept(name) })
	if len(it.fields) > 0 {
		spec += " (" + strings.Join(it.fields, " ") + ")"
	}
	it.label = name + "[" + spec + "]"
	c.dec.Expect(']')
	if it.kind != itemBinarySize && c.dec.Accept('<') {
		it.partial = true
		it.offset = int64(c.dec.Number64())
		c.dec.Expect('.')
		it.count = int64(c.dec.Number64())
		c.dec.Expect('>')
		if it.count == 0 {
			c.dec.Fail("a part of nothing")
		}
		it.label += "<" + strconv.FormatInt(it.offset, 10) + ">"
	}
	return it
}

// sectionSpec parses what stands in the brackets, "1.2.HEADER.FIELDS" (RFC 9051, 9:
// section-spec), and takes the names of fields. It returns the part behind the numbers.
func sectionSpec(dec *wire.Decoder, it *fetchItem, spec string) (text string) {
	text = spec
	for text != "" && text[0] >= '0' && text[0] <= '9' {
		digits, rest, more := strings.Cut(text, ".")
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || n == 0 || len(it.number) >= maxPartDepth || more && rest == "" {
			dec.Fail("malformed section")
			return ""
		}
		it.number = append(it.number, uint32(n))
		text = rest
	}
	switch text {
	case "":
		it.text = mimetree.Whole
	case "HEADER":
		it.text = mimetree.Header
	case "TEXT":
		it.text = mimetree.Body
	case "MIME":
		it.text = mimetree.MIME
		if len(it.number) == 0 {
			dec.Fail("MIME needs a part's number")
		}
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
		it.text = mimetree.Header
		it.not = text == "HEADER.FIELDS.NOT"
		dec.SP()
		dec.List(func() {
			name := dec.AString()
			if !isFieldName(name) || len(it.fields) >= maxFieldNames {
				dec.Fail("malformed field name")
			}
			it.fields = append(it.fields, name)
		})
		if dec.OK() && len(it.fields) == 0 {
			dec.Fail("expected names of fields")
		}
	default:
		dec.Fail("malformed section")
	}
	return text
}

// isFieldName reports whether s can be shown as an atom in the response.
func isFieldName(s string) bool {
	if s == "" || len(s) > 200 {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte(`(){%*"\]:`, s[i]) >= 0 {
			return false
		}
	}
	return true
}
