//go:build unix

package mbox_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/mbox"
)

// A folder of mbox files as a Store: what imapserver and pop3 serve.
func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "mbox")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	store, err := mbox.Open(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	inbox, err := store.Open(ctx, imap.Inbox)
	if err != nil {
		log.Fatal(err)
	}
	defer inbox.Close()
	msg := imap.NewMessage{Flags: imap.NewFlags(imap.FlagSeen, "work"), Body: strings.NewReader("Subject: one\r\n\r\nHi.\r\n")}
	if _, err := inbox.Append(ctx, []imap.NewMessage{msg}); err != nil {
		log.Fatal(err)
	}
	changes, err := inbox.Changes(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	for m, err := range changes.Messages {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(m.UID, m.Flags, m.Size)
	}
	// Output:
	// 1 (\Seen work) 21
}
