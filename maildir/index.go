package maildir

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/disk"
)

// The index, mailblocks-index, holds what a Maildir's own files cannot: mod-sequences, the
// UIDs of expunged messages, keywords past the 26th, dates and sizes that would cost a stat
// or a read each. It is a log; writers hold the UID list's lock.
//
//	file   = magic(8) validity(u32) floor(u64) crc(u32) *record      little-endian
//	record = length(u16) crc(u32) payload                            crc: CRC-32C of what it guards
//	payload
//	  'K' id(u16) name                                               a keyword's number
//	  'M' system(u8) uid(u32) modseq(u64) date(u64) saved(u64) size(u64) *id(u16)
//	  'G' uid(u32) modseq(u64)                                       gone
//
// The last 'M' of a UID counts. Expunges before floor are forgotten. The file is not synced:
// after a power cut a torn tail is cut off, and the folder's next look at its files finds
// what is missing and numbers it anew. Mod-sequences are at least the time in microseconds,
// so that what was lost is never given out again. When the file itself is lost it is built
// from the folder, with new mod-sequences.
const indexFile = "mailblocks-index"

const indexHeader = 24

var (
	indexMagic = [8]byte{'M', 'B', 'X', 'I', 'D', 'X', '1', '\n'}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// An entry is what the index says of one message.
type entry struct {
	uid    imap.UID
	modSeq imap.ModSeq
	flags  imap.Flags
	date   int64 // seconds
	saved  int64 // seconds
	size   int64 // with CRLF line ends
}

type goneEntry struct {
	uid    imap.UID
	modSeq imap.ModSeq
}

type index struct {
	path     string
	validity uint32
	floor    imap.ModSeq
	file     pin
	read     int64 // octets taken in: whole records
	records  int
	names    []string // of keywords, by number
	buf      bytes.Buffer
}

// refresh reads what is new in the file. When it is another one than before, or unusable,
// it starts over, calling reset first. A missing file is an empty one.
func (x *index) refresh(reset func(), message func(entry), gone func(goneEntry)) error {
	info, err := os.Stat(x.path)
	if os.IsNotExist(err) {
		if x.file.info != nil {
			x.file.release()
			*x = index{path: x.path}
			reset()
		}
		return nil
	}
	if err != nil {
		return err
	}
	if !x.file.is(info) || info.Size() < x.read {
		file, err := pinned(x.path)
		if err != nil {
			return err
		}
		info = file.info
		x.file.release()
		*x = index{path: x.path}
		reset()
		x.file = file
	} else {
		x.file.info = info
	}
	if info.Size() == x.read {
		return nil
	}
	f, err := x.file.reader(x.path, x.read)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, info.Size()-x.read)
	n, err := io.ReadFull(f, b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	b = b[:n]
	if x.read == 0 {
		if len(b) < indexHeader || [8]byte(b) != indexMagic || crc32.Checksum(b[:20], castagnoli) != binary.LittleEndian.Uint32(b[20:]) {
			return nil // read stays 0: written anew
		}
		x.validity = binary.LittleEndian.Uint32(b[8:])
		x.floor = imap.ModSeq(binary.LittleEndian.Uint64(b[12:]))
		x.read, b = indexHeader, b[indexHeader:]
	}
	for len(b) >= 6 {
		size := int(binary.LittleEndian.Uint16(b))
		if len(b) < 6+size || crc32.Checksum(b[6:6+size], castagnoli) != binary.LittleEndian.Uint32(b[2:]) ||
			!x.parse(b[6:6+size], message, gone) {
			break
		}
		x.read += int64(6 + size)
		x.records++
		b = b[6+size:]
	}
	return nil
}

func (x *index) parse(p []byte, message func(entry), gone func(goneEntry)) bool {
	le := binary.LittleEndian
	switch {
	case len(p) > 3 && p[0] == 'K':
		if int(le.Uint16(p[1:])) != len(x.names) {
			return false
		}
		x.names = append(x.names, string(p[3:]))
	case len(p) >= 38 && p[0] == 'M' && len(p)%2 == 0:
		e := entry{
			uid:    imap.UID(le.Uint32(p[2:])),
			modSeq: imap.ModSeq(le.Uint64(p[6:])),
			date:   int64(le.Uint64(p[14:])),
			saved:  int64(le.Uint64(p[22:])),
			size:   int64(le.Uint64(p[30:])),
		}
		var words []string
		for k := p[38:]; len(k) > 0; k = k[2:] {
			id := int(le.Uint16(k))
			if id >= len(x.names) {
				return false
			}
			words = append(words, x.names[id])
		}
		e.flags = imap.MakeFlags(imap.SystemFlags(p[1]), words)
		message(e)
	case len(p) == 13 && p[0] == 'G':
		gone(goneEntry{imap.UID(le.Uint32(p[1:])), imap.ModSeq(le.Uint64(p[5:]))})
	default:
		return false
	}
	return true
}

// record adds one record to those that flush writes.
func (x *index) record(payload []byte) {
	var head [6]byte
	binary.LittleEndian.PutUint16(head[:], uint16(len(payload)))
	binary.LittleEndian.PutUint32(head[2:], crc32.Checksum(payload, castagnoli))
	x.buf.Write(head[:])
	x.buf.Write(payload)
	x.records++
}

// maxIndexKeywords bounds the keywords a mailbox can ever have had. A record of a message
// that had all of them still fits its length.
const maxIndexKeywords = 10000

// putMessage adds an 'M' record, and 'K' records for keywords not seen before.
func (x *index) putMessage(e entry) {
	le := binary.LittleEndian
	var room [64]byte
	p := room[:38]
	p[0], p[1] = 'M', byte(e.flags.System())
	le.PutUint32(p[2:], uint32(e.uid))
	le.PutUint64(p[6:], uint64(e.modSeq))
	le.PutUint64(p[14:], uint64(e.date))
	le.PutUint64(p[22:], uint64(e.saved))
	le.PutUint64(p[30:], uint64(e.size))
	for _, w := range e.flags.Keywords() {
		if id, ok := x.keyword(w); ok {
			p = le.AppendUint16(p, uint16(id))
		}
	}
	x.record(p)
}

// keyword returns the number of a keyword, in the very spelling given.
func (x *index) keyword(name string) (int, bool) {
	id := slices.Index(x.names, name)
	if id < 0 {
		id = len(x.names)
		if id >= maxIndexKeywords {
			return 0, false
		}
		x.names = append(x.names, name)
		x.record(append(binary.LittleEndian.AppendUint16([]byte{'K'}, uint16(id)), name...))
	}
	return id, true
}

// spelling returns the spelling that a keyword was first written down in.
func (x *index) spelling(name string) (string, bool) {
	for _, s := range x.names {
		if strings.EqualFold(s, name) {
			return s, true
		}
	}
	return "", false
}

// hasRoom reports whether the keywords of flags can be stored.
func (x *index) hasRoom(flags imap.Flags) bool {
	n := len(x.names)
	for _, w := range flags.Keywords() {
		if _, known := x.spelling(w); !known {
			n++
		}
	}
	return n <= maxIndexKeywords
}

func (x *index) putGone(g goneEntry) {
	p := binary.LittleEndian.AppendUint32([]byte{'G'}, uint32(g.uid))
	x.record(binary.LittleEndian.AppendUint64(p, uint64(g.modSeq)))
}

// flush appends the records put since. The lock is held, and the index was refreshed under
// it. When it fails, what was put is forgotten, and the index must be written anew.
func (x *index) flush() (err error) {
	if x.buf.Len() == 0 {
		return nil
	}
	defer func() {
		if x.buf.Reset(); x.buf.Cap() > 64<<10 {
			x.buf = bytes.Buffer{}
		}
		if err != nil {
			x.read = 0
		}
	}()
	f, err := disk.OpenFile(x.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if x.file.info.Size() > x.read {
		if err := f.Truncate(x.read); err != nil { // the torn tail of a crash
			return err
		}
	}
	if _, err := f.WriteAt(x.buf.Bytes(), x.read); err != nil {
		return err
	}
	x.read += int64(x.buf.Len())
	x.file.info, err = f.Stat()
	return err
}

// write replaces the file by one that holds these messages and expunges. The lock is held.
func (x *index) write(validity uint32, floor imap.ModSeq, messages func(yield func(entry) bool), gone []goneEntry) error {
	x.file.release()
	*x = index{path: x.path, validity: validity, floor: floor}
	head := append(make([]byte, 0, indexHeader), indexMagic[:]...)
	head = binary.LittleEndian.AppendUint32(head, validity)
	head = binary.LittleEndian.AppendUint64(head, uint64(floor))
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
	size := int64(0)
	err := atomicfile.WriteFunc(x.path, 0o600, func(w io.Writer) error {
		x.buf.Write(head)
		spill := func(limit int) error {
			if x.buf.Len() <= limit {
				return nil
			}
			size += int64(x.buf.Len())
			_, err := x.buf.WriteTo(w)
			return err
		}
		for e := range messages {
			x.putMessage(e)
			if err := spill(64 << 10); err != nil {
				return err
			}
		}
		for _, g := range gone {
			x.putGone(g)
		}
		return spill(0)
	})
	x.buf = bytes.Buffer{}
	if err != nil {
		*x = index{path: x.path}
		return fmt.Errorf("maildir: write %s: %w", x.path, err)
	}
	x.read = size
	x.file, err = pinned(x.path)
	return err
}
