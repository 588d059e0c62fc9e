package imap

import "context"

// StoreWatcher is implemented by Stores that can tell when mailboxes come, go, or get other
// names, subscriptions or uses: for NOTIFY (RFC 5465). Without it servers list the mailboxes
// from time to time.
type StoreWatcher interface {
	// WatchNames calls wake when the answer of Mailboxes may have changed, by this or another
	// Store or process, until ctx ends; it then returns ctx's error. As with Mailbox.Watch a
	// wake is a hint: it may come early, late, twice or for nothing; one comes when the watch
	// has begun. Wake must not block and must not call the Store.
	WatchNames(ctx context.Context, wake func()) error
}
