package spam

import (
	"bytes"
	"strings"
)

// cutLine returns the first line without its end, and what follows it.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return b, nil
	}
	rest = b[i+1:]
	if i > 0 && b[i-1] == '\r' {
		i--
	}
	return b[:i], rest
}

func eolLen(b []byte) int {
	switch {
	case len(b) > 1 && b[0] == '\r' && b[1] == '\n':
		return 2
	case len(b) > 0 && b[0] == '\n':
		return 1
	}
	return 0
}

func isAlpha(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }

func isFieldName(b []byte) bool {
	if len(b) > 76 {
		return false
	}
	for i, c := range b {
		if c <= ' ' || c >= 127 {
			// White space before the colon is obsolete, and read (RFC 5322, 4.5).
			return i > 0 && len(bytes.TrimRight(b[i:], " \t")) == 0
		}
	}
	return true
}

// looksLikeHeader reports whether another field follows soon.
func looksLikeHeader(b []byte) bool {
	line, _ := cutLine(b)
	i := bytes.IndexByte(line, ':')
	return i > 0 && isFieldName(line[:i])
}

// knownNames saves memory for each field, charset and encoding that nearly all mail has.
var knownNames = func() map[string]string {
	m := map[string]string{}
	for _, n := range []string{"Received", "From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type",
		"Content-Transfer-Encoding", "Return-Path", "Delivered-To", "Reply-To", "Cc", "Sender", "In-Reply-To", "References", "X-Mailer", "List-Id",
		"List-Unsubscribe", "List-Post", "List-Help", "List-Subscribe", "List-Archive", "Precedence", "Errors-To", "Content-Disposition", "User-Agent",
		"X-Priority", "X-MSMail-Priority", "X-MimeOLE", "Importance", "DKIM-Signature", "Organization", "X-Original-To", "Authentication-Results",
		"base64", "quoted-printable", "7bit", "8bit", "binary", "us-ascii", "utf-8", "iso-8859-1", "windows-1252"} {
		n = strings.ToLower(n)
		m[n] = n
	}
	return m
}()

// known returns b in lower case.
func (p *parser) known(b []byte) string {
	var buf [64]byte
	if len(b) > len(buf) {
		return strings.ToLower(string(b))
	}
	low := lowerTo(buf[:0], b)
	if n, ok := knownNames[string(low)]; ok {
		return n
	}
	return p.keep(low)
}

func (p *parser) fieldName(b []byte) string { return p.known(bytes.TrimRight(b, " \t")) }

// unfold returns a field's value on one line, valid until the next call.
func (p *parser) unfold(b []byte, folded bool) []byte {
	b = bytes.TrimSpace(b)
	if !folded {
		return b
	}
	p.line = p.line[:0]
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		if len(p.line) > 0 {
			p.line = append(p.line, ' ')
		}
		p.line = append(p.line, bytes.TrimSpace(line)...)
	}
	return p.line
}

func splitMediaType(v string) (mediaType, params string) {
	t, params, _ := strings.Cut(v, ";")
	t = strings.ToLower(strings.TrimSpace(t))
	if major, minor, ok := strings.Cut(t, "/"); !ok || major == "" || minor == "" || strings.ContainsAny(t, " \t\"") {
		return "", params
	}
	return t, params
}

// param finds a parameter of a structured field, however badly quoted it is. Of RFC 2231 it
// reads the forms of one piece.
func param(params, name string) string {
	for len(params) > 0 {
		var item string
		item, params = cutParam(params)
		k, v, ok := strings.Cut(item, "=")
		if !ok {
			continue
		}
		k = strings.TrimSpace(k)
		ext := strings.TrimSuffix(k, "*")
		if !strings.EqualFold(ext, name) && !strings.EqualFold(strings.TrimSuffix(ext, "*0"), name) {
			continue
		}
		v = strings.TrimSpace(v)
		if len(v) > 0 && v[0] == '"' {
			v = unquote(v)
		}
		if ext != k {
			if i := strings.LastIndexByte(v, '\''); i >= 0 {
				v = percentDecode(v[i+1:])
			}
		}
		return v
	}
	return ""
}

// cutParam cuts at the first semicolon outside quotes.
func cutParam(s string) (item, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ';' && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func unquote(v string) string {
	v = v[1:]
	if i := strings.IndexAny(v, `"\`); i < 0 {
		return v
	} else if v[i] == '"' {
		return v[:i]
	}
	var s strings.Builder
	for i := 0; i < len(v) && v[i] != '"'; i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		s.WriteByte(v[i])
	}
	return s.String()
}

func percentDecode(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := hexValue(s[i+1]), hexValue(s[i+2])
			if hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// splitAddress reads the first mailbox of an address field as readers see it: any text, then
// the address in the last angle brackets (RFC 5322, 3.4).
func splitAddress(v string) Address {
	if open := strings.LastIndexByte(v, '<'); open >= 0 {
		addr := v[open+1:]
		if end := strings.IndexByte(addr, '>'); end >= 0 {
			addr = addr[:end]
		}
		name := strings.Trim(strings.TrimSpace(v[:open]), `"'`)
		return Address{Name: strings.TrimSpace(name), Addr: strings.ToLower(strings.TrimSpace(addr))}
	}
	addr, name, _ := strings.Cut(v, "(")
	if first, _, ok := strings.Cut(addr, ","); ok {
		addr = first
	}
	return Address{Name: strings.Trim(name, " )"), Addr: strings.ToLower(strings.TrimSpace(addr))}
}
