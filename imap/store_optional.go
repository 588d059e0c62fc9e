package imap

import "context"

// Wrapper is implemented by a Mailbox that stands around another one, to watch it or to
// change a part of it. Upgrade looks through it, so that a wrapper need not repeat the
// optional interfaces of what it wraps; it implements those that it means to change.
type Wrapper interface {
	Unwrap() Mailbox
}

// Upgrade returns the first of m, the Mailbox that m wraps, and so on, that implements the
// optional interface T. Nobody asserts optional interfaces in another way.
func Upgrade[T any](m Mailbox) (t T, ok bool) {
	for m != nil {
		if t, ok = m.(T); ok {
			return t, true
		}
		w, wraps := m.(Wrapper)
		if !wraps {
			break
		}
		m = w.Unwrap()
	}
	return t, false
}

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
	r, ok := Upgrade[Recenter](m)
	switch {
	case !ok:
		return nil, nil
	case claim:
		return r.ClaimRecent(ctx)
	default:
		return r.Recent(ctx)
	}
}
