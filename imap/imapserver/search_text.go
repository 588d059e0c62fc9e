package imapserver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"mime"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
	"golang.org/x/text/unicode/norm"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/mimetree"
)

// needle is a string to look for, in the form in which its comparator compares.
type needle struct {
	text []byte
	fold func(out, b []byte) []byte
}

func newNeedle(s string, fold func(out, b []byte) []byte) needle {
	return needle{fold(nil, []byte(s)), fold}
}

// fold appends b in the form in which strings are compared: ASCII letters in lower case,
// and, when b has others, all letters in lower case and decomposed (RFC 5051): "gru" is
// found in "grün".
func fold(out, b []byte) []byte {
	start := len(out)
	out = append(out, b...)
	if lowerASCII(out[start:]) {
		return out
	}
	lower := bytes.Map(func(r rune) rune { return unicode.ToLower(unicode.ToTitle(r)) }, out[start:])
	return norm.NFKD.Append(out[:start], lower...)
}

// lowerASCII makes ASCII letters small and reports whether b has nothing but ASCII.
func lowerASCII(b []byte) bool {
	const ones = 0x0101010101010101
	high := uint64(0)
	for ; len(b) >= 8; b = b[8:] { // eight octets at a time, none of which carries into the next
		w := binary.LittleEndian.Uint64(b)
		low := w & (0x7f * ones)
		upper := (low + (0x80-'A')*ones) ^ (low + (0x7f-'Z')*ones) // the high bit: it is from A to Z
		high |= w
		binary.LittleEndian.PutUint64(b, w|(upper&^w&(0x80*ones))>>2)
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
		high |= uint64(c)
	}
	return high&(0x80*ones) == 0
}

// scratch has the buffers of one search, used again for each message.
type scratch struct {
	head, part, value, line, folded, raw, whole []byte
}

func (n needle) in(s *scratch, b []byte) bool {
	if len(n.text) == 0 {
		return true
	}
	s.folded = n.fold(s.folded[:0], b)
	return bytes.Contains(s.folded, n.text)
}

// inReader looks through r, holding a block of it.
func (n needle) inReader(s *scratch, r io.Reader) (bool, error) {
	if len(n.text) == 0 {
		return true, nil
	}
	if s.raw == nil {
		s.raw = make([]byte, 0, 32<<10)
	}
	raw := s.raw[:0]       // read, not yet folded
	folded := s.folded[:0] // ends with what a match may begin in
	defer func() { s.folded = folded }()
	for {
		k, err := r.Read(raw[len(raw):cap(raw)])
		raw = raw[:len(raw)+k]
		if err == nil && len(raw) < cap(raw) {
			continue
		}
		cut := len(raw)
		if err == nil {
			cut = tearFree(raw)
		}
		keep := max(len(folded)-len(n.text)+1, 0)
		folded = append(folded[:0], folded[keep:]...)
		folded = n.fold(folded, raw[:cut])
		if bytes.Contains(folded, n.text) {
			return true, nil
		}
		raw = raw[:copy(raw, raw[cut:])]
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

// tearFree returns where a full block may be cut without tearing a character from the accents
// that follow it: behind the last blank or line end, if there is one.
func tearFree(b []byte) int {
	if i := bytes.LastIndexAny(b, " \n"); i > 0 {
		return i
	}
	for i := len(b) - 1; i > 0 && i > len(b)-utf8.UTFMax; i-- {
		if utf8.RuneStart(b[i]) {
			return i
		}
	}
	return len(b)
}

// maxSearchedHeader bounds what is looked at of a header.
const maxSearchedHeader = 1 << 20

// header returns the header's octets, with its blank line.
func (m *candidate) header() []byte {
	if m.hasHead {
		return m.head
	}
	m.hasHead = true
	if !m.ready() {
		return nil
	}
	size := m.body.Size()
	for want := int64(8 << 10); ; want *= 4 {
		if k := min(want, size, maxSearchedHeader); int64(cap(m.scratch.head)) < k {
			m.scratch.head = make([]byte, k)
		}
		b := m.scratch.head[:min(want, size, maxSearchedHeader)]
		n, err := m.body.ReadAt(b, 0)
		if err != nil && err != io.EOF {
			m.fail(err)
			return nil
		}
		b = b[:n]
		if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
			b = b[:i+4]
		} else if int64(n) < min(size, maxSearchedHeader) && err == nil {
			continue
		}
		if bytes.HasPrefix(b, []byte("\r\n")) {
			b = nil
		}
		m.head = b
		return b
	}
}

// ready opens the body. It reports false when that cannot be: a message that is gone
// matches nothing that the index does not know.
func (m *candidate) ready() bool {
	if m.err != nil {
		return false
	}
	if err := m.open(m.ctx); err != nil {
		m.fail(err)
		return false
	}
	return true
}

func (m *candidate) fail(err error) {
	if !errors.Is(err, imap.ErrExpunged) && m.err == nil {
		m.err = err
	}
}

// fields yields the values of the header fields with a name, unfolded and decoded. A value
// is valid until the next one.
func (m *candidate) fields(name string) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		header := []byte(nil)
		if mimetree.IsKept(name) && m.known() != nil {
			header = m.digest.Head
		} else {
			header = m.header()
		}
		eachField(header, func(field, value []byte) bool {
			return len(field) != len(name) || !equalFold(string(field), name) || yield(m.scratch.decoded(value))
		})
	}
}

