package maildir

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/atomicfile"
)

// The parsed cache, mailblocks-parsed, holds what servers found out by reading messages. It is
// a log without locks: a record is appended in one write, which the kernel does not mix with
// another process's.
//
//	file   = magic(8) validity(u32) crc(u32) *record          little-endian
//	record = length(u32) crc(u32) uid(u32) octet*length       crc: CRC-32C of what it guards
//
// The last record of a UID counts. The file is not synced and no truth: what is damaged ends
// it, and when it was long enough so to be no write under way, the next writer replaces the
// file by what is good of it. A file of another UIDVALIDITY, or none, is an empty one.
const parsedFile = "mailblocks-parsed"

const (
	parsedHeader    = 16
	parsedRecord    = 12       // octets before a record's own
	maxParsed       = 64 << 10 // octets of one record
	maxParsedFile   = 1 << 30
	parsedBlock     = 1 << 20 // octets read at a time when the file is gone through
	parsedBatch     = 256     // messages read at a time
	parsedGap       = 4 << 10 // octets between two records that are read along
	parsedTornAfter = 10 * time.Second
)

var parsedMagic = [8]byte{'M', 'B', 'X', 'P', 'R', 'S', '1', '\n'}

// parsedPlace is where a record's octets are.
type parsedPlace struct {
	uid  imap.UID
	size uint32
	off  int64
}

// parsedCache is the file as last gone through.
type parsedCache struct {
	path string

	mu       sync.Mutex
	file     *os.File // nil: there is none
	info     os.FileInfo
	validity uint32
	read     int64         // octets gone through: whole records
	live     int64         // octets of the records in places
	places   []parsedPlace // by ascending UID
	buf      []byte
}

func newParsedCache(dir Dir) *parsedCache {
	return &parsedCache{path: filepath.Join(string(dir), parsedFile)}
}

func (p *parsedCache) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reset()
}

func (p *parsedCache) reset() {
	if p.file != nil {
		_ = p.file.Close()
	}
	p.file, p.info, p.read, p.live, p.places = nil, nil, 0, 0, nil
}

// refresh goes through what is new in the file. p.mu is held.
func (p *parsedCache) refresh(validity uint32) error {
	info, err := os.Stat(p.path)
	if err != nil {
		p.reset()
		return err
	}
	if p.info == nil || p.validity != validity || !os.SameFile(p.info, info) || info.Size() < p.read {
		p.reset()
		p.validity = validity
		if p.file, err = os.OpenFile(p.path, os.O_RDWR|os.O_APPEND, 0); err != nil {
			p.reset()
			return err
		}
		if info, err = p.file.Stat(); err != nil {
			p.reset()
			return err
		}
	}
	p.info = info
	if p.read == 0 {
		head := parsedHead(validity)
		var got [parsedHeader]byte
		if _, err := p.file.ReadAt(got[:], 0); err != nil || got != head {
			return nil // of another UIDVALIDITY, or damaged: the next writer replaces it
		}
		p.read = parsedHeader
	}
	var block []byte
	sorted := true
	for p.read < info.Size() {
		if block == nil {
			block = make([]byte, min(parsedBlock, info.Size()-p.read))
		}
		n, err := p.file.ReadAt(block, p.read)
		if err != nil && err != io.EOF {
			return err
		}
		done := 0
		for rest := block[:n]; ; rest = block[done:n] {
			uid, octets := parsedAt(rest)
			if octets == nil {
				break
			}
			place := parsedPlace{uid, uint32(len(octets)), p.read + int64(done) + parsedRecord}
			sorted = sorted && (len(p.places) == 0 || p.places[len(p.places)-1].uid < uid)
			p.places = append(p.places, place)
			p.live += parsedRecord + int64(len(octets))
			done += parsedRecord + len(octets)
		}
		if done == 0 {
			break
		}
		p.read += int64(done)
	}
	if !sorted {
		slices.SortStableFunc(p.places, func(a, b parsedPlace) int { return cmpUID(a.uid, b.uid) })
		kept := p.places[:0]
		for _, place := range p.places {
			if n := len(kept); n > 0 && kept[n-1].uid == place.uid {
				p.live -= parsedRecord + int64(kept[n-1].size)
				kept[n-1] = place
			} else {
				kept = append(kept, place)
			}
		}
		p.places = kept
	}
	return nil
}

func parsedHead(validity uint32) (head [parsedHeader]byte) {
	copy(head[:], parsedMagic[:])
	binary.LittleEndian.PutUint32(head[8:], validity)
	binary.LittleEndian.PutUint32(head[12:], crc32.Checksum(head[:12], castagnoli))
	return head
}

// parsedAt takes the record that b begins with; octets is nil when it is none, or not whole.
func parsedAt(b []byte) (uid imap.UID, octets []byte) {
	if len(b) < parsedRecord {
		return 0, nil
	}
	size := int64(binary.LittleEndian.Uint32(b))
	if size > maxParsed || int64(len(b)) < parsedRecord+size {
		return 0, nil
	}
	guarded := b[8 : parsedRecord+size]
	if crc32.Checksum(guarded, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
		return 0, nil
	}
	return imap.UID(binary.LittleEndian.Uint32(guarded)), guarded[4:]
}

