package mbox

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A change of messages that are there (flags, UIDs, expunges), and an append by a Store, is
// first written down whole, in ".<file>.mbox-redo" beside the file, and then done in the file
// itself, which must stay the same file: others wait for its lock.
//
//	journal = *patch tail trailer                           numbers little-endian
//	patch   = off(u64) length(u32) old(length) new(length)  in place
//	tail    = octets                                        what the file holds from off on
//	trailer = off(i64) before(i64) after(i64) patches(i64) crc(u32) "mboxredo"
//
// The file was before octets long and is after octets long then; an off of -1 says that only
// patches are made. patches is their length in octets, crc the CRC-32C of all before it.
//
//	state                          journal  file                       after a crash, the next lock
//	before, journal being written  .new     old                        does nothing
//	journal synced and renamed     there    old                        does the change
//	writing, then truncating       there    a mixture                  does the change
//	file synced                    there    new                        does the change
//	journal removed                none     new                        does nothing
//
// Another program that knows no journals may have come between crash and repair. What it
// appended stays: it goes behind the change. Where it wrote over a place that a patch changes,
// its octets stay. When it made the file smaller the journal is void.
const (
	redoMagic   = "mboxredo"
	redoTrailer = 4*8 + 4 + len(redoMagic)
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sidecar returns the name of a file of ours that belongs to the mbox file at path.
func sidecar(path, suffix string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+suffix)
}

const (
	redoSuffix = ".mbox-redo"
	newSuffix  = ".mbox-redo.new"
)

// A journal is one being written.
type journal struct {
	l       *Lock
	f       diskFile
	w       *bufio.Writer
	sum     hash.Hash32
	at      int64 // octets written
	patches int64
	tail    int64 // where it begins in the file; -1: none yet
	err     error
}

func newJournal(l *Lock) (*journal, error) {
	f, err := l.disk.create(sidecar(l.path, newSuffix))
	if err != nil {
		return nil, err
	}
	j := &journal{l: l, f: f, sum: crc32.New(castagnoli), tail: -1}
	j.w = bufio.NewWriterSize(&offsetWriter{w: f}, 256<<10)
	return j, nil
}

// An offsetWriter makes a stream of WriteAt.
type offsetWriter struct {
	w   io.WriterAt
	off int64
}

func (o *offsetWriter) Write(p []byte) (int, error) {
	n, err := o.w.WriteAt(p, o.off)
	o.off += int64(n)
	return n, err
}

// Write adds to the tail.
func (j *journal) Write(p []byte) (int, error) {
	j.sum.Write(p)
	n, err := j.w.Write(p)
	j.at += int64(n)
	if j.err == nil {
		j.err = err
	}
	return n, err
}

// patch has new written over old, of the same length. No tail was begun.
func (j *journal) patch(off int64, old, new []byte) {
	for len(old) > 0 && old[0] == new[0] {
		old, new, off = old[1:], new[1:], off+1
	}
	for n := len(old); n > 0 && old[n-1] == new[n-1]; n-- {
		old, new = old[:n-1], new[:n-1]
	}
	if len(old) == 0 {
		return
	}
	b := binary.LittleEndian.AppendUint64(nil, uint64(off))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(old)))
	b = append(append(b, old...), new...)
	_, _ = j.Write(b) // the error stays
	j.patches = j.at
}

// drop forgets the journal.
func (j *journal) drop() {
	j.f.Close()
	_ = j.l.disk.remove(j.f.Name())
}

// commit makes the journal durable, and then does what it says. When it fails before it is
// durable, nothing has happened; after that, the change will happen with the next lock.
func (j *journal) commit(before, after int64) error {
	if j.tail < 0 && j.patches == 0 {
		j.drop()
		return nil
	}
	if err := j.seal(before, after); err != nil {
		return err
	}
	return j.l.redo()
}

// seal ends the journal and gives it its name, durably.
func (j *journal) seal(before, after int64) error {
	b := make([]byte, 0, redoTrailer)
	for _, n := range []int64{j.tail, before, after, j.patches} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	_, _ = j.Write(b)
	err := j.err
	if err == nil {
		_, err = j.w.Write(append(binary.LittleEndian.AppendUint32(nil, j.sum.Sum32()), redoMagic...))
	}
	if err == nil {
		err = j.w.Flush()
	}
	if err == nil {
		err = j.f.Sync()
	}
	path := sidecar(j.l.path, redoSuffix)
	if err == nil {
		err = j.l.disk.rename(j.f.Name(), path)
	}
	if err != nil {
		j.drop()
		return err
	}
	j.f.Close()
	return j.l.disk.syncDir(filepath.Dir(path))
}

// A change is a journal read back.
type change struct {
	f             *os.File
	off           int64 // of the tail in the file; -1: none
	before, after int64
	patches       int64
}

func openChange(path string) (c *change, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	bad := fmt.Errorf("%s is not a journal", path)
	if info.Size() < int64(redoTrailer) {
		return nil, bad
	}
	var b [redoTrailer]byte
	if _, err := f.ReadAt(b[:], info.Size()-int64(redoTrailer)); err != nil {
		return nil, err
	}
	num := func(i int) int64 { return int64(binary.LittleEndian.Uint64(b[8*i:])) }
	c = &change{f: f, off: num(0), before: num(1), after: num(2), patches: num(3)}
	sum := crc32.New(castagnoli)
	if _, err := io.Copy(sum, io.NewSectionReader(f, 0, info.Size()-int64(redoTrailer)+32)); err != nil {
		return nil, err
	}
	content := info.Size() - int64(redoTrailer) - c.patches
	if string(b[36:]) != redoMagic || sum.Sum32() != binary.LittleEndian.Uint32(b[32:]) || c.patches < 0 || content < 0 ||
		c.off < -1 || c.off >= 0 && c.after-c.off != content || c.off < 0 && content != 0 {
		return nil, bad
	}
	return c, nil
}

