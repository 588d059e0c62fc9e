package resolver

import (
	"context"
	"sync/atomic"
)

// Budget lets at most Max questions through to Next and answers the others
// with an error that wraps [ErrBudget]. A mail's checks share one, so that
// nothing a sender publishes makes us ask without end. Questions that a cache
// below answers count too: the limit does not depend on what others asked.
type Budget struct {
	Next Resolver
	Max  int // zero means 0: nothing passes

	used atomic.Int64
}

// Resolve asks Next while there is budget left.
func (b *Budget) Resolve(ctx context.Context, name string, qtype uint16) (Answer, error) {
	if b.used.Add(1) > int64(b.Max) {
		return Answer{}, &Error{Name: name, Type: qtype, Err: ErrBudget}
	}
	return b.Next.Resolve(ctx, name, qtype)
}

// Recall is Resolve for what Next has at hand.
func (b *Budget) Recall(name string, qtype uint16) (Answer, bool) {
	if b.used.Load() >= int64(b.Max) {
		return Answer{}, false
	}
	a, ok := recall(b.Next, name, qtype)
	if ok {
		b.used.Add(1)
	}
	return a, ok
}

// Used returns how many questions were asked, those turned away included.
func (b *Budget) Used() int { return int(b.used.Load()) }
