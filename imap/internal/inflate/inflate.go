// Package inflate undoes DEFLATE (RFC 1951) as it comes: what can be known of the output is
// given at once, wherever the other side flushed and however it did. The reader of
// compress/flate holds output back until a stored block, and so misses zlib's partial flush.
//
// A Reader at rest is small: it has the history that the format makes it keep, as long as
// what came but never more than 32 KiB, packed if wanted.
package inflate

import (
	"errors"
	"io"
	"sync"
)

// ErrCorrupt is reported for input that is no DEFLATE stream.
var ErrCorrupt = errors.New("inflate: corrupt input")

const (
	window   = 32 << 10 // how far back a match may reach (RFC 1951, 2)
	atOnce   = 4 << 10  // output that is made before it is asked for, and input that is read at once
	maxMatch = 258
	maxHist  = window + 4*atOnce // history and output, before the oldest goes
)

// state says what comes next in the input.
type state uint8

const (
	stBlock   state = iota // three bits: last block, type
	stStored               // the length of a stored block
	stCopy                 // its octets
	stDynamic              // the counts of a dynamic block
	stCodes                // the lengths of the code for lengths
	stLengths              // the lengths of both codes
	stSymbols              // compressed data
	stEnd                  // nothing: the stream is over
)

// A Reader reads a stream. It belongs to one goroutine.
type Reader struct {
	src io.Reader
	buf []byte // input buffer, nil at rest
	in  []byte // of buf, not yet taken

	bits  uint64 // taken from in, the lowest first
	nbits uint   // how many

	state state
	last  bool // this block is
	left  int  // of a stored block
	t     *tables
	fixed bool
	going bool // more can be made of what came

	hist   []byte // ends with the output
	out    int    // hist[out:] is not yet given
	packed []byte // hist at rest
	err    error
}

// tables are what a block with codes of its own needs.
type tables struct {
	lit, dist            huffman
	lengths              [maxLit + maxDist]uint8
	nlit, ndist, n, have int // codes of each kind; lengths to come and known
}

var (
	buffers = sync.Pool{New: func() any { return new([atOnce]byte) }}
	spare   = sync.Pool{New: func() any { return new(tables) }}
)

// NewReader returns a Reader of the stream that src gives. It reads ahead.
func NewReader(src io.Reader) *Reader { return &Reader{src: src} }

// Read gives output as soon as there is some: it reads from the source only while nothing
// can be given without.
func (d *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for !d.Ready() {
		if d.buf == nil {
			d.buf = buffers.Get().(*[atOnce]byte)[:]
		}
		n, err := d.src.Read(d.buf)
		d.in = d.buf[:n]
		if n == 0 && err != nil {
			return 0, err
		}
	}
	if d.out < len(d.hist) {
		n := copy(p, d.hist[d.out:])
		d.out += n
		return n, nil
	}
	return 0, d.err
}

// Put adds an octet to the input, all of which must have been taken: Ready said no.
func (d *Reader) Put(b byte) {
	if d.buf == nil {
		d.buf = buffers.Get().(*[atOnce]byte)[:]
	}
	d.buf[0] = b
	d.in = d.buf[:1]
}

// Ready reports whether Read returns at once. If not, all input that came is taken.
func (d *Reader) Ready() bool {
	if d.out == len(d.hist) && d.err == nil && (d.going || len(d.in) > 0) {
		d.run()
	}
	return d.out < len(d.hist) || d.err != nil
}

// Ended reports whether the stream ended, and returns the input behind it that was taken
// already.
func (d *Reader) Ended() (rest []byte, ok bool) {
	if d.state != stEnd {
		return nil, false
	}
	for n := d.nbits / 8; n > 0; n-- {
		rest = append(rest, byte(d.bits>>(d.nbits%8)))
		d.bits >>= 8
	}
	return append(rest, d.in...), true
}

