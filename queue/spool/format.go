package spool

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"time"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/internal/envcodec"
	"github.com/mailblocks/mailblocks/queue/internal/sched"
)

// The format of a segment, all numbers little endian:
//
//	segment = header record*, then whatever was in the file before
//	header  = "mbspool1" number:u64 nextID:u64 created:i64 salt:u32 crc:u32   (40 octets)
//	record  = magic:u32 kind:u8 flags:u8 zero:u16 metaLen:u32 bodyLen:u32 id:u64
//	          durable:u32 bodyCRC:u32 zero:u32 crc:u32 meta body              (padded to 8)
//
// A CRC is CRC-32C. A record's covers the segment's number and salt, its header up to itself, and its meta.
// So records of an earlier life of a recycled file are not valid, and nobody can put a
// record into a message's body that would be taken for one of ours: salts are random. durable is the length
// of the segment that was synced when the record was written: a record that can not be read but lies
// before some later record's durable was acknowledged once and has been damaged since; one that does not is
// the torn end of a write that nobody was told about.
//
// One or more records are a transaction; the last of them has flagLast. What follows the last
// complete transaction counts for nothing.
//
// The meta of each kind:
//
//	message = size fromFile partCount part* priority envelope       body inline unless fromFile
//	part    = route due alarm partFlags
//	state   = route due alarm done count (index state)*             all recipients of one route
//	flags   = route partFlags
//	gone    = nothing: the message has left the queue
const (
	segmentMagic  = "mbspool1"
	segmentHeader = 40
	recordMagic   = 0x7265636d // "mcer"
	recordHeader  = 40
	recordAlign   = 8
)

type kind uint8

const (
	kindMessage kind = 1 + iota
	kindState
	kindFlags
	kindGone
)

const flagLast = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ref is where a record stands, and its length. The zero ref is none: no segment has number 0.
type ref struct{ seg, off, size uint32 }

// header is a record's header.
type header struct {
	kind             kind
	last             bool
	metaLen, bodyLen uint32
	id               uint64
	durable          uint32
	bodyCRC          uint32
}

func (h *header) size() int64 {
	return (recordHeader + int64(h.metaLen) + int64(h.bodyLen) + recordAlign - 1) &^ (recordAlign - 1)
}

// appendRecord appends a record whose durable and crc are filled in by seal when its place is known.
func appendRecord(b []byte, k kind, last bool, id uint64, meta, body []byte) []byte {
	start := len(b)
	b = slices.Grow(b, recordHeader+len(meta)+len(body)+recordAlign)
	b = append(b, make([]byte, recordHeader)...)
	h := b[start:]
	binary.LittleEndian.PutUint32(h[0:], recordMagic)
	h[4] = byte(k)
	if last {
		h[5] = flagLast
	}
	binary.LittleEndian.PutUint32(h[8:], uint32(len(meta)))
	binary.LittleEndian.PutUint32(h[12:], uint32(len(body)))
	binary.LittleEndian.PutUint64(h[16:], id)
	binary.LittleEndian.PutUint32(h[28:], crc32.Checksum(body, castagnoli))
	b = append(b, meta...)
	b = append(b, body...)
	for (len(b)-start)%recordAlign != 0 {
		b = append(b, 0)
	}
	return b
}

// seal completes the records in b, which will stand in the segment of that key. It calls
// each with the offset of every record in b.
func seal(b []byte, key segmentKey, durable int64, each func(off int)) {
	for off := 0; off < len(b); {
		h := b[off:]
		binary.LittleEndian.PutUint32(h[24:], uint32(durable))
		metaLen := binary.LittleEndian.Uint32(h[8:])
		bodyLen := binary.LittleEndian.Uint32(h[12:])
		binary.LittleEndian.PutUint32(h[36:], recordCRC(h[:36], h[recordHeader:recordHeader+metaLen], key))
		each(off)
		size := header{metaLen: metaLen, bodyLen: bodyLen}
		off += int(size.size())
	}
}

// segmentKey is what ties records to a segment.
type segmentKey struct{ number, salt uint32 }

func recordCRC(head, meta []byte, key segmentKey) uint32 {
	var seed [8]byte
	binary.LittleEndian.PutUint32(seed[:], key.number)
	binary.LittleEndian.PutUint32(seed[4:], key.salt)
	crc := crc32.Checksum(seed[:], castagnoli)
	crc = crc32.Update(crc, castagnoli, head)
	return crc32.Update(crc, castagnoli, meta)
}

// parseHeader reads a record's header. It checks form, not the CRC, for which the meta is needed.
func parseHeader(b []byte) (header, bool) {
	if len(b) < recordHeader || binary.LittleEndian.Uint32(b) != recordMagic {
		return header{}, false
	}
	h := header{
		kind: kind(b[4]), last: b[5]&flagLast != 0,
		metaLen: binary.LittleEndian.Uint32(b[8:]), bodyLen: binary.LittleEndian.Uint32(b[12:]),
		id: binary.LittleEndian.Uint64(b[16:]), durable: binary.LittleEndian.Uint32(b[24:]),
		bodyCRC: binary.LittleEndian.Uint32(b[28:]),
	}
	return h, h.kind >= kindMessage && h.kind <= kindGone
}

// validMeta checks a record's CRC; b holds its header and meta.
func validMeta(b []byte, h *header, key segmentKey) bool {
	return recordCRC(b[:36], b[recordHeader:recordHeader+h.metaLen], key) ==
		binary.LittleEndian.Uint32(b[36:])
}

