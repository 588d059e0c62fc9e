package maildir

import (
	"fmt"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/mutf7"
)

// Maildir++: the Inbox is the root itself, and the mailbox A/B the folder .A.B in it. Levels
// are modified UTF-7. A dot inside a level is encoded too (&AC4-), which Dovecot can not
// write but shows; a level that is not modified UTF-7 is taken as UTF-8.

// folderName returns the folder of a mailbox, relative to the root.
func folderName(name string) (string, error) {
	if err := imap.CheckName(name); err != nil {
		return "", err
	}
	if name == imap.Inbox {
		return ".", nil
	}
	folder := "." + strings.ReplaceAll(mutf7.Encode(name, "."), "/", ".")
	if len(folder) > 255 {
		return "", fmt.Errorf("%w: too long", imap.ErrBadName)
	}
	return folder, nil
}

// mailboxName returns the mailbox of a folder in the root, and whether it can be one.
func mailboxName(folder string) (string, bool) {
	levels, ok := strings.CutPrefix(folder, ".")
	if !ok || levels == "" {
		return "", false
	}
	name := strings.Split(levels, ".")
	for i, level := range name {
		if s, err := mutf7.Decode(level); err == nil {
			name[i] = s
		}
		if strings.Contains(name[i], "/") {
			return "", false
		}
	}
	full := strings.Join(name, "/")
	return full, full != imap.Inbox && imap.CheckName(full) == nil
}