// Rest gives up what is not needed until more comes.
func (d *Reader) Rest() {
	if len(d.in) == 0 && d.buf != nil {
		buffers.Put((*[atOnce]byte)(d.buf))
		d.buf, d.in = nil, nil
	}
	if d.out < len(d.hist) || d.packed != nil {
		return
	}
	if over := len(d.hist) - window; over > 0 {
		d.hist = append(d.hist[:0], d.hist[over:]...)
	}
	if cap(d.hist) > len(d.hist)+len(d.hist)/4 {
		d.hist = append(make([]byte, 0, len(d.hist)), d.hist...)
	}
	d.out = len(d.hist)
}

// Packable reports whether Pack makes the Reader smaller.
func (d *Reader) Packable() bool { return d.packed == nil && len(d.hist) >= minPacked }

// Pack makes the history as small as can be, until more comes. It follows Rest.
func (d *Reader) Pack() {
	if d.Packable() && d.out == len(d.hist) {
		d.packed, d.hist = packHistory(d.hist), nil
		d.out = 0
	}
}

// need gathers n bits, at most 48, and reports whether they are there.
func (d *Reader) need(n uint) bool {
	d.fill()
	return d.nbits >= n
}

func (d *Reader) fill() {
	for d.nbits <= 56 && len(d.in) > 0 {
		d.bits |= uint64(d.in[0]) << d.nbits
		d.nbits += 8
		d.in = d.in[1:]
	}
}

// take returns n bits that are there.
func (d *Reader) take(n uint) int {
	v := d.bits & (1<<n - 1)
	d.bits >>= n
	d.nbits -= n
	return int(v)
}

// run makes output until there is enough of it or the input is used up.
func (d *Reader) run() {
	if d.packed != nil {
		d.hist, d.packed = unpackHistory(d.packed), nil
	}
	if over := len(d.hist) - window; over > 0 && len(d.hist) > maxHist-atOnce-maxMatch {
		d.hist = append(d.hist[:0], d.hist[over:]...)
	}
	d.out = len(d.hist)
	d.going = true
	for d.going && d.err == nil && len(d.hist)-d.out < atOnce {
		d.going = d.step()
	}
}

// step goes on with the input, and reports whether it could.
func (d *Reader) step() bool {
	switch d.state {
	case stBlock:
		if !d.need(3) {
			return false
		}
		d.last = d.take(1) == 1
		switch d.take(2) {
		case 0:
			d.take(d.nbits % 8)
			d.state = stStored
		case 1:
			d.state, d.fixed = stSymbols, true
		case 2:
			d.state, d.fixed = stDynamic, false
			d.t = spare.Get().(*tables)
		default:
			d.err = ErrCorrupt
		}
	case stStored:
		if !d.need(32) {
			return false
		}
		n := d.take(16)
		if d.take(16) != n^0xffff {
			d.err = ErrCorrupt
		}
		d.left, d.state = n, stCopy
	case stCopy:
		return d.copyStored()
	case stDynamic, stCodes, stLengths:
		return d.header()
	case stSymbols:
		if d.fixed {
			return d.symbols(&fixedLit, &fixedDist)
		}
		return d.symbols(&d.t.lit, &d.t.dist)
	case stEnd:
		d.err = io.EOF
	}
	return true
}

// endBlock goes to the next block.
func (d *Reader) endBlock() {
	if d.t != nil {
		spare.Put(d.t)
		d.t = nil
	}
	d.state = stBlock
	if d.last {
		d.take(d.nbits % 8)
		d.state = stEnd
	}
}

func (d *Reader) copyStored() bool {
	for d.left > 0 && d.nbits >= 8 {
		d.hist = append(d.hist, byte(d.take(8)))
		d.left--
	}
	n := min(d.left, len(d.in), atOnce)
	d.hist = append(d.hist, d.in[:n]...)
	d.in = d.in[n:]
	if d.left -= n; d.left > 0 {
		return len(d.in) > 0
	}
	d.endBlock()
	return true
}

