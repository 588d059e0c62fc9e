// Package dotlock is the lock file beside a file that mail programs agree on: "<file>.lock",
// with "pid:hostname" in it, as Dovecot writes it. It is stale when that process is dead on
// this host, or when neither it nor the file it locks changed for two minutes.
package dotlock

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Stale is the age at which a lock is nobody's. A waiter that goes on for a little longer
// meets no lock that was left behind.
const Stale = 2 * time.Minute

// touchEvery is how often a long holder shows that it lives.
const touchEvery = 10 * time.Second

// started is before any lock of this process, also by a file system's coarse clock.
var started = time.Now().Add(-time.Second)

// clockKept reports whether the clock was not set back since: else a lock of ours may look older.
func clockKept() bool {
	return time.Now().Round(0).Sub(started.Round(0)) >= time.Since(started)-100*time.Millisecond
}

// ErrHeld is returned by Try while somebody has the lock.
var ErrHeld = errors.New("lock file is held")

// A Lock is held until Unlock. It is not safe for concurrent use.
type Lock struct {
	path    string
	touched time.Time
}

// Try takes the lock of file, or returns ErrHeld; it does not wait. A stale lock is removed
// on the way. The lock file is written in the folder scratch, on the same file system, and
// linked to its place: who dies in between leaves no lock without a name in it.
func Try(file, scratch string) (*Lock, error) {
	l := &Lock{path: file + ".lock", touched: time.Now()}
	for range 2 {
		err := l.take(scratch)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		gone, err := breakStale(l.path, file)
		if err != nil {
			return nil, err
		}
		if !gone {
			break
		}
	}
	return nil, ErrHeld
}

var counter atomic.Uint64

// unique returns a name that no other process, and nothing else in this one, uses.
func unique() string {
	return fmt.Sprintf("%d.%d.%d", time.Now().UnixNano(), os.Getpid(), counter.Add(1))
}

func (l *Lock) take(scratch string) error {
	if _, err := os.Lstat(l.path); err == nil {
		return fs.ErrExist
	}
	content := fmt.Appendf(nil, "%d:%s", os.Getpid(), hostname())
	fresh := filepath.Join(scratch, filepath.Base(l.path)+"."+unique())
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

// Touch shows waiters that the holder lives. Who works for long calls it often: it does
// something every ten seconds.
func (l *Lock) Touch() {
	if now := time.Now(); now.Sub(l.touched) > touchEvery {
		l.touched = now
		_ = os.Chtimes(l.path, now, now)
	}
}

// Unlock gives the lock back.
func (l *Lock) Unlock() error { return os.Remove(l.path) }

func hostname() string {
	h, err := os.Hostname()
	if err != nil || h == "" {
		return "localhost"
	}
	return h
}

// breakStale removes the lock if it is stale, and reports whether it has gone. Of several
// that find it stale at once, the rename lets one win; another one's fresh lock that is caught
// by it is put back. The file judged stays open meanwhile: only so is its inode surely its own.
func breakStale(lock, file string) (gone bool, err error) {
	f, err := os.Open(lock)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	judged, err := f.Stat()
	if err != nil {
		return false, err
	}
	content, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return false, err
	}
	if !isStale(string(content), judged.ModTime(), file) {
		return false, nil
	}
	aside := lock + "." + unique()
	err = os.Rename(lock, aside)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if after, err := os.Stat(aside); err == nil && !os.SameFile(judged, after) {
		_ = os.Link(aside, lock)
	}
	return true, os.Remove(aside)
}

func isStale(content string, changed time.Time, file string) bool {
	pid, host, ok := strings.Cut(strings.TrimSpace(content), ":")
	if n, err := strconv.Atoi(pid); ok && err == nil && host == hostname() && n > 0 {
		if n == os.Getpid() {
			// One before us had our number, as in a container that was started again.
			return changed.Before(started) && clockKept()
		}
		if !processLives(n) {
			return true
		}
	}
	if info, err := os.Stat(file); err == nil && info.ModTime().After(changed) {
		changed = info.ModTime()
	}
	return time.Since(changed) > Stale
}
