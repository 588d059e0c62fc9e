package spool

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"sync"

	"github.com/mailblocks/mailblocks/queue"
)

var errCrashed = errors.New("the power is off")

// crashFS is a disk in memory that knows what was synced. At the operation numbered crashAt the power
// goes: that operation and all later ones fail, and survivor gives a disk with what may be left, which
// is everything synced, and of the rest any part of any write and any directory entry.
type crashFS struct {
	mu      sync.Mutex
	ops     int
	crashAt int // 0 = never
	fail    func(op, name string) error

	now     map[string]*inode
	durable map[string]*inode
	pending map[string][]entryOp // by directory
	dirs    map[string]bool
	locked  bool
}

// entryOp is a change of a directory's entries: to may be "" and from may be "".
type entryOp struct {
	from, to string
	node     *inode
}

type inode struct {
	name    string // as of now
	data    []byte
	synced  []byte
	pending []func(data []byte, rnd *rand.Rand) []byte
}

func newCrashFS() *crashFS {
	return &crashFS{now: map[string]*inode{}, durable: map[string]*inode{}, pending: map[string][]entryOp{}, dirs: map[string]bool{}}
}

// op counts an operation; mu is held until the returned function is called.
func (c *crashFS) op(kind, name string) error {
	c.ops++
	if c.crashAt > 0 && c.ops >= c.crashAt {
		return errCrashed
	}
	if c.fail != nil {
		return c.fail(kind, name)
	}
	return nil
}

// survivor gives the disk as it may be found after the crash.
func (c *crashFS) survivor(rnd *rand.Rand) *crashFS {
	c.mu.Lock()
	defer c.mu.Unlock()
	after := newCrashFS()
	after.dirs = c.dirs
	for name, node := range c.durable {
		after.now[name] = node
	}
	for _, ops := range c.pending {
		keep := rnd.IntN(3) // none, some, all
		for _, op := range ops {
			if keep == 0 || keep == 1 && rnd.IntN(2) == 0 {
				continue
			}
			if op.from != "" {
				delete(after.now, op.from)
			}
			if op.to != "" {
				after.now[op.to] = op.node
			}
		}
	}
	copies := map[*inode]*inode{}
	for name, node := range after.now {
		if copies[node] == nil {
			data := slices.Clone(node.synced)
			keep := rnd.IntN(3)
			for _, write := range node.pending {
				if keep == 2 || keep == 1 && rnd.IntN(2) == 0 {
					data = write(data, rnd)
				}
			}
			copies[node] = &inode{name: name, data: data, synced: slices.Clone(data)}
		}
		after.now[name] = copies[node]
		after.durable[name] = copies[node]
	}
	return after
}

type unlocker struct{ c *crashFS }

func (u unlocker) Close() error {
	u.c.mu.Lock()
	defer u.c.mu.Unlock()
	u.c.locked = false
	return nil
}

func (c *crashFS) Lock(name string) (io.Closer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.locked {
		return nil, queue.ErrBusy
	}
	c.locked = true
	return unlocker{c}, nil
}

func (c *crashFS) Mkdir(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dirs[path.Clean(name)] = true
	return c.op("mkdir", name)
}

type dirEntry struct{ name string }

func (e dirEntry) Name() string               { return e.name }
func (e dirEntry) IsDir() bool                { return false }
func (e dirEntry) Type() fs.FileMode          { return 0 }
func (e dirEntry) Info() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }

func (c *crashFS) ReadDir(name string) ([]fs.DirEntry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dirs[name] {
		return nil, fs.ErrNotExist
	}
	var entries []fs.DirEntry
	for n := range c.now {
		if path.Dir(n) == name {
			entries = append(entries, dirEntry{path.Base(n)})
		}
	}
	return entries, nil
}

func (c *crashFS) entry(op entryOp) {
	dir := path.Dir(op.to + op.from)
	if op.to != "" {
		dir = path.Dir(op.to)
	}
	c.pending[dir] = append(c.pending[dir], op)
}

func (c *crashFS) Create(name string) (file, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.op("create", name); err != nil {
		return nil, err
	}
	if c.now[name] != nil {
		return nil, fs.ErrExist
	}
	node := &inode{name: name}
	c.now[name] = node
	c.entry(entryOp{to: name, node: node})
	return &crashFile{c: c, node: node}, nil
}

func (c *crashFS) Open(name string) (file, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	node := c.now[name]
	if node == nil {
		return nil, fs.ErrNotExist
	}
	return &crashFile{c: c, node: node}, nil
}

func (c *crashFS) Rename(from, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.op("rename", to); err != nil {
		return err
	}
	node := c.now[from]
	if node == nil {
		return fs.ErrNotExist
	}
	delete(c.now, from)
	c.now[to] = node
	node.name = to
	c.entry(entryOp{from: from, to: to, node: node})
	return nil
}

func (c *crashFS) Remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.op("remove", name); err != nil {
		return err
	}
	if c.now[name] == nil {
		return fs.ErrNotExist
	}
	delete(c.now, name)
	c.entry(entryOp{from: name})
	return nil
}

func (c *crashFS) SyncDir(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.op("syncdir", name); err != nil {
		return err
	}
	for _, op := range c.pending[name] {
		if op.from != "" {
			delete(c.durable, op.from)
		}
		if op.to != "" {
			c.durable[op.to] = op.node
		}
	}
	delete(c.pending, name)
	return nil
}

// crashFile is an open file. Only one goroutine uses its offset.
type crashFile struct {
	c    *crashFS
	node *inode
	off  int64
}

func (f *crashFile) ReadAt(p []byte, off int64) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.c.crashAt > 0 && f.c.ops >= f.c.crashAt {
		return 0, errCrashed
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *crashFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.off)
	f.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *crashFile) Seek(off int64, whence int) (int64, error) {
	size, _ := f.Size()
	switch whence {
	case io.SeekCurrent:
		off += f.off
	case io.SeekEnd:
		off += size
	}
	f.off = off
	return off, nil
}

func writeAt(data, p []byte, off int64) []byte {
	if need := off + int64(len(p)); need > int64(len(data)) {
		data = append(data, make([]byte, need-int64(len(data)))...)
	}
	copy(data[off:], p)
	return data
}

func (f *crashFile) WriteAt(p []byte, off int64) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	failed := f.c.op("write", f.node.name)
	if failed != nil && !errors.Is(failed, errCrashed) {
		return 0, failed
	}
	p = slices.Clone(p)
	f.node.data = writeAt(f.node.data, p, off)
	f.node.pending = append(f.node.pending, func(data []byte, rnd *rand.Rand) []byte {
		if rnd.IntN(2) == 0 {
			return writeAt(data, p, off)
		}
		for at := 0; at < len(p); { // some sectors, and a file that may have grown without them
			sector := min(512-int(off+int64(at))%512, len(p)-at)
			if rnd.IntN(2) == 0 {
				data = writeAt(data, p[at:at+sector], off+int64(at))
			}
			at += sector
		}
		return data
	})
	if failed != nil {
		return 0, failed
	}
	return len(p), nil
}

func (f *crashFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.off)
	f.off += int64(n)
	return n, err
}

func (f *crashFile) Size() (int64, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	return int64(len(f.node.data)), nil
}

func (f *crashFile) Sync() error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if err := f.c.op("sync", f.node.name); err != nil {
		return err
	}
	f.node.synced = slices.Clone(f.node.data)
	f.node.pending = nil
	return nil
}

func (f *crashFile) Close() error { return nil }
