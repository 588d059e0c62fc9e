package memstore

import (
	"context"
	"errors"
	"fmt"
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

var (
	_ imap.Mailbox  = (*mailbox)(nil)
	_ imap.Recenter = (*mailbox)(nil)
)

func (m *mailbox) Close() error {
	m.closed.Store(true)
	return nil
}

// lock gives the caller the box until it calls unlock, or tells why there is none.
func (m *mailbox) lock(ctx context.Context) (b *box, unlock func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if m.closed.Load() {
		return nil, nil, fmt.Errorf("memstore: %w", imap.ErrClosed)
	}
	m.storage.mu.Lock()
	if m.box.deleted {
		m.storage.mu.Unlock()
		return nil, nil, fmt.Errorf("memstore: %w", imap.ErrNoMailbox)
	}
	return m.box, m.storage.mu.Unlock, nil
}

func (m *mailbox) State(ctx context.Context) (imap.State, error) {
	b, unlock, err := m.lock(ctx)
	if err != nil {
		return imap.State{}, err
	}
	defer unlock()
	return b.state, nil
}

func (m *mailbox) Changes(ctx context.Context, since imap.ModSeq) (imap.Delta, error) {
	b, unlock, err := m.lock(ctx)
	if err != nil {
		return imap.Delta{}, err
	}
	defer unlock()
	if since != 0 && since < b.forgot {
		return imap.Delta{}, fmt.Errorf("memstore: changes since %d: %w", since, imap.ErrTooOld)
	}
	d := imap.Delta{State: b.state}
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
	return d, nil
}

func (m *mailbox) Watch(ctx context.Context, wake func()) error {
	b, unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	b.watchers[&wake] = true
	unlock()
	<-ctx.Done()
	m.storage.mu.Lock()
	defer m.storage.mu.Unlock()
	delete(b.watchers, &wake)
	return ctx.Err()
}

func (m *mailbox) Body(ctx context.Context, uid imap.UID) (imap.Body, error) {
	b, unlock, err := m.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	i, found := slices.BinarySearchFunc(b.msgs, uid, compareUID)
	if !found {
		return nil, fmt.Errorf("memstore: uid %d: %w", uid, imap.ErrExpunged)
	}
	return body{strings.NewReader(b.msgs[i].body)}, nil
}

type body struct{ *strings.Reader }

func (body) Close() error { return nil }

func (m *mailbox) Append(ctx context.Context, msgs []imap.NewMessage) (imap.AppendResult, error) {
	// All reading comes before all storing: a reader that fails leaves nothing behind.
	fresh := make([]message, len(msgs))
	for i, msg := range msgs {
		var octets strings.Builder
		if _, err := io.Copy(&octets, msg.Body); err != nil {
			return imap.AppendResult{}, fmt.Errorf("memstore: append: %w", err)
		}
		if msg.InternalDate.IsZero() {
			msg.InternalDate = time.Now()
		}
		fresh[i].body = octets.String()
		fresh[i].Message = imap.Message{
			Flags:        msg.Flags,
			InternalDate: msg.InternalDate.Truncate(time.Second),
			Size:         int64(octets.Len()),
			ID:           msg.ID,
		}
	}
	b, unlock, err := m.lock(ctx)
	if err != nil {
		return imap.AppendResult{}, err
	}
	defer unlock()
	done := imap.AppendResult{UIDValidity: b.state.UIDValidity}
	modSeq := b.state.HighestModSeq + 1
	for _, msg := range fresh {
		if msg.ID == "" {
			msg.ID = m.storage.newID("M")
		}
		done.UIDs = append(done.UIDs, b.add(msg, modSeq))
	}
	b.wake()
	return done, nil
}

func (m *mailbox) SetFlags(ctx context.Context, set imap.UIDSet, op imap.FlagOp, unchangedSince imap.ModSeq) (conflict imap.UIDSet, err error) {
	b, unlock, err := m.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
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
	return conflict, nil
}

func (m *mailbox) Expunge(ctx context.Context, set imap.UIDSet, onlyDeleted bool) error {
	b, unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	b.expunge(set, func(msg *message) bool {
		return !onlyDeleted || msg.Flags.System()&imap.Deleted != 0
	})
	return nil
}

func (m *mailbox) Copy(ctx context.Context, set imap.UIDSet, dst string, move bool) (imap.Copied, error) {
	b, unlock, err := m.lock(ctx)
	if err != nil {
		return imap.Copied{}, err
	}
	defer unlock()
	to, err := m.storage.find(dst)
	if errors.Is(err, imap.ErrNotSelectable) {
		err = fmt.Errorf("memstore: copy to %q: %w", dst, imap.ErrNoMailbox)
	}
	if err != nil {
		return imap.Copied{}, err
	}
	return b.copyTo(to, set, move), nil
}

// Recent implements imap.Recenter.
func (m *mailbox) Recent(ctx context.Context) (imap.UIDSet, error) {
	return m.recent(ctx, false)
}

// ClaimRecent implements imap.Recenter.
func (m *mailbox) ClaimRecent(ctx context.Context) (imap.UIDSet, error) {
	return m.recent(ctx, true)
}

func (m *mailbox) recent(ctx context.Context, claim bool) (set imap.UIDSet, err error) {
	b, unlock, err := m.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	b.within(imap.UIDSet{{First: b.recent + 1, Last: b.state.UIDNext}}, func(_ int, msg *message) {
		set.Add(msg.UID)
	})
	if claim {
		b.recent = b.state.UIDNext - 1
	}
	return set, nil
}
