package mbox

import (
	"context"
	"os"
	"time"
)

// watch wakes when the file changes, as its time and size tell, until ctx ends.
func (f *folder) watch(ctx context.Context, wake func()) error {
	look := func() stamp {
		info, err := os.Stat(f.path)
		if err != nil {
			return stamp{}
		}
		return stampOf(info)
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for last := look(); ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if now := look(); now != last {
				last = now
				wake()
			}
		}
	}
}
