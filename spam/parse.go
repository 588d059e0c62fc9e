package spam

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"
)

// Parse reads a message from r until io.EOF, once for all checks. Whatever it holds is a
// Message: what is malformed becomes a defect of it, and what exceeds the limits is cut.
// Lines may end in CRLF or LF. The only errors are those of r.
func Parse(r io.Reader, lim Limits) (*Message, error) {
	lim = lim.withDefaults()
	raw, size, err := readSome(r, lim.Bytes)
	if err != nil {
		return nil, err
	}
	return parseBytes(raw, size, lim), nil
}

// readSome keeps the first limit bytes of r and counts the rest.
func readSome(r io.Reader, limit int64) ([]byte, int64, error) {
	size := 8 << 10
	if l, ok := r.(interface{ Len() int }); ok {
		size = l.Len() + 1
	}
	buf := make([]byte, 0, min(int64(size), limit)+1)
	for int64(len(buf)) < limit {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):min(int64(cap(buf)), limit)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, int64(len(buf)), nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
	rest, err := io.Copy(io.Discard, r)
	return buf, int64(len(buf)) + rest, err
}

// parseBytes keeps raw.
func parseBytes(raw []byte, size int64, lim Limits) *Message {
	m := &Message{Size: size, Truncated: size > int64(len(raw)), raw: raw, limits: lim}
	if bytes.HasPrefix(raw, []byte("From ")) { // an mbox separator is no part of the message
		if i := bytes.IndexByte(raw, '\n'); i >= 0 {
			raw = raw[i+1:]
			m.raw = raw
		}
	}
	p := parsers.Get().(*parser)
	p.m, p.lim = m, lim
	p.entity(raw, 0)
	p.finish()
	parsers.Put(p)
	return m
}

// A parser reads one message at a time. What it gathers on the way is reused for the next.
type parser struct {
	m   *Message
	lim Limits

	text, hidden []byte
	parts        []Part
	links        []Link
	spans        []linkSpan
	markup       []string

	kept    strings.Builder // the end of the strings of the message, many in one piece of memory
	scratch []byte          // of one decoded part
	wide    []byte          // the same as UTF-8
	line    []byte          // of one value
	words   []byte          // of one value with encoded-words
}

// A linkSpan says where in the text a link stands.
type linkSpan struct{ link, from, to int }

var parsers = sync.Pool{New: func() any { return new(parser) }}

// finish gives the message what was gathered, and forgets it.
func (p *parser) finish() {
	m := p.m
	m.Text, m.Hidden = string(p.text), string(p.hidden)
	for _, s := range p.spans {
		p.links[s.link].Text = strings.TrimSpace(m.Text[s.from:s.to])
	}
	m.Parts, m.Links, m.markup = slices.Clone(p.parts), slices.Clone(p.links), slices.Clone(p.markup)
	clear(p.parts)
	clear(p.links)
	clear(p.markup)
	*p = parser{
		text: reuse(p.text), hidden: reuse(p.hidden), scratch: reuse(p.scratch), wide: reuse(p.wide), line: reuse(p.line), words: reuse(p.words),
		parts: p.parts[:0], links: p.links[:0], spans: p.spans[:0], markup: p.markup[:0],
	}
}

// reuse returns the memory of b unless it is that of a rare, large message.
func reuse(b []byte) []byte {
	if cap(b) > 1<<18 {
		return nil
	}
	return b[:0]
}

// keep returns b as a string that the message may have.
func (p *parser) keep(b []byte) string {
	const chunk = 2 << 10
	if len(b) > chunk/4 {
		return string(b)
	}
	if p.kept.Cap()-p.kept.Len() < len(b) {
		p.kept.Reset()
		p.kept.Grow(chunk)
	}
	n := p.kept.Len()
	p.kept.Write(b)
	return p.kept.String()[n:]
}

// room returns how much text the limits leave.
func (p *parser) room() int { return p.lim.Text - len(p.text) - len(p.hidden) }

