package spam

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/internal/atomicfile"
)

// A snapshot of a store is a file of its own beside it, in the same format: PATH.at-NAME.
const snapshotInfix = ".at-"

func (s *File) snapshotPath(name string) string { return s.path + snapshotInfix + name }

// checkSnapshotName keeps names to what any storage can have as one.
func checkSnapshotName(name string) error {
	odd := func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", r)
	}
	if name == "" || len(name) > 100 || name[0] == '.' || strings.ContainsFunc(name, odd) {
		return fmt.Errorf("spam: %q is no name for a snapshot", name)
	}
	return nil
}

// Snapshot implements [Snapshotter].
func (s *File) Snapshot(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(s.usable(), checkSnapshotName(name)); err != nil {
		return err
	}
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.lock(); err != nil {
		return s.wrap("lock", err)
	}
	defer func() { unlockFile(s.f) }()
	payload, err := s.sum()
	if err == nil {
		err = atomicfile.Write(s.snapshotPath(name), appendFrame(fileHeader(s.base), payload), 0o600)
	}
	if err != nil {
		return s.wrap("snapshot", err)
	}
	return nil
}

// Restore implements [Snapshotter].
func (s *File) Restore(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(s.usable(), checkSnapshotName(name)); err != nil {
		return err
	}
	payload, err := readSnapshot(s.snapshotPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoSnapshot
	}
	if err != nil {
		return s.wrap("restore "+name, err)
	}
	if err := s.lock(); err != nil {
		return s.wrap("lock", err)
	}
	defer func() { unlockFile(s.f) }()
	// What is pending was learned after the snapshot, as what the file holds was. The position
	// goes on from there, so that no other process takes the old state for the new one.
	if err := s.replace(s.base+uint64(len(s.ends)), payload); err != nil {
		return s.wrap("restore "+name, err)
	}
	s.forgetPending()
	return nil
}

func readSnapshot(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_, start, err := readFileHeader(f)
	if err != nil {
		return nil, err
	}
	payload, _, err := readFrame(f, start)
	return payload, err
}

// Snapshots implements [Snapshotter].
func (s *File) Snapshots(context.Context) ([]SnapshotInfo, error) {
	entries, err := os.ReadDir(filepath.Dir(s.path))
	if err != nil {
		return nil, s.wrap("list snapshots", err)
	}
	var list []SnapshotInfo
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), filepath.Base(s.path)+snapshotInfix)
		if !ok || checkSnapshotName(name) != nil {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // removed meanwhile
		}
		list = append(list, SnapshotInfo{Name: name, Time: info.ModTime()})
	}
	slices.SortFunc(list, func(a, b SnapshotInfo) int { return a.Time.Compare(b.Time) })
	return list, nil
}

// RemoveSnapshot implements [Snapshotter].
func (s *File) RemoveSnapshot(_ context.Context, name string) error {
	if err := checkSnapshotName(name); err != nil {
		return err
	}
	err := os.Remove(s.snapshotPath(name))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNoSnapshot
	}
	return err
}
