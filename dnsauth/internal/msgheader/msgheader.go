// Package msgheader finds the header of a message that arrives in chunks, and
// the fields in it, without changing an octet.
package msgheader

import (
	"bytes"
	"errors"
)

// Field is one field of a header, as offsets into Header.Raw.
type Field struct {
	Start, End int // End is behind the line end of its last line
	Colon      int // of the colon; 0 for a line that is no field
}

// Header is a message's header with its fields.
type Header struct {
	Raw    []byte // up to and with the last field's line end, without the empty line
	Fields []Field
}

// Name returns the field's name as it stands there, without whitespace before
// the colon (which obsolete syntax allows). It is empty for a line that is no field.
func (h *Header) Name(i int) []byte {
	f := h.Fields[i]
	if f.Colon == 0 {
		return nil
	}
	return bytes.TrimRight(h.Raw[f.Start:f.Colon], " \t")
}

// Value returns what stands behind the field's colon, folds included, without
// the line end of its last line.
func (h *Header) Value(i int) []byte {
	f := h.Fields[i]
	if f.Colon == 0 {
		return nil
	}
	return TrimLineEnd(h.Raw[f.Colon+1 : f.End])
}

// Field returns the whole field without the line end of its last line.
func (h *Header) Field(i int) []byte {
	f := h.Fields[i]
	return TrimLineEnd(h.Raw[f.Start:f.End])
}

// TrimLineEnd removes one CRLF or LF from the end of b.
func TrimLineEnd(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
		if n := len(b); n > 0 && b[n-1] == '\r' {
			b = b[:n-1]
		}
	}
	return b
}

// Parse splits raw, a header without the empty line, into its fields. A line
// that neither continues a field nor has a colon is an element without a name;
// so is the "From " line of an mbox file at the top.
func Parse(raw []byte) *Header {
	h := &Header{Raw: raw, Fields: make([]Field, 0, 24)}
	for pos := 0; pos < len(raw); {
		end := lineEnd(raw, pos)
		for end < len(raw) && (raw[end] == ' ' || raw[end] == '\t') {
			end = lineEnd(raw, end)
		}
		f := Field{Start: pos, End: end}
		if i := bytes.IndexByte(raw[pos:end], ':'); i > 0 && isName(raw[pos:pos+i]) {
			f.Colon = pos + i
		}
		h.Fields = append(h.Fields, f)
		pos = end
	}
	return h
}

func lineEnd(raw []byte, pos int) int {
	if i := bytes.IndexByte(raw[pos:], '\n'); i >= 0 {
		return pos + i + 1
	}
	return len(raw)
}

// isName is the field-name of RFC 5322, 3.6.8 with the whitespace of 4.5.
func isName(b []byte) bool {
	b = bytes.TrimRight(b, " \t")
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(b) > 0
}

// ErrTooLong means that the header is longer than Collector.Max.
var ErrTooLong = errors.New("header too long")

// Collector takes a message in chunks until its header is complete.
type Collector struct {
	Max int // octets kept; zero means no limit

	buf  []byte
	done bool
	end  int // of the header in buf
}

// Write takes the next chunk and returns how much of it belongs to the header
// and the empty line behind it. When done is true the rest is body.
func (c *Collector) Write(p []byte) (n int, done bool, err error) {
	if c.done {
		return 0, true, nil
	}
	before := len(c.buf)
	// The empty line may have begun in the last chunk: join a few octets.
	join := min(len(p), 3)
	c.buf = append(c.buf, p[:join]...)
	end, body := headerEnd(c.buf, max(before-3, 0), before < 3)
	if body < 0 {
		// Otherwise it is within p, of which only the header is copied.
		if end, body = headerEnd(p, 0, false); body >= 0 {
			end, body = end+before, body+before
		}
	}
	if body < 0 {
		if c.Max > 0 && before+len(p) > c.Max+2 { // it may end in an incomplete empty line
			return len(p), false, ErrTooLong
		}
		c.buf = append(c.buf, p[join:]...)
		return len(p), false, nil
	}
	if c.Max > 0 && end > c.Max {
		return len(p), false, ErrTooLong
	}
	if have := len(c.buf); end > have {
		c.buf = append(c.buf, p[join:end-before]...)
	}
	c.done, c.end = true, end
	return body - before, true, nil
}

// Header returns the header collected so far; the whole header once Write has
// said so, or once the message has ended.
func (c *Collector) Header() []byte {
	if c.done {
		return c.buf[:c.end]
	}
	return c.buf
}

// headerEnd looks for the empty line from offset from on, at the very start too
// if start is set. It returns the end of the header and the start of the body,
// or -1 for both.
func headerEnd(b []byte, from int, start bool) (end, body int) {
	if start {
		if len(b) > 0 && b[0] == '\n' {
			return 0, 1
		}
		if len(b) > 1 && b[0] == '\r' && b[1] == '\n' {
			return 0, 2
		}
	}
	for pos := from; ; {
		i := bytes.IndexByte(b[pos:], '\n')
		if i < 0 {
			return -1, -1
		}
		pos += i + 1
		if pos < len(b) && b[pos] == '\n' {
			return pos, pos + 1
		}
		if pos+1 < len(b) && b[pos] == '\r' && b[pos+1] == '\n' {
			return pos, pos + 2
		}
	}
}
