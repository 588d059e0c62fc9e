package maildir

import (
	"context"
	"path/filepath"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/subscriptions"
)

// The subscriptions file in the root. Version 1, as Dovecot before 2.2 and Courier write it, has
// dots between the levels.
const subscriptionsFile = "subscriptions"

func subscriptionsOf(root string) subscriptions.File {
	return subscriptions.File{Path: filepath.Join(root, subscriptionsFile), Separator: ".", Escape: ".", Check: imap.CheckName}
}

// setSubscription adds or removes a name.
func setSubscription(ctx context.Context, root, name string, on bool) error {
	f := subscriptionsOf(root)
	lock, err := lockFile(ctx, f.Path)
	if err != nil {
		return err
	}
	defer lock.Unlock()
	return f.Set(name, on)
}
