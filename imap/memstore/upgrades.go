package memstore

import (
	"context"
	"fmt"
	"maps"

	"github.com/mailblocks/mailblocks/imap"
)

// What a store need not have: quotas, annotations, access control lists, news of names, \Recent. memstore.go
// and mailbox.go are a whole store without this file, but for what they ask of room.

var (
	_ imap.Quotas       = store{}
	_ imap.Annotations  = store{}
	_ imap.Rights       = store{}
	_ imap.StoreWatcher = store{}
	_ imap.Recenter     = (*mailbox)(nil)
)

// WatchNames implements imap.StoreWatcher.
func (s store) WatchNames(ctx context.Context, wake func()) error {
	s.mu.Lock()
	s.watchers[&wake] = true
	s.mu.Unlock()
	wake() // for what happened just before
	<-ctx.Done()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, &wake)
	return ctx.Err()
}

// wakeNames tells who watches the names. Storage.mu is held.
func (s *Storage) wakeNames() {
	for wake := range s.watchers {
		(*wake)()
	}
}

// extras is what the upgrades keep of a mailbox.
type extras struct {
	annotations map[string]string
	acl         imap.ACL
}

// find returns the extras of a mailbox. Storage.mu is held.
func (s *Storage) find(what, name string) (*extras, error) {
	b := s.boxes[name]
	switch {
	case name == "":
		return &s.extras, nil
	case b == nil && s.isLevel(name):
		return nil, fail(what, name, imap.ErrNotSelectable)
	case b == nil:
		return nil, fail(what, name, imap.ErrNoMailbox)
	}
	return &b.extras, nil
}

// Annotations implements imap.Annotations.
func (s store) Annotations(ctx context.Context, mailbox string) (map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.find("annotations of", mailbox)
	if err != nil {
		return nil, err
	}
	return maps.Clone(x.annotations), nil
}

// Annotate implements imap.Annotations.
func (s store) Annotate(ctx context.Context, mailbox string, changes []imap.Annotation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.find("annotate", mailbox)
	if err != nil {
		return err
	}
	next, err := imap.Annotated(x.annotations, changes)
	if err != nil {
		return fail("annotate", mailbox, err)
	}
	x.annotations = next
	return nil
}

// ACL implements imap.Rights.
func (s store) ACL(ctx context.Context, mailbox string) (imap.ACL, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.find("list of", mailbox)
	if err != nil {
		return nil, err
	}
	return x.acl, nil // never written to
}

// SetRights implements imap.Rights.
func (s store) SetRights(ctx context.Context, mailbox, identifier string, op imap.RightsOp) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := s.find("set rights on", mailbox)
	if err != nil {
		return err
	}
	acl, err := x.acl.With(identifier, op)
	if err != nil {
		return fail("set rights on", mailbox, err)
	}
	x.acl = acl
	return nil
}

// QuotaResources implements imap.Quotas.
func (s store) QuotaResources() []imap.QuotaResource {
	return []imap.QuotaResource{imap.QuotaStorage, imap.QuotaMessages, imap.QuotaMailbox}
}

// QuotaRoots implements imap.Quotas: one root, named "", has all mailboxes.
func (s store) QuotaRoots(context.Context, string) ([]string, error) { return []string{""}, nil }

// Quota implements imap.Quotas.
func (s store) Quota(ctx context.Context, root string) ([]imap.Quota, error) {
	if root != "" {
		return nil, fail("quota root", root, imap.ErrNoQuotaRoot)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var quotas []imap.Quota
	usage := s.usage()
	for _, r := range s.QuotaResources() {
		if limit, ok := s.limits[r]; ok {
			quotas = append(quotas, imap.Quota{Resource: r, Usage: usage[r], Limit: limit})
		}
	}
	return quotas, nil
}

// SetQuota implements imap.Quotas.
func (s store) SetQuota(ctx context.Context, root string, limits []imap.Quota) error {
	if root != "" {
		return fail("quota root", root, imap.ErrNoQuotaRoot)
	}
	next := make(map[imap.QuotaResource]int64)
	for _, q := range limits {
		switch q.Resource {
		case imap.QuotaStorage, imap.QuotaMessages, imap.QuotaMailbox:
			next[q.Resource] = q.Limit
		default:
			return fail("limit", string(q.Resource), imap.ErrLimit)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits = next
	return nil
}

// usage counts what there is. Storage.mu is held.
func (s *Storage) usage() map[imap.QuotaResource]int64 {
	used := map[imap.QuotaResource]int64{imap.QuotaMailbox: int64(len(s.boxes))}
	for _, b := range s.boxes {
		used[imap.QuotaStorage] += b.state.Size
		used[imap.QuotaMessages] += int64(b.state.Messages)
	}
	return used
}

// room returns ErrOverQuota when there is no room for what is to come. Storage.mu is held.
func (s *Storage) room(octets int64, messages, mailboxes int) error {
	if len(s.limits) == 0 {
		return nil
	}
	used := s.usage()
	for r, n := range map[imap.QuotaResource]int64{
		imap.QuotaStorage: octets, imap.QuotaMessages: int64(messages), imap.QuotaMailbox: int64(mailboxes),
	} {
		if limit, ok := s.limits[r]; ok && n > 0 && used[r]+n > limit {
			return fmt.Errorf("%s: %w", r, imap.ErrOverQuota)
		}
	}
	return nil
}

// roomFor is room for copies of the messages of set in b; a move needs none.
func (s *Storage) roomFor(b *box, set imap.UIDSet, move bool) error {
	if move {
		return nil
	}
	octets, messages := int64(0), 0
	b.within(set, func(_ int, m *message) { octets, messages = octets+m.Size, messages+1 })
	return s.room(octets, messages, 0)
}

// Recent implements imap.Recenter.
func (m *mailbox) Recent(ctx context.Context) (imap.UIDSet, error) { return m.recent(ctx, false) }

// ClaimRecent implements imap.Recenter.
func (m *mailbox) ClaimRecent(ctx context.Context) (imap.UIDSet, error) { return m.recent(ctx, true) }

func (m *mailbox) recent(ctx context.Context, claim bool) (set imap.UIDSet, err error) {
	err = m.with(ctx, func(b *box) error {
		b.within(imap.UIDSet{{First: b.recent + 1, Last: b.state.UIDNext}}, func(_ int, msg *message) {
			set.Add(msg.UID)
		})
		if claim {
			b.recent = b.state.UIDNext - 1
		}
		return nil
	})
	return set, err
}
