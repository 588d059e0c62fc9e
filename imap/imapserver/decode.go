package imapserver

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"io"
	"strings"
)

// decodeTransfer undoes a content transfer encoding (RFC 2045, 6), forgiving what broken
// mail has. It reports false for an encoding that nobody knows.
func decodeTransfer(encoding string, r io.Reader) (io.Reader, bool) {
	switch strings.ToLower(encoding) {
	case "", "7bit", "8bit", "binary":
		return r, true
	case "base64":
		return base64.NewDecoder(base64.RawStdEncoding, &base64Filter{r: r}), true
	case "quoted-printable":
		return &quotedPrintable{r: bufio.NewReaderSize(r, 4<<10)}, true
	default:
		return r, false
	}
}

// base64Filter leaves out what is not in the alphabet, and ends where the padding begins,
// or where what is left can not be decoded.
type base64Filter struct {
	r    io.Reader
	n    int // octets passed on, modulo 4
	done bool
}

func (f *base64Filter) Read(p []byte) (int, error) {
	for !f.done {
		n, err := f.r.Read(p)
		k := 0
		for _, c := range p[:n] {
			if c == '=' {
				f.done = true
				break
			}
			if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/' {
				p[k] = c
				k++
			}
		}
		f.n = (f.n + k) & 3
		if f.done || err != nil {
			f.done = true
			if f.n == 1 && len(p) > k {
				p[k] = 'A' // one octet of four decodes to nothing: keep the decoder content
				k++
			}
		}
		if k > 0 {
			return k, nil
		}
		if err != nil && err != io.EOF {
			return 0, err
		}
	}
	return 0, io.EOF
}

// quotedPrintable decodes line by line; what is malformed stays as it is (RFC 2045, 6.7).
type quotedPrintable struct {
	r     *bufio.Reader
	line  []byte // decoded, not yet read
	buf   []byte
	carry []byte // the beginning of an escape that a piece of a very long line ended in
	err   error
}

func (q *quotedPrintable) Read(p []byte) (int, error) {
	for len(q.line) == 0 {
		if q.err != nil {
			return 0, q.err
		}
		var raw []byte
		raw, q.err = q.r.ReadSlice('\n')
		piece := q.err == bufio.ErrBufferFull
		if piece {
			q.err = nil
		}
		if len(q.carry) > 0 {
			raw = append(q.carry, raw...)
			q.carry = nil
		}
		if n := len(raw); piece {
			if i := bytes.LastIndexByte(raw[max(n-2, 0):], '='); i >= 0 {
				i += max(n-2, 0)
				q.carry = bytes.Clone(raw[i:])
				raw = raw[:i]
			}
		}
		q.buf = decodeQuoted(q.buf[:0], raw)
		q.line = q.buf
	}
	n := copy(p, q.line)
	q.line = q.line[n:]
	return n, nil
}

// decodeQuoted appends a decoded line, or a piece of one without its end.
func decodeQuoted(out, raw []byte) []byte {
	end := ""
	if line, ok := bytes.CutSuffix(raw, []byte("\n")); ok {
		raw, end = line, "\n"
		if line, ok = bytes.CutSuffix(raw, []byte("\r")); ok {
			raw, end = line, "\r\n"
		}
		raw = bytes.TrimRight(raw, " \t")
		if line, ok = bytes.CutSuffix(raw, []byte("=")); ok {
			raw, end = line, "" // a soft line break
		}
	}
	for i := 0; i < len(raw); i++ {
		if raw[i] == '=' && i+2 < len(raw) {
			hi, lo := unhex(raw[i+1]), unhex(raw[i+2])
			if hi >= 0 && lo >= 0 {
				out = append(out, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		out = append(out, raw[i])
	}
	return append(out, end...)
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
