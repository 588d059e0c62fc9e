package smtp

import (
	"context"
	"sync"
	"time"
)

// txContext is the context of one transaction: its parent's, but cancelled when the
// transaction ends. It makes the machinery of cancellation only when somebody asks for it,
// and never links to the contexts of other transactions, so the cost per message is small and
// flat however many a connection carries. Its memory is not used again: whoever
// keeps it sees it cancelled for good.
type txContext struct {
	parent context.Context

	mu     sync.Mutex
	inner  context.Context // made by the first Done
	cancel context.CancelFunc
	ended  bool
}

func (c *txContext) Deadline() (time.Time, bool) { return c.parent.Deadline() }

func (c *txContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		c.inner, c.cancel = context.WithCancel(c.parent)
		if c.ended {
			c.cancel()
		}
	}
	return c.inner.Done()
}

func (c *txContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.parent.Err(); err != nil {
		return err
	}
	if c.ended {
		return context.Canceled
	}
	return nil
}

// Value lets package context find the inner context once there is one, so that
// contexts derived from c need no goroutine.
func (c *txContext) Value(key any) any {
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return c.parent.Value(key)
}

func (c *txContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}

// txSlot is what each transaction has for itself, never used again.
type txSlot struct {
	ctx  txContext
	body bodyHandle
}

// txSlots hands out slots made in slabs, for a connection that carries many messages. The
// first is made alone: most connections carry one.
type txSlots struct {
	slab []txSlot
	used bool
}

func (t *txSlots) next(parent context.Context) *txSlot {
	if len(t.slab) == 0 {
		n := 1
		if t.used {
			n = 16
		}
		t.used = true
		t.slab = make([]txSlot, n)
	}
	s := &t.slab[0]
	t.slab = t.slab[1:]
	s.ctx.parent = parent
	return s
}
