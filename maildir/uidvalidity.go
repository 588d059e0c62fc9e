package maildir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/internal/atomicfile"
	"github.com/mailblocks/mailblocks/internal/disk"
)

// New folders get their UIDVALIDITY from the root of the tree: an empty file
// "dovecot-uidvalidity.<8 hex>", whose name is the last value given out, and a file
// "dovecot-uidvalidity" with the same in it. A value is taken by renaming the first to the
// next number, which of several at once only one can do; the second file follows.
const uidValidityFile = "dovecot-uidvalidity"

// nextUIDValidity gives out a UIDVALIDITY that no folder below root ever had. The first is
// the time.
func nextUIDValidity(ctx context.Context, root string, now time.Time) (uint32, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		last, name, err := lastUIDValidity(root)
		if err != nil {
			return 0, err
		}
		next := last + 1
		if name == "" {
			next = max(next, uint32(now.Unix()))
		}
		fresh := filepath.Join(root, fmt.Sprintf("%s.%08x", uidValidityFile, next))
		if name != "" {
			err = disk.Rename(filepath.Join(root, name), fresh)
		} else {
			err = makeEmpty(fresh, 0o444)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
			continue // another process took this value
		}
		if err != nil {
			return 0, err
		}
		// This sync makes the rename above durable too.
		return next, atomicfile.Write(filepath.Join(root, uidValidityFile), fmt.Appendf(nil, "%08x", next), 0o600)
	}
}

// lastUIDValidity returns the last value given out and the name of the file that says so.
func lastUIDValidity(root string) (last uint32, name string, err error) {
	entries, err := os.ReadDir(root)
	if err != nil {
		return 0, "", err
	}
	for _, e := range entries {
		if hexValue, ok := strings.CutPrefix(e.Name(), uidValidityFile+"."); ok && len(hexValue) == 8 {
			if v, err := strconv.ParseUint(hexValue, 16, 32); err == nil && uint32(v) >= last {
				last, name = uint32(v), e.Name()
			}
		}
	}
	if b, err := os.ReadFile(filepath.Join(root, uidValidityFile)); err == nil {
		if v, err := strconv.ParseUint(strings.TrimSpace(string(b)), 16, 32); err == nil {
			last = max(last, uint32(v))
		}
	}
	return last, name, nil
}

// makeEmpty makes an empty file, which must not exist.
func makeEmpty(path string, perm fs.FileMode) error {
	f, err := disk.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	return f.Close()
}