func (c *change) tail() *io.SectionReader {
	return io.NewSectionReader(c.f, c.patches, c.after-c.off)
}

// redo does what the journal says, if there is one. It may be done again after a crash.
func (l *Lock) redo() error {
	path := sidecar(l.path, redoSuffix)
	c, err := openChange(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { c.f.Close() }()
	if c.off >= 0 {
		size, err := l.size()
		if err != nil {
			return err
		}
		if size < min(c.before, c.after) { // not the file that the journal is about
			return l.forget(path)
		}
		from, err := c.foreign(l.f, size)
		if err != nil {
			return err
		}
		if from < size {
			if c, err = l.combine(c, path, from, size); err != nil {
				return err
			}
		}
	}
	return l.apply(c, path)
}

func (l *Lock) size() (int64, error) {
	info, err := l.f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// foreign returns where in the file begins what others appended after a crash: size, when
// there is nothing.
func (c *change) foreign(f io.ReaderAt, size int64) (int64, error) {
	if c.after < c.before {
		if size == c.before || size == c.after {
			return size, nil
		}
		var b [maxLine]byte
		n, err := f.ReadAt(b[:], c.before)
		if err != nil && err != io.EOF {
			return 0, err
		}
		if _, _, ok := ParseSeparator(string(lineOf(b[:n])), nil); ok {
			return c.before, nil
		}
		return c.after, nil // it was truncated already
	}
	// From before on there is what was written, or zeros, up to something else.
	a := bufio.NewReader(io.NewSectionReader(f, c.before, min(size, c.after)-c.before))
	b := bufio.NewReader(io.NewSectionReader(c.f, c.patches+c.before-c.off, c.after-c.before))
	start, word := c.before, ""
	for at := c.before; ; at++ {
		x, err := a.ReadByte()
		if err == io.EOF {
			return min(size, c.after), nil
		}
		if err != nil {
			return 0, err
		}
		y, err := b.ReadByte()
		if err != nil {
			return 0, err
		}
		// It begins with the last "From " before the first octet that is not ours.
		if word += string(x); !strings.HasPrefix(fromSpace, word) {
			word = ""
			if x == fromSpace[0] {
				word = fromSpace[:1]
			}
		}
		if word == fromSpace {
			start, word = at-int64(len(fromSpace))+1, ""
		}
		if x == 0 || x == y {
			continue
		}
		if word != "" { // cut in the word itself
			start = at - int64(len(word)) + 1
		}
		return start, nil
	}
}

// combine replaces the journal by one that puts what others appended behind the change.
func (l *Lock) combine(c *change, path string, from, size int64) (*change, error) {
	j, err := newJournal(l)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(j, io.NewSectionReader(c.f, 0, c.patches))
	j.patches, j.tail = j.at, c.off
	if err == nil {
		_, err = io.Copy(j, c.tail())
	}
	if err == nil {
		_, err = io.Copy(j, io.NewSectionReader(l.f, from, size-from))
	}
	if err != nil {
		j.drop()
		return nil, err
	}
	if err := j.seal(size, c.after+size-from); err != nil {
		return nil, err
	}
	c.f.Close()
	return openChange(path)
}

func (l *Lock) apply(c *change, path string) error {
	f := diskFile{l.f, l.disk}
	if err := l.applyPatches(f, c); err != nil {
		return err
	}
	if c.off < 0 {
		if err := f.Sync(); err != nil {
			return err
		}
		return l.forget(path)
	}
	buf := make([]byte, 256<<10)
	for in, at := c.tail(), c.off; ; {
		n, err := in.Read(buf)
		if n > 0 {
			l.Touch()
			if _, err := f.WriteAt(buf[:n], at); err != nil {
				return err
			}
			at += int64(n)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if c.after < c.before {
		if err := f.Truncate(c.after); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return l.forget(path)
}

// applyPatches makes the patches. Octets that are neither old nor new stay.
func (l *Lock) applyPatches(f diskFile, c *change) error {
	in := bufio.NewReader(io.NewSectionReader(c.f, 0, c.patches))
	for {
		var head [12]byte
		if _, err := io.ReadFull(in, head[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		off, n := int64(binary.LittleEndian.Uint64(head[:])), int(binary.LittleEndian.Uint32(head[8:]))
		if int64(n) > c.patches {
			return errors.New("patch longer than its journal")
		}
		b := make([]byte, 2*n)
		if _, err := io.ReadFull(in, b); err != nil {
			return err
		}
		old, new, now := b[:n], b[n:], make([]byte, n)
		if _, err := f.ReadAt(now, off); err == io.EOF {
			continue
		} else if err != nil {
			return err
		}
		ours := true
		for i := range now {
			ours = ours && (now[i] == old[i] || now[i] == new[i])
		}
		if !ours { // what is new already is written again: the time of the file must change
			continue
		}
		if _, err := f.WriteAt(new, off); err != nil {
			return err
		}
	}
}

// forget removes a journal for good.
func (l *Lock) forget(path string) error {
	if err := l.disk.remove(path); err != nil {
		return err
	}
	return l.disk.syncDir(filepath.Dir(path))
}
