// Package lazyctx has a context that makes the machinery of cancellation only when somebody asks for it:
// for work that comes many times a second and mostly ends without waiting for anything.
package lazyctx

import (
	"context"
	"sync"
	"time"
)

// Context is its parent's, but ends when End is called, and at a deadline if it has one. Set Parent and
// Deadline before it is used, and call End. Its memory is not to be used again: whoever keeps it sees it ended
// for good. It is safe for concurrent use.
type Context struct {
	Parent context.Context
	At     time.Time // the deadline; zero: the parent's

	mu     sync.Mutex
	inner  context.Context // made by the first Done
	cancel context.CancelFunc
	ended  bool
}

// Deadline implements context.Context.
func (c *Context) Deadline() (time.Time, bool) {
	at, ok := c.Parent.Deadline()
	if !c.At.IsZero() && (!ok || c.At.Before(at)) {
		return c.At, true
	}
	return at, ok
}

// Done implements context.Context.
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		if c.At.IsZero() {
			c.inner, c.cancel = context.WithCancel(c.Parent)
		} else {
			c.inner, c.cancel = context.WithDeadline(c.Parent, c.At)
		}
		if c.ended {
			c.cancel()
		}
	}
	return c.inner.Done()
}

// Err implements context.Context.
func (c *Context) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.inner != nil:
		return c.inner.Err()
	case c.Parent.Err() != nil:
		return c.Parent.Err()
	case c.ended:
		return context.Canceled
	case !c.At.IsZero() && !time.Now().Before(c.At):
		return context.DeadlineExceeded
	}
	return nil
}

// Value lets package context find the inner context once there is one, so that contexts derived
// from c need no goroutine.
func (c *Context) Value(key any) any {
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return c.Parent.Value(key)
}

// End ends the context, as a CancelFunc does.
func (c *Context) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}
