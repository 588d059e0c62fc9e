// Package bodybuf keeps a message that is read from the network once and needed several
// times: in memory up to a limit, then in a temporary file.
package bodybuf

import (
	"errors"
	"io"
	"os"
)

// A Buffer is filled through Write, then read any number of times, also concurrently. The
// zero value keeps 256 KiB in memory and the rest in the system's folder for temporary files.
type Buffer struct {
	MemoryLimit int    // octets kept in memory. Zero: 256 KiB
	Dir         string // of the temporary file. Empty: os.TempDir

	mem  []byte
	file *os.File
	size int64
}

// Write appends p. It fails when the temporary file cannot be made or written.
func (b *Buffer) Write(p []byte) (int, error) {
	limit := b.MemoryLimit
	if limit == 0 {
		limit = 256 << 10
	}
	if b.file == nil && len(b.mem)+len(p) > limit {
		f, err := os.CreateTemp(b.Dir, "mailblocks-*")
		if err != nil {
			return 0, err
		}
		// Gone with the process, whatever ends it; where that is not possible, with Close.
		_ = os.Remove(f.Name())
		b.file = f
	}
	if b.file == nil {
		b.mem = append(b.mem, p...)
		b.size += int64(len(p))
		return len(p), nil
	}
	n, err := b.file.Write(p)
	b.size += int64(n)
	return n, err
}

// Size returns the octets written.
func (b *Buffer) Size() int64 { return b.size }

// ReadAt implements io.ReaderAt over what was written.
func (b *Buffer) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("bodybuf: negative offset")
	}
	if off < int64(len(b.mem)) {
		n = copy(p, b.mem[off:])
		p, off = p[n:], off+int64(n)
		if len(p) == 0 {
			return n, nil
		}
	}
	if b.file == nil {
		return n, io.EOF
	}
	m, err := b.file.ReadAt(p, off-int64(len(b.mem)))
	return n + m, err
}

// Reader returns a new reader from the start.
func (b *Buffer) Reader() *io.SectionReader { return io.NewSectionReader(b, 0, b.size) }

// Close frees the buffer. Readers must not be used any more.
func (b *Buffer) Close() error {
	b.mem = nil
	if b.file == nil {
		return nil
	}
	err := b.file.Close()
	_ = os.Remove(b.file.Name()) // fails where Write could remove it
	b.file = nil
	return err
}
