package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

const (
	lockStale = 120 * time.Second // a lock this old, on a file this old, is nobody's
	lockWait  = 122 * time.Second // how long a waiter waits: a stale lock is gone by then
	lockTouch = 10 * time.Second  // how often a long holder shows that it lives
)

// A dotLock is a lock file beside the file it locks: path + ".lock", made with O_EXCL, with
// "pid:hostname" in it, as Dovecot does it. It is stale when that process is dead on this
// host, or when neither it nor the file it locks changed for two minutes.
type dotLock struct {
	path    string
	touched time.Time
}

// lockFile takes the lock of the file at path. It waits as long as ctx allows, and two
// minutes at most: then it reports imap.ErrInUse.
func lockFile(ctx context.Context, path string) (*dotLock, error) {
	l := &dotLock{path: path + ".lock"}
	start := time.Now()
	wait := time.Millisecond
	for {
		err := l.take()
		if err == nil {
			l.touched = time.Now()
			return l, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if staleLock(l.path, path) {
			if err := breakLock(l.path); err != nil {
				return nil, err
			}
			continue
		}
		if time.Since(start) > lockWait {
			return nil, fmt.Errorf("%s is held: %w", l.path, imap.ErrInUse)
		}
		timer := time.NewTimer(wait + rand.N(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
		wait = min(2*wait, 100*time.Millisecond)
	}
}

// take makes the lock file, with its content from the first moment on: who dies then leaves
// a lock that says whose it was. It is written under another name, in tmp/ where such things
// are cleaned up, and linked.
func (l *dotLock) take() error {
	if _, err := os.Lstat(l.path); err == nil {
		return fs.ErrExist
	}
	content := fmt.Appendf(nil, "%d:%s", os.Getpid(), hostname)
	fresh := filepath.Join(filepath.Dir(l.path), "tmp", unique(time.Now()))
	if err := os.WriteFile(fresh, content, 0o600); err != nil {
		return err
	}
	defer os.Remove(fresh)
	err := os.Link(fresh, l.path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	// A file system without links.
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(l.path)
	}
	return err
}

// touch shows waiters, once in a while, that a long work goes on.
func (l *dotLock) touch() {
	if now := time.Now(); now.Sub(l.touched) > lockTouch {
		l.touched = now
		_ = os.Chtimes(l.path, now, now)
	}
}

func (l *dotLock) unlock() { _ = os.Remove(l.path) }

func staleLock(lock, file string) bool {
	content, err := os.ReadFile(lock)
	if err != nil {
		return false // gone: try again
	}
	info, err := os.Stat(lock)
	if err != nil {
		return false
	}
	pid, host, ok := strings.Cut(string(content), ":")
	if n, err := strconv.Atoi(pid); ok && err == nil && host == hostname && n > 0 && n != os.Getpid() && !processLives(n) {
		return true
	}
	newest := info.ModTime()
	if info, err := os.Stat(file); err == nil && info.ModTime().After(newest) {
		newest = info.ModTime()
	}
	return time.Since(newest) > lockStale
}

// breakLock removes a stale lock. Of several that find it stale at once, the rename lets
// one win; the others see a lock that is not the stale one, or none.
func breakLock(lock string) error {
	before, err := os.Stat(lock)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	aside := fmt.Sprintf("%s.%d.%d", lock, os.Getpid(), deliveries.Add(1))
	err = os.Rename(lock, aside)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if after, err := os.Stat(aside); err == nil && !os.SameFile(before, after) {
		// Somebody was quicker, and this is its fresh lock: put it back if none came since.
		_ = os.Link(aside, lock)
	}
	return os.Remove(aside)
}
