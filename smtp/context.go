package smtp

import (
	"context"

	"github.com/mailblocks/mailblocks/internal/lazyctx"
)

// txSlot is what each transaction has for itself, never used again. Its context never links to those of
// other transactions, so the cost of a message is flat however many a connection carries.
type txSlot struct {
	ctx  lazyctx.Context
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
	s.ctx.Parent = parent
	return s
}