func segmentStart(key segmentKey, nextID uint64, now time.Time) []byte {
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint64(b[8:], uint64(key.number))
	binary.LittleEndian.PutUint64(b[16:], nextID)
	binary.LittleEndian.PutUint64(b[24:], uint64(now.UnixNano()))
	binary.LittleEndian.PutUint32(b[32:], key.salt)
	binary.LittleEndian.PutUint32(b[36:], crc32.Checksum(b[:36], castagnoli))
	return b
}

// parseSegmentStart reports whether b begins the segment of that number.
func parseSegmentStart(b []byte, number uint32) (key segmentKey, nextID uint64, ok bool) {
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic ||
		binary.LittleEndian.Uint64(b[8:]) != uint64(number) ||
		binary.LittleEndian.Uint32(b[36:]) != crc32.Checksum(b[:36], castagnoli) {
		return key, 0, false
	}
	return segmentKey{number, binary.LittleEndian.Uint32(b[32:])}, binary.LittleEndian.Uint64(b[16:]), true
}

// messageMeta is the meta of a message.
type messageMeta struct {
	size     int64
	fromFile bool
	parts    []sched.Part
	priority int8
	envelope []byte
}

const (
	partHold = 1 << iota
	partExpire
	partDone
)

func partFlags(p *sched.Part) byte {
	var f byte
	if p.Hold {
		f |= partHold
	}
	if p.Expire {
		f |= partExpire
	}
	if p.Done {
		f |= partDone
	}
	return f
}

func setPartFlags(p *sched.Part, f byte) {
	p.Hold, p.Expire, p.Done = f&partHold != 0, f&partExpire != 0, f&partDone != 0
}

func appendMessageMeta(b []byte, size int64, fromFile bool, parts []sched.Part, e *queue.Envelope) []byte {
	b = binary.AppendUvarint(b, uint64(size))
	if fromFile {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(parts)))
	for i := range parts {
		p := &parts[i]
		b = envcodec.AppendString(b, p.Route)
		b = envcodec.AppendTime(b, p.Due)
		b = envcodec.AppendTime(b, p.Alarm)
		b = append(b, partFlags(p))
	}
	b = append(b, byte(e.Priority))
	return envcodec.Append(b, e)
}

func parseMessageMeta(b []byte) (m messageMeta, err error) {
	err = m.parse(b)
	return m, err
}

// parse appends to m.parts, which may have room already.
func (m *messageMeta) parse(b []byte) error {
	r := envcodec.NewReader(b)
	m.size = int64(r.Uvarint())
	m.fromFile = r.Byte() != 0
	n := r.Uvarint()
	if n > uint64(len(b)) {
		return envcodec.ErrFormat
	}
	m.parts = slices.Grow(m.parts, int(n))
	for range n {
		p := sched.Part{Route: r.String(), Due: r.Time(), Alarm: r.Time()}
		setPartFlags(&p, r.Byte())
		m.parts = append(m.parts, p)
	}
	m.priority = int8(r.Byte())
	m.envelope = r.Rest()
	if r.Err() != nil || len(m.parts) == 0 {
		return envcodec.ErrFormat
	}
	return nil
}

// appendStateMeta takes the recipients of the route from e.
func appendStateMeta(b []byte, route string, res sched.Result, e *queue.Envelope) []byte {
	b = envcodec.AppendString(b, route)
	b = envcodec.AppendTime(b, res.Due)
	b = envcodec.AppendTime(b, res.Alarm)
	if res.Done {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	n := 0
	for i := range e.Recipients {
		if e.Recipients[i].Route == route {
			n++
		}
	}
	b = binary.AppendUvarint(b, uint64(n))
	for i := range e.Recipients {
		if r := &e.Recipients[i]; r.Route == route {
			b = binary.AppendUvarint(b, uint64(i))
			b = envcodec.AppendState(b, r)
		}
	}
	return b
}

// parseStateHead reads what the index needs; the rest is for applyState.
func parseStateHead(b []byte) (route string, res sched.Result, rest []byte, err error) {
	r := envcodec.NewReader(b)
	route = r.String()
	res = sched.Result{Due: r.Time(), Alarm: r.Time()}
	res.Done = r.Byte() != 0
	return route, res, r.Rest(), r.Err()
}

// applyState writes a state record's recipients into e.
func applyState(meta []byte, e *queue.Envelope) error {
	_, _, rest, err := parseStateHead(meta)
	if err != nil {
		return err
	}
	r := envcodec.NewReader(rest)
	for range r.Uvarint() {
		i := r.Uvarint()
		var scratch queue.Recipient
		r.State(&scratch)
		if r.Err() != nil || i >= uint64(len(e.Recipients)) {
			return envcodec.ErrFormat
		}
		to := &e.Recipients[i]
		to.Status, to.Attempts, to.Due, to.Warned, to.Last =
			scratch.Status, scratch.Attempts, scratch.Due, scratch.Warned, scratch.Last
	}
	return r.Err()
}

func appendFlagsMeta(b []byte, route string, hold, expire bool) []byte {
	b = envcodec.AppendString(b, route)
	return append(b, partFlags(&sched.Part{Hold: hold, Expire: expire}))
}

func parseFlagsMeta(b []byte) (route string, p sched.Part, err error) {
	r := envcodec.NewReader(b)
	route = r.String()
	setPartFlags(&p, r.Byte())
	return route, p, r.Err()
}
