package mbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/internal/dotlock"
)

// ErrLocked: another program held the file for as long as the options allow.
var ErrLocked = errors.New("mbox: file is locked")

// LockOptions are the optional parts of LockFile. A nil *LockOptions means defaults.
type LockOptions struct {
	// Wait is how long to try at most. Zero: 2 minutes and a little, after which a lock
	// file that was left behind is stale. Negative: one attempt.
	Wait time.Duration
	// NoDotLock leaves out the lock file, for folders where none can be made. Other
	// programs must then use fcntl locks too.
	NoDotLock bool

	shared bool  // an fcntl lock for reading, and no lock file
	exists bool  // fs.ErrNotExist where there is no file
	disk   *disk // of a Store
}

// A Lock is an mbox file that no other program changes, if it keeps to the rules: an fcntl
// lock on the file, then a lock file beside it ("<file>.lock"). It is not safe for concurrent use.
type Lock struct {
	path string // with symbolic links resolved
	f    *os.File
	dot  *dotlock.Lock // nil: none
	disk *disk
}

// held are the files that this process has locked: an fcntl lock is the process's, and
// closing any descriptor of the file gives it up.
var held = struct {
	mu    sync.Mutex
	paths map[string]bool
}{paths: make(map[string]bool)}

// LockFile opens the file at path, made at need with mode 0600, for reading and writing, and
// locks it. Both locks are tried without waiting, in the order of Debian Policy 11.6; when one
// fails, all are released and it starts over after a random time. It gives up when ctx ends, or
// with ErrLocked. A lock file is stale, and removed, when its process is dead on this host, or
// when neither it nor the file changed for two minutes. An append that a crash cut short is
// undone: see Append.
//
// Where there are no fcntl locks (Windows, Plan 9), it reports errors.ErrUnsupported.
func LockFile(ctx context.Context, path string, opts *LockOptions) (*Lock, error) {
	var o LockOptions
	if opts != nil {
		o = *opts
	}
	if o.Wait == 0 {
		o.Wait = dotlock.Stale + 2*time.Second
	}
	l, err := lockFile(ctx, path, o)
	if err == nil {
		if err = l.repair(o); err != nil {
			l.Unlock()
		}
	}
	if err == errUnrepaired {
		o.shared = false
		if l, err = lockFile(ctx, path, o); err == nil {
			if err = l.repair(o); err != nil {
				l.Unlock()
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("mbox: lock %s: %w", path, err)
	}
	return l, nil
}

var errUnrepaired = errors.New("a crash left work to do")

// repair finishes or undoes what a crash cut short.
func (l *Lock) repair(o LockOptions) error {
	if o.shared {
		for _, suffix := range []string{undoSuffix, redoSuffix} {
			if _, err := os.Lstat(sidecar(l.path, suffix)); err == nil {
				return errUnrepaired
			}
		}
		return nil
	}
	if err := recoverAppend(l); err != nil {
		return err
	}
	return l.redo()
}

func lockFile(ctx context.Context, path string, o LockOptions) (*Lock, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		real := abs
		if target, err := filepath.EvalSymlinks(abs); err == nil {
			real = target // the same file under two names has one lock file
		}
		l, err := tryLock(real, o)
		if !errors.Is(err, ErrLocked) {
			return l, err
		}
		if o.Wait < 0 || time.Since(start) > o.Wait {
			return nil, err
		}
		timer := time.NewTimer(wait + rand.N(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
	}
}

// tryLock takes all locks or none, without waiting.
func tryLock(path string, o LockOptions) (l *Lock, err error) {
	held.mu.Lock()
	busy := held.paths[path]
	held.paths[path] = true
	held.mu.Unlock()
	if busy {
		return nil, ErrLocked
	}
	l = &Lock{path: path, disk: o.disk}
	defer func() {
		if err != nil {
			l.release()
			l = nil
		}
	}()
	flag := os.O_RDWR | os.O_CREATE
	if o.exists {
		flag = os.O_RDWR
	}
	if l.f, err = os.OpenFile(path, flag, 0o600); err != nil {
		return l, err
	}
	if err = fcntlLock(l.f, o.shared); err != nil {
		return l, err
	}
	if !o.NoDotLock && !o.shared {
		// Whoever takes both locks is not writing now: a lock file here is stale, or of a
		// program that knows no other.
		l.dot, err = dotlock.Try(path, filepath.Dir(path))
		if errors.Is(err, dotlock.ErrHeld) {
			err = ErrLocked // tried again soon
		}
		if err != nil {
			return l, err
		}
	}
	// Between open and lock another program may have put a new file in its place.
	mine, err := l.f.Stat()
	if err != nil {
		return l, err
	}
	if now, serr := os.Stat(path); serr != nil || !os.SameFile(mine, now) {
		err = ErrLocked
	} else if !mine.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	return l, err
}

// File returns the locked file. Closing it is Unlock's.
func (l *Lock) File() *os.File { return l.f }

// Touch shows others that the holder lives. Who holds a lock for more than a minute calls it
// now and then.
func (l *Lock) Touch() {
	if l.dot != nil {
		l.dot.Touch()
	}
}

// Unlock releases the locks and closes the file. A second call does nothing.
func (l *Lock) Unlock() error {
	if l.f == nil {
		return nil
	}
	return l.release()
}

func (l *Lock) release() error {
	var err error
	if l.dot != nil {
		err = l.dot.Unlock()
		l.dot = nil
	}
	if l.f != nil {
		if cerr := l.f.Close(); err == nil { // which ends the fcntl lock
			err = cerr
		}
		l.f = nil
	}
	held.mu.Lock()
	delete(held.paths, l.path)
	held.mu.Unlock()
	return err
}

// A touchingReader keeps the lock alive while a long message is copied, and ends the copy
// with its context.
type touchingReader struct {
	ctx context.Context
	l   *Lock
	r   io.Reader
}

func (t *touchingReader) Read(p []byte) (int, error) {
	if err := t.ctx.Err(); err != nil {
		return 0, err
	}
	t.l.Touch()
	return t.r.Read(p)
}
