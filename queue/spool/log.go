package spool

import (
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/mailblocks/mailblocks/queue"
)

// wal is the log: a row of segments of which the last is written to. Only whole segments are
// reclaimed, the oldest first, so that a record that ends a message outlives every earlier
// record of it.
type wal struct {
	fs          fileSystem
	segmentSize int64

	token  chan struct{} // who holds it writes
	gather []byte        // his, for what is written at once

	mu      sync.Mutex
	failed  error // after it nothing is written any more
	pending *batch
	byNum   map[uint32]*segment
	order   []*segment // ascending numbers; the last is the one written to
	nextID  uint64
	begun   func() // called, with mu held, when a segment was begun or became reclaimable; must not block

	spareMu   sync.Mutex // taken before mu
	spare     file       // prepared for the next segment, nil when there is none yet
	spareSize int64
}

type segment struct {
	segmentKey
	f      file
	size   int64 // of the file
	sealed bool  // nothing is written to it any more
	used   int64 // octets written, header included
	live   int64 // octets of records somebody needs
}

// A batch is what is written and synced together.
type batch struct {
	txns []*txn
	done chan struct{} // closed when all of txns have their result
}

// A txn is one or more records that become durable together or not at all.
type txn struct {
	buf []byte
	at  []ref // of each record; where is known once it is written
	err error
}

func (t *txn) add(k kind, id uint64, meta, body []byte) {
	before := len(t.buf)
	t.buf = appendRecord(t.buf, k, false, id, meta, body)
	t.at = append(t.at, ref{size: uint32(len(t.buf) - before)})
}

// finish marks the last record.
func (t *txn) finish() {
	last := t.at[len(t.at)-1]
	t.buf[len(t.buf)-int(last.size)+5] |= flagLast
}

const pageSize = 4096

var zeroPage [pageSize]byte

// maxGather bounds the memory kept for writing.
const maxGather = 4 << 20

// txns are used again: their buffers are as large as messages.
var txnPool = sync.Pool{New: func() any { return new(txn) }}

func newTxn() *txn { return txnPool.Get().(*txn) }

// free gives a committed, or given up, transaction back.
func (t *txn) free() {
	if cap(t.buf) > maxGather/4 {
		t.buf = nil
	}
	t.buf, t.at, t.err = t.buf[:0], nil, nil
	txnPool.Put(t)
}

func segmentName(number uint32) string { return fmt.Sprintf("log/%08x.seg", number) }

// commit makes the transactions durable: each by itself, all of them when it returns nil. Parallel
// calls share one write and one sync: while one batch is on its way to the disk the
// next gathers.
func (w *wal) commit(txns ...*txn) error {
	w.mu.Lock()
	if w.failed != nil {
		defer w.mu.Unlock()
		return w.failed
	}
	for _, t := range txns {
		t.finish()
	}
	b := w.pending
	if b == nil {
		b = &batch{done: make(chan struct{})}
		w.pending = b
	}
	b.txns = append(b.txns, txns...)
	w.mu.Unlock()

	select {
	case <-b.done:
	case w.token <- struct{}{}:
		mine := w.take(b)
		if mine {
			w.write(b)
			close(b.done)
		}
		<-w.token
	}
	<-b.done
	var errs []error
	for _, t := range txns {
		errs = append(errs, t.err)
	}
	return errors.Join(errs...)
}

// take gives b to its writer, once no more transactions join it: those whom the last batch has woken may be about to. False: it has
// been written already.
func (w *wal) take(b *batch) bool {
	for joined := 0; ; runtime.Gosched() {
		w.mu.Lock()
		switch {
		case w.pending != b:
			w.mu.Unlock()
			return false
		case joined == len(b.txns):
			w.pending = nil
			w.mu.Unlock()
			return true
		}
		joined = len(b.txns)
		w.mu.Unlock()
	}
}

// write writes a batch, in as many segments as it needs. The caller holds the token.
func (w *wal) write(b *batch) {
	for rest := b.txns; len(rest) > 0; {
		seg, err := w.roomFor(int64(len(rest[0].buf)))
		if err != nil {
			for _, t := range rest {
				t.err = err
			}
			return
		}
		n, size := 0, int64(0)
		for n < len(rest) && seg.used+size+int64(len(rest[n].buf)) <= seg.size {
			size += int64(len(rest[n].buf))
			n++
		}
		w.writeTo(seg, rest[:n], size)
		rest = rest[n:]
	}
}

