package imap

import "context"

// StoreWrapper is implemented by a Store that stands around another one. UpgradeStore looks
// through it.
type StoreWrapper interface {
	Unwrap() Store
}

// UpgradeStore is Upgrade for the optional interfaces of Stores: Quotas, Annotations, Rights.
func UpgradeStore[T any](s Store) (t T, ok bool) {
	for s != nil {
		if t, ok = s.(T); ok {
			return t, true
		}
		w, wraps := s.(StoreWrapper)
		if !wraps {
			break
		}
		s = w.Unwrap()
	}
	return t, false
}

// Quotas is implemented by Stores that limit what they hold (RFC 9208). Append and Copy then
// report ErrOverQuota, and nothing of what was over the limit is stored.
type Quotas interface {
	// QuotaResources names what the Store counts, and thus can limit.
	QuotaResources() []QuotaResource
	// QuotaRoots names the roots whose limits hold for the mailbox, which need not exist.
	QuotaRoots(ctx context.Context, mailbox string) ([]string, error)
	// Quota returns use and limits of a root. ErrNoQuotaRoot.
	Quota(ctx context.Context, root string) ([]Quota, error)
	// SetQuota replaces all limits of a root; a resource that is not named is not limited
	// any more. ErrNoQuotaRoot; ErrLimit: a resource that the Store cannot limit.
	SetQuota(ctx context.Context, root string, limits []Quota) error
}

// QuotaResource is what a quota limits.
type QuotaResource string

// The resources of RFC 9208, 5.
const (
	QuotaStorage  QuotaResource = "STORAGE" // octets: servers make them units of 1024
	QuotaMessages QuotaResource = "MESSAGE"
	QuotaMailbox  QuotaResource = "MAILBOX"
)

// Quota is the use and the limit of one resource. SetQuota looks at the limit alone.
type Quota struct {
	Resource     QuotaResource
	Usage, Limit int64
}
