package imap

import "context"

// Recenter is implemented by mailboxes that keep \Recent (RFC 3501, 2.3.2): the store, not
// the server, knows across processes who was told first. Without it no message is recent.
type Recenter interface {
	// ClaimRecent returns the UIDs that no session was told of yet, and marks them as told.
	ClaimRecent(ctx context.Context) (UIDSet, error)
	// Recent returns the UIDs that no session was told of yet: for STATUS and EXAMINE.
	Recent(ctx context.Context) (UIDSet, error)
}

// Recent returns the messages of m that are recent. When claim, the caller is the session
// that was told of them. It is empty for a mailbox that is no Recenter.
func Recent(ctx context.Context, m Mailbox, claim bool) (UIDSet, error) {
	r, ok := m.(Recenter)
	switch {
	case !ok:
		return nil, nil
	case claim:
		return r.ClaimRecent(ctx)
	default:
		return r.Recent(ctx)
	}
}
