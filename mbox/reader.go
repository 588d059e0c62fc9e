package mbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"
)

// ErrNotMbox: the file holds something, and no separator.
var ErrNotMbox = errors.New("mbox: not an mbox file")

const (
	bufferSize = 128 << 10
	// holdBack is how much of the window's end is not given out until more is read: with the
	// start of a "From " that is cut, the octet before it and a CRLF before that stay at hand.
	holdBack = 8
)

// ReaderOptions are the optional parts of NewReader. A nil *ReaderOptions means defaults.
type ReaderOptions struct {
	// Dialect of the file. Auto: as Detect finds in its first MiB, or in the first 128 KiB
	// of an input that can not seek.
	Dialect Dialect
	// CRLF yields bodies whose every line ends in CRLF, whatever ends it in the file.
	CRLF bool
	// Location is where dates without a zone are. Nil: UTC, as RFC 4155 wants it.
	Location *time.Location
	// Doubt, when set, is called for each place that could be read in another way.
	Doubt func(Doubt)
}

// A Doubt is a place of the file that could be read in another way.
type Doubt struct {
	Offset int64 // of the line, in octets from where the Reader began
	Reason DoubtReason
}

// A DoubtReason tells what is odd, and what was made of it.
type DoubtReason uint8

const (
	NoDate        DoubtReason = iota + 1 // begins with "From " and holds no valid date: text
	NoBlankLine                          // a separator without an empty line before it: taken
	WrongLength                          // Content-Length leads to no separator: not believed
	UnknownLength                        // Content-Length leads too far to look in this input: not believed
	Leading                              // text before the first separator: passed over
)

var doubtTexts = [...]string{
	NoDate:        "From line without a valid date, taken as text",
	NoBlankLine:   "separator without an empty line before it, taken",
	WrongLength:   "Content-Length leads to no separator, not believed",
	UnknownLength: "Content-Length can not be checked in a stream, not believed",
	Leading:       "text before the first separator, passed over",
}

