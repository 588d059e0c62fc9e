package canon

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math/bits"
)

// Body hashes a body under one canonicalization as it arrives in chunks.
//
// What may turn out to be the body's end is held back as a few counters: empty
// lines, which are dropped there, and for relaxed the whitespace at the end of
// a line and a CR whose LF is in the next chunk. Everything else goes straight
// from the caller's buffer into the hash.
type Body struct {
	Length int64 // canonical octets, after Finish

	relaxed bool
	sinks   []*Sink

	// Nearly always there is one sink: it has its place here.
	first    Sink
	firstRef [1]*Sink

	crlfs int  // line ends held back; the first also ends a line with text
	space bool // relaxed: whitespace held back
	cr    bool // a CR held back
	text  bool // something other than line ends has been hashed

	// Short pieces are gathered here, so that the hash sees few of them.
	buf  [512]byte
	fill int
}

// Sink is one hash over the first limit octets of the canonical body.
type Sink struct {
	Sum [sha256.Size]byte // after Body.Finish

	hash  hash.Hash
	limit int64 // -1 = all
	left  int64
}

// NewBody returns the hash of an empty body.
func NewBody(relaxed bool) *Body {
	return &Body{relaxed: relaxed}
}

// Sink returns the hash over the first limit octets, -1 for all, adding it
// unless it is there already.
func (b *Body) Sink(limit int64) *Sink {
	for _, s := range b.sinks {
		if s.limit == limit {
			return s
		}
	}
	s := &b.first
	if len(b.sinks) == 0 {
		b.sinks = b.firstRef[:0]
	} else {
		s = new(Sink)
	}
	s.hash, s.limit, s.left = sha256.New(), limit, limit
	b.sinks = append(b.sinks, s)
	return s
}

// emit adds p to the canonical body.
func (b *Body) emit(p []byte) {
	if len(p) <= len(b.buf)-b.fill {
		b.fill += copy(b.buf[b.fill:], p)
		return
	}
	b.flush()
	if len(p) <= len(b.buf)/2 {
		b.fill = copy(b.buf[:], p)
		return
	}
	b.sum(p)
}

func (b *Body) flush() {
	b.sum(b.buf[:b.fill])
	b.fill = 0
}

// sum adds p to the hashes.
func (b *Body) sum(p []byte) {
	b.Length += int64(len(p))
	for _, s := range b.sinks {
		q := p
		if s.limit >= 0 {
			q = p[:min(int64(len(p)), s.left)]
			s.left -= int64(len(q))
		}
		s.hash.Write(q)
	}
}

var (
	manyCRLFs = bytes.Repeat([]byte("\r\n"), 512)
	oneSpace  = []byte(" ")
	oneCR     = []byte("\r")
)

// release hashes what was held back, since more text follows.
func (b *Body) release() {
	for b.crlfs > 0 {
		n := min(b.crlfs, len(manyCRLFs)/2)
		b.emit(manyCRLFs[:2*n])
		b.crlfs -= n
	}
	if b.space {
		b.emit(oneSpace)
		b.space = false
	}
	b.text = true
}

// hold emits span, which is canonical as it stands, but for its end: a CR (if
// another chunk may bring its LF), one space, and line ends stay back.
func (b *Body) hold(span []byte, last bool) {
	n := len(span)
	cr, space, crlfs := false, false, 0
	if last && n > 0 && span[n-1] == '\r' {
		cr = true
		n--
	}
	if b.relaxed && n > 0 && span[n-1] == ' ' {
		space = true
		n--
	}
	for n > 1 && span[n-1] == '\n' && span[n-2] == '\r' {
		crlfs++
		n -= 2
	}
	if n > 0 {
		b.release()
		b.emit(span[:n])
	}
	b.crlfs += crlfs
	b.space = b.space || space
	b.cr = cr
}

// Write takes the next chunk of the body.
func (b *Body) Write(p []byte) {
	if len(p) == 0 {
		return
	}
	if b.cr {
		b.cr = false
		if p[0] == '\n' {
			b.space = false
			b.crlfs++
			p = p[1:]
		} else {
			b.release()
			b.emit(oneCR)
		}
	}
	if b.relaxed {
		b.writeRelaxed(p)
	} else {
		b.hold(p, true)
	}
}

// writeRelaxed passes over the text from one place where it is not canonical to
// the next.
func (b *Body) writeRelaxed(p []byte) {
	for pos := 0; pos < len(p); {
		if !b.space && !b.cr {
			if n := canonicalPrefix(p[pos:]); n > 0 {
				b.hold(p[pos:pos+n], pos+n == len(p))
				pos += n
				continue
			}
		}
		pos = b.step(p, pos)
	}
}

// canonicalPrefix returns the length of the part of p before the first tab, or
// the first space that another space or a CR follows.
//
// It looks at eight octets at a time: with x holding p[i:i+8] and y p[i+1:i+9],
// bit 7 of each octet of a mask says whether that octet of x or y matches.
func canonicalPrefix(p []byte) int {
	i := 0
	for ; i+9 <= len(p); i += 8 {
		x := binary.LittleEndian.Uint64(p[i:])
		y := binary.LittleEndian.Uint64(p[i+1:])
		bad := equals(x, '\t') | equals(x, ' ')&(equals(y, ' ')|equals(y, '\r')|equals(y, '\t'))
		if bad != 0 {
			return i + bits.TrailingZeros64(bad)/8
		}
	}
	for ; i < len(p); i++ {
		if p[i] == '\t' || p[i] == ' ' && i+1 < len(p) && (p[i+1] == ' ' || p[i+1] == '\r' || p[i+1] == '\t') {
			return i
		}
	}
	return i
}

// equals returns a mask with bit 7 of each octet of x that equals c.
func equals(x uint64, c byte) uint64 {
	const (
		ones = 0x0101010101010101
		low7 = 0x7f7f7f7f7f7f7f7f
	)
	x ^= ones * uint64(c)
	return ^((x&low7 + low7) | x | low7)
}

// step handles whitespace at p[pos], or what comes after held-back whitespace,
// and returns where to go on.
func (b *Body) step(p []byte, pos int) int {
	for pos < len(p) && (p[pos] == ' ' || p[pos] == '\t') {
		b.space = true
		pos++
	}
	switch {
	case pos == len(p):
	case p[pos] != '\r':
		b.release()
		b.emit(p[pos : pos+1])
		pos++
	case pos+1 == len(p):
		b.cr = true
		pos++
	case p[pos+1] == '\n':
		b.space = false
		b.crlfs++
		pos += 2
	default: // a CR alone is text
		b.release()
		b.emit(oneCR)
		pos++
	}
	return pos
}

// Finish ends the body and computes the sums.
func (b *Body) Finish() {
	if b.cr {
		b.cr = false
		b.release()
		b.emit(oneCR)
	}
	b.space = false
	// Text gets its one line end, also where the message lacked it. An empty
	// body is one line end for simple, and nothing for relaxed.
	if b.text || !b.relaxed {
		b.emit(manyCRLFs[:2])
	}
	b.crlfs = 0
	b.flush()
	for _, s := range b.sinks {
		s.hash.Sum(s.Sum[:0])
	}
}
