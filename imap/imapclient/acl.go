package imapclient

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// acl is an ACL response.
type acl map[string]string

// ACL returns who has which rights on a mailbox (RFC 4314, 3.3): letters by identifier.
func (c *Client) ACL(ctx context.Context, mailbox string) (map[string]string, error) {
	if err := c.need(ctx, "ACL"); err != nil {
		return nil, err
	}
	return one[acl](ctx, c, &command{name: "GETACL"}, func(w *writer) { w.sp().mailbox(mailbox) })
}

// SetACL sets the rights of an identifier (RFC 4314, 3.1). Rights that begin with "+" or "-"
// are added or taken away.
func (c *Client) SetACL(ctx context.Context, mailbox, identifier, rights string) error {
	if err := c.need(ctx, "ACL"); err != nil {
		return err
	}
	_, err := c.run(ctx, &command{name: "SETACL"}, func(w *writer) {
		w.sp().mailbox(mailbox).sp().astring(identifier).sp().astring(rights)
	})
	return err
}

// DeleteACL takes away all that is said of an identifier.
func (c *Client) DeleteACL(ctx context.Context, mailbox, identifier string) error {
	if err := c.need(ctx, "ACL"); err != nil {
		return err
	}
	_, err := c.run(ctx, &command{name: "DELETEACL"}, func(w *writer) {
		w.sp().mailbox(mailbox).sp().astring(identifier)
	})
	return err
}

// ListRights are the rights that an identifier always has on a mailbox, and those it can be
// given; letters that stand together can only be given together (RFC 4314, 3.7).
type ListRights struct {
	Mailbox, Identifier string
	Required            string
	Optional            []string
}

// ListRights returns which rights an identifier can have.
func (c *Client) ListRights(ctx context.Context, mailbox, identifier string) (*ListRights, error) {
	if err := c.need(ctx, "ACL"); err != nil {
		return nil, err
	}
	return one[*ListRights](ctx, c, &command{name: "LISTRIGHTS"}, func(w *writer) {
		w.sp().mailbox(mailbox).sp().astring(identifier)
	})
}

// rights is a MYRIGHTS response.
type rights struct{ mailbox, rights string }

// MyRights returns the rights that the user has on a mailbox (RFC 4314, 3.5).
func (c *Client) MyRights(ctx context.Context, mailbox string) (string, error) {
	if err := c.need(ctx, "ACL"); err != nil {
		return "", err
	}
	r, err := one[*rights](ctx, c, &command{name: "MYRIGHTS"}, func(w *writer) { w.sp().mailbox(mailbox) })
	if err != nil {
		return "", err
	}
	return r.rights, nil
}

func takeACL(c *Client, d *wire.Decoder) acl {
	list := make(acl)
	d.SP()
	takeName(c, d)
	for d.Accept(' ') {
		if d.AtEnd() {
			break
		}
		id := d.AString()
		d.SP()
		list[id] = d.AString()
	}
	return list
}

func takeListRights(c *Client, d *wire.Decoder) *ListRights {
	r := new(ListRights)
	d.SP()
	r.Mailbox = takeName(c, d)
	d.SP()
	r.Identifier = d.AString()
	d.SP()
	r.Required = d.AString()
	r.Optional = takeTexts(d)
	return r
}

func takeMyRights(c *Client, d *wire.Decoder) *rights {
	r := new(rights)
	d.SP()
	r.mailbox = takeName(c, d)
	d.SP()
	r.rights = d.AString()
	return r
}

// QuotaResource is what a quota limits (RFC 9208, 5).
type QuotaResource string

// The resources.
const (
	QuotaStorage           QuotaResource = "STORAGE" // units of 1024 octets
	QuotaMessage           QuotaResource = "MESSAGE"
	QuotaMailbox           QuotaResource = "MAILBOX"
	QuotaAnnotationStorage QuotaResource = "ANNOTATION-STORAGE" // units of 1024 octets
)

// Quota is a quota root with its limits.
type Quota struct {
	Root      string
	Resources map[QuotaResource]QuotaUse
}

// QuotaUse is how much of a resource is used, and how much may be.
type QuotaUse struct{ Used, Limit uint64 }

// quotaRoots is a QUOTAROOT response.
type quotaRoots struct{ roots []string }

// Quota returns a quota root (RFC 9208, 4.1.1).
func (c *Client) Quota(ctx context.Context, root string) (*Quota, error) {
	if err := c.need(ctx, "QUOTA"); err != nil {
		return nil, err
	}
	return one[*Quota](ctx, c, &command{name: "GETQUOTA"}, func(w *writer) { w.sp().astring(root) })
}

// QuotaRoots returns the quota roots that a mailbox stands under (RFC 9208, 4.1.2).
func (c *Client) QuotaRoots(ctx context.Context, mailbox string) ([]*Quota, error) {
	if err := c.need(ctx, "QUOTA"); err != nil {
		return nil, err
	}
	var list []*Quota
	cmd := &command{name: "GETQUOTAROOT", take: func(r any) bool {
		switch r := r.(type) {
		case *Quota:
			list = append(list, r)
			return true
		case *quotaRoots:
			return true
		}
		return false
	}}
	_, err := c.run(ctx, cmd, func(w *writer) { w.sp().mailbox(mailbox) })
	if err != nil {
		return nil, err
	}
	return list, nil
}

// SetQuota sets the limits of a quota root (RFC 9208, 4.1.3). Resources that are not named
// get no limit.
func (c *Client) SetQuota(ctx context.Context, root string, limits map[QuotaResource]uint64) error {
	if err := c.need(ctx, "QUOTASET", "QUOTA"); err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(limits))
	for _, name := range names {
		if err := checkAtoms(string(name)); err != nil {
			return err
		}
	}
	cmd := &command{name: "SETQUOTA", take: func(r any) bool { _, ok := r.(*Quota); return ok }}
	_, err := c.run(ctx, cmd, func(w *writer) {
		w.sp().astring(root).raw(" (")
		for i, name := range names {
			if i > 0 {
				w.sp()
			}
			w.raw(fmt.Sprintf("%s %d", name, limits[name]))
		}
		w.raw(")")
	})
	return err
}

func takeQuota(d *wire.Decoder) *Quota {
	q := &Quota{Resources: make(map[QuotaResource]QuotaUse)}
	d.SP()
	q.Root = d.AString()
	d.SP()
	d.List(func() {
		name := QuotaResource(strings.ToUpper(d.AString()))
		d.SP()
		var u QuotaUse
		u.Used = d.Number64()
		d.SP()
		u.Limit = d.Number64()
		q.Resources[name] = u
	})
	return q
}

func takeQuotaRoots(c *Client, d *wire.Decoder) *quotaRoots {
	d.SP()
	takeName(c, d)
	return &quotaRoots{takeTexts(d)}
}
