//go:build !unix

package spam

import "os"

// Without locks of files a store may be open once only; see the documentation of File.
func lockFile(*os.File) error { return nil }

func unlockFile(*os.File) {}
