package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mailblocks/mailblocks/internal/lineio"
)

// Errors of a Decoder that mean more than bad syntax.
var (
	// ErrTooLong: a line, or a command with its literals, is over its limit.
	ErrTooLong = errors.New("command too long")
	// ErrLiteralTooBig: a literal is over its limit. A synchronising one was not asked for.
	ErrLiteralTooBig = errors.New("literal too big")
)

// SyntaxError tells what a Decoder expected.
type SyntaxError struct{ Text string }

func (e *SyntaxError) Error() string { return e.Text }

// A Decoder reads commands from a connection. It holds one line at a time, and follows a
// literal at its end into the next. The first error sticks: from then on every method
// returns a zero value, so a command is parsed straight through and Err asked once. A
// Decoder belongs to one goroutine.
type Decoder struct {
	// MaxLine bounds a line, and MaxCommand a command: its lines and the literals that
	// are held in memory. Both in octets.
	MaxLine, MaxCommand int
	// MaxLiteral bounds a literal that is held in memory.
	MaxLiteral int
	// NoNonSync refuses non-synchronising literals over 4096 octets (LITERAL-, RFC 7888).
	NoNonSync bool
	// Responses says that d reads what a server sends: its literals all come unasked, which
	// Finish must know.
	Responses bool
	// UTF8 makes what is no UTF-8 in a quoted string an error (RFC 6855, 3).
	UTF8 bool
	// Continue is called before a synchronising literal is read, to send and flush the
	// continuation request.
	Continue func() error

	r     *bufio.Reader
	line  []byte
	pos   int
	total int
	err   error             // of syntax or limits: the stream goes on after Finish
	ioErr error             // of the connection: it does not
	lit   *io.LimitedReader // the literal whose reader the caller has
}

// Reset makes d read from r.
func (d *Decoder) Reset(r *bufio.Reader) { d.r, d.pos, d.line = r, 0, d.line[:0] }

// Release gives up the line buffer, for a connection that goes idle.
func (d *Decoder) Release() { d.r, d.line, d.pos = nil, nil, 0 }

// Next reads the first line of the next command. The line's buffer is used again.
func (d *Decoder) Next() error {
	d.err, d.ioErr, d.total, d.lit = nil, nil, 0, nil
	if cap(d.line) > 1<<16 {
		d.line = nil
	}
	d.readLine()
	if d.ioErr != nil {
		return d.ioErr
	}
	return nil
}

func (d *Decoder) readLine() {
	limit := min(d.MaxLine, d.MaxCommand-d.total)
	line, err := lineio.Read(d.r, d.line[:0], limit)
	d.line, d.pos = line, 0
	switch {
	case err == nil, errors.Is(err, lineio.ErrBareLF):
		d.total += len(line)
	case errors.Is(err, lineio.ErrTooLong):
		d.fail(ErrTooLong)
		d.line = d.line[:0]
		// What is left of the line is skipped, unless it goes on for ever.
		if err := lineio.Skip(d.r, err, 16*d.MaxLine+1<<20); err != nil {
			d.ioErr = err
		}
	default:
		d.ioErr = err
		d.fail(err)
	}
}

// Finish ends the command after an error: it skips what is left of it, non-synchronising
// literals included, up to max octets. An error means that the stream is lost.
func (d *Decoder) Finish(max int64) error {
	if d.lit != nil && d.ioErr == nil {
		max -= d.lit.N
		if _, err := io.Copy(io.Discard, d.lit); err != nil {
			return err
		}
		d.lit = nil
		if err := d.nextLine(); err != nil {
			return err
		}
	}
	for d.ioErr == nil {
		n, nonSync, ok := trailingLiteral(d.line)
		if !ok || !nonSync && !d.Responses {
			return nil
		}
		if max -= n; max < 0 {
			return ErrLiteralTooBig
		}
		if _, err := io.CopyN(io.Discard, d.r, n); err != nil {
			return err
		}
		if err := d.nextLine(); err != nil {
			return err
		}
	}
	return d.ioErr
}

// nextLine reads a line that nobody will parse.
func (d *Decoder) nextLine() error {
	line, err := lineio.Read(d.r, d.line[:0], d.MaxLine)
	d.line, d.pos = line, 0
	if errors.Is(err, lineio.ErrBareLF) {
		return nil
	}
	return err
}

