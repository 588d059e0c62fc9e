package mimetree

import (
	"bytes"
	"io"
	"sync"
)

// window is how much of a message is in memory at a time. A line that is longer is seen in
// pieces, of which only the first can be a boundary.
const window = 32 << 10

// keep is how much of the window a delimiter line may need to be recognised.
const keep = maxBoundary + 64

var windows = sync.Pool{New: func() any { return new([window]byte) }}

// scanner goes through a message once.
type scanner struct {
	r    io.ReaderAt
	size int64
	// piece is how much is read at a time, zero: as much as there is room for.
	piece int
	buf   *[window]byte
	base  int64 // offset of buf[0] in the message
	pos   int   // the next octet is buf[pos]
	n     int   // octets in buf
	lf    int64 // line ends before pos
	err   error // of the reader; the message then ends where it was
}

func (s *scanner) offset() int64 { return s.base + int64(s.pos) }

// A place in the message: an offset, and how many line ends come before it.
type place struct{ off, lf int64 }

func (s *scanner) place() place { return place{s.offset(), s.lf} }

// A stop is where something ended, and the boundary that ended it.
type stop struct {
	place
	which int  // index of the boundary, -1: the message ended
	last  bool // the boundary's closing delimiter
}

// fill makes at least want octets available behind pos, fewer only at the end.
func (s *scanner) fill(want int) []byte {
	if s.n-s.pos < want && s.base+int64(s.n) < s.size && s.err == nil {
		copy(s.buf[:], s.buf[s.pos:s.n])
		s.base += int64(s.pos)
		s.n -= s.pos
		s.pos = 0
		for s.n < want && s.base+int64(s.n) < s.size {
			room := s.buf[s.n:min(int64(window), s.size-s.base)]
			if s.piece > 0 {
				room = room[:min(len(room), max(s.piece, want-s.n))]
			}
			n, err := s.r.ReadAt(room, s.base+int64(s.n))
			s.n += n
			if err != nil && n < len(room) {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				s.err = err
				break
			}
		}
	}
	return s.buf[s.pos:s.n]
}

// line returns the next line with its end, or, of a longer one, as much as the window holds.
// It is empty at the end of the message, and valid until the next call.
func (s *scanner) line() []byte {
	b := s.fill(keep)
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		b = s.fill(window)
		i = bytes.IndexByte(b, '\n')
	}
	if i < 0 {
		i = len(b) - 1
	}
	s.pos += i + 1
	if i >= 0 && b[i] == '\n' {
		s.lf++
	}
	return b[:i+1]
}

// body goes through a part's body to a delimiter of one of the boundaries, or to the end of
// the message. The scanner then stands behind the delimiter line. A line break before a
// delimiter belongs to it (RFC 2046, 5.1.1), also one before the body's beginning: the body
// then ends before it begins, and the caller makes it empty.
func (s *scanner) body(bounds [][]byte) stop {
	atLine := true // pos is at the beginning of a line that was not looked at
	for {
		b := s.fill(keep)
		if len(b) == 0 {
			return stop{s.place(), -1, false}
		}
		if len(bounds) == 0 {
			s.skip(len(b))
			continue
		}
		if atLine {
			if which, last := match(b, bounds); which >= 0 {
				end := s.place()
				if s.before(1) == '\n' {
					end.off--
					end.lf--
					if s.before(2) == '\r' {
						end.off--
					}
				}
				s.line()
				return stop{end, which, last}
			}
			atLine = false
		}
		if i := bytes.Index(b, crossing); i >= 0 {
			s.skip(i + 1)
			atLine = true
			continue
		}
		// The break and the dashes may lie across the window's end.
		rest := len(b)
		if s.base+int64(s.n) < s.size && s.err == nil {
			rest -= len(crossing) - 1
		}
		s.skip(rest)
	}
}

// skip goes n octets on.
func (s *scanner) skip(n int) {
	s.lf += int64(bytes.Count(s.buf[s.pos:s.pos+n], newline))
	s.pos += n
}

// before returns the octet that is n before pos, zero when there is none.
func (s *scanner) before(n int) byte {
	if s.offset() < int64(n) {
		return 0
	}
	if s.pos < n {
		var b [1]byte
		if _, err := s.r.ReadAt(b[:], s.offset()-int64(n)); err != nil && err != io.EOF {
			return 0
		}
		return b[0]
	}
	return s.buf[s.pos-n]
}

var (
	newline  = []byte("\n")
	crossing = []byte("\n--")
)

// match finds the boundary whose delimiter line b begins with, innermost first.
func match(b []byte, bounds [][]byte) (which int, last bool) {
	if len(b) < 2 || b[0] != '-' || b[1] != '-' {
		return -1, false
	}
	b = b[2:]
	for i := len(bounds) - 1; i >= 0; i-- {
		rest, ok := bytes.CutPrefix(b, bounds[i])
		if !ok {
			continue
		}
		rest, last := bytes.CutPrefix(rest, []byte("--"))
		// Only blanks may follow; behind the last delimiter mail has all sorts of things.
		for len(rest) > 0 && (rest[0] == ' ' || rest[0] == '\t') {
			rest = rest[1:]
		}
		if last || len(rest) == 0 || rest[0] == '\r' || rest[0] == '\n' {
			return i, last
		}
	}
	return -1, false
}