// writeTo writes transactions that fit into seg, and syncs it.
func (w *wal) writeTo(seg *segment, txns []*txn, size int64) {
	buf := w.gather[:0]
	for _, t := range txns {
		buf = append(buf, t.buf...)
	}
	var refs []*ref
	for _, t := range txns {
		for i := range t.at {
			refs = append(refs, &t.at[i])
		}
	}
	live := int64(0)
	seal(buf, seg.segmentKey, seg.used, func(off int) {
		at := refs[0]
		at.seg, at.off = seg.number, uint32(seg.used)+uint32(off)
		if k := kind(buf[off+4]); k == kindMessage || k == kindState {
			live += int64(at.size)
		}
		refs = refs[1:]
	})
	// What follows is zero anyway. To write that out as well, to the end of the page, spares the system from reading the page.
	end := seg.used + size
	buf = append(buf, zeroPage[:min((end+pageSize-1)&^(pageSize-1), seg.size)-end]...)
	if w.gather = nil; cap(buf) <= maxGather {
		w.gather = buf
	}
	_, err := seg.f.WriteAt(buf, seg.used)
	if err == nil {
		err = seg.f.Sync()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && w.failed != nil {
		err = w.failed
	}
	if err != nil {
		// What is on the disk now is unknown, and a second sync that succeeds would not tell.
		err = w.fail(fmt.Errorf("write %s: %w", segmentName(seg.number), err))
		for _, t := range txns {
			t.err = err
		}
		return
	}
	seg.used += size
	seg.live += live
}

// fail, with mu held, ends the log's life.
func (w *wal) fail(cause error) error {
	if w.failed == nil {
		w.failed = fmt.Errorf("queue/spool: %w: %w", queue.ErrFailed, cause)
	}
	return w.failed
}

// roomFor returns the segment to write size octets to. The caller holds the token.
func (w *wal) roomFor(size int64) (*segment, error) {
	if size > w.segmentSize-segmentHeader {
		return nil, fmt.Errorf("queue/spool: a transaction of %d octets does not fit into a segment of %d", size, w.segmentSize)
	}
	w.mu.Lock()
	failed, n := w.failed, len(w.order)
	var last *segment
	if n > 0 {
		last = w.order[n-1]
	}
	w.mu.Unlock()
	if failed != nil {
		return nil, failed
	}
	if last != nil && !last.sealed && last.used+size <= last.size {
		return last, nil
	}
	number := uint32(1)
	if last != nil {
		number = last.number + 1
	}
	return w.begin(number)
}

// begin makes the spare the segment of that number. The caller holds the token. The segment's
// header is synced with its first transaction; until then the segment counts as empty.
func (w *wal) begin(number uint32) (*segment, error) {
	w.spareMu.Lock()
	defer w.spareMu.Unlock()
	if w.spare == nil {
		if err := w.prepare(); err != nil {
			return nil, err
		}
	}
	f := w.spare
	w.spare = nil
	w.mu.Lock()
	key := segmentKey{number, rand.Uint32()}
	start := segmentStart(key, w.nextID, time.Now())
	w.mu.Unlock()
	_, err := f.WriteAt(start, 0)
	if err == nil {
		err = w.fs.Rename(spareName, segmentName(number))
	}
	if err == nil {
		err = w.fs.SyncDir("log")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		f.Close()
		return nil, w.fail(fmt.Errorf("begin %s: %w", segmentName(number), err))
	}
	seg := &segment{segmentKey: key, f: f, size: w.spareSize, used: segmentHeader}
	w.byNum[number] = seg
	w.order = append(w.order, seg)
	if w.begun != nil {
		w.begun()
	}
	return seg, nil
}

// spareName is the file that becomes the next segment.
const spareName = "log/spare"

// ensureSpare prepares the next segment before it is needed.
func (w *wal) ensureSpare() error {
	w.spareMu.Lock()
	defer w.spareMu.Unlock()
	if w.spare != nil {
		return nil
	}
	return w.prepare()
}

// nextSize is the size of the next segment. It grows with their number, so that the files of a very
// long queue stay few enough to be open all at once.
func (w *wal) nextSize() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.segmentSize * int64(min(1+len(w.order)/64, 8))
}

