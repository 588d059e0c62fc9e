package relay

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/quotedprintable"
	"slices"
	"strings"
)

// maxDowngrade is the size of a message that is converted in memory.
const maxDowngrade = 16 << 20

var errDowngrade = errors.New("message can not be converted to 7 bits")

// downgrade gives a message in 7 bits and lines of at most 998 octets, by encoding those of its parts that are not so (RFC 6152, 3; RFC
// 2045, 6). It fails where that can not be done without harm: a header beyond ASCII, a part under a signature, a DKIM
// or ARC signature over the message, nesting deeper than any program makes.
func downgrade(r io.ReadSeeker) ([]byte, error) {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(r, maxDowngrade+1))
	if err != nil {
		return nil, err
	}
	e := parseEntity(text)
	if len(text) > maxDowngrade || e.has("DKIM-Signature") || e.has("ARC-Seal") {
		return nil, errDowngrade
	}
	if !e.has("MIME-Version") {
		e.set("MIME-Version", "1.0")
		if !e.has("Content-Type") {
			e.set("Content-Type", "text/plain; charset=unknown-8bit") // RFC 1428, 3
		}
	}
	return e.sevenBit(nil, 0)
}

// An entity is a header and a body, as octets.
type entity struct {
	fields [][]byte // with their folds and line ends
	blank  []byte   // the empty line; nil when there is no body
	body   []byte
}

func parseEntity(text []byte) *entity {
	e := &entity{}
	for len(text) > 0 {
		if bytes.HasPrefix(text, []byte("\r\n")) {
			e.blank, e.body = text[:2], text[2:]
			break
		}
		end := 0
		for { // to the end of the line that no fold follows
			n := bytes.IndexByte(text[end:], '\n')
			if n < 0 {
				end = len(text)
				break
			}
			end += n + 1
			if end == len(text) || text[end] != ' ' && text[end] != '\t' {
				break
			}
		}
		e.fields = append(e.fields, text[:end])
		text = text[end:]
	}
	return e
}

func (e *entity) find(name string) int {
	return slices.IndexFunc(e.fields, func(f []byte) bool {
		return len(f) > len(name) && f[len(name)] == ':' && strings.EqualFold(string(f[:len(name)]), name)
	})
}

func (e *entity) has(name string) bool { return e.find(name) >= 0 }

// get gives a field's value, unfolded.
func (e *entity) get(name string) string {
	i := e.find(name)
	if i < 0 {
		return ""
	}
	return strings.TrimSpace(strings.ReplaceAll(string(e.fields[i][len(name)+1:]), "\r\n", ""))
}

// set replaces a field, or adds it at the end.
func (e *entity) set(name, value string) {
	field := []byte(name + ": " + value + "\r\n")
	if i := e.find(name); i >= 0 {
		e.fields[i] = field
		return
	}
	if n := len(e.fields); n > 0 && !bytes.HasSuffix(e.fields[n-1], []byte("\n")) { // a header that was cut off
		e.fields[n-1] = append(bytes.Clone(e.fields[n-1]), "\r\n"...)
	}
	e.fields = append(e.fields, field)
}

// fits reports whether octets may go as 7bit (RFC 2045, 2.7).
func fits(b []byte) bool {
	line := 0
	for _, c := range b {
		if line++; c == '\n' {
			line = 0
		}
		if c >= 0x80 || c == 0 || line > 999 { // 998 and the CR
			return false
		}
	}
	return true
}

// sevenBit appends the entity, converted, to out.
func (e *entity) sevenBit(out []byte, depth int) ([]byte, error) {
	kind, params, err := mime.ParseMediaType(e.get("Content-Type"))
	if err != nil {
		kind = "text/plain"
	}
	encoding := strings.ToLower(e.get("Content-Transfer-Encoding"))
	composite := strings.HasPrefix(kind, "multipart/") || kind == "message/rfc822"
	if depth > 50 || !fits(bytes.Join(e.fields, nil)) || kind == "message/global" {
		return nil, errDowngrade
	}
	body := e.body
	switch {
	case fits(body):
		if encoding == "8bit" || encoding == "binary" {
			e.set("Content-Transfer-Encoding", "7bit")
		}
	case kind == "multipart/signed" || kind == "multipart/encrypted":
		return nil, errDowngrade
	case composite:
		if encoding != "" && encoding != "7bit" && encoding != "8bit" && encoding != "binary" { // RFC 2045, 6.4
			return nil, errDowngrade
		}
		e.set("Content-Transfer-Encoding", "7bit")
		if kind == "message/rfc822" {
			body, err = parseEntity(body).sevenBit(nil, depth+1)
		} else {
			body, err = sevenBitParts(body, params["boundary"], depth)
		}
		if err != nil {
			return nil, err
		}
	case encoding == "base64" || encoding == "quoted-printable": // it says so, and it is not
		return nil, errDowngrade
	case strings.HasPrefix(kind, "text/") && encoding != "binary":
		e.set("Content-Transfer-Encoding", "quoted-printable")
		var b bytes.Buffer
		w := quotedprintable.NewWriter(&b)
		w.Write(body) // a bytes.Buffer takes everything
		w.Close()
		body = b.Bytes()
	default:
		e.set("Content-Transfer-Encoding", "base64")
		body = base64Lines(body)
	}
	for _, f := range e.fields {
		out = append(out, f...)
	}
	return append(append(out, e.blank...), body...), nil
}

// sevenBitParts converts the parts of a multipart body.
func sevenBitParts(body []byte, boundary string, depth int) ([]byte, error) {
	if boundary == "" {
		return nil, errDowngrade
	}
	var out []byte
	part := []byte(nil) // nil before the first delimiter, and after the last
	inPart := false
	flush := func() error {
		if !inPart {
			return nil
		}
		// The line end before a delimiter belongs to the delimiter (RFC 2046, 5.1.1).
		content := bytes.TrimSuffix(part, []byte("\r\n"))
		end := part[len(content):]
		var err error
		if out, err = parseEntity(content).sevenBit(out, depth+1); err != nil {
			return err
		}
		out = append(out, end...)
		return nil
	}
	for _, line := range bytes.SplitAfter(body, []byte("\n")) {
		rest, isDelimiter := bytes.CutPrefix(bytes.TrimRight(line, " \t\r\n"), []byte("--"+boundary))
		last := string(rest) == "--"
		if isDelimiter && (last || len(rest) == 0) {
			if err := flush(); err != nil {
				return nil, err
			}
			out = append(out, line...)
			part, inPart = nil, !last
			continue
		}
		if inPart {
			part = append(part, line...)
			continue
		}
		if !fits(line) {
			return nil, errDowngrade
		}
		out = append(out, line...)
	}
	if err := flush(); err != nil { // it was cut off
		return nil, err
	}
	return out, nil
}

// base64Lines encodes in lines of 76.
func base64Lines(b []byte) []byte {
	out := make([]byte, 0, len(b)*3/2)
	for len(b) > 0 {
		n := min(57, len(b))
		out = append(base64.StdEncoding.AppendEncode(out, b[:n]), "\r\n"...)
		b = b[n:]
	}
	return out
}
