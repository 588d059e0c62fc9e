// Package disk is what the file stores change files and folders through: each call is the one
// of package os. While a test listens with Trace, each change is also told to it, in the order
// in which the disk got them; package disktest makes of that what a power cut may leave.
package disk

import (
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// An Op is one change that succeeded.
type Op struct {
	Kind Kind
	Path string
	To   string    // KindRename, KindLink: the new name
	File uint64    // KindCreate, KindOpen, and what is done to an open file: which
	Off  int64     // KindWrite: where; -1 at the end. KindTruncate: the new size
	Data []byte    // KindWrite; valid during the call
	Time time.Time // KindChtimes
}

// Kind is what an Op does.
type Kind string

// The kinds of Ops. KindOpen changes nothing; it tells which file is meant.
const (
	KindCreate    Kind = "create"
	KindOpen      Kind = "open"
	KindWrite     Kind = "write"
	KindTruncate  Kind = "truncate"
	KindSync      Kind = "sync"
	KindMkdir     Kind = "mkdir"
	KindRename    Kind = "rename"
	KindLink      Kind = "link"
	KindRemove    Kind = "remove"
	KindRemoveAll Kind = "removeall"
	KindChtimes   Kind = "chtimes"
	KindSyncDir   Kind = "syncdir"
)

var (
	listener atomic.Pointer[func(Op)]
	order    sync.Mutex // of the changes, while somebody listens
	files    atomic.Uint64
)

// Trace has f told of every change until stop is called. One listens at a time.
func Trace(f func(Op)) (stop func()) {
	listener.Store(&f)
	return func() { listener.Store(nil) }
}

// do runs change, and tells of it when it succeeded. The caller fills in what is known only
// then through op.
func do(op *Op, change func() error) error {
	tell := listener.Load()
	if tell == nil {
		return change()
	}
	order.Lock()
	defer order.Unlock()
	err := change()
	if err == nil {
		(*tell)(*op)
	}
	return err
}

// Rename is os.Rename.
func Rename(from, to string) error {
	return do(&Op{Kind: KindRename, Path: from, To: to}, func() error { return os.Rename(from, to) })
}

// RenameFile is Rename of a plain file to where no folder is.
func RenameFile(from, to string) error {
	return do(&Op{Kind: KindRename, Path: from, To: to}, func() error { return rename(from, to) })
}

// Link is os.Link.
func Link(from, to string) error {
	return do(&Op{Kind: KindLink, Path: from, To: to}, func() error { return os.Link(from, to) })
}

// Remove is os.Remove.
func Remove(path string) error {
	return do(&Op{Kind: KindRemove, Path: path}, func() error { return os.Remove(path) })
}

// RemoveAll is os.RemoveAll.
func RemoveAll(path string) error {
	return do(&Op{Kind: KindRemoveAll, Path: path}, func() error { return os.RemoveAll(path) })
}

// Mkdir is os.Mkdir.
func Mkdir(path string, perm fs.FileMode) error {
	return do(&Op{Kind: KindMkdir, Path: path}, func() error { return os.Mkdir(path, perm) })
}

// MkdirTemp is os.MkdirTemp.
func MkdirTemp(dir, pattern string) (path string, err error) {
	op := Op{Kind: KindMkdir}
	err = do(&op, func() error {
		path, err = os.MkdirTemp(dir, pattern)
		op.Path = path
		return err
	})
	return path, err
}

// Chtimes is os.Chtimes with one time for both.
func Chtimes(path string, at time.Time) error {
	return do(&Op{Kind: KindChtimes, Path: path, Time: at}, func() error { return os.Chtimes(path, at, at) })
}

// SyncDir makes the names in dir durable: files made, renamed or removed there. Windows
// has no such call and needs none.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	return do(&Op{Kind: KindSyncDir, Path: dir}, func() error {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		err = d.Sync()
		if cerr := d.Close(); err == nil {
			err = cerr
		}
		return err
	})
}

// A File is an open file that is written to.
type File struct {
	f  *os.File
	id uint64
}

// OpenFile is os.OpenFile.
func OpenFile(path string, flag int, perm fs.FileMode) (*File, error) {
	op := Op{Kind: KindOpen, Path: path, File: files.Add(1)}
	if flag&os.O_CREATE != 0 {
		op.Kind = KindCreate
	}
	file := &File{id: op.File}
	err := do(&op, func() (err error) {
		file.f, err = os.OpenFile(path, flag, perm)
		return err
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// CreateTemp is os.CreateTemp.
func CreateTemp(dir, pattern string) (*File, error) {
	op := Op{Kind: KindCreate, File: files.Add(1)}
	file := &File{id: op.File}
	err := do(&op, func() (err error) {
		if file.f, err = os.CreateTemp(dir, pattern); err == nil {
			op.Path = file.f.Name()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return file, nil
}

// Write writes at the file's own offset, which only Write moves.
func (f *File) Write(p []byte) (n int, err error) {
	err = do(&Op{Kind: KindWrite, File: f.id, Off: -1, Data: p}, func() error {
		n, err = f.f.Write(p)
		return err
	})
	return n, err
}

// WriteAt is that of os.File.
func (f *File) WriteAt(p []byte, off int64) (n int, err error) {
	err = do(&Op{Kind: KindWrite, File: f.id, Off: off, Data: p}, func() error {
		n, err = f.f.WriteAt(p, off)
		return err
	})
	return n, err
}

// Truncate is that of os.File.
func (f *File) Truncate(size int64) error {
	return do(&Op{Kind: KindTruncate, File: f.id, Off: size}, func() error { return f.f.Truncate(size) })
}

// Sync is that of os.File.
func (f *File) Sync() error {
	return do(&Op{Kind: KindSync, File: f.id}, f.f.Sync)
}

// Stat is that of os.File.
func (f *File) Stat() (fs.FileInfo, error) { return f.f.Stat() }

// Chmod is that of os.File.
func (f *File) Chmod(mode fs.FileMode) error { return f.f.Chmod(mode) }

// Name is that of os.File.
func (f *File) Name() string { return f.f.Name() }

// Close is that of os.File.
func (f *File) Close() error { return f.f.Close() }