// prepare, with spareMu held, makes the spare: a file that is written all over. Zeros are written
// and not just reserved: writing into space that was only reserved changes the
// file's map of blocks, and then each sync has to commit that as well.
func (w *wal) prepare() error {
	size := w.nextSize()
	f, err := w.fs.Create(spareName)
	if err != nil {
		return fmt.Errorf("queue/spool: prepare segment: %w", err)
	}
	if z, ok := f.(zeroer); !ok || !z.Zero(size) {
		zeros := make([]byte, 256<<10)
		for off := int64(0); err == nil && off < size; off += int64(len(zeros)) {
			_, err = f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		f.Close()
		return errors.Join(fmt.Errorf("queue/spool: prepare segment: %w", err), w.fs.Remove(spareName))
	}
	w.spare, w.spareSize = f, size
	return nil
}

// full reports whether err says that there is no room on the disk.
func full(err error) bool { return errors.Is(err, syscall.ENOSPC) }

// A record is one that was read back.
type record struct {
	header
	meta []byte
}

// errGone: the record is not where it was; it has been moved, or its message has ended.
var errGone = errors.New("queue/spool: record is gone")

// read reads the record at p, of the given message, without its body.
func (w *wal) read(p ref, k kind, id uint64) (*record, error) {
	w.mu.Lock()
	seg := w.byNum[p.seg]
	w.mu.Unlock()
	if seg == nil {
		return nil, errGone
	}
	buf := make([]byte, 1024) // most metas fit
	n, err := seg.f.ReadAt(buf, int64(p.off))
	if n < recordHeader {
		return nil, fmt.Errorf("queue/spool: read %s at %d: %w", segmentName(p.seg), p.off, orEOF(err))
	}
	h, ok := parseHeader(buf[:n])
	if !ok || int64(p.off)+h.size() > seg.size {
		return nil, errGone
	}
	if need := recordHeader + int(h.metaLen); need > n {
		buf = append(buf[:n], make([]byte, need-n)...)
		if _, err := seg.f.ReadAt(buf[n:], int64(p.off)+int64(n)); err != nil {
			return nil, fmt.Errorf("queue/spool: read %s at %d: %w", segmentName(p.seg), p.off, err)
		}
	}
	if !validMeta(buf, &h, seg.segmentKey) || h.kind != k || h.id != id {
		return nil, errGone
	}
	return &record{header: h, meta: buf[recordHeader : recordHeader+h.metaLen]}, nil
}

func orEOF(err error) error {
	if err == nil {
		return errors.New("short read")
	}
	return err
}

// body reads the body of the record r at p.
func (w *wal) body(p ref, r *record) ([]byte, error) {
	w.mu.Lock()
	seg := w.byNum[p.seg]
	w.mu.Unlock()
	if seg == nil {
		return nil, errGone
	}
	b := make([]byte, r.bodyLen)
	if _, err := seg.f.ReadAt(b, int64(p.off)+recordHeader+int64(r.metaLen)); err != nil && len(b) > 0 {
		return nil, fmt.Errorf("queue/spool: read %s at %d: %w", segmentName(p.seg), p.off, err)
	}
	if crc32.Checksum(b, castagnoli) != r.bodyCRC {
		return nil, errGone
	}
	return b, nil
}

// unneeded takes records from the live ones of their segments.
func (w *wal) unneeded(refs ...ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range refs {
		if seg := w.byNum[r.seg]; seg != nil {
			seg.live -= int64(r.size)
			if seg == w.order[0] && len(w.order) > 1 && seg.live < seg.size/4 && w.begun != nil {
				w.begun()
			}
		}
	}
}

// drop removes the oldest segment, which must hold nothing that is live. Its file becomes
// the spare when there is none. The directory is synced before the next one may go, so that
// the order of removal is the order of age after a crash too.
func (w *wal) drop() error {
	w.spareMu.Lock()
	defer w.spareMu.Unlock()
	w.mu.Lock()
	seg := w.order[0]
	w.mu.Unlock()
	name := segmentName(seg.number)
	var err error
	if w.spare == nil && seg.size == w.nextSize() {
		if err = w.fs.Rename(name, spareName); err == nil {
			w.spare, w.spareSize = seg.f, seg.size
		}
	} else if err = w.fs.Remove(name); err == nil {
		seg.f.Close()
	}
	if err == nil {
		err = w.fs.SyncDir("log")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		return w.fail(fmt.Errorf("drop %s: %w", name, err))
	}
	delete(w.byNum, seg.number)
	w.order = append(w.order[:0], w.order[1:]...)
	return nil
}

// newID gives the next message its number.
func (w *wal) newID() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	id := w.nextID
	w.nextID++
	return id
}

// close waits for the write under way and closes the files.
func (w *wal) close(reason error) error {
	w.token <- struct{}{}
	defer func() { <-w.token }()
	w.spareMu.Lock()
	defer w.spareMu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = reason
	}
	var errs []error
	for _, seg := range w.order {
		errs = append(errs, seg.f.Close())
	}
	if w.spare != nil {
		errs = append(errs, w.spare.Close())
	}
	return errors.Join(errs...)
}
