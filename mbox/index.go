package mbox

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
)

// The index, ".<file>.mbox-index" beside the file, holds what the file can not, and where
// everything stands, so that nobody need read the file to know. It is a log; writers hold the
// file's lock.
//
//	index  = magic(8) generation(16) id(16) validity(u32) floor(u64) crc(u32) *frame   little-endian
//	frame  = length(u32) crc(u32) *record                    crc: CRC-32C of the records
//	record
//	  'K' number(u32) length(u16) keywords                   a set of keywords, blanks between
//	  'B' pseudo(u8) last(u32) length(u16) keywords          X-IMAPbase or X-IMAP
//	  'M' uid(u32) modseq(u64) system(u8) bits(u8) keywords(u32) date(i64) saved(i64) size(i64)
//	      off(i64) total(i64) sep(u32) header(u32) body(i64) UID 0: the message that is none
//	  'G' uid(u32) modseq(u64)                               gone
//	  'S' size(i64) mtime(i64) next(u32) modseq(u64)         the file as of this frame
//
// The last 'M' of a UID counts, a frame counts whole or not at all, and the last 'S' says which
// file the index is about: of any other one it tells UIDs, flags and mod-sequences, but no
// places. Expunges before floor are forgotten. The index is not synced: what a power cut takes is
// found in the file again, and mod-sequences are at least the time in microseconds, so that
// those that were lost are never given out again.
const indexSuffix = ".mbox-index"

const (
	indexHeader = 8 + 16 + 16 + 4 + 8 + 4
	indexEntry  = 1 + 4 + 8 + 2 + 4 + 5*8 + 2*4 + 8
)

var indexMagic = [8]byte{'M', 'B', 'O', 'X', 'I', 'D', 'X', '1'}

// An entry is what the index says of one message. It is never changed once it is in a view.
type entry struct {
	place
	uid    imap.UID
	modSeq imap.ModSeq
	system imap.SystemFlags
	recent bool
	words  uint32 // number of the set of keywords
	date   int64  // seconds
	saved  int64  // seconds; 0: not known
	size   int64  // as it is shown
}

type goneEntry struct {
	uid    imap.UID
	modSeq imap.ModSeq
}

// A stamp tells one state of a file from all others: whoever of us changes it sets a time that
// it never had.
type stamp struct{ size, mtime int64 }

func stampOf(info os.FileInfo) stamp { return stamp{info.Size(), info.ModTime().UnixNano()} }

// An index is what was read of the file, and what is to be written.
type index struct {
	path       string
	generation [16]byte
	id         string
	validity   uint32
	floor      imap.ModSeq
	stamp      stamp
	info       os.FileInfo // nil: no file read
	read       int64       // octets taken in: whole frames
	records    int
	sets       []string // of keywords, by number
	numbers    map[string]uint32
	buf        []byte // records put since
}

func newID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

// taker is what the records of an index are given to.
type taker interface {
	reset()
	takeEntry(entry)
	takeGone(goneEntry)
	takeBase(b base)
	takeStamp(st stamp, next imap.UID, highest imap.ModSeq)
}

// current tells whether nobody wrote to the index since it was read.
func (x *index) current() bool {
	info, err := os.Stat(x.path)
	return err == nil && x.info != nil && os.SameFile(info, x.info) && info.Size() == x.info.Size() && info.ModTime().Equal(x.info.ModTime())
}

