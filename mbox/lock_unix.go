//go:build unix

package mbox

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// fcntlLock locks all of f for writing, or for reading when shared, or reports ErrLocked.
func fcntlLock(f *os.File, shared bool) error {
	kind := int16(unix.F_WRLCK)
	if shared {
		kind = unix.F_RDLCK
	}
	err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: kind, Whence: io.SeekStart})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrLocked
	}
	return err
}
