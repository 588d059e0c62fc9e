package spam

import (
	"bytes"
	"encoding/base64"
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
		return latin1(b)
	case "iso-8859-1", "iso8859-1", "latin1", "windows-1252":
		return latin1(b)
	}
	r, err := charset.Reader(name, bytes.NewReader(b))
	if err == nil {
		out, err := io.ReadAll(io.LimitReader(r, int64(4*len(b))))
		if err == nil && utf8.Valid(out) {
			return out
		}
	}
	p.m.defect("unknown-charset")
	return latin1(b)
}

// latin1 keeps the valid UTF-8 in b, and reads other octets as ISO 8859-1.
func latin1(b []byte) []byte {
	out := make([]byte, 0, len(b)+len(b)/4+4)
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
	return out
}

// decodeWords decodes the encoded-words of a field (RFC 2047), and makes it valid UTF-8.
func (p *parser) decodeWords(s string) string {
	if !strings.Contains(s, "=?") {
		if utf8.ValidString(s) {
			return s
		}
		p.m.defect("header-8bit")
		return string(latin1([]byte(s)))
	}
	var out strings.Builder
	afterWord := false
	for {
		i := strings.Index(s, "=?")
		if i < 0 {
			break
		}
		text, n, ok := p.encodedWord(s[i:])
		if !ok {
			p.m.defect("encoded-word")
			out.WriteString(s[:i+2])
			s = s[i+2:]
			afterWord = false
			continue
		}
		if between := s[:i]; !afterWord || strings.TrimSpace(between) != "" {
			out.WriteString(between) // white space between encoded-words is none (RFC 2047, 6.2)
		}
		out.WriteString(text)
		s = s[i+n:]
		afterWord = true
	}
	out.WriteString(s)
	if v := out.String(); utf8.ValidString(v) {
		return v
	}
	p.m.defect("header-8bit")
	return string(latin1([]byte(out.String())))
}

// encodedWord decodes =?charset?encoding?text?= at the start of s, of n bytes.
func (p *parser) encodedWord(s string) (text string, n int, ok bool) {
	set, rest, ok := strings.Cut(s[2:], "?")
	if !ok || len(rest) < 2 || rest[1] != '?' || set == "" || len(set) > 40 {
		return "", 0, false
	}
	enc := rest[0] | 0x20
	body, _, ok := strings.Cut(rest[2:], "?=")
	if !ok || enc != 'b' && enc != 'q' {
		return "", 0, false
	}
	n = 2 + len(set) + 1 + 2 + len(body) + 2
	var raw []byte
	if enc == 'b' {
		var err error
		if raw, err = base64.StdEncoding.DecodeString(body); err != nil {
			raw = p.base64(nil, []byte(body))
		}
	} else {
		raw = p.quotedPrintable(nil, []byte(strings.ReplaceAll(body, "_", " ")))
	}
	set, _, _ = strings.Cut(strings.ToLower(set), "*") // a language (RFC 2231, 5)
	return string(p.toUTF8(raw, set)), n, true
}
