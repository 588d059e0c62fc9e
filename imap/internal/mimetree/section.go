package mimetree

import (
	"bytes"
	"io"
	"strings"
)

// Text says which octets of a part a section means (RFC 9051, 6.4.5.1).
type Text uint8

// The texts of a section.
const (
	Whole  Text = iota // BODY[], BODY[1]
	Header             // HEADER, and with names HEADER.FIELDS
	Body               // TEXT
	MIME               // 1.MIME
)

// Find returns the part with the given number, nil when there is none. The empty number is
// the message itself.
func (p *Part) Find(number []uint32) *Part {
	container := p // where the next number is looked up
	for _, n := range number {
		switch {
		case container == nil || n == 0:
			return nil
		case container.IsMultipart():
			if int64(n) > int64(len(container.Parts)) {
				return nil
			}
			p = container.Parts[n-1]
		case n == 1: // a message that is no multipart is its own first part
			p = container
		default:
			return nil
		}
		switch {
		case p.Message != nil:
			container = p.Message
		case p.IsMultipart() && p != container:
			container = p
		default:
			container = nil
		}
	}
	return p
}

// Section returns the offsets in the message of a text of the part with the given number.
func (p *Part) Section(number []uint32, text Text) (start, end int64, ok bool) {
	q := p.Find(number)
	if q == nil {
		return 0, 0, false
	}
	if len(number) > 0 {
		switch text {
		case Whole:
			return q.Body, q.End, true
		case MIME:
			return q.Header, q.Body, true
		}
		if q = q.Message; q == nil {
			return 0, 0, false
		}
	}
	switch text {
	case Whole:
		return q.Header, q.End, true
	case Header:
		return q.Header, q.Body, true
	case Body:
		return q.Body, q.End, true
	}
	return 0, 0, false
}

// maxFiltered bounds what FilterHeader returns.
const maxFiltered = 1 << 20

// FilterHeader returns the fields of the header in [start,end) whose names are among names,
// or are not when not is set, and a blank line (RFC 9051, 6.4.5.1: HEADER.FIELDS).
func FilterHeader(r io.ReaderAt, start, end int64, names []string, not bool) ([]byte, error) {
	t := newTree(r, end)
	defer t.free()
	t.base = start
	var out []byte
	taking, begin := false, true
	for {
		line := t.line()
		text := bytes.TrimRight(line, "\r\n")
		if len(line) == 0 || begin && len(text) == 0 {
			break
		}
		if begin && text[0] != ' ' && text[0] != '\t' {
			name, _, isField := bytes.Cut(text, []byte(":"))
			name = bytes.TrimRight(name, " \t")
			taking = isField && contains(names, name) != not
		}
		if taking && len(out)+len(line) <= maxFiltered {
			out = append(out, line...)
		}
		begin = line[len(line)-1] == '\n'
	}
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(bytes.TrimSuffix(out, []byte("\r")), "\r\n"...)
	}
	return append(out, "\r\n"...), t.err
}

func contains(names []string, name []byte) bool {
	for _, n := range names {
		if len(n) == len(name) && strings.EqualFold(n, string(name)) {
			return true
		}
	}
	return false
}
