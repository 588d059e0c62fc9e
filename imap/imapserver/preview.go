package imapserver

import (
	"context"
	"html"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"

	"github.com/mailblocks/mailblocks/imap/internal/mimetree"
)

// Bounds on a preview: characters shown, and octets of decoded text looked at.
const (
	maxPreview       = 200 // RFC 8970, 3.3
	maxPreviewSource = 64 << 10
)

// preview returns the beginning of a message's text on one line (RFC 8970): of its first
// text part, without markup and without what it quotes, unless it does nothing else.
func (m *message) preview(ctx context.Context) (string, error) {
	if err := m.parse(ctx); err != nil {
		return "", err
	}
	p := firstText(m.tree)
	if p == nil {
		return "", nil
	}
	if err := m.open(ctx); err != nil {
		return "", err
	}
	r, known := decodeTransfer(p.Encoding, m.reader(p.Body, p.End))
	if !known {
		return "", nil
	}
	if label := p.Param("charset"); label != "" && !isUTF8(label) {
		if decoded, err := charset.Reader(label, r); err == nil {
			r = decoded
		}
	}
	// What cannot be decoded is where the preview ends: it is but an approximation.
	b, _ := io.ReadAll(io.LimitReader(r, maxPreviewSource))
	text := strings.ToValidUTF8(string(b), "\uFFFD")
	if strings.EqualFold(p.Subtype, "html") {
		return oneLine(htmlText(text)), nil
	}
	var own, quoted strings.Builder
	for line := range strings.Lines(text) {
		if rest := strings.TrimLeft(line, " \t"); strings.HasPrefix(rest, ">") {
			quoted.WriteString(line)
		} else {
			own.WriteString(line)
		}
	}
	if s := oneLine(own.String()); s != "" {
		return s, nil
	}
	return oneLine(quoted.String()), nil
}

// firstText returns the first part that is plain text, or else HTML, and no attachment.
func firstText(p *mimetree.Part) *mimetree.Part {
	var markup *mimetree.Part
	var find func(p *mimetree.Part) *mimetree.Part
	find = func(p *mimetree.Part) *mimetree.Part {
		if p.IsMultipart() {
			for _, part := range p.Parts {
				if t := find(part); t != nil {
					return t
				}
			}
			return nil
		}
		if !strings.EqualFold(p.Type, "text") || strings.EqualFold(p.Disposition, "attachment") || p.Size() == 0 {
			return nil
		}
		switch {
		case strings.EqualFold(p.Subtype, "plain"):
			return p
		case strings.EqualFold(p.Subtype, "html") && markup == nil:
			markup = p
		}
		return nil
	}
	if t := find(p); t != nil {
		return t
	}
	return markup
}

// oneLine makes one blank of each run of blanks and line ends, leaves out what cannot be
// seen, and cuts.
func oneLine(s string) string {
	var b strings.Builder
	n, blank := 0, false
	for _, r := range s {
		if unicode.IsSpace(r) {
			blank = true
			continue
		}
		if unicode.IsControl(r) || r == '\uFEFF' || r == '\u200B' {
			continue
		}
		if blank && n > 0 {
			if b.WriteByte(' '); n+1 >= maxPreview {
				break
			}
			n++
		}
		blank = false
		if b.WriteRune(r); n+1 >= maxPreview {
			break
		}
		n++
	}
	return strings.TrimRight(b.String(), " ")
}

// htmlText returns the text of HTML: what stands between tags, but not in those whose text
// nobody sees.
func htmlText(s string) string {
	var b strings.Builder
	for s != "" {
		text, rest, isTag := strings.Cut(s, "<")
		b.WriteString(html.UnescapeString(text))
		if !isTag {
			break
		}
		if comment, is := strings.CutPrefix(rest, "!--"); is {
			_, s, _ = strings.Cut(comment, "-->")
			continue
		}
		if first, _ := utf8.DecodeRuneInString(rest); first != '/' && first != '!' && first != '?' && !unicode.IsLetter(first) {
			b.WriteByte('<') // no tag at all
			s = rest
			continue
		}
		var tag string
		tag, s, _ = strings.Cut(rest, ">")
		name := strings.ToUpper(tagName(tag))
		switch name {
		case "STYLE", "SCRIPT", "TITLE", "BLOCKQUOTE":
			if i := indexFold(s, "</"+name); i >= 0 {
				_, s, _ = strings.Cut(s[i:], ">")
			}
			b.WriteByte(' ')
		case "BR", "P", "/P", "DIV", "/DIV", "TD", "/TD", "TR", "LI", "H1", "/H1", "H2", "/H2", "H3", "/H3", "HR", "TABLE", "UL", "OL", "/LI":
			b.WriteByte(' ')
		}
	}
	return b.String()
}

func tagName(tag string) string {
	i := 0
	for i < len(tag) && (tag[i] > ' ' && (tag[i] != '/' || i == 0)) {
		i++
	}
	return tag[:i]
}
