package spam

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"iter"
	"maps"
	"math"
	"os"
	"slices"
)

// The file of a store, all numbers little-endian:
//
//	file    = "mailblocks spam 2\n" base frame *frame
//	base    = uint64, the position after the first frame, which is the sum of all before it
//	frame   = uint32 length of payload, uint32 CRC-32C of payload, payload
//	payload = uint64 writer, *record; empty for none
//	record  = 'C' string(model) string(*cell)              deltas of cells, by ascending index
//	        | 'S' 16 bytes of SHA-256(model NUL id) label varint(until)
//	        | 'K' string(model) uvarint(slot) string(data)  data of a slot, empty for none
//	cell    = uvarint(index - index before) flags [varint(ham)] [varint(spam)] [float32 weight float32 square]
//	string  = uvarint(length) bytes
//
// The position of a frame is base plus its number after the first. A frame whose length or
// checksum is wrong ends the file: it and what follows were not written completely.

const fileMagic = "mailblocks spam 2\n"

var (
	errNotStore = errors.New("not a spam store, or of another version")
	errNoFrame  = errors.New("no whole frame")
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
)

const (
	recordCells = 'C'
	recordSeen  = 'S'
	recordSlot  = 'K'

	flagHam    = 1
	flagSpam   = 2
	flagWeight = 4

	maxFrame = 1 << 30
)

func fileHeader(base uint64) []byte {
	return binary.LittleEndian.AppendUint64([]byte(fileMagic), base)
}

func readFileHeader(f io.ReaderAt) (base uint64, size int64, err error) {
	var b [len(fileMagic) + 8]byte
	if _, err := f.ReadAt(b[:], 0); err != nil && err != io.EOF {
		return 0, 0, err
	}
	base = binary.LittleEndian.Uint64(b[len(fileMagic):])
	if string(b[:len(fileMagic)]) != fileMagic || base == 0 || base > math.MaxInt64 {
		return 0, 0, errNotStore
	}
	return base, int64(len(b)), nil
}

func appendFrame(b, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

// readFrame reads the frame at an offset, and returns where it ends.
func readFrame(f *os.File, at int64) (payload []byte, end int64, err error) {
	var head [8]byte
	if _, err := f.ReadAt(head[:], at); err == io.EOF {
		return nil, at, errNoFrame
	} else if err != nil {
		return nil, at, err
	}
	n := int64(binary.LittleEndian.Uint32(head[:]))
	info, err := f.Stat()
	if err != nil {
		return nil, at, err
	}
	if n > maxFrame || at+8+n > info.Size() {
		return nil, at, errNoFrame
	}
	payload = make([]byte, n)
	if _, err := f.ReadAt(payload, at+8); err == io.EOF && n > 0 {
		return nil, at, errNoFrame
	} else if err != nil && err != io.EOF {
		return nil, at, err
	}
	if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, at, errNoFrame
	}
	return payload, at + 8 + n, nil
}

func frameWriter(payload []byte) uint64 {
	if len(payload) < 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(payload)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func encodeRecords(writer uint64, models map[string]*pendingModel, marks map[seenKey]seenMark) []byte {
	b := binary.LittleEndian.AppendUint64(nil, writer)
	for _, name := range slices.Sorted(maps.Keys(models)) {
		p := models[name]
		if cells := p.cells.sorted(); len(cells) > 0 {
			b = appendString(append(b, recordCells), name)
			// The length goes before them, so that who looks for other records can pass over.
			at := len(b)
			b = append(b, make([]byte, binary.MaxVarintLen64)...)
			start := len(b)
			before := uint32(0)
			for _, c := range cells {
				b = appendCell(b, c, before)
				before = c.Index
			}
			n := binary.PutUvarint(b[at:], uint64(len(b)-start))
			b = append(b[:at+n], b[start:]...)
		}
		for slot, data := range p.slots {
			b = appendString(append(b, recordSlot), name)
			b = binary.AppendUvarint(b, uint64(slot))
			b = appendString(b, string(data))
		}
	}
	for key, m := range marks {
		b = append(append(b, recordSeen), key[:]...)
		b = binary.AppendVarint(append(b, byte(m.label)), m.until)
	}
	return b
}

func appendCell(b []byte, c Cell, before uint32) []byte {
	b = binary.AppendUvarint(b, uint64(c.Index-before))
	flags := byte(0)
	if c.Ham != 0 {
		flags |= flagHam
	}
	if c.Spam != 0 {
		flags |= flagSpam
	}
	if c.Weight != 0 || c.Square != 0 {
		flags |= flagWeight
	}
	b = append(b, flags)
	if c.Ham != 0 {
		b = binary.AppendVarint(b, int64(c.Ham))
	}
	if c.Spam != 0 {
		b = binary.AppendVarint(b, int64(c.Spam))
	}
	if flags&flagWeight != 0 {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(c.Weight))
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(c.Square))
	}
	return b
}

// A record of a frame; which fields are set depends on its kind.
type record struct {
	kind  byte
	model string
	body  []byte // the cells
	key   seenKey
	mark  seenMark
	slot  uint32
	data  []byte
}

// A reader takes values from a payload. After a value that is not there, bad is set and all
// others are zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) bytes(n uint64) []byte {
	if r.bad || n > uint64(len(r.b)) {
		r.bad = true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) float() float32 {
	if b := r.bytes(4); b != nil {
		if v := math.Float32frombits(binary.LittleEndian.Uint32(b)); v-v == 0 { // finite
			return v
		}
	}
	return 0
}

func (r *reader) cell(before uint32) Cell {
	c := Cell{Index: before + uint32(r.uvarint())}
	flags := r.byte()
	if flags&flagHam != 0 {
		c.Ham = int32(r.varint())
	}
	if flags&flagSpam != 0 {
		c.Spam = int32(r.varint())
	}
	if flags&flagWeight != 0 {
		c.Weight = r.float()
		c.Square = r.float()
	}
	return c
}

// records yields the records of a payload up to the first that is malformed.
func records(payload []byte) iter.Seq[record] {
	return func(yield func(record) bool) {
		r := reader{b: payload}
		r.bytes(8)
		for !r.bad && len(r.b) > 0 {
			rec := record{kind: r.byte()}
			switch rec.kind {
			case recordCells:
				rec.model = string(r.bytes(r.uvarint()))
				rec.body = r.bytes(r.uvarint())
			case recordSeen:
				copy(rec.key[:], r.bytes(16))
				rec.mark.label = Label(r.byte())
				rec.mark.until = r.varint()
			case recordSlot:
				rec.model = string(r.bytes(r.uvarint()))
				rec.slot = uint32(r.uvarint())
				rec.data = r.bytes(r.uvarint())
			default:
				return
			}
			if r.bad || !yield(rec) {
				return
			}
		}
	}
}

// cells yields the cells of a record.
func (rec *record) cells() iter.Seq[Cell] {
	return func(yield func(Cell) bool) {
		r := reader{b: rec.body}
		before := uint32(0)
		for len(r.b) > 0 {
			c := r.cell(before)
			if r.bad || !yield(c) {
				return
			}
			before = c.Index
		}
	}
}