// refresh takes in what is new in the index. When it is another one, it starts over with a reset.
// Without a usable one there are no records, and read is zero.
func (x *index) refresh(t taker) error {
	f, err := os.Open(x.path)
	if errors.Is(err, fs.ErrNotExist) {
		x.info = nil
		if x.read > 0 {
			x.clear()
			t.reset()
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	var head [indexHeader]byte
	if _, err := io.ReadFull(f, head[:]); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	le := binary.LittleEndian
	good := [8]byte(head[:]) == indexMagic && crc32.Checksum(head[:indexHeader-4], castagnoli) == le.Uint32(head[indexHeader-4:])
	if !good || x.read == 0 || [16]byte(head[8:]) != x.generation || info.Size() < x.read {
		x.clear()
		t.reset()
		if !good {
			return nil
		}
		x.generation, x.id = [16]byte(head[8:]), hex.EncodeToString(head[24:40])
		x.validity, x.floor = le.Uint32(head[40:]), imap.ModSeq(le.Uint64(head[44:]))
		x.read = indexHeader
	}
	x.info = info
	b := make([]byte, max(0, info.Size()-x.read))
	n, err := f.ReadAt(b, x.read)
	if err != nil && err != io.EOF {
		return err
	}
	for b = b[:n]; len(b) >= 8; {
		size := int64(le.Uint32(b))
		if size > int64(len(b)-8) {
			break
		}
		frame := b[8 : 8+size]
		if crc32.Checksum(frame, castagnoli) != le.Uint32(b[4:]) || !x.parse(frame, t) {
			break
		}
		x.read += 8 + size
		b = b[8+size:]
	}
	return nil
}

func (x *index) clear() { *x = index{path: x.path, numbers: make(map[string]uint32)} }

// parse takes in the records of a frame.
func (x *index) parse(p []byte, t taker) bool {
	le := binary.LittleEndian
	for len(p) > 0 {
		x.records++
		switch {
		case p[0] == 'M' && len(p) >= indexEntry:
			e := entry{
				uid: imap.UID(le.Uint32(p[1:])), modSeq: imap.ModSeq(le.Uint64(p[5:])),
				system: imap.SystemFlags(p[13]), recent: p[14]&1 != 0, words: le.Uint32(p[15:]),
				date: int64(le.Uint64(p[19:])), saved: int64(le.Uint64(p[27:])), size: int64(le.Uint64(p[35:])),
				place: place{off: int64(le.Uint64(p[43:])), total: int64(le.Uint64(p[51:])), sep: int32(le.Uint32(p[59:])), header: int32(le.Uint32(p[63:])),
					bodyLen: int64(le.Uint64(p[67:])), bodyOnly: p[14]&2 != 0},
			}
			if e.words >= uint32(len(x.sets)) && e.words != 0 {
				return false
			}
			t.takeEntry(e)
			p = p[indexEntry:]
		case p[0] == 'G' && len(p) >= 13:
			t.takeGone(goneEntry{imap.UID(le.Uint32(p[1:])), imap.ModSeq(le.Uint64(p[5:]))})
			p = p[13:]
		case p[0] == 'S' && len(p) >= 29:
			x.stamp = stamp{int64(le.Uint64(p[1:])), int64(le.Uint64(p[9:]))}
			t.takeStamp(x.stamp, imap.UID(le.Uint32(p[17:])), imap.ModSeq(le.Uint64(p[21:])))
			p = p[29:]
		case p[0] == 'K' && len(p) >= 7 && len(p) >= 7+int(le.Uint16(p[5:])):
			n := 7 + int(le.Uint16(p[5:]))
			if int(le.Uint32(p[1:])) != len(x.sets) {
				return false
			}
			x.addSet(string(p[7:n]))
			p = p[n:]
		case p[0] == 'B' && len(p) >= 8 && len(p) >= 8+int(le.Uint16(p[6:])):
			n := 8 + int(le.Uint16(p[6:]))
			t.takeBase(base{validity: x.validity, last: imap.UID(le.Uint32(p[2:])), pseudo: p[1]&1 != 0, keywords: strings.Fields(string(p[8:n]))})
			p = p[n:]
		default:
			return false
		}
	}
	return true
}

func (x *index) addSet(words string) uint32 {
	n := uint32(len(x.sets))
	x.sets = append(x.sets, words)
	x.numbers[words] = n
	return n
}

// set returns the number of a set of keywords, which are sorted. The empty one is always 0.
func (x *index) set(words []string) uint32 {
	key := strings.Join(words, " ")
	if n, ok := x.numbers[key]; ok {
		return n
	}
	if len(x.sets) == 0 && key != "" {
		x.set(nil)
	}
	n := x.addSet(key)
	x.records++
	x.buf = binary.LittleEndian.AppendUint32(append(x.buf, 'K'), n)
	x.buf = append(binary.LittleEndian.AppendUint16(x.buf, uint16(len(key))), key...)
	return n
}

// keywords returns the keywords of a set.
func (x *index) keywords(set uint32) []string {
	if int(set) >= len(x.sets) {
		return nil
	}
	return strings.Fields(x.sets[set])
}

func (x *index) putEntry(e *entry) {
	le := binary.LittleEndian
	bits := byte(0)
	if e.recent {
		bits |= 1
	}
	if e.bodyOnly {
		bits |= 2
	}
	b := le.AppendUint32(append(x.buf, 'M'), uint32(e.uid))
	b = le.AppendUint64(b, uint64(e.modSeq))
	b = le.AppendUint32(append(b, byte(e.system), bits), e.words)
	for _, n := range [...]int64{e.date, e.saved, e.size, e.off, e.total} {
		b = le.AppendUint64(b, uint64(n))
	}
	b = le.AppendUint32(le.AppendUint32(b, uint32(e.sep)), uint32(e.header))
	x.buf = le.AppendUint64(b, uint64(e.bodyLen))
	x.records++
}

func (x *index) putGone(g goneEntry) {
	b := binary.LittleEndian.AppendUint32(append(x.buf, 'G'), uint32(g.uid))
	x.buf = binary.LittleEndian.AppendUint64(b, uint64(g.modSeq))
	x.records++
}

func (x *index) putBase(b *base) {
	words := strings.Join(b.keywords, " ")
	kind := byte(0)
	if b.pseudo {
		kind = 1
	}
	x.buf = binary.LittleEndian.AppendUint32(append(x.buf, 'B', kind), uint32(b.last))
	x.buf = append(binary.LittleEndian.AppendUint16(x.buf, uint16(len(words))), words...)
	x.records++
}

func (x *index) putStamp(st stamp, next imap.UID, highest imap.ModSeq) {
	x.stamp = st
	b := binary.LittleEndian.AppendUint64(append(x.buf, 'S'), uint64(st.size))
	b = binary.LittleEndian.AppendUint64(b, uint64(st.mtime))
	b = binary.LittleEndian.AppendUint32(b, uint32(next))
	x.buf = binary.LittleEndian.AppendUint64(b, uint64(highest))
	x.records++
}

// replaceFile is atomicfile.WriteFunc for a file that a power cut may take.
func replaceFile(path string, write func(w io.Writer) error) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) // the lock is held: nobody else does
	if err != nil {
		return err
	}
	err = write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// frame returns the records put since, as a frame.
func (x *index) frame() []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(x.buf)))
	b = append(binary.LittleEndian.AppendUint32(b, crc32.Checksum(x.buf, castagnoli)), x.buf...)
	x.buf = nil
	return b
}

