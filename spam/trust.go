package spam

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const secondsOfDay = 24 * 60 * 60

// errNoSnapshots is what a Store that is no Snapshotter comes to.
var errNoSnapshots = fmt.Errorf("spam: the store keeps no snapshots: %w", errors.ErrUnsupported)

// Snapshot keeps all that was learned under a name; see [Snapshotter]. It fails with
// [errors.ErrUnsupported] when the store can not.
func (c *Classifier) Snapshot(ctx context.Context, name string) error {
	s, ok := c.store.(Snapshotter)
	if !ok {
		return errNoSnapshots
	}
	c.mu.Lock() // between two messages
	defer c.mu.Unlock()
	return s.Snapshot(ctx, name)
}

// Rollback goes back to a snapshot: all that was learned since, by anybody, is gone, and may be
// learned again. Classifiers of other processes follow within Options.Refresh. ErrNoSnapshot:
// there is none of this name.
func (c *Classifier) Rollback(ctx context.Context, name string) error {
	s, ok := c.store.(Snapshotter)
	if !ok {
		return errNoSnapshots
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := s.Restore(ctx, name); err != nil {
		return err
	}
	return c.reload(ctx)
}

// A Forgetting says which messages to forget: those that fit all fields that are set.
type Forgetting struct {
	Sender string    // the address of From, or its domain
	User   string    // who taught it
	Before time.Time // learned on an earlier day (UTC)
}

// Forget takes back what the shared model learned from some messages, exactly in its counts, and
// returns how many they were. They are remembered as [Neutral]: none counts until somebody labels
// it anew. Only messages of which a sample is kept can be forgotten: these are all as long as
// 2,048 of a class were learned, and a random choice of that size later. Users' own models stay
// as they are.
func (c *Classifier) Forget(ctx context.Context, which Forgetting) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.forget(ctx, which)
}

func (c *Classifier) forget(ctx context.Context, which Forgetting) (n int, err error) {
	if which == (Forgetting{}) {
		return 0, nil // nothing was chosen
	}
	sender, user := nameHash(which.Sender), nameHash(which.User)
	before := which.Before.Unix() / secondsOfDay
	for class := range c.kept {
		k := &c.kept[class]
		for slot := range k.slots {
			data := k.slots[slot].data
			if data == nil {
				continue
			}
			o := sampleOrigin(data)
			if sender != 0 && sender != o.sender && sender != o.domain || user != 0 && user != o.user ||
				!which.Before.IsZero() && int64(o.days) >= before {
				continue
			}
			// As Learn does it, from the sample instead of the message.
			if _, ok := unpackSample(data, &c.forgotten); ok {
				if err := c.learnShared(ctx, &o, &c.forgotten, Neutral); err != nil {
					return n, fmt.Errorf("spam: forget: %w", err)
				}
				n++
			}
		}
	}
	return n, nil
}

// dropSample removes the sample of a message.
func (c *Classifier) dropSample(ctx context.Context, l Label, key markKey) error {
	k := &c.kept[l-Ham]
	for slot := range k.slots {
		if data := k.slots[slot].data; data != nil && sampleOrigin(data).key == key {
			k.slots[slot] = sample{}
			k.free = append(k.free, uint32(slot))
			if c.keeper != nil {
				return c.keeper.Keep(ctx, "", uint32(slot)+uint32(l-Ham)*samplesPerClass, nil)
			}
		}
	}
	return nil
}

// expire forgets what is older than Options.LearnFor, once a day at most.
func (c *Classifier) expire(ctx context.Context) error {
	if c.opt.LearnFor <= 0 {
		return nil
	}
	now := c.opt.Now()
	if day := now.Unix() / secondsOfDay; day != c.expired {
		c.expired = day
		_, err := c.forget(ctx, Forgetting{Before: now.Add(-c.opt.LearnFor)})
		return err
	}
	return nil
}
