package storetest_test

import (
	"context"

	"github.com/mailblocks/mailblocks/imap"
)

// below is what memstore's Stores can do.
type below interface {
	imap.Store
	imap.Quotas
	imap.Annotations
	imap.Rights
}

// brokenUpgrades is a Store with upgrades of which one breaks a promise.
type brokenUpgrades struct {
	below
	how string
}

func (s brokenUpgrades) SetQuota(ctx context.Context, root string, limits []imap.Quota) error {
	if s.how != "old limits" {
		return s.below.SetQuota(ctx, root, limits)
	}
	old, err := s.Quota(ctx, root)
	if err != nil {
		return err
	}
	return s.below.SetQuota(ctx, root, append(old, limits...))
}

func (s brokenUpgrades) Quota(ctx context.Context, root string) ([]imap.Quota, error) {
	list, err := s.below.Quota(ctx, root)
	for i := range list {
		if s.how == "miscounts" {
			list[i].Usage++
		}
	}
	return list, err
}

// unlimited is a mailbox that forgets the quota while it appends.
type unlimited struct {
	imap.Mailbox
	store below
}

func (s brokenUpgrades) Open(ctx context.Context, name string) (imap.Mailbox, error) {
	mb, err := s.below.Open(ctx, name)
	if err == nil && s.how == "no limit" {
		return unlimited{mb, s.below}, nil
	}
	return mb, err
}

func (m unlimited) Append(ctx context.Context, msgs []imap.NewMessage) (done imap.AppendResult, err error) {
	limits, err := m.store.Quota(ctx, "")
	if err == nil {
		err = m.store.SetQuota(ctx, "", nil)
	}
	if err != nil {
		return done, err
	}
	if done, err = m.Mailbox.Append(ctx, msgs); err == nil {
		err = m.store.SetQuota(ctx, "", limits)
	}
	return done, err
}

func (s brokenUpgrades) Annotate(ctx context.Context, mailbox string, changes []imap.Annotation) error {
	if s.how != "one by one" {
		return s.below.Annotate(ctx, mailbox, changes)
	}
	for _, change := range changes {
		if err := s.below.Annotate(ctx, mailbox, []imap.Annotation{change}); err != nil {
			return err
		}
	}
	return nil
}

func (s brokenUpgrades) Annotations(ctx context.Context, mailbox string) (map[string]string, error) {
	entries, err := s.below.Annotations(ctx, mailbox)
	for entry, value := range entries {
		if s.how == "no empty value" && value == "" {
			delete(entries, entry)
		}
	}
	return entries, err
}

func (s brokenUpgrades) SetRights(ctx context.Context, mailbox, identifier string, op imap.RightsOp) error {
	if s.how == "lost change" && op.Action == imap.FlagsAdd {
		acl, err := s.ACL(ctx, mailbox)
		if err != nil {
			return err
		}
		for _, e := range acl {
			if e.Identifier == identifier {
				return nil
			}
		}
	}
	return s.below.SetRights(ctx, mailbox, identifier, op)
}

func init() {
	for how, rule := range map[string]string{
		"old limits":     "SetQuota replaces all limits",
		"miscounts":      "Quota counts messages of all mailboxes",
		"no limit":       "Append over the limit of octets is ErrOverQuota",
		"one by one":     "an Annotate that fails changes nothing",
		"no empty value": "Annotations returns what was set, octet by octet",
		"lost change":    "ACL returns what SetRights made, in its order",
	} {
		rules[how] = rule
	}
}
