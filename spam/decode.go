package spam

import (
	"bytes"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
)

// decode undoes a transfer encoding (RFC 2045, 6) as far as it can be undone. The result is
// valid until the next call.
func (p *parser) decode(raw []byte, encoding string) []byte {
	switch encoding {
	case "base64":
		p.scratch = p.base64(p.scratch[:0], raw)
		return p.scratch
	case "quoted-printable":
		p.scratch = p.quotedPrintable(p.scratch[:0], raw)
		return p.scratch
	case "", "7bit", "8bit", "binary":
	default:
		p.m.defect("encoding")
	}
	return raw
}

// base64Values maps an octet to its six bits, or 0xff.
var base64Values = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	return t
}()

// base64 skips what is not of the alphabet, and stops at the padding as readers do.
func (p *parser) base64(dst, raw []byte) []byte {
	var acc uint32
	bits := 0
	for i, c := range raw {
		v := base64Values[c]
		if v == 0xff {
			switch c {
			case '\r', '\n', ' ', '\t':
			case '=':
				if len(bytes.Trim(raw[i:], "= \t\r\n")) > 0 {
					p.m.defect("base64")
				}
				return dst
			default:
				p.m.defect("base64")
			}
			continue
		}
		acc = acc<<6 | uint32(v)
		if bits += 6; bits >= 8 {
			bits -= 8
			dst = append(dst, byte(acc>>bits))
		}
	}
	return dst
}

func (p *parser) quotedPrintable(dst, raw []byte) []byte {
	for {
		i := bytes.IndexByte(raw, '=')
		if i < 0 {
			return append(dst, raw...)
		}
		dst = append(dst, raw[:i]...)
		raw = raw[i+1:]
		if len(raw) >= 2 {
			if hi, lo := hexValue(raw[0]), hexValue(raw[1]); hi >= 0 && lo >= 0 {
				dst = append(dst, byte(hi<<4|lo))
				raw = raw[2:]
				continue
			}
		}
		line, next := cutLine(raw)
		if len(bytes.TrimRight(line, " \t")) == 0 { // a soft line break
			raw = next
			continue
		}
		p.m.defect("quoted-printable")
		dst = append(dst, '=')
	}
}

// toUTF8 converts text of a declared charset. Text that is valid UTF-8 stays as it is,
// whatever was declared, unless the charset is one that hides in ASCII.
func (p *parser) toUTF8(b []byte, name string) []byte {
	shifting := strings.HasPrefix(name, "iso-2022") || name == "utf-7" || strings.HasPrefix(name, "hz-") || strings.HasPrefix(name, "utf-16")
	if !shifting && utf8.Valid(b) {
		return b
	}
	switch name {
	case "", "us-ascii", "ascii", "utf-8", "utf8":
		p.m.defect("charset")
		return p.latin1(b)
	case "iso-8859-1", "iso8859-1", "latin1", "windows-1252":
		return p.latin1(b)
	}
	r, err := charset.Reader(name, bytes.NewReader(b))
	if err == nil {
		out, err := io.ReadAll(io.LimitReader(r, int64(4*len(b))))
		if err == nil && utf8.Valid(out) {
			return out
		}
	}
	p.m.defect("unknown-charset")
	return p.latin1(b)
}

// latin1 keeps the valid UTF-8 in b, and reads other octets as ISO 8859-1. The result is valid
// until the next call.
func (p *parser) latin1(b []byte) []byte {
	out := p.wide[:0]
	for i := 0; i < len(b); {
		if b[i] < utf8.RuneSelf {
			out = append(out, b[i])
			i++
			continue
		}
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			r = rune(b[i])
		}
		out = utf8.AppendRune(out, r)
		i += n
	}
	p.wide = out
	return out
}

// decodeWords decodes the encoded-words of a field (RFC 2047), and makes it valid UTF-8.
func (p *parser) decodeWords(b []byte) string {
	out := b
	if bytes.Contains(b, []byte("=?")) {
		out = p.words[:0]
		afterWord := false
		for {
			i := bytes.Index(b, []byte("=?"))
			if i < 0 {
				break
			}
			text, n, ok := p.encodedWord(b[i:])
			if !ok {
				p.m.defect("encoded-word")
				out = append(out, b[:i+2]...)
				b = b[i+2:]
				afterWord = false
				continue
			}
			if between := b[:i]; !afterWord || len(bytes.TrimSpace(between)) > 0 {
				out = append(out, between...) // white space between encoded-words is none (RFC 2047, 6.2)
			}
			out = append(out, text...)
			b = b[i+n:]
			afterWord = true
		}
		out = append(out, b...)
		p.words = out
	}
	if !utf8.Valid(out) {
		p.m.defect("header-8bit")
		out = p.latin1(out)
	}
	return p.keep(out)
}

// maxEncodedWord is far above the 75 octets that are allowed (RFC 2047, 2).
const maxEncodedWord = 1 << 10

// encodedWord decodes =?charset?encoding?text?= at the start of b, of n bytes. The text is
// valid until the next call.
func (p *parser) encodedWord(b []byte) (text []byte, n int, ok bool) {
	set, rest, ok := bytes.Cut(b[2:], []byte("?"))
	if !ok || len(rest) < 2 || rest[1] != '?' || len(set) == 0 || len(set) > 40 {
		return nil, 0, false
	}
	enc := rest[0] | 0x20
	rest = rest[2:]
	body, _, ok := bytes.Cut(rest[:min(len(rest), maxEncodedWord)], []byte("?="))
	if !ok || enc != 'b' && enc != 'q' {
		return nil, 0, false
	}
	n = 2 + len(set) + 1 + 2 + len(body) + 2
	if enc == 'b' {
		p.scratch = p.base64(p.scratch[:0], body)
	} else {
		p.wide = append(p.wide[:0], body...)
		for i, c := range p.wide {
			if c == '_' {
				p.wide[i] = ' '
			}
		}
		p.scratch = p.quotedPrintable(p.scratch[:0], p.wide)
	}
	set, _, _ = bytes.Cut(set, []byte("*")) // a language (RFC 2231, 5)
	return p.toUTF8(p.scratch, p.known(set)), n, true
}
