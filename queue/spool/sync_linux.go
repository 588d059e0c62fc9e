package spool

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncData leaves out what fsync adds (times): in a segment that is written already it saves
// the journal commit.
func syncData(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
