//go:build unix

package dotlock

import (
	"errors"
	"syscall"
)

// processLives reports whether a process of this host has the id.
func processLives(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || !errors.Is(err, syscall.ESRCH)
}
