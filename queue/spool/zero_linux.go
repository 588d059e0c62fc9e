package spool

import (
	"os"

	"golang.org/x/sys/unix"
)

// zeroBlock is how much is written at a time.
const zeroBlock = 1 << 20

// writeZeros writes f, which is new, all over, past the page cache: the zeros will hardly be read again, and copying them takes
// longer than the disk does. False when the file system can not do that.
func writeZeros(f *os.File, size int64) bool {
	if size%zeroBlock != 0 {
		return false
	}
	fd, err := unix.Open(f.Name(), unix.O_WRONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	zeros, err := unix.Mmap(-1, 0, zeroBlock, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned to a page
	if err != nil {
		return false
	}
	defer unix.Munmap(zeros)
	for off := int64(0); off < size; off += zeroBlock {
		n, err := unix.Pwrite(fd, zeros, off)
		if err != nil || n != zeroBlock {
			return false
		}
	}
	return true
}
