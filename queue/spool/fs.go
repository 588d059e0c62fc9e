package spool

import (
	"io"
	"io/fs"
)

// fileSystem is all that a Store does to its directory. Names are paths with slashes, relative to it.
// The tests put a disk in its place that forgets whatever was not synced.
type fileSystem interface {
	// Lock takes the directory for this process until the returned Closer is closed.
	// queue.ErrBusy: another has it.
	Lock(name string) (io.Closer, error)
	Mkdir(name string) error // nil when it exists
	ReadDir(name string) ([]fs.DirEntry, error)

	// Create makes a new file; it must not exist.
	Create(name string) (file, error)
	Open(name string) (file, error) // for reading and writing
	Rename(from, to string) error
	Remove(name string) error

	// SyncDir makes the entries of a directory durable: what was created in it,
	// renamed within it, and removed from it.
	SyncDir(name string) error
}

// file is an open file. ReadAt and WriteAt may be called concurrently.
type file interface {
	io.Reader
	io.Seeker
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Closer
	Size() (int64, error)

	// Sync makes the file's content and size durable.
	Sync() error
}

// zeroer is a file that has a quick way to write itself all over with zeros. False: it has not, and what it holds is not known.
type zeroer interface{ Zero(size int64) bool }
