package memstore

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

// mailbox is a handle on a box.
type mailbox struct {
	storage *Storage
	box     *box
	closed  atomic.Bool
}

var _ imap.Mailbox = (*mailbox)(nil)

func (m *mailbox) Close() error {
	m.closed.Store(true)
	return nil
}

// with calls f with the box locked, or reports why there is none.
func (m *mailbox) with(ctx context.Context, f func(*box) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if m.closed.Load() {
		return fail("mailbox handle", "", imap.ErrClosed)
	}
	m.storage.mu.Lock()
	defer m.storage.mu.Unlock()
	if m.box.deleted {
		return fail("deleted mailbox", "", imap.ErrNoMailbox)
	}
	return f(m.box)
}

func (m *mailbox) State(ctx context.Context) (st imap.State, err error) {
	err = m.with(ctx, func(b *box) error { st = b.state; return nil })
	return st, err
}

func (m *mailbox) Changes(ctx context.Context, since imap.ModSeq) (d imap.Delta, err error) {
	err = m.with(ctx, func(b *box) error {
		if since != 0 && since < b.forgot {
			return fail("changes", "", imap.ErrTooOld)
		}
		d.State = b.state
		var changed []*message
		for _, msg := range b.msgs {
			if msg.ModSeq > since {
				changed = append(changed, msg)
			}
		}
		d.Messages = func(yield func(imap.Message, error) bool) {
			for _, msg := range changed {
				if !yield(msg.Message, nil) {
					return
				}
			}
		}
		var gone []imap.UID
		for i := len(b.gone) - 1; i >= 0 && b.gone[i].modSeq > since && since > 0; i-- {
			gone = append(gone, b.gone[i].uid)
		}
		slices.Sort(gone)
		d.Gone = imap.NumSetOf(gone...)
		return nil
	})
	return d, err
}

func (m *mailbox) Watch(ctx context.Context, wake func()) error {
	if err := m.with(ctx, func(b *box) error { b.watchers[&wake] = true; return nil }); err != nil {
		return err
	}
	wake() // for what happened just before
	<-ctx.Done()
	m.storage.mu.Lock()
	defer m.storage.mu.Unlock()
	delete(m.box.watchers, &wake)
	return ctx.Err()
}

type body struct{ *strings.Reader }

func (body) Close() error { return nil }

func (m *mailbox) Body(ctx context.Context, uid imap.UID) (octets imap.Body, err error) {
	err = m.with(ctx, func(b *box) error {
		i, found := slices.BinarySearchFunc(b.msgs, uid, compareUID)
		if !found {
			return fail("body", "", imap.ErrExpunged)
		}
		octets = body{strings.NewReader(b.msgs[i].body)}
		return nil
	})
	return octets, err
}

func (m *mailbox) Append(ctx context.Context, msgs []imap.NewMessage) (done imap.AppendResult, err error) {
	// All reading comes before all storing: a reader that fails leaves nothing behind.
	fresh := make([]message, len(msgs))
	size := int64(0)
	for i, msg := range msgs {
		var octets strings.Builder
		if _, err := io.Copy(&octets, msg.Body); err != nil {
			return imap.AppendResult{}, fail("append", "", err)
		}
		if msg.InternalDate.IsZero() {
			msg.InternalDate = time.Now()
		}
		fresh[i].body = octets.String()
		size += int64(octets.Len())
		fresh[i].Message = imap.Message{Flags: msg.Flags, InternalDate: msg.InternalDate.Truncate(time.Second), Size: int64(octets.Len()), ID: msg.ID}
	}
	err = m.with(ctx, func(b *box) error {
		if err := m.storage.room(size, len(fresh), 0); err != nil {
			return fail("append", "", err)
		}
		done.UIDValidity = b.state.UIDValidity
		modSeq := b.state.HighestModSeq + 1
		for _, msg := range fresh {
			if msg.ID == "" {
				msg.ID = m.storage.newID("M")
			}
			done.UIDs = append(done.UIDs, b.add(msg, modSeq))
		}
		b.wake()
		return nil
	})
	return done, err
}

func (m *mailbox) SetFlags(ctx context.Context, set imap.UIDSet, op imap.FlagOp, unchangedSince imap.ModSeq) (conflict imap.UIDSet, err error) {
	err = m.with(ctx, func(b *box) error {
		modSeq := b.state.HighestModSeq + 1
		b.within(set, func(i int, msg *message) {
			if unchangedSince != 0 && msg.ModSeq > unchangedSince {
				conflict.Add(msg.UID)
				return
			}
			flags := b.spell(op.Apply(msg.Flags))
			if flags.Equal(msg.Flags) {
				return
			}
			next := *msg
			next.Flags, next.ModSeq = flags, modSeq
			b.count(msg, -1)
			b.count(&next, 1)
			b.msgs[i] = &next
			b.state.HighestModSeq = modSeq
		})
		if b.state.HighestModSeq == modSeq {
			b.wake()
		}
		return nil
	})
	return conflict, err
}

func (m *mailbox) Expunge(ctx context.Context, set imap.UIDSet, onlyDeleted bool) error {
	return m.with(ctx, func(b *box) error {
		b.expunge(set, onlyDeleted)
		return nil
	})
}

func (m *mailbox) Copy(ctx context.Context, set imap.UIDSet, dst string, move bool) (done imap.Copied, err error) {
	err = m.with(ctx, func(b *box) error {
		to := m.storage.boxes[dst]
		if to == nil {
			return fail("copy to", dst, imap.ErrNoMailbox)
		}
		if err := m.storage.roomFor(b, set, move); err != nil {
			return fail("copy to", dst, err)
		}
		done = b.copyTo(to, set, move)
		return nil
	})
	return done, err
}