// String says it in words.
func (r DoubtReason) String() string {
	if int(r) < len(doubtTexts) && r > 0 {
		return doubtTexts[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// A Message is one message of the file.
type Message struct {
	Sender string    // of the separator; may be empty
	Date   time.Time // of the separator, to the second
	Offset int64     // of the separator, in octets from where the Reader began
	// Body is the message, header and all, with the dialect's quoting undone and without the
	// LF that belongs to the next separator. It is valid until the next message is asked for.
	Body io.Reader
}

// A Reader reads messages one after the other. It is not safe for concurrent use. Its
// memory is one buffer, however large the file, its messages, or their lines.
type Reader struct {
	opts    ReaderOptions
	src     io.Reader
	at      io.ReaderAt // nil: the input can not be looked ahead in
	base    int64       // of the Reader's start in at
	started bool
	seq     int // which message Body readers must belong to

	buf      []byte
	pos, end int
	off      int64 // of buf[pos]
	eof      bool
	err      error // of src, other than io.EOF

	// The message under way.
	inside  bool
	checked int   // octets from pos that hold no separator and no quote
	left    int64 // of a body with a valid Content-Length, up to its end; else -1
	bol     bool  // pos is at the start of a line
	quoted  bool  // between the line's start and pos there is nothing but '>'
	crlf    bool  // the separator ended in CRLF
}

// NewReader returns a Reader of r from where r stands. When r is an io.Seeker and an
// io.ReaderAt too, as an *os.File is, a Content-Length of any size can be checked; else as
// far as 128 KiB ahead. Nothing is read before the first message is asked for.
func NewReader(r io.Reader, opts *ReaderOptions) *Reader {
	m := &Reader{src: r}
	if opts != nil {
		m.opts = *opts
	}
	if at, ok := r.(io.ReaderAt); ok {
		if s, ok := r.(io.Seeker); ok {
			if base, err := s.Seek(0, io.SeekCurrent); err == nil {
				m.at, m.base = at, base
			}
		}
	}
	return m
}

// Dialect returns the dialect that the file is read in: before the first message, it is the
// one of the options.
func (r *Reader) Dialect() Dialect { return r.opts.Dialect }

// Messages yields the messages that are left. An error, ErrNotMbox or one of the input, ends it.
func (r *Reader) Messages() iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		for {
			m, err := r.Next()
			if err == io.EOF || !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Next returns the next message, and io.EOF after the last. What was not read of the one
// before is passed over. ErrNotMbox: there is text, and no separator.
func (r *Reader) Next() (*Message, error) {
	if !r.started {
		if err := r.start(); err != nil {
			return nil, err
		}
	}
	for r.inside {
		if _, err := r.span(); err != nil && err != io.EOF {
			return nil, err
		}
	}
	r.fill(maxLine + 1)
	if r.err != nil {
		return nil, r.err
	}
	line := r.line()
	if len(line) == 0 {
		return nil, io.EOF
	}
	sender, date, ok := ParseSeparator(string(line), r.opts.Location)
	if !ok {
		return nil, fmt.Errorf("%w: no separator at octet %d", ErrNotMbox, r.off)
	}
	m := &Message{Sender: sender, Date: date, Offset: r.off}
	r.crlf = bytes.HasSuffix(line, []byte("\r\n"))
	r.take(len(line))
	r.seq++
	r.inside, r.checked, r.left, r.bol, r.quoted = true, 0, -1, true, true
	m.Body = &body{r: r, seq: r.seq}
	if r.opts.CRLF {
		m.Body = &crlfReader{r: m.Body}
	}
	if r.opts.Dialect.counted() {
		r.measure()
	}
	return m, r.err
}

// start finds the dialect and the first separator.
func (r *Reader) start() error {
	r.started = true
	r.buf = make([]byte, bufferSize)
	r.fill(bufferSize)
	if r.opts.Dialect == Auto {
		var sample io.Reader = bytes.NewReader(r.buf[:r.end])
		if r.at != nil {
			sample = io.NewSectionReader(r.at, r.base, sampleSize)
		}
		found, err := Detect(sample)
		if err != nil {
			return err
		}
		r.opts.Dialect = found.Dialect
	}
	if _, _, ok := ParseSeparator(string(r.line()), r.opts.Location); ok {
		return r.err
	}
	// What stands before the first separator is passed over as if it were a message.
	r.inside, r.left, r.bol, r.quoted = true, -1, true, true
	blank := true
	for r.inside {
		s, err := r.span()
		if err != nil && err != io.EOF {
			return err
		}
		blank = blank && len(bytes.TrimLeft(s, " \t\r\n")) == 0
	}
	if !blank {
		r.doubt(0, Leading)
		if r.pos == r.end && r.eof {
			return ErrNotMbox
		}
	}
	return r.err
}

func (r *Reader) doubt(offset int64, why DoubtReason) {
	if r.opts.Doubt != nil {
		r.opts.Doubt(Doubt{offset, why})
	}
}

// fill reads until want octets stand in the window, or all there is.
func (r *Reader) fill(want int) {
	if r.end-r.pos >= want || r.eof {
		return
	}
	if r.pos > 0 {
		r.end = copy(r.buf, r.buf[r.pos:r.end])
		r.pos = 0
	}
	for empty := 0; r.end < want && !r.eof; {
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		if n == 0 {
			empty++
		}
		if err == nil && empty >= 100 {
			err = io.ErrNoProgress
		}
		if err != nil {
			r.eof = true
			if err != io.EOF {
				r.err = fmt.Errorf("mbox: read: %w", err)
			}
		}
	}
}

// take moves the window's start n octets on.
func (r *Reader) take(n int) {
	r.pos += n
	r.off += int64(n)
}

// line returns the window's first line with its end; without one, what may be a separator.
func (r *Reader) line() []byte { return lineOf(r.buf[r.pos:r.end]) }

func lineOf(w []byte) []byte {
	w = w[:min(len(w), maxLine+1)]
	if i := bytes.IndexByte(w, '\n'); i >= 0 {
		return w[:i+1]
	}
	return w
}

// give takes n octets of the body out of the window and returns them, without the last drop
// of them. They are valid until the next call.
func (r *Reader) give(n, drop int) []byte {
	s := r.buf[r.pos : r.pos+n]
	if n > 0 {
		tail := s
		if i := bytes.LastIndexByte(s, '\n'); i >= 0 {
			tail, r.quoted = s[i+1:], true
		}
		r.quoted = r.quoted && onlyQuotes(tail)
		r.bol = s[n-1] == '\n'
	}
	r.take(n)
	r.checked = max(0, r.checked-n)
	if r.left >= 0 {
		r.left -= int64(n)
	}
	return s[:n-drop]
}

func onlyQuotes(s []byte) bool {
	for _, c := range s {
		if c != '>' {
			return false
		}
	}
	return true
}

// span returns the next octets of the body, which may be none, and io.EOF at its end.
func (r *Reader) span() ([]byte, error) {
	if r.end-r.pos < maxLine+holdBack && !r.eof {
		r.fill(bufferSize / 2)
	}
	if r.err != nil {
		r.inside = false
		return nil, r.err
	}
	w := r.buf[r.pos:r.end]
	if r.left >= 0 {
		return r.counted(w)
	}
	for {
		i := bytes.Index(w[r.checked:], []byte(fromSpace))
		if i < 0 {
			break
		}
		i += r.checked
		depth, line := r.depth(w, i)
		switch {
		case line && depth == 0:
			sep := lineOf(w[i:])
			if sep[len(sep)-1] != '\n' && len(sep) <= maxLine && !r.eof {
				if i > holdBack { // make room for all of it
					return r.give(i-holdBack, 0), nil
				}
				r.fill(bufferSize / 2)
				return nil, r.err
			}
			if _, _, ok := ParseSeparator(string(sep), r.opts.Location); ok {
				if i > 0 && !emptyLineBefore(w[:i]) {
					r.doubt(r.off+int64(i), NoBlankLine)
				}
				return r.give(i, r.lineEnd(w[:i])), r.finish()
			}
			r.doubt(r.off+int64(i), NoDate)
		case line && i > 0 && r.opts.Dialect.unquotes(depth):
			r.checked = i + len(fromSpace)
			return r.give(i, 1), nil
		}
		r.checked = i + len(fromSpace)
	}
	if r.eof {
		return r.give(len(w), r.lineEnd(w)), r.finish()
	}
	n := max(0, len(w)-holdBack)
	return r.give(n, 0), nil
}

// counted is span in a body whose end is known.
func (r *Reader) counted(w []byte) ([]byte, error) {
	if r.left == 0 {
		// The separator's own line end, unless the length counted it.
		drop := 0
		switch {
		case bytes.HasPrefix(w, []byte("\n")):
			drop = 1
		case bytes.HasPrefix(w, []byte("\r\n")):
			drop = 2
		}
		r.take(drop)
		return nil, r.finish()
	}
	whole := int64(len(w)) >= r.left
	if whole {
		w = w[:r.left]
	} else if r.eof { // shorter than it was when it was looked at
		return r.give(len(w), 0), r.finish()
	}
	for r.opts.Dialect.unquotes(1) && r.checked < len(w) {
		i := bytes.Index(w[r.checked:], []byte(fromSpace))
		if i < 0 {
			break
		}
		i += r.checked
		r.checked = i + len(fromSpace)
		if depth, line := r.depth(w, i); line && i > 0 && r.opts.Dialect.unquotes(depth) {
			return r.give(i, 1), nil
		}
	}
	if whole {
		return r.give(len(w), 0), nil
	}
	return r.give(max(0, len(w)-holdBack), 0), nil
}

// finish ends the message.
func (r *Reader) finish() error {
	r.inside = false
	if r.err != nil {
		return r.err
	}
	return io.EOF
}

// depth tells whether there is nothing but '>' between the start of the line and w[i], and
// how many, up to 2.
func (r *Reader) depth(w []byte, i int) (n int, line bool) {
	j := i
	for j > 0 && w[j-1] == '>' {
		j--
	}
	n = min(i-j, 2)
	switch {
	case j > 0:
		return n, w[j-1] == '\n'
	case r.bol:
		return n, true
	}
	return 2, r.quoted
}

// lineEnd returns the length of the line end that w has and the next separator owns.
func (r *Reader) lineEnd(w []byte) int {
	switch {
	case r.crlf && bytes.HasSuffix(w, []byte("\r\n")):
		return 2
	case bytes.HasSuffix(w, []byte("\n")):
		return 1
	}
	return 0
}

func emptyLineBefore(w []byte) bool {
	w = bytes.TrimSuffix(bytes.TrimSuffix(w, []byte("\n")), []byte("\r"))
	return len(w) == 0 || w[len(w)-1] == '\n'
}

// measure looks for a Content-Length at the message's start and believes it when it leads to
// a separator or to the end of the file.
func (r *Reader) measure() {
	header, n := contentLength(r.buf[r.pos:r.end], r.opts.Location)
	if header == 0 && !r.eof {
		r.fill(bufferSize)
		header, n = contentLength(r.buf[r.pos:r.end], r.opts.Location)
	}
	if header == 0 || n < 0 {
		return
	}
	if n > 1<<62 {
		r.doubt(r.off, WrongLength)
		return
	}
	length := int64(header) + n
	if need := length + maxLine + 2; need <= bufferSize {
		r.fill(int(need))
	} else if r.at == nil {
		r.fill(bufferSize)
	}
	var ahead []byte
	last := false // ahead goes to the end of the file
	switch {
	case length+maxLine+2 <= int64(r.end-r.pos):
		ahead = r.buf[r.pos+int(length) : r.end]
	case r.eof:
		if length > int64(r.end-r.pos) {
			r.doubt(r.off, WrongLength)
			return
		}
		ahead, last = r.buf[r.pos+int(length):r.end], true
	case r.at == nil:
		r.doubt(r.off, UnknownLength)
		return
	default:
		b := make([]byte, maxLine+3)
		// One octet before: a length that leads beyond the end must not look like the end.
		m, err := r.at.ReadAt(b, r.base+r.off+length-1)
		if m == 0 {
			r.doubt(r.off, WrongLength)
			return
		}
		ahead, last = b[1:m], err != nil
	}
	if !leadsToSeparator(ahead, last, r.opts.Location) {
		r.doubt(r.off, WrongLength)
		return
	}
	r.left = length
}

// leadsToSeparator tells whether a body may end before w: at a separator, with the line end
// that it owns or without, or at the end of the file.
func leadsToSeparator(w []byte, last bool, loc *time.Location) bool {
	if last && (len(w) == 0 || string(w) == "\n" || string(w) == "\r\n") {
		return true
	}
	w = bytes.TrimPrefix(w, []byte("\r"))
	w = bytes.TrimPrefix(w, []byte("\n"))
	_, _, ok := ParseSeparator(string(lineOf(w)), loc)
	return ok
}

// contentLength looks through the header at the start of w. It returns the header's length
// with its empty line, zero when its end is not in w, and the value of the last field of that
// name, -1 when there is none.
func contentLength(w []byte, loc *time.Location) (header int, n int64) {
	n = -1
	for pos := 0; pos < len(w); {
		end := bytes.IndexByte(w[pos:], '\n')
		if end < 0 {
			return 0, n
		}
		line := bytes.TrimSuffix(w[pos:pos+end], []byte("\r"))
		if bytes.HasPrefix(line, []byte(fromSpace)) {
			if _, _, sep := ParseSeparator(string(line), loc); sep {
				return pos, -1
			}
		}
		pos += end + 1
		if len(line) == 0 {
			return pos, n
		}
		if value, found := field(line, "Content-Length"); found {
			var ok bool
			if n, ok = parseLength(value); !ok {
				n = -1
			}
		}
	}
	return 0, n
}

func parseLength(value []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
	return n, err == nil && n >= 0
}

// field returns the value of a header line when it is the field's.
func field(line []byte, name string) ([]byte, bool) {
	if len(line) <= len(name) || line[len(name)] != ':' || !bytes.EqualFold(line[:len(name)], []byte(name)) {
		return nil, false
	}
	return line[len(name)+1:], true
}

// body is Message.Body.
type body struct {
	r    *Reader
	seq  int
	rest []byte
	err  error
}

var errStale = errors.New("mbox: body read after the next message was asked for")

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.r.seq != b.seq {
		return 0, errStale
	}
	if len(p) == 0 {
		return 0, nil
	}
	if err := b.more(); err != nil {
		return 0, err
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// WriteTo implements io.WriterTo, without a copy between.
func (b *body) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if b.r.seq != b.seq {
			return n, errStale
		}
		if err := b.more(); err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
		m, err := w.Write(b.rest)
		n += int64(m)
		if err == nil && m < len(b.rest) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return n, err
		}
		b.rest = nil
	}
}

func (b *body) more() error {
	for len(b.rest) == 0 && b.err == nil {
		if !b.r.inside {
			b.err = io.EOF
			break
		}
		b.rest, b.err = b.r.span()
	}
	if len(b.rest) > 0 {
		return nil
	}
	return b.err
}

// crlfReader puts a CR before each LF that has none.
type crlfReader struct {
	r    io.Reader
	buf  [4096]byte
	rest []byte
	cr   bool
	err  error
}

func (c *crlfReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if len(c.rest) == 0 {
			if n > 0 || c.err != nil {
				break
			}
			m, err := c.r.Read(c.buf[:])
			c.rest, c.err = c.buf[:m], err
			continue
		}
		switch x := c.rest[0]; {
		case x == '\n' && !c.cr:
			p[n], c.cr = '\r', true
			n++
			continue
		default:
			p[n], c.cr = x, x == '\r'
			n++
			c.rest = c.rest[1:]
		}
	}
	if n == 0 && len(c.rest) == 0 {
		return 0, c.err
	}
	return n, nil
}
