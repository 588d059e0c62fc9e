// Package atomicfile replaces a file by a new version that is whole and durable, or not at
// all: write beside it, fsync, rename, fsync the folder.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/mailblocks/mailblocks/internal/disk"
)

// Write makes the file at path hold data. When it returns nil, data survives a power cut;
// when it fails, the file is as it was. Concurrent writers of one path end in one version.
func Write(path string, data []byte, perm fs.FileMode) error {
	return WriteFunc(path, perm, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// WriteFunc is Write for content that write produces.
func WriteFunc(path string, perm fs.FileMode, write func(w io.Writer) error) (err error) {
	f, err := disk.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			disk.Remove(f.Name())
		}
	}()
	if err = f.Chmod(perm); err != nil && runtime.GOOS != "windows" {
		return err
	}
	if err = write(f); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = disk.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in dir durable: files made, renamed or removed there. Windows
// has no such call and needs none.
func SyncDir(dir string) error { return disk.SyncDir(dir) }

// MkdirAll makes dir and its parents as os.MkdirAll does, and makes their names durable.
func MkdirAll(dir string, perm fs.FileMode) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s: %w", dir, errors.New("not a directory"))
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := disk.Mkdir(dir, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncDir(parent)
}