func appendParsed(b []byte, uid imap.UID, octets []byte) []byte {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(octets)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(uid))
	b = append(b, octets...)
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(b[start+8:], castagnoli))
	return b
}

// find returns the places of messages of set from the UID from on, at most a batch of them.
func (p *parsedCache) find(set imap.UIDSet, from imap.UID) (out []parsedPlace) {
	for _, r := range set {
		if r.Last < from {
			continue
		}
		i, _ := slices.BinarySearchFunc(p.places, max(r.First, from), func(place parsedPlace, uid imap.UID) int { return cmpUID(place.uid, uid) })
		for ; i < len(p.places) && p.places[i].uid <= r.Last; i++ {
			if out = append(out, p.places[i]); len(out) == parsedBatch {
				return out
			}
		}
	}
	return out
}

// load reads records that lie near each other with one call, and gives the good ones to yield.
func (p *parsedCache) load(places []parsedPlace, yield func(imap.UID, []byte) bool) bool {
	slices.SortFunc(places, func(a, b parsedPlace) int { return cmpInt(a.off, b.off) })
	for len(places) > 0 {
		start := places[0].off - parsedRecord
		end, n := start, 0
		for ; n < len(places) && places[n].off-parsedRecord-end <= parsedGap && places[n].off-start < parsedBlock; n++ {
			end = places[n].off + int64(places[n].size)
		}
		p.mu.Lock()
		if p.file == nil {
			p.mu.Unlock()
			return true
		}
		if int64(cap(p.buf)) < end-start {
			p.buf = make([]byte, end-start)
		}
		block := p.buf[:end-start]
		p.buf = nil // while others may want it too
		k, _ := p.file.ReadAt(block, start)
		p.mu.Unlock()
		for _, place := range places[:n] {
			at := place.off - parsedRecord - start
			if int64(k) < at {
				break
			}
			if uid, octets := parsedAt(block[at:k]); octets != nil && uid == place.uid && !yield(uid, octets) {
				return false
			}
		}
		p.mu.Lock()
		p.buf = block
		p.mu.Unlock()
		places = places[n:]
	}
	return true
}

// keep appends records. Alive tells which UIDs the folder has, and messages how many.
func (p *parsedCache) keep(validity uint32, parsed map[imap.UID][]byte, messages int, alive func(imap.UID) bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.refresh(validity)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	torn := p.file != nil && p.read < p.info.Size()
	if torn && p.read > 0 && time.Since(p.info.ModTime()) < parsedTornAfter {
		return nil // somebody writes
	}
	wasteful := len(p.places) > 1000+2*messages || p.read > parsedBlock && p.live < p.read/2
	if p.file == nil || torn || p.read == 0 || wasteful {
		if err := p.replace(validity, alive); err != nil {
			return err
		}
	}
	var b []byte
	for uid, octets := range parsed {
		if len(octets) <= maxParsed {
			b = appendParsed(b, uid, octets)
		}
	}
	if p.read+int64(len(b)) > maxParsedFile {
		return nil
	}
	_, err = p.file.Write(b)
	return err
}

// replace writes the file anew with what is good and of use of it.
func (p *parsedCache) replace(validity uint32, alive func(imap.UID) bool) error {
	places := slices.DeleteFunc(slices.Clone(p.places), func(place parsedPlace) bool { return !alive(place.uid) })
	err := atomicfile.WriteFunc(p.path, 0o600, func(w io.Writer) error {
		head := parsedHead(validity)
		if _, err := w.Write(head[:]); err != nil {
			return err
		}
		var b []byte
		for _, place := range places {
			b = slices.Grow(b[:0], parsedRecord+int(place.size))[:parsedRecord+int(place.size)]
			if _, err := p.file.ReadAt(b, place.off-parsedRecord); err != nil {
				return err
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.reset()
	return p.refresh(validity)
}

var _ imap.ParsedCache = (*mailbox)(nil)

// Parsed implements imap.ParsedCache.
func (m *mailbox) Parsed(ctx context.Context, set imap.UIDSet) iter.Seq2[imap.UID, []byte] {
	return func(yield func(imap.UID, []byte) bool) {
		f := m.f
		f.mu.Lock()
		validity := f.uids.validity
		f.mu.Unlock()
		if validity == 0 { // nothing is known of the folder yet
			return
		}
		p := f.parsed
		p.mu.Lock()
		err := p.refresh(validity)
		p.mu.Unlock()
		for from := imap.UID(0); err == nil && ctx.Err() == nil; {
			p.mu.Lock()
			places := p.find(set, from)
			p.mu.Unlock()
			if len(places) == 0 {
				return
			}
			from = places[len(places)-1].uid + 1
			if !p.load(places, yield) || len(places) < parsedBatch {
				return
			}
		}
	}
}

// KeepParsed implements imap.ParsedCache.
func (m *mailbox) KeepParsed(_ context.Context, parsed map[imap.UID][]byte) {
	f := m.f
	f.mu.Lock()
	validity, messages := f.uids.validity, len(f.msgs)
	f.mu.Unlock()
	if validity == 0 {
		return
	}
	alive := func(uid imap.UID) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		_, ok := f.find(uid)
		return ok
	}
	if err := f.parsed.keep(validity, parsed, messages, alive); err != nil {
		f.opts.logger().Debug("maildir parsed cache not written", "dir", string(f.dir), "err", err)
	}
}
