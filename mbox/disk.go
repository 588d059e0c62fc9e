package mbox

import (
	"os"
	"slices"

	"github.com/mailblocks/mailblocks/internal/atomicfile"
)

// A disk is what everything that changes a mailbox's files goes through, so that the tests can
// write down what happened in which order and play a crash at any point of it. Nil is a disk
// that nobody watches.
type disk struct{ trace func(diskOp) }

// A diskOp is one change: "write", "truncate", "sync", "create", "rename", "remove", "syncdir".
type diskOp struct {
	kind, path, to string
	off            int64 // of a write; the size of a truncate
	data           []byte
}

func (d *disk) note(op diskOp) {
	if d != nil && d.trace != nil {
		op.data = slices.Clone(op.data)
		d.trace(op)
	}
}

// create makes or empties the file at path, and opens it.
func (d *disk) create(path string) (diskFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		d.note(diskOp{kind: "create", path: path})
	}
	return diskFile{f, d}, err
}

func (d *disk) rename(from, to string) error {
	err := os.Rename(from, to)
	if err == nil {
		d.note(diskOp{kind: "rename", path: from, to: to})
	}
	return err
}

func (d *disk) remove(path string) error {
	err := os.Remove(path)
	if err == nil {
		d.note(diskOp{kind: "remove", path: path})
	}
	return err
}

func (d *disk) syncDir(dir string) error {
	err := atomicfile.SyncDir(dir)
	if err == nil {
		d.note(diskOp{kind: "syncdir", path: dir})
	}
	return err
}

// A diskFile is an open file of a disk. It is written by WriteAt alone.
type diskFile struct {
	*os.File
	d *disk
}

func (f diskFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.d.note(diskOp{kind: "write", path: f.Name(), off: off, data: p[:n]})
	return n, err
}

func (f diskFile) Truncate(size int64) error {
	err := f.File.Truncate(size)
	if err == nil {
		f.d.note(diskOp{kind: "truncate", path: f.Name(), off: size})
	}
	return err
}

func (f diskFile) Sync() error {
	err := f.File.Sync()
	if err == nil {
		f.d.note(diskOp{kind: "sync", path: f.Name()})
	}
	return err
}