// trailingLiteral finds a literal announced at the end of line.
func trailingLiteral(line []byte) (n int64, nonSync, ok bool) {
	end := len(line) - 1
	if end < 2 || line[end] != '}' {
		return 0, false, false
	}
	if end--; line[end] == '+' {
		nonSync = true
		end--
	}
	start := end + 1
	for start > 0 && line[start-1] >= '0' && line[start-1] <= '9' {
		start--
	}
	if start == 0 || start > end || line[start-1] != '{' {
		return 0, false, false
	}
	n, err := strconv.ParseInt(string(line[start:end+1]), 10, 64)
	return n, nonSync, err == nil
}

// Err returns the first error since Next.
func (d *Decoder) Err() error { return d.err }

// OK reports whether there was no error since Next.
func (d *Decoder) OK() bool { return d.err == nil }

// Fail makes err the error, unless there is one.
func (d *Decoder) Fail(format string, args ...any) {
	if d.err == nil {
		d.err = &SyntaxError{fmt.Sprintf(format, args...)}
	}
}

func (d *Decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// Peek returns the next octet of the line, zero at its end.
func (d *Decoder) Peek() byte {
	if d.err != nil || d.pos >= len(d.line) {
		return 0
	}
	return d.line[d.pos]
}

// Accept takes c if it is the next octet.
func (d *Decoder) Accept(c byte) bool {
	if d.Peek() != c || c == 0 || d.AtEnd() {
		return false
	}
	d.pos++
	return true
}

// Expect takes c or fails.
func (d *Decoder) Expect(c byte) {
	if !d.Accept(c) {
		d.Fail("expected %q", c)
	}
}

// SP takes one space.
func (d *Decoder) SP() {
	if !d.Accept(' ') {
		d.Fail("expected a space")
	}
}

// AtEnd reports whether the line has ended.
func (d *Decoder) AtEnd() bool { return d.err != nil || d.pos >= len(d.line) }

// End takes the end of the command.
func (d *Decoder) End() {
	if d.err == nil && d.pos < len(d.line) {
		d.Fail("unexpected text at the end")
	}
}

// AcceptWord takes word, compared without regard to case, if it comes next and is not the
// beginning of a longer atom.
func (d *Decoder) AcceptWord(word string) bool {
	if d.err != nil || len(d.line)-d.pos < len(word) || !strings.EqualFold(string(d.line[d.pos:d.pos+len(word)]), word) {
		return false
	}
	if end := d.pos + len(word); end < len(d.line) && isAtomChar(d.line[end]) && isAtomChar(word[len(word)-1]) {
		return false
	}
	d.pos += len(word)
	return true
}

func (d *Decoder) while(ok func(byte) bool) string {
	if d.err != nil {
		return ""
	}
	start := d.pos
	for d.pos < len(d.line) && ok(d.line[d.pos]) {
		d.pos++
	}
	return string(d.line[start:d.pos])
}

// Tag takes a command's tag: ASTRING-CHARs except "+".
func (d *Decoder) Tag() string {
	s := d.while(func(c byte) bool { return c != '+' && (isAtomChar(c) || c == ']') })
	if s == "" {
		d.Fail("expected a tag")
	}
	return s
}

// Atom takes an atom.
func (d *Decoder) Atom() string {
	s := d.while(isAtomChar)
	if s == "" {
		d.Fail("expected an atom")
	}
	return s
}

// Word takes an atom and returns it in upper case: names of commands and of their items.
func (d *Decoder) Word() string { return strings.ToUpper(d.Atom()) }

// Letters takes the letters, digits, "." and "-" that come next, in upper case: an item of
// FETCH, which a "[" may follow without a space. It may be empty.
func (d *Decoder) Letters() string {
	return strings.ToUpper(d.while(func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-'
	}))
}

// AString takes an astring: an atom, where "]" is allowed, or a string.
func (d *Decoder) AString() string {
	switch d.Peek() {
	case '"', '{':
		return d.String()
	}
	s := d.while(func(c byte) bool { return isAtomChar(c) || c == ']' })
	if s == "" {
		d.Fail("expected a string")
	}
	return s
}

// Pattern takes a list-mailbox: an astring where "%" and "*" are allowed.
func (d *Decoder) Pattern() string {
	switch d.Peek() {
	case '"', '{':
		return d.String()
	}
	s := d.while(func(c byte) bool { return isAtomChar(c) || c == ']' || c == '%' || c == '*' })
	if s == "" {
		d.Fail("expected a mailbox pattern")
	}
	return s
}

// String takes a quoted string or a literal.
func (d *Decoder) String() string {
	switch d.Peek() {
	case '"':
		return d.quoted()
	case '{':
		return d.literal()
	}
	d.Fail("expected a string")
	return ""
}