// flush appends what was put since. The lock is held, and the index was refreshed under it. When
// it fails the index must be written anew.
func (x *index) flush() (err error) {
	b := x.frame()
	defer func() {
		if err != nil {
			x.read, x.info = 0, nil
		}
	}()
	f, err := os.OpenFile(x.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if x.info.Size() > x.read {
		if err := f.Truncate(x.read); err != nil { // the torn end of a crash
			return err
		}
	}
	if _, err := f.WriteAt(b, x.read); err != nil {
		return err
	}
	x.read += int64(len(b))
	x.info, err = f.Stat()
	return err
}

// write replaces the index. Put puts its records, in frames that it ends with cut. Durable: what
// it says of an empty mailbox stands nowhere else.
func (x *index) write(id string, validity uint32, floor imap.ModSeq, durable bool, put func(cut func() error) error) error {
	x.clear()
	x.generation, x.validity, x.floor, x.id = newID(), validity, floor, id
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != 16 {
		fresh := newID()
		raw, x.id = fresh[:], hex.EncodeToString(fresh[:])
	}
	var size int64
	replace := replaceFile
	if durable {
		replace = func(path string, write func(w io.Writer) error) error {
			return atomicfile.WriteFunc(path, 0o600, write)
		}
	}
	err = replace(x.path, func(w io.Writer) error {
		head := append(append(bytes.Clone(indexMagic[:]), x.generation[:]...), raw...)
		head = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(head, validity), uint64(floor))
		head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
		n, err := w.Write(head)
		size += int64(n)
		if err != nil {
			return err
		}
		x.set(nil)
		return put(func() error {
			n, err := w.Write(x.frame())
			size += int64(n)
			return err
		})
	})
	if err != nil {
		x.clear()
		return err
	}
	x.read = size
	x.info, err = os.Stat(x.path)
	return err
}
