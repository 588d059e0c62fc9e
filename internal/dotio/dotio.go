// Package dotio writes dot-stuffed text: the body form of SMTP (RFC 5321, 4.5.2) and POP3
// (RFC 1939, 3), where a line of one dot ends the text.
package dotio

import (
	"bytes"
	"io"
)

// A Writer dot-stuffs what is written to it and ends every line in CRLF: a bare LF and a
// bare CR become CRLF, wherever the chunks are cut, so that nothing it lets through can be
// taken for the end of the text. It does not buffer: give it a bufio.Writer.
type Writer struct {
	w     io.Writer
	state state
}

type state uint8

const (
	lineStart state = iota
	inLine
	afterCR // a CR was held back: whether a LF follows decides nothing but what to skip
	bareLF  // between the two writes that mend a bare LF
)

// NewWriter returns a Writer on w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

var (
	crlf    = []byte("\r\n")
	dot     = []byte(".")
	end     = []byte(".\r\n")
	crlfEnd = []byte("\r\n.\r\n")
)

// Write stuffs and writes p. It returns len(p) and nil, or 0 and the error of the writer
// below, after which the text is broken for good.
func (d *Writer) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 {
		if d.state == afterCR {
			d.state = lineStart
			if _, err := d.w.Write(crlf); err != nil {
				return 0, err
			}
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		if d.state == lineStart && p[0] == '.' {
			if _, err := d.w.Write(dot); err != nil {
				return 0, err
			}
		}
		run, rest, next := cut(p)
		if _, err := d.w.Write(run); err != nil {
			return 0, err
		}
		if next == bareLF {
			if _, err := d.w.Write(crlf); err != nil {
				return 0, err
			}
			next = lineStart
		}
		d.state, p = next, rest
	}
	return total, nil
}

// cut returns the longest beginning of p that can be written as it stands, what follows it
// (less a bare LF or CR between them), and the state there. A run
// that continues over a line end stops before a dot that needs another one.
func cut(p []byte) (run, rest []byte, next state) {
	for i := 0; i < len(p); {
		j := bytes.IndexByte(p[i:], '\n')
		if j < 0 {
			j = len(p) - i
		}
		if k := bytes.IndexByte(p[i:i+j], '\r'); k >= 0 && k != j-1 || k >= 0 && i+j == len(p) {
			return p[:i+k], p[i+k+1:], afterCR
		}
		if i+j == len(p) {
			return p, nil, inLine
		}
		if j == 0 || p[i+j-1] != '\r' {
			return p[:i+j], p[i+j+1:], bareLF
		}
		i += j + 1
		if i < len(p) && p[i] == '.' || i == len(p) {
			return p[:i], p[i:], lineStart
		}
	}
	return p, nil, inLine
}

// Close writes what ends the text: a CRLF when the last line has none, and the dot. It does
// not close the writer below.
func (d *Writer) Close() error {
	last := crlfEnd
	if d.state == lineStart {
		last = end
	}
	d.state = lineStart
	_, err := d.w.Write(last)
	return err
}