// NString takes a string or NIL.
func (d *Decoder) NString() (s string, ok bool) {
	if d.AcceptWord("NIL") {
		return "", false
	}
	return d.String(), true
}

func (d *Decoder) quoted() string {
	d.pos++
	if i := bytes.IndexAny(d.line[d.pos:], "\"\\\x00\r"); i >= 0 && d.line[d.pos+i] == '"' {
		s := d.line[d.pos : d.pos+i] // as most: nothing is to be undone
		d.pos += i + 1
		return d.inUTF8(s)
	}
	var b []byte
	for d.pos < len(d.line) {
		c := d.line[d.pos]
		d.pos++
		switch c {
		case '"':
			return d.inUTF8(b)
		case '\\':
			if d.pos == len(d.line) || d.line[d.pos] != '\\' && d.line[d.pos] != '"' {
				d.Fail("only \\ and \" are quoted in a string")
				return ""
			}
			c = d.line[d.pos]
			d.pos++
		case 0, '\r':
			d.Fail("control character in a string")
			return ""
		}
		b = append(b, c)
	}
	d.Fail("a string without its end")
	return ""
}

func (d *Decoder) inUTF8(b []byte) string {
	if d.UTF8 && !utf8.Valid(b) {
		d.Fail("no UTF-8 in a string")
		return ""
	}
	return string(b)
}

// literalSize takes {n} or {n+} at the end of the line.
func (d *Decoder) literalSize() (n int64, nonSync bool) {
	rest := d.line[d.pos:]
	n, nonSync, ok := trailingLiteral(rest)
	if !ok || rest[0] != '{' || bytes.Count(rest, []byte("{")) != 1 {
		d.Fail("malformed literal")
		return 0, false
	}
	if nonSync && d.NoNonSync && n > 4096 {
		d.fail(ErrLiteralTooBig)
	}
	return n, nonSync
}

func (d *Decoder) literal() string {
	n, nonSync := d.literalSize()
	if d.err != nil {
		return ""
	}
	if n > int64(d.MaxLiteral) {
		d.fail(ErrLiteralTooBig)
		return ""
	}
	if n > int64(d.MaxCommand-d.total) {
		d.fail(ErrTooLong)
		return ""
	}
	if !d.start(nonSync) {
		return ""
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(d.r, b); err != nil {
		d.ioErr = err
		d.fail(err)
		return ""
	}
	d.total += int(n)
	d.readLine()
	for _, c := range b {
		if c == 0 {
			d.Fail("NUL in a literal")
		}
	}
	if d.err != nil {
		return ""
	}
	return string(b)
}

// start asks for a synchronising literal.
func (d *Decoder) start(nonSync bool) bool {
	if nonSync || d.Continue == nil {
		return true
	}
	if err := d.Continue(); err != nil {
		d.ioErr = err
		d.fail(err)
		return false
	}
	return true
}

// Literal takes the announcement of a literal, or of a literal8 (RFC 3516), and returns its
// size. The caller decides whether to read it: LiteralReader does.
func (d *Decoder) Literal() (n int64, binary bool) {
	binary = d.Accept('~')
	if d.Peek() != '{' {
		d.Fail("expected a literal")
		return 0, false
	}
	n, _ = d.literalSize()
	return n, binary
}

// LiteralReader asks for the literal that Literal announced, and returns its octets. They
// must be read to the end, and LiteralDone called, before anything else is taken.
func (d *Decoder) LiteralReader() io.Reader {
	if d.err != nil {
		return strings.NewReader("")
	}
	n, nonSync := d.literalSize()
	if d.err != nil || !d.start(nonSync) {
		return strings.NewReader("")
	}
	d.lit = &io.LimitedReader{R: ioErrReader{d}, N: n}
	return d.lit
}

// LiteralDone goes on behind a literal that was read to its end.
func (d *Decoder) LiteralDone() {
	if d.err == nil && d.lit != nil && d.lit.N == 0 {
		d.lit = nil
		d.readLine()
	}
}

// ioErrReader remembers that the connection failed inside a literal.
type ioErrReader struct{ d *Decoder }

func (r ioErrReader) Read(p []byte) (int, error) {
	n, err := r.d.r.Read(p)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		r.d.ioErr = err
		r.d.fail(err)
	}
	return n, err
}

func isAtomChar(c byte) bool {
	return c > ' ' && c < 0x7f && strings.IndexByte(`(){%*"\]`, c) < 0
}
