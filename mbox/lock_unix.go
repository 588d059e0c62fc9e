//go:build unix

package mbox

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// fcntlLock locks all of f for writing, or reports ErrLocked.
func fcntlLock(f *os.File) error {
	err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrLocked
	}
	return err
}
