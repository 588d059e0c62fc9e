package imapserver

import (
	"context"
	"math"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
)

// The commands of RFC 9208, which clients of RFC 2087 use as well. A root of another owner's
// mail has that owner's name before its own: "user/bob".

// quotaUnit is what STORAGE is counted in.
const quotaUnit = 1024

// quotaRoot returns what a client calls a root.
func (c *conn) quotaRoot(p place, root string) string {
	if p.owner == c.identity {
		return root
	}
	return strings.TrimSuffix(usersPrefix+p.owner+"/"+root, "/")
}

// quotas returns the Quotas that a root belongs to, and its name there. Others' are for
// administrators alone.
func (c *conn) quotas(ctx context.Context, root string) (place, imap.Quotas, string, error) {
	p := place{c.account.store, c.identity, ""}
	if s, ok := c.account.store.(*accessStore); ok && s.shares(root) && c.quotaAdmin() {
		owner, rest, _ := strings.Cut(strings.TrimPrefix(root, usersPrefix), "/")
		store, err := s.other(ctx, owner)
		if err != nil {
			return p, nil, "", imap.ErrNoQuotaRoot
		}
		p, root = place{store, owner, ""}, rest
	}
	q, ok := imap.UpgradeStore[imap.Quotas](p.store)
	if !ok {
		return p, nil, "", imap.ErrNoQuotaRoot
	}
	return p, q, root, nil
}

func (c *conn) quotaAdmin() bool {
	return c.server.QuotaAdmin != nil && c.server.QuotaAdmin(c.identity)
}

func (c *conn) writeQuota(ctx context.Context, p place, q imap.Quotas, root string) error {
	list, err := q.Quota(ctx, root)
	if err != nil {
		return err
	}
	c.enc.Raw("* QUOTA ").AString(c.quotaRoot(p, root)).Raw(" (")
	for i, one := range list {
		usage, limit := one.Usage, one.Limit
		if one.Resource == imap.QuotaStorage {
			usage, limit = (usage+quotaUnit-1)/quotaUnit, limit/quotaUnit
		}
		if i > 0 {
			c.enc.SP()
		}
		c.enc.Raw(string(one.Resource)).SP().Num(uint64(usage)).SP().Num(uint64(limit))
	}
	c.enc.Raw(")").CRLF()
	return nil
}

func (c *conn) cmdGetQuota(ctx context.Context) reply {
	c.dec.SP()
	root := c.dec.AString()
	if !c.end() {
		return c.syntax()
	}
	p, q, name, err := c.quotas(ctx, root)
	if err == nil {
		err = c.writeQuota(ctx, p, q, name)
	}
	if err != nil {
		return c.failed(err)
	}
	return ok("that is its quota")
}

func (c *conn) cmdGetQuotaRoot(ctx context.Context) reply {
	c.dec.SP()
	mailbox := c.mailbox()
	if !c.end() {
		return c.syntax()
	}
	if r, is := noSuchName(mailbox); is {
		return r
	}
	p, err := c.account.place(ctx, mailbox)
	if err != nil {
		return c.failed(err)
	}
	if p.owner != c.identity { // RFC 9208, 6
		has, err := p.rights(ctx, c.identity)
		if err == nil && has&imap.RightRead == 0 {
			err = denied(has)
		}
		if err != nil {
			return c.failed(err)
		}
	}
	var roots []string
	q, kept := imap.UpgradeStore[imap.Quotas](p.store)
	if kept {
		if roots, err = q.QuotaRoots(ctx, p.name); err != nil {
			return c.failed(err)
		}
	}
	c.enc.Raw("* QUOTAROOT ").Mailbox(mailbox)
	for _, root := range roots {
		c.enc.SP().AString(c.quotaRoot(p, root))
	}
	c.enc.CRLF()
	for _, root := range roots {
		if err := c.writeQuota(ctx, p, q, root); err != nil {
			return c.failed(err)
		}
	}
	return ok("these are its roots")
}

func (c *conn) cmdSetQuota(ctx context.Context) reply {
	c.dec.SP()
	root := c.dec.AString()
	c.dec.SP()
	var limits []imap.Quota
	c.dec.List(func() {
		q := imap.Quota{Resource: imap.QuotaResource(c.dec.Word())}
		c.dec.SP()
		n := c.dec.Number64()
		if q.Limit = int64(n); q.Resource == imap.QuotaStorage {
			if n > math.MaxInt64/quotaUnit {
				c.dec.Fail("limit too large")
			}
			q.Limit *= quotaUnit
		}
		if len(limits) >= 10 {
			c.dec.Fail("too many resources")
		}
		limits = append(limits, q)
	})
	if !c.end() {
		return c.syntax()
	}
	if !c.quotaAdmin() {
		return no("NOPERM", "quotas are set by others")
	}
	p, q, name, err := c.quotas(ctx, root)
	if err == nil {
		err = q.SetQuota(ctx, name, limits)
	}
	if err == nil {
		err = c.writeQuota(ctx, p, q, name)
	}
	if err != nil {
		return c.failed(err)
	}
	return ok("the quota is set")
}

// deletedStorage is what an EXPUNGE would free (RFC 9208, 4.1.4).
func deletedStorage(ctx context.Context, mb imap.Mailbox, st imap.State) (size int64, err error) {
	if st.Deleted == 0 {
		return 0, nil
	}
	d, err := mb.Changes(ctx, 0)
	if err != nil {
		return 0, err
	}
	for m, err := range d.Messages {
		if err != nil {
			return 0, err
		}
		if m.Flags.System()&imap.Deleted != 0 {
			size += m.Size
		}
	}
	return size, nil
}
