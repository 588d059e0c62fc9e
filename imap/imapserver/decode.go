package imapserver

import (
	"bufio"
	"bytes"
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
		return &base64Reader{r: r}, true
	case "quoted-printable":
		return &quotedPrintable{r: bufio.NewReaderSize(r, 4<<10)}, true
	default:
		return r, false
	}
}

// base64Reader decodes base64, leaving out what is not in the alphabet. It ends where the
// padding begins; of an incomplete last group it gives the octets that are whole.
type base64Reader struct {
	r     io.Reader
	in    [1024]byte
	out   []byte // decoded, not yet read
	store [768 + 3]byte
	bits  uint32
	n     int // sextets in bits
	err   error
}

var base64Values = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = int8(i)
	}
	return t
}()

func (b *base64Reader) Read(p []byte) (int, error) {
	for len(b.out) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		var n int
		n, b.err = b.r.Read(b.in[:])
		b.out = b.store[:0]
		for _, c := range b.in[:n] {
			if c == '=' {
				b.err = io.EOF
				break
			}
			v := base64Values[c]
			if v < 0 {
				continue
			}
			b.bits = b.bits<<6 | uint32(v)
			if b.n++; b.n == 4 {
				b.out = append(b.out, byte(b.bits>>16), byte(b.bits>>8), byte(b.bits))
				b.n, b.bits = 0, 0
			}
		}
		if b.err == io.EOF {
			switch b.n {
			case 2:
				b.out = append(b.out, byte(b.bits>>4))
			case 3:
				b.out = append(b.out, byte(b.bits>>10), byte(b.bits>>2))
			}
			b.n = 0
		}
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	return n, nil
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
	for {
		i := bytes.IndexByte(raw, '=')
		if i < 0 {
			return append(append(out, raw...), end...)
		}
		out = append(out, raw[:i]...)
		raw = raw[i:]
		if len(raw) > 2 {
			hi, lo := unhex(raw[1]), unhex(raw[2])
			if hi >= 0 && lo >= 0 {
				out = append(out, byte(hi<<4|lo))
				raw = raw[3:]
				continue
			}
		}
		out = append(out, '=')
		raw = raw[1:]
	}
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