// eachField calls f with the fields of a header, as they stand there, until it returns false.
func eachField(header []byte, f func(name, value []byte) bool) {
	for len(header) > 0 {
		end := 0
		for { // a field goes on while lines begin with a blank
			i := bytes.IndexByte(header[end:], '\n')
			if i < 0 {
				end = len(header)
				break
			}
			end += i + 1
			if end == len(header) || header[end] != ' ' && header[end] != '\t' {
				break
			}
		}
		name, value, ok := bytes.Cut(header[:end], []byte(":"))
		header = header[end:]
		if ok && !f(bytes.TrimRight(name, " \t"), value) {
			return
		}
	}
}

var words = mime.WordDecoder{CharsetReader: charset.Reader}

// decoded returns a field's value without folds and with its encoded words decoded
// (RFC 2047); it is left as it is when they can not be.
func (s *scratch) decoded(value []byte) []byte {
	s.value = s.value[:0]
	for _, c := range value {
		if c != '\r' && c != '\n' {
			s.value = append(s.value, c)
		}
	}
	text := bytes.TrimSpace(s.value)
	if bytes.Contains(text, []byte("=?")) {
		if decoded, err := words.DecodeHeader(string(text)); err == nil {
			return []byte(decoded)
		}
	}
	return text
}

// headerKey looks for n in the fields with a name. Addresses are looked at as they stand
// there and as they are meant: "ann @ example.org (Ann)" is "Ann <ann@example.org>" too.
func headerKey(field string, n needle) criterion {
	addresses := slices.ContainsFunc([]string{"From", "To", "Cc", "Bcc", "Sender", "Reply-To"}, func(name string) bool { return equalFold(name, field) })
	return criterion{costHeader, func(m *candidate) bool {
		for value := range m.fields(field) {
			if n.in(&m.scratch, value) {
				return true
			}
			if addresses && n.in(&m.scratch, plainAddresses(mimetree.ParseAddresses(string(value)))) {
				return true
			}
		}
		return false
	}}
}

// plainAddresses writes addresses without comments, folds and quotes.
func plainAddresses(list []mimetree.Address) (b []byte) {
	for _, a := range list {
		switch {
		case a.Mailbox == "" && a.Host == "":
			b = append(b, ';')
			continue
		case a.Host == "":
			b = append(append(b, a.Mailbox...), ": "...)
			continue
		case len(b) > 0 && b[len(b)-1] != ' ':
			b = append(b, ", "...)
		}
		if a.Name != "" {
			b = append(append(b, a.Name...), " <"...)
		}
		b = append(append(append(b, a.Mailbox...), '@'), a.Host...)
		if a.Name != "" {
			b = append(b, '>')
		}
	}
	return b
}

// contains looks for n in the text of the message, decoded, and in its header.
func (m *candidate) contains(n needle, header bool) bool {
	m.known()
	if !m.ready() {
		return false
	}
	if m.tree == nil {
		if err := m.parse(m.ctx); err != nil {
			m.fail(err)
			return false
		}
		m.readAhead()
	}
	if header && n.inHeader(&m.scratch, m.header()) {
		return true
	}
	return m.partContains(m.tree, n, header)
}

// inHeader looks for n in all fields, names included.
func (n needle) inHeader(s *scratch, header []byte) bool {
	hit := false
	eachField(header, func(name, value []byte) bool {
		s.line = append(append(append(s.line[:0], name...), ": "...), s.decoded(value)...)
		hit = n.in(s, s.line)
		return !hit
	})
	return hit
}

// partContains looks through the text of a part and of those in it, with headers also through
// theirs. The header of a message in a message is text.
func (m *candidate) partContains(p *mimetree.Part, n needle, headers bool) bool {
	switch {
	case m.ctx.Err() != nil:
		m.fail(m.ctx.Err())
		return false
	case p.IsMultipart():
		for _, part := range p.Parts {
			if headers && m.headerContains(part, n) || m.partContains(part, n, headers) {
				return true
			}
		}
		return false
	case p.Message != nil:
		return m.headerContains(p.Message, n) || m.partContains(p.Message, n, headers)
	case !strings.EqualFold(p.Type, "text"):
		return false
	}
	r, _ := decodeTransfer(p.Encoding, m.reader(p.Body, p.End))
	if label := p.Param("charset"); label != "" && !isUTF8(label) {
		if decoded, err := charset.Reader(label, r); err == nil {
			r = decoded
		}
	}
	hit, err := n.inReader(&m.scratch, r)
	if err != nil {
		m.fail(err)
	}
	return hit
}

func (m *candidate) headerContains(p *mimetree.Part, n needle) bool {
	size := min(p.Body-p.Header, maxSearchedHeader)
	if int64(cap(m.scratch.part)) < size {
		m.scratch.part = make([]byte, size, size+1<<10)
	}
	head := m.scratch.part[:size]
	if _, err := m.body.ReadAt(head, p.Header); err != nil && err != io.EOF {
		m.fail(err)
		return false
	}
	return n.inHeader(&m.scratch, head)
}

// isUTF8 reports whether text in a charset need not be decoded.
func isUTF8(label string) bool {
	return equalFold(label, "us-ascii") || equalFold(label, "utf-8") || equalFold(label, "utf8")
}
