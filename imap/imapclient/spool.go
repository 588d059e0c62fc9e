package imapclient

import (
	"io"
	"os"
	"sync"
)

// A spool is a temporary file for what a loop has not come to yet. One goroutine writes.
type spool struct {
	dir string

	mu   sync.Mutex
	file *os.File
	size int64
	gone bool
}

// Write appends p.
func (s *spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return len(p), nil // nobody will read it
	}
	if s.file == nil {
		f, err := os.CreateTemp(s.dir, "mailblocks-*")
		if err != nil {
			return 0, err
		}
		// Gone with the process, whatever ends it; where that is not possible, with close.
		_ = os.Remove(f.Name())
		s.file = f
	}
	n, err := s.file.Write(p)
	s.size += int64(n)
	return n, err
}

// ReadAt implements io.ReaderAt.
func (s *spool) ReadAt(p []byte, off int64) (int, error) {
	s.mu.Lock()
	f := s.file
	s.mu.Unlock()
	if f == nil {
		return 0, io.ErrUnexpectedEOF
	}
	return f.ReadAt(p, off)
}

func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	if s.file != nil {
		s.file.Close()
		_ = os.Remove(s.file.Name()) // fails where Write could remove it
		s.file = nil
	}
}
