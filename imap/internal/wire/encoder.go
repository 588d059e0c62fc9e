package wire

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mailblocks/mailblocks/imap"
)

// flushAt is how much an Encoder gathers before it writes.
const flushAt = 32 << 10

// An Encoder writes responses. It gathers what it is given and writes when there is much of
// it or Flush is called; the first error of the writer sticks. Its methods append and return
// the Encoder, so that a response reads as one line of code.
type Encoder struct {
	// UTF8 allows UTF-8 in quoted strings and mailbox names (RFC 9051; RFC 6855).
	UTF8 bool

	w   io.Writer
	buf []byte
	err error
}

// NewEncoder returns an Encoder that writes to w.
func NewEncoder(w io.Writer) *Encoder { return &Encoder{w: w} }

// Reset makes e write to w, keeping what it has gathered.
func (e *Encoder) Reset(w io.Writer) { e.w = w }

// Err returns the first error of the writer.
func (e *Encoder) Err() error { return e.err }

// Buffered returns how much waits to be written.
func (e *Encoder) Buffered() int { return len(e.buf) }

// Flush writes what was gathered.
func (e *Encoder) Flush() error {
	if len(e.buf) > 0 && e.err == nil {
		_, e.err = e.w.Write(e.buf)
	}
	e.buf = e.buf[:0]
	return e.err
}

// Release flushes and gives up the buffer, for a connection that goes idle.
func (e *Encoder) Release() error {
	err := e.Flush()
	e.buf = nil
	return err
}

// Raw appends s as it is.
func (e *Encoder) Raw(s string) *Encoder {
	e.buf = append(e.buf, s...)
	return e
}

// Bytes appends b as it is.
func (e *Encoder) Bytes(b []byte) *Encoder {
	e.buf = append(e.buf, b...)
	return e
}

// Byte appends one octet.
func (e *Encoder) Byte(c byte) *Encoder {
	e.buf = append(e.buf, c)
	return e
}

// SP appends a space.
func (e *Encoder) SP() *Encoder { return e.Byte(' ') }

// CRLF ends a response, and writes when much has gathered.
func (e *Encoder) CRLF() *Encoder {
	e.buf = append(e.buf, '\r', '\n')
	if len(e.buf) >= flushAt {
		_ = e.Flush()
	}
	return e
}

// Num appends a number.
func (e *Encoder) Num(n uint64) *Encoder {
	e.buf = strconv.AppendUint(e.buf, n, 10)
	return e
}

// Set appends the ranges of a set.
func (e *Encoder) Set(s interface{ AppendText([]byte) []byte }) *Encoder {
	e.buf = s.AppendText(e.buf)
	return e
}

// String appends s as a quoted string where that can be, else as a literal.
func (e *Encoder) String(s string) *Encoder {
	e.buf = AppendString(e.buf, s, e.UTF8)
	return e
}

// NString appends s, or NIL when it is empty.
func (e *Encoder) NString(s string) *Encoder {
	if s == "" {
		return e.Raw("NIL")
	}
	return e.String(s)
}

// AString appends s as an atom where that can be, else as a string.
func (e *Encoder) AString(s string) *Encoder {
	if s == "" || len(s) > 200 || strings.EqualFold(s, "NIL") {
		return e.String(s)
	}
	for i := range len(s) {
		if !isAtomChar(s[i]) {
			return e.String(s)
		}
	}
	return e.Raw(s)
}

// Mailbox appends a mailbox name, in modified UTF-7 unless UTF8 is set.
func (e *Encoder) Mailbox(name string) *Encoder {
	if !e.UTF8 {
		name = EncodeUTF7(name)
	}
	return e.AString(name)
}

// Flags appends a list of flags and those of more.
func (e *Encoder) Flags(flags imap.Flags, more ...imap.Flag) *Encoder {
	e.Byte('(')
	n := 0
	add := func(f imap.Flag) {
		if n++; n > 1 {
			e.SP()
		}
		e.Raw(string(f))
	}
	for f := range flags.All() {
		add(f)
	}
	for _, f := range more {
		add(f)
	}
	return e.Byte(')')
}

// DateTime appends a quoted date-time.
func (e *Encoder) DateTime(t time.Time) *Encoder {
	e.buf = t.AppendFormat(e.buf, `"_2-Jan-2006 15:04:05 -0700"`)
	return e
}

// Literal appends a literal of size octets read from r. It holds no more than one block of
// them. When r fails or ends early the announced octets can not be taken back: the error
// sticks, and the connection must be closed.
func (e *Encoder) Literal(r io.Reader, size int64, binary bool) *Encoder {
	if binary {
		e.Byte('~')
	}
	e.Byte('{').Num(uint64(size)).Raw("}\r\n")
	for size > 0 && e.err == nil {
		if cap(e.buf) < flushAt {
			e.buf = append(make([]byte, 0, flushAt+4096), e.buf...)
		}
		if len(e.buf) >= flushAt {
			_ = e.Flush()
		}
		free := e.buf[len(e.buf):cap(e.buf)]
		free = free[:min(int64(len(free)), size)]
		n, err := io.ReadFull(r, free)
		e.buf = e.buf[:len(e.buf)+n]
		size -= int64(n)
		if err != nil && e.err == nil {
			e.err = fmt.Errorf("reading a body: %w", err)
		}
	}
	return e
}

// AppendString appends s to b as a quoted string where that can be, else as a literal. NUL,
// which neither can have, is left out.
func AppendString(b []byte, s string, utf8OK bool) []byte {
	quotable := len(s) <= 1000
	ascii := true
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == 0:
			return AppendString(b, strings.ReplaceAll(s, "\x00", ""), utf8OK)
		case c == '\r' || c == '\n':
			quotable = false
		case c >= 0x80:
			ascii = false
		}
	}
	if !quotable || !ascii && !(utf8OK && utf8.ValidString(s)) {
		b = append(b, '{')
		b = strconv.AppendInt(b, int64(len(s)), 10)
		b = append(b, "}\r\n"...)
		return append(b, s...)
	}
	b = append(b, '"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}
