package imapserver

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap/internal/mimetree"
)

// sortFacts are what SORT and THREAD want to know of a message's header. Strings to sort by
// are in the form in which the comparator of the session compares octets.
type sortFacts struct {
	date                   time.Time // zero: the field is missing or says nothing
	subject                string    // base subject
	isReply                bool      // or a forward
	from, to, cc           string    // addr-mailbox of the first address
	displayFrom, displayTo string    // RFC 5957, 3
	id                     string    // Message-ID, normalised; empty: none that is valid
	references             []string  // the ancestors' ids, the eldest first
}

// Bounds on facts: longer texts are cut, and of many references the last count.
const (
	maxFactText   = 2 << 10
	maxReferences = 500
)

func newSortFacts(e *mimetree.Envelope, fold func(string) string) *sortFacts {
	f := new(sortFacts)
	if t, ok := parseDate(e.Date); ok {
		f.date = t
	}
	f.subject, f.isReply = baseSubject(decodedText(cut(e.Subject)))
	f.subject = fold(f.subject)
	first := func(list []mimetree.Address) (mailbox, display string) {
		if len(list) == 0 {
			return "", ""
		}
		a := list[0]
		switch {
		case a.Name != "":
			display = decodedText(cut(a.Name))
		case a.Host != "":
			display = cut(a.Mailbox) + "@" + cut(a.Host)
		default:
			display = cut(a.Mailbox)
		}
		return fold(cut(a.Mailbox)), fold(display)
	}
	f.from, f.displayFrom = first(e.From)
	f.to, f.displayTo = first(e.To)
	f.cc, _ = first(e.CC)
	if ids := messageIDs(e.MessageID, 1); len(ids) > 0 {
		f.id = ids[0]
	}
	refs := e.References
	if len(refs) > 256<<10 {
		refs = refs[len(refs)-256<<10:]
	}
	f.references = messageIDs(refs, -1)
	if n := len(f.references); n > maxReferences {
		f.references = f.references[n-maxReferences:]
	}
	if len(f.references) == 0 {
		f.references = messageIDs(e.InReplyTo, 1)
	}
	return f
}

func cut(s string) string { return s[:min(len(s), maxFactText)] }

// decodedText undoes encoded words (RFC 2047), where that can be.
func decodedText(s string) string {
	if strings.Contains(s, "=?") {
		if decoded, err := words.DecodeHeader(s); err == nil {
			return decoded
		}
	}
	return s
}

// messageIDs finds up to max ids in a field, all when max is negative: "<left@right>"
// without blanks, comments and quoting that means nothing (RFC 5256, 3: THREAD).
func messageIDs(s string, max int) (ids []string) {
	for len(ids) != max {
		i := strings.IndexByte(s, '<')
		if i < 0 {
			break
		}
		s = s[i+1:]
		if id, n := messageID(s); n > 0 {
			ids = append(ids, id)
			s = s[n:]
		}
	}
	return ids
}

// messageID takes an id up to its ">" and returns how many octets that were, zero when it
// is none.
func messageID(s string) (id string, n int) {
	var b strings.Builder
	at, quoted := -1, false
	for i := 0; i < len(s) && i < maxFactText; i++ {
		c := s[i]
		switch {
		case c == '\\' && quoted && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == '"':
			quoted = !quoted
		case quoted:
			b.WriteByte(c)
		case c == '>':
			if at <= 0 || at == b.Len()-1 {
				return "", 0
			}
			return b.String(), i + 1
		case c == '<':
			return "", 0
		case c == ' ' || c == '\t':
		default:
			if c == '@' {
				at = b.Len()
			}
			b.WriteByte(c)
		}
	}
	return "", 0
}

// append appends the facts in the form that the cache keeps.
func (f *sortFacts) append(b []byte) []byte {
	b = binary.AppendVarint(b, f.date.Unix())
	flags := byte(0)
	if !f.date.IsZero() {
		flags |= 1
	}
	if f.isReply {
		flags |= 2
	}
	b = append(b, flags)
	for _, s := range append([]string{f.subject, f.from, f.to, f.cc, f.displayFrom, f.displayTo, f.id}, f.references...) {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

// parseFacts undoes append.
func parseFacts(b []byte) *sortFacts {
	f := new(sortFacts)
	unix, n := binary.Varint(b)
	flags := b[n]
	b = b[n+1:]
	if flags&1 != 0 {
		f.date = time.Unix(unix, 0)
	}
	f.isReply = flags&2 != 0
	texts := string(b) // one for all
	next := func() string {
		size, n := binary.Uvarint(b)
		end := n + int(size)
		s := texts[n:end]
		b, texts = b[end:], texts[end:]
		return s
	}
	for _, s := range []*string{&f.subject, &f.from, &f.to, &f.cc, &f.displayFrom, &f.displayTo, &f.id} {
		*s = next()
	}
	for len(b) > 0 {
		f.references = append(f.references, next())
	}
	return f
}

// facts returns the facts of a message, from the cache if it has them. Of a message that is
// gone nothing is known.
func (m *candidate) facts(c *conn) *sortFacts {
	key := cacheKey{box: c.sel.box.id, uid: m.uid, kind: c.comparator.facts}
	if b := c.server.cache.get(key); b != nil {
		return parseFacts(b)
	}
	if m.known() == nil && !m.ready() {
		return new(sortFacts)
	}
	if err := m.parseHeader(m.ctx); err != nil {
		m.fail(err)
		return new(sortFacts)
	}
	f := newSortFacts(m.message.header.Envelope, c.comparator.order)
	c.server.cache.put(key, f.append(nil))
	return f
}
