package maildir

import (
	"io"
	"os"
	"runtime"
)

// A pin is a file or folder that is recognised when it is met again. It is held open, because
// a file system gives the inode of one that was removed to the next one made: only what is
// open keeps its own.
type pin struct {
	f    *os.File
	info os.FileInfo
}

// pinned opens what is at path.
func pinned(path string) (pin, error) {
	f, err := os.Open(path)
	if err != nil {
		return pin{}, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return pin{}, err
	}
	if runtime.GOOS == "windows" && !info.IsDir() {
		// An open file cannot be replaced there; its number is not soon given out again.
		f.Close()
		f = nil
	}
	return pin{f, info}, nil
}

// is reports whether info is of the very same file.
func (p pin) is(info os.FileInfo) bool { return p.info != nil && os.SameFile(p.info, info) }

// reader returns what the file holds from off on.
func (p pin) reader(path string, off int64) (io.ReadCloser, error) {
	if p.f != nil {
		return io.NopCloser(io.NewSectionReader(p.f, off, 1<<62)), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (p *pin) release() {
	if p.f != nil {
		p.f.Close()
	}
	*p = pin{}
}