// The order in which the lengths of the code for lengths come (RFC 1951, 3.2.7).
var codeOrder = [...]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// header takes the head of a dynamic block (RFC 1951, 3.2.7).
func (d *Reader) header() bool {
	t := d.t
	switch d.state {
	case stDynamic:
		if !d.need(14) {
			return false
		}
		t.nlit, t.ndist, t.n, t.have = d.take(5)+257, d.take(5)+1, d.take(4)+4, 0
		t.lengths = [len(t.lengths)]uint8{}
		if t.nlit > 286 || t.ndist > 30 {
			d.err = ErrCorrupt
		}
		d.state = stCodes
	case stCodes:
		if !d.need(3) {
			return false
		}
		t.lengths[codeOrder[t.have]] = uint8(d.take(3))
		if t.have++; t.have < t.n {
			return true
		}
		if !t.lit.build(t.lengths[:len(codeOrder)]) {
			d.err = ErrCorrupt
		}
		t.n, t.have, d.state = t.nlit+t.ndist, 0, stLengths
	default:
		return d.codeLength()
	}
	return true
}

// codeLength takes one length, or a run of them.
func (d *Reader) codeLength() bool {
	t := d.t
	d.fill()
	symbol, n, res := t.lit.decode(d.bits, d.nbits)
	switch {
	case res == corrupt:
		d.err = ErrCorrupt
		return true
	case res == short:
		return false
	}
	value, times, extra := uint8(symbol), 1, uint(0)
	switch symbol {
	case 16:
		extra, times = 2, 3
		if t.have == 0 {
			d.err = ErrCorrupt
			return true
		}
		value = t.lengths[t.have-1]
	case 17:
		value, extra, times = 0, 3, 3
	case 18:
		value, extra, times = 0, 7, 11
	}
	if d.nbits < n+extra {
		return false
	}
	d.take(n)
	times += d.take(extra)
	if times > t.n-t.have {
		d.err = ErrCorrupt
		return true
	}
	for range times {
		t.lengths[t.have] = value
		t.have++
	}
	if t.have == t.n {
		if !t.lit.build(t.lengths[:t.nlit]) || !t.dist.build(t.lengths[t.nlit:t.n]) {
			d.err = ErrCorrupt
		}
		d.state = stSymbols
	}
	return true
}

// The base and the extra bits of lengths, from symbol 257 on, and of distances
// (RFC 1951, 3.2.5).
var (
	lengthBase  = [...]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [...]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [...]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra   = [...]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// symbols undoes compressed data. A length and its distance have at most 48 bits: they are
// taken together, or left for when more has come.
func (d *Reader) symbols(lit, dist *huffman) bool {
	for len(d.hist)-d.out < atOnce {
		d.fill()
		symbol, n, res := lit.decode(d.bits, d.nbits)
		switch {
		case res == short:
			return false
		case res == corrupt:
			d.err = ErrCorrupt
			return true
		case symbol < 256:
			d.hist = append(d.hist, byte(symbol))
			d.take(n)
			continue
		case symbol == 256:
			d.take(n)
			d.endBlock()
			return true
		case symbol-257 >= len(lengthBase):
			d.err = ErrCorrupt
			return true
		}
		bits, used := d.bits>>n, n
		field := func(n uint) int {
			v := int(bits & (1<<n - 1))
			bits >>= n
			used += n
			return v
		}
		length := int(lengthBase[symbol-257]) + field(uint(lengthExtra[symbol-257]))
		if used > d.nbits {
			return false
		}
		symbol, n, res = dist.decode(bits, d.nbits-used)
		switch {
		case res == short:
			return false
		case res == corrupt || symbol >= len(distBase):
			d.err = ErrCorrupt
			return true
		}
		field(n)
		distance := int(distBase[symbol]) + field(uint(distExtra[symbol]))
		if used > d.nbits {
			return false
		}
		d.take(used)
		if distance > len(d.hist) {
			d.err = ErrCorrupt
			return true
		}
		from := len(d.hist) - distance
		for length > 0 { // what is copied may be what was just written
			n := min(length, len(d.hist)-from)
			d.hist = append(d.hist, d.hist[from:from+n]...)
			length -= n
		}
	}
	return true
}
