package maildir_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/maildir"
)

// Deliver a message, then list what is there.
func Example() {
	root, err := os.MkdirTemp("", "maildir")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)
	dir := maildir.Dir(root)
	if err := dir.Init(); err != nil {
		log.Fatal(err)
	}
	_, err = dir.Deliver(context.Background(), strings.NewReader("Subject: hello\r\n\r\nHi.\r\n"), "")
	if err != nil {
		log.Fatal(err)
	}
	for ref, err := range dir.All() {
		if err != nil {
			log.Fatal(err)
		}
		size, _ := ref.Name.Size()
		fmt.Println("new:", ref.New, "octets:", size)
	}
	// Output: new: true octets: 23
}

// The same folder as a mailbox with UIDs and flags.
func ExampleOpen() {
	root, err := os.MkdirTemp("", "maildir")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)
	ctx := context.Background()
	store, err := maildir.Open(root, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	inbox, err := store.Open(ctx, imap.Inbox)
	if err != nil {
		log.Fatal(err)
	}
	defer inbox.Close()
	_, err = inbox.Append(ctx, []imap.NewMessage{{Flags: imap.NewFlags(imap.FlagSeen), Body: strings.NewReader("Subject: hello\r\n\r\nHi.\r\n")}})
	if err != nil {
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
	// Output: 1 (\Seen) 23
}
