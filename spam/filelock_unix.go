//go:build unix

package spam

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile waits for the lock on f, which ends with its last descriptor.
func lockFile(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			return err
		}
	}
}

func unlockFile(f *os.File) { _ = unix.Flock(int(f.Fd()), unix.LOCK_UN) }
