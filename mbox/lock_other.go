//go:build !unix

package mbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

func fcntlLock(*os.File) error {
	return fmt.Errorf("no fcntl locks on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
