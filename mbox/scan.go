package mbox

import (
	"bytes"
	"io"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

// A place is where one message stands in the file: separator, header with its empty line, body,
// and the line end that belongs to the next separator, if it is there.
type place struct {
	off, total  int64
	sep, header int32
	bodyLen     int64
	bodyOnly    bool // what is shown has no header
}

func (p *place) headerAt() int64 { return p.off + int64(p.sep) }
func (p *place) bodyAt() int64   { return p.headerAt() + int64(p.header) }

// A found is a message that a scan found.
type found struct {
	place
	status
	date time.Time
	size int64 // with CRLF line ends, as it is shown
}

// A scanner walks through a file for a Store: unlike a Reader, it must know where everything
// stands, and how long it will be.
type scanner struct {
	r       io.ReaderAt
	size    int64
	dialect Dialect
	loc     *time.Location
	buf     []byte
	start   int64 // of buf in the file
	origin  int64 // of the first separator
}

const scanWindow = 256 << 10

// maxBlank is how many LFs more than one may stand between a body with a length and the separator.
const maxBlank = 3

// window returns what the file holds from off on: at least want octets, as far as it has them.
func (s *scanner) window(off int64, want int) ([]byte, error) {
	if i := off - s.start; i >= 0 && i <= int64(len(s.buf)) {
		if w := s.buf[i:]; len(w) >= want || s.start+int64(len(s.buf)) >= s.size {
			return w, nil
		}
	}
	if s.buf == nil {
		s.buf = make([]byte, 0, scanWindow)
	}
	s.start = off
	b := s.buf[:min(int64(cap(s.buf)), s.size-off)]
	n, err := s.r.ReadAt(b, off)
	s.buf = b[:n]
	if err == io.EOF {
		s.size = off + int64(n)
		err = nil
	}
	return s.buf, err
}

// peek returns the octets at off, at most n, and leaves the window where it is.
func (s *scanner) peek(off int64, n int) ([]byte, error) {
	if i := off - s.start; i >= 0 && i+int64(n) <= int64(len(s.buf)) {
		return s.buf[i : i+int64(n)], nil
	}
	b := make([]byte, n)
	m, err := s.r.ReadAt(b, off)
	if err == io.EOF {
		err = nil
	}
	return b[:m], err
}

// first returns where the first separator is: the size, when there is none.
func (s *scanner) first() (int64, error) {
	if s.loc == nil {
		s.loc = time.Local
	}
	w, err := s.window(0, maxLine)
	if err != nil {
		return 0, err
	}
	if _, _, ok := ParseSeparator(string(lineOf(w)), s.loc); ok {
		return 0, nil
	}
	s.origin, err = s.separator(0)
	return s.origin, err
}

// separator returns where the next separator after an LF from off on is, or the size.
func (s *scanner) separator(off int64) (int64, error) {
	for {
		w, err := s.window(off, maxLine+8)
		if err != nil {
			return 0, err
		}
		i := bytes.Index(w, []byte("\nFrom "))
		if i < 0 {
			if off+int64(len(w)) >= s.size {
				return s.size, nil
			}
			off += int64(max(1, len(w)-6))
			continue
		}
		if len(w)-i <= maxLine && off+int64(len(w)) < s.size {
			off += int64(i)
			if w, err = s.window(off, maxLine+8); err != nil {
				return 0, err
			}
			i = 0
		}
		if _, _, ok := ParseSeparator(string(lineOf(w[i+1:])), s.loc); ok {
			return off + int64(i) + 1, nil
		}
		off += int64(i) + 1
	}
}

// next returns the message whose separator is at off.
func (s *scanner) next(off int64) (f found, err error) {
	w, err := s.window(off, maxLine)
	if err != nil {
		return f, err
	}
	line := lineOf(w)
	_, date, ok := ParseSeparator(string(line), s.loc)
	if !ok {
		return f, ErrNotMbox
	}
	f.off, f.sep, f.date, f.length = off, int32(len(line)), date, -1
	shown, err := s.readHeader(&f)
	if err != nil {
		return f, err
	}
	end, err := s.end(&f)
	if err != nil {
		return f, err
	}
	f.bodyLen, f.total = end-f.bodyAt(), end-f.off
	f.bodyOnly = f.body
	size, err := s.shown(&f)
	if err != nil {
		return f, err
	}
	if f.bodyOnly {
		shown = 0
	}
	f.size = shown + size
	if w, err = s.window(end, maxBlank+2); err != nil {
		return f, err
	}
	if bytes.HasPrefix(w, []byte("\r\n")) {
		f.total += 2
	}
	for len(w) > 0 && w[0] == '\n' && f.off+f.total <= end+maxBlank {
		f.total++
		w = w[1:]
	}
	return f, nil
}

// readHeader reads the header and returns how long it is shown.
func (s *scanner) readHeader(f *found) (shown int64, err error) {
	first := f.off == s.origin
	at, own, starts, cr := f.headerAt(), false, true, false
	for {
		w, err := s.window(at, 4096)
		if err != nil || len(w) == 0 {
			f.header = int32(at - f.headerAt())
			if !starts && !own && cr { // shown as it is written when it is written anew: with its end
				shown++
			} else if !starts && !own {
				shown += 2
			}
			return shown + 2, err
		}
		line, whole := w, false
		if i := bytes.IndexByte(w, '\n'); i >= 0 {
			line, whole = w[:i+1], true
		} else if len(w) < 4096 && at+int64(len(w)) < s.size {
			continue
		}
		if starts {
			if n := len(bytes.TrimRight(line, "\r\n")); n == 0 && whole {
				at += int64(len(line))
				f.header = int32(at - f.headerAt())
				return shown + 2, nil
			}
			if line[0] == 'F' {
				if _, _, sep := ParseSeparator(string(line[:min(len(line), maxLine+1)]), s.loc); sep && at > f.headerAt() {
					f.header = int32(at - f.headerAt())
					return shown + 2, nil
				}
			}
			if line[0] != ' ' && line[0] != '\t' {
				field, value := ownLine(line)
				own = field != notOwn
				if own {
					f.take(field, value, first)
				} else {
					shown -= int64(unkept(line))
				}
			}
		}
		if !own {
			shown += int64(len(line))
			if whole && (len(line) > 1 && line[len(line)-2] != '\r' || len(line) == 1 && !cr) {
				shown++
			}
		}
		at += int64(len(line))
		cr = line[len(line)-1] == '\r'
		starts = whole
	}
}

// end returns where the body ends.
func (s *scanner) end(f *found) (int64, error) {
	at := f.bodyAt()
	if f.length >= 0 && f.length <= s.size-at && s.dialect.counted() {
		off := at + f.length
		b, err := s.peek(off, maxLine+3)
		if err != nil {
			return 0, err
		}
		n := len(b)
		// Dovecot leaves LFs too many when it moves a body that holds what looks like a separator.
		rest := b
		for len(rest) > 1 && rest[0] == '\n' && rest[1] == '\n' && n-len(rest) < maxBlank {
			rest = rest[1:]
		}
		if leadsToSeparator(rest, off+int64(n) >= s.size, s.loc) {
			return off, nil
		}
	}
	f.length = -1
	if w, err := s.window(at, maxLine); err != nil {
		return 0, err
	} else if _, _, ok := ParseSeparator(string(lineOf(w)), s.loc); ok {
		return at, nil // header and nothing else
	}
	end, err := s.separator(at)
	if err != nil || end == at {
		return end, err
	}
	var last [2]byte
	n, err := s.r.ReadAt(last[:], max(at, end-2))
	if err != nil && err != io.EOF {
		return 0, err
	}
	if n = min(n, int(end-at)); n > 0 && last[n-1] == '\n' {
		end--
	}
	return end, nil
}

// shown returns how long the body is with CRLF line ends, unquoted.
func (s *scanner) shown(f *found) (int64, error) {
	if s.dialect.unquotes(1) {
		var n countWriter
		err := writeBody(&n, io.NewSectionReader(s.r, f.bodyAt(), f.bodyLen), s.dialect)
		return int64(n), err
	}
	size, cr := f.bodyLen, false
	for at, left := f.bodyAt(), f.bodyLen; left > 0; {
		w, err := s.window(at, 1)
		if err != nil {
			return 0, err
		}
		if len(w) == 0 {
			return 0, io.ErrUnexpectedEOF
		}
		w = w[:min(int64(len(w)), left)]
		size += int64(bytes.Count(w, []byte{'\n'}))
		if cr && w[0] == '\n' {
			size--
		}
		if bytes.IndexByte(w, '\r') >= 0 {
			size -= int64(bytes.Count(w, []byte("\r\n")))
		}
		cr = w[len(w)-1] == '\r'
		at, left = at+int64(len(w)), left-int64(len(w))
	}
	return size, nil
}

type countWriter int64

func (c *countWriter) Write(p []byte) (int, error) {
	*c += countWriter(len(p))
	return len(p), nil
}

// all yields every message from off on, until the file's end.
func (s *scanner) all(yield func(found, error) bool) {
	off, err := s.first()
	if err != nil {
		yield(found{}, err)
		return
	}
	for off < s.size {
		f, err := s.next(off)
		if !yield(f, err) || err != nil {
			return
		}
		off += f.total
	}
}

// known returns the keywords of s that b knows, in its spelling.
func (s *status) known(b *base) []string {
	var words []string
	for _, w := range s.keywords {
		if spelled, ok := b.spelling(w); ok {
			words = append(words, spelled)
		}
	}
	return words
}

func (b *base) spelling(word string) (string, bool) {
	for _, k := range b.keywords {
		if imap.NewFlags(imap.Flag(k)).Has(imap.Flag(word)) {
			return k, true
		}
	}
	return "", false
}
