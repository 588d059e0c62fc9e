package maildir

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/dotlock"
)

// lockWait is how long a waiter waits: a stale lock is gone by then.
const lockWait = dotlock.Stale + 2*time.Second

// lockFile takes the lock of the file at path, in a folder with a tmp/. It waits as long as
// ctx allows, and two minutes at most: then it reports imap.ErrInUse.
func lockFile(ctx context.Context, path string) (*dotlock.Lock, error) {
	start := time.Now()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		// What a crash leaves in tmp/ is cleaned up there.
		l, err := dotlock.Try(path, filepath.Join(filepath.Dir(path), "tmp"))
		if !errors.Is(err, dotlock.ErrHeld) {
			return l, err
		}
		if time.Since(start) > lockWait {
			return nil, fmt.Errorf("%s: %w", path, imap.ErrInUse)
		}
		timer := time.NewTimer(wait + rand.N(wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		case <-timer.C:
		}
	}
}
