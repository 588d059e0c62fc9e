package spam

import (
	"bytes"

	"golang.org/x/net/html/atom"
)

// An htmlReader takes text, hidden text and links from HTML as a mail program would show it,
// near enough to tell what a reader sees. It never fails.
type htmlReader struct {
	p      *parser
	stack  [64]openElement // the elements that matter, open ones
	depth  int
	hidden int // how many elements of the stack hide their content
	link   int // index of the open link in Links, or -1
	from   int // where the text of the open link begins
}

type openElement struct {
	tag   atom.Atom
	hides bool
}

// breaking elements end a word; text around others is one word, however many stand in it.
var breaking = map[atom.Atom]bool{
	atom.P: true, atom.Br: true, atom.Div: true, atom.Td: true, atom.Th: true, atom.Tr: true, atom.Table: true, atom.Li: true, atom.Ul: true, atom.Ol: true,
	atom.H1: true, atom.H2: true, atom.H3: true, atom.H4: true, atom.H5: true, atom.H6: true, atom.Hr: true, atom.Img: true, atom.Center: true,
	atom.Title: true, atom.Body: true, atom.Blockquote: true, atom.Pre: true, atom.Option: true, atom.Select: true, atom.Form: true, atom.Input: true,
	atom.Button: true, atom.Section: true, atom.Article: true, atom.Header: true, atom.Footer: true, atom.Dd: true, atom.Dt: true,
}

// void elements have no content (HTML, 13.1.2).
var void = map[atom.Atom]bool{
	atom.Area: true, atom.Base: true, atom.Br: true, atom.Col: true, atom.Embed: true, atom.Hr: true, atom.Img: true, atom.Input: true,
	atom.Link: true, atom.Meta: true, atom.Source: true, atom.Track: true, atom.Wbr: true,
}

func (p *parser) html(body []byte) {
	h := htmlReader{p: p, link: -1}
	h.space()
	z := htmlScanner{rest: body}
	for {
		switch z.next() {
		case htmlEOF:
			h.endLink()
			p.text = append(p.text, '\n')
			return
		case htmlText:
			h.text(z.text)
		case htmlStart:
			h.start(&z)
		case htmlEnd:
			h.end(z.tag)
		case htmlComment:
			p.tag("!comment")
		}
	}
}

func (h *htmlReader) text(b []byte) {
	p := h.p
	if room := p.room(); len(b) > room {
		p.m.Truncated = true
		if room <= 0 {
			return
		}
		b = bytes.ToValidUTF8(b[:room], nil)
	}
	if h.hidden > 0 {
		if h.inRaw() {
			return // scripts and style sheets are no text at all
		}
		p.hidden = append(appendUnescaped(p.hidden, b, false), ' ')
		return
	}
	p.text = appendUnescaped(p.text, b, false)
}

func (h *htmlReader) inRaw() bool {
	if h.depth == 0 {
		return false
	}
	t := h.stack[h.depth-1].tag
	return t == atom.Script || t == atom.Style
}

func (h *htmlReader) space() {
	if len(h.p.text) > 0 && h.hidden == 0 && len(h.p.text) < h.p.lim.Text {
		h.p.text = append(h.p.text, ' ')
	}
}

func (h *htmlReader) start(z *htmlScanner) {
	p, tag := h.p, z.tag
	if tag == 0 {
		p.tag("unknown-tag")
	} else {
		p.tag(tag.String())
	}
	if breaking[tag] {
		h.space()
	}
	hides := tag == atom.Script || tag == atom.Style || tag == atom.Head || tag == atom.Noscript || tag == atom.Template
	url := ""
	var keyBuf [16]byte
	for n := 0; ; n++ {
		key, val, ok := z.attr(keyBuf[:])
		if !ok {
			break
		}
		if n >= 40 {
			continue
		}
		switch string(key) {
		case "href", "src", "action", "background":
			if len(p.links) >= p.lim.Links {
				p.m.Truncated = true
			} else if len(val) > 0 && len(val) < 4096 && url == "" {
				p.line = appendUnescaped(p.line[:0], val, true)
				url = p.keep(bytes.TrimSpace(p.line))
			}
		case "hidden":
			hides = true
		case "style":
			if hidesByStyle(val) {
				hides = true
				p.tag("style-hides")
			}
		case "color", "bgcolor", "size", "face", "width", "height", "border", "http-equiv":
			if len(val) > 0 && len(val) < 16 && len(p.markup) < maxMarkup {
				var buf [64]byte
				p.tag(p.keep(lowerTo(append(append(buf[:0], key...), '='), val)))
			}
		}
		if len(key) > 2 && key[0] == 'o' && key[1] == 'n' {
			p.tag("event")
		}
	}
	if tag == atom.Body {
		h.end(atom.Head) // unclosed
	}
	if url != "" {
		h.addLink(tag, url)
	}
	if z.closed || void[tag] || tag == 0 {
		return
	}
	// Only what may hide text is remembered, and what stands inside it.
	if (hides || h.hidden > 0) && h.depth < len(h.stack) {
		h.stack[h.depth] = openElement{tag, hides}
		h.depth++
		if hides {
			h.hidden++
		}
	}
}

func (h *htmlReader) addLink(tag atom.Atom, url string) {
	p := h.p
	if tag == atom.A {
		h.endLink()
	}
	p.links = append(p.links, Link{URL: url, Tag: tag.String(), Hidden: h.hidden > 0})
	if tag == atom.A {
		h.link, h.from = len(p.links)-1, len(p.text)
	}
}

func (h *htmlReader) endLink() {
	if h.link >= 0 {
		p := h.p
		p.spans = append(p.spans, linkSpan{h.link, h.from, min(len(p.text), h.from+512)})
		h.link = -1
	}
}

func (h *htmlReader) end(tag atom.Atom) {
	if tag == atom.A {
		h.endLink()
	}
	if breaking[tag] {
		h.space()
	}
	for i := h.depth - 1; i >= 0; i-- {
		if h.stack[i].tag != tag {
			continue
		}
		for _, e := range h.stack[i:h.depth] {
			if e.hides {
				h.hidden--
			}
		}
		h.depth = i
		return
	}
}

// hidesByStyle reports whether a style attribute makes text invisible.
func hidesByStyle(style []byte) bool {
	var buf [256]byte
	s := buf[:0]
	for _, c := range style[:min(len(style), len(buf))] {
		if c > ' ' {
			if c >= 'A' && c <= 'Z' {
				c |= 0x20
			}
			s = append(s, c)
		}
	}
	for _, sign := range []string{"display:none", "visibility:hidden", "mso-hide:all", "opacity:0;", "max-height:0"} {
		if bytes.Contains(s, []byte(sign)) {
			return true
		}
	}
	if i := bytes.Index(s, []byte("font-size:")); i >= 0 {
		v := s[i+len("font-size:"):]
		if len(v) > 0 && (v[0] == '0' || v[0] == '1') && (len(v) == 1 || v[1] == 'p' || v[1] == ';' || v[1] == 'e' && v[0] == '0') {
			return true
		}
	}
	return false
}

// maxMarkup is how many signs of markup are kept, each as often as it comes.
const maxMarkup = 400

// tag counts a sign of markup.
func (p *parser) tag(name string) {
	if len(p.markup) < maxMarkup {
		p.markup = append(p.markup, name)
	}
}
