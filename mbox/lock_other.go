//go:build !unix

package mbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

func fcntlLock(*os.File, bool) error {
	return fmt.Errorf("no fcntl locks on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