// contentInfo is what the header of a part says about its content.
type contentInfo struct {
	mediaType   string
	params      string // the rest of Content-Type
	encoding    string
	disposition string
	has         bool // there was a Content-Type
}

// entity reads a header and the body after it.
func (p *parser) entity(raw []byte, depth int) {
	var ci contentInfo
	fields, rest := p.header(raw, depth == 0, &ci)
	if depth == 0 {
		p.m.Fields = fields
		p.m.body = len(raw) - len(rest)
		p.top()
	}
	p.body(rest, &ci, depth)
}

// top takes from the header of the message what checks ask for by name.
func (p *parser) top() {
	m := p.m
	seen := 0
	for i := range m.Fields {
		f := &m.Fields[i]
		switch f.Name {
		case "subject":
			if m.Subject == "" {
				m.Subject = f.Value
			}
		case "from":
			seen++
			if seen == 1 {
				m.From = splitAddress(f.Value)
			} else {
				m.defect("two-from")
			}
		case "reply-to":
			m.ReplyTo = splitAddress(f.Value)
		}
	}
	if seen == 0 {
		m.defect("no-from")
	}
}

// header reads fields up to the first empty line, or to the first line that can not be one of
// a header. Names and values of the fields are decoded only where the fields are kept.
func (p *parser) header(raw []byte, keep bool, ci *contentInfo) (fields []Field, rest []byte) {
	if keep {
		fields = make([]Field, 0, 24)
	}
	count := 0
	for len(raw) > 0 {
		line, next := cutLine(raw)
		if len(line) == 0 {
			return fields, next
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !isFieldName(line[:colon]) {
			if line[0] == ' ' || line[0] == '\t' {
				raw = next // folded onto nothing
				p.m.defect("header-fold")
				continue
			}
			p.m.defect("header-line")
			if count == 0 || !looksLikeHeader(next) {
				return fields, raw // the empty line is missing
			}
			raw = next
			continue
		}
		end := next
		folded := false
		for len(end) > 0 && (end[0] == ' ' || end[0] == '\t') {
			var l []byte
			l, end = cutLine(end)
			if len(bytes.TrimSpace(l)) == 0 {
				break
			}
			folded = true
		}
		value := raw[colon+1 : len(raw)-len(end)]
		if !folded {
			value = line[colon+1:]
		}
		raw = end
		if count++; count > p.lim.Fields {
			p.m.Truncated = true
			continue
		}
		name := p.fieldName(line[:colon])
		v := p.unfold(value, folded)
		switch name {
		case "content-type":
			if !ci.has {
				ci.has = true
				ci.mediaType, ci.params = splitMediaType(p.keep(v))
			}
		case "content-transfer-encoding":
			ci.encoding = p.known(bytes.TrimSpace(v))
		case "content-disposition":
			ci.disposition = p.keep(v)
		}
		if keep {
			fields = append(fields, Field{Name: name, Value: p.decodeWords(v)})
		}
	}
	return fields, nil
}

// body decodes what follows a header.
func (p *parser) body(raw []byte, ci *contentInfo, depth int) {
	if ci.mediaType == "" {
		if ci.has {
			p.m.defect("content-type")
		}
		ci.mediaType = "text/plain" // RFC 2045, 5.2
	}
	if depth > p.lim.Depth || len(p.parts) >= p.lim.Parts {
		p.m.Truncated = true
		return
	}
	switch {
	case strings.HasPrefix(ci.mediaType, "multipart/"):
		boundary := param(ci.params, "boundary")
		if boundary != "" && p.multipart(raw, boundary, depth) {
			return
		}
		p.m.defect("boundary")
		p.leaf(raw, ci, "text/plain")
	case ci.mediaType == "message/rfc822" || ci.mediaType == "message/global":
		if ci.encoding == "base64" || ci.encoding == "quoted-printable" {
			p.m.defect("encoded-message") // RFC 2046, 5.2.1
			raw = bytes.Clone(p.decode(raw, ci.encoding))
		}
		p.parts = append(p.parts, p.part(raw, ci))
		p.entity(raw, depth+1)
	default:
		p.leaf(raw, ci, ci.mediaType)
	}
}

// multipart reads the parts between boundaries (RFC 2046, 5.1.1), and reports whether there
// was one.
func (p *parser) multipart(raw []byte, boundary string, depth int) bool {
	delim := []byte("--" + boundary)
	start := -1
	for pos := 0; pos < len(raw); {
		i := bytes.Index(raw[pos:], delim)
		if i < 0 {
			break
		}
		i += pos
		pos = i + len(delim)
		if i > 0 && raw[i-1] != '\n' {
			continue
		}
		after, _ := cutLine(raw[pos:])
		last := bytes.HasPrefix(after, []byte("--"))
		if !last && len(bytes.TrimSpace(after)) > 0 {
			continue // a longer boundary that begins with ours
		}
		if start >= 0 {
			p.entity(raw[start:i], depth+1)
		}
		start = min(pos+len(after)+eolLen(raw[pos+len(after):]), len(raw))
		if last || len(p.parts) >= p.lim.Parts {
			return true
		}
	}
	if start < 0 {
		return false
	}
	p.m.defect("unclosed")
	p.entity(raw[start:], depth+1)
	return true
}

func (p *parser) part(raw []byte, ci *contentInfo) Part {
	name := param(ci.disposition, "filename")
	if name == "" {
		name = param(ci.params, "name")
	}
	return Part{
		Type:       ci.mediaType,
		Charset:    strings.ToLower(param(ci.params, "charset")),
		Encoding:   ci.encoding,
		Name:       p.decodeWords([]byte(name)),
		Attachment: len(ci.disposition) >= 10 && strings.EqualFold(ci.disposition[:10], "attachment"),
		Size:       len(raw),
	}
}

// leaf takes the text of a part that has some, whatever its name says about being attached.
func (p *parser) leaf(raw []byte, ci *contentInfo, mediaType string) {
	part := p.part(raw, ci)
	p.parts = append(p.parts, part)
	room := p.room()
	if !strings.HasPrefix(mediaType, "text/") || room <= 0 {
		p.m.Truncated = p.m.Truncated || room <= 0
		return
	}
	body := p.decode(raw, ci.encoding)
	if len(body) > 2*room {
		body = body[:2*room]
		p.m.Truncated = true
	}
	body = p.toUTF8(body, part.Charset)
	isHTML := mediaType == "text/html" || (mediaType == "text/plain" && looksLikeHTML(body))
	if isHTML {
		p.html(body)
		return
	}
	body = body[:min(len(body), room)]
	p.text = append(append(p.text, body...), '\n')
	p.plainLinks(body)
}

func looksLikeHTML(b []byte) bool {
	b = bytes.TrimLeft(b, " \t\r\n")
	if len(b) < 6 || b[0] != '<' {
		return false
	}
	var buf [16]byte
	head := lowerTo(buf[:0], b)
	for _, sign := range []string{"<html", "<!doctype", "<body", "<head"} {
		if bytes.HasPrefix(head, []byte(sign)) {
			return true
		}
	}
	return false
}

// plainLinks finds URLs in plain text.
func (p *parser) plainLinks(b []byte) {
	for len(p.links) < p.lim.Links {
		i := bytes.Index(b, []byte("://"))
		if i < 0 {
			return
		}
		start := i
		for start > 0 && isAlpha(b[start-1]) && i-start < 8 {
			start--
		}
		end := i + 3
		for end < len(b) && b[end] > ' ' && b[end] != '"' && b[end] != '<' && b[end] != '>' && end-start < 2048 {
			end++
		}
		if u := bytes.TrimRight(b[start:end], ".,;:!?)]}'*"); start < i && len(u) > i+3-start {
			s := p.keep(u)
			p.links = append(p.links, Link{URL: s, Text: s})
		}
		b = b[end:]
	}
	p.m.Truncated = true
}
