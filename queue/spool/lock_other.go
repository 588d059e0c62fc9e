//go:build !unix && !windows

package spool

import "os"

// lockFile has no lock to take here; one process must be all there is.
func lockFile(*os.File) error { return nil }
