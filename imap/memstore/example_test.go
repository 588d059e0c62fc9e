package memstore_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/memstore"
)

// Append a message and read it back.
func Example() {
	ctx := context.Background()
	store := memstore.New().Open()
	defer store.Close()
	inbox, err := store.Open(ctx, imap.Inbox)
	if err != nil {
		log.Fatal(err)
	}
	defer inbox.Close()

	stored, err := inbox.Append(ctx, []imap.NewMessage{{
		Flags: imap.NewFlags(imap.FlagFlagged),
		Body:  strings.NewReader("Subject: hello\r\n\r\nThe body.\r\n"),
	}})
	if err != nil {
		log.Fatal(err)
	}
	state, err := inbox.State(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(state.Messages, "message,", state.Unseen, "unseen")

	body, err := inbox.Body(ctx, stored.UIDs[0])
	if err != nil {
		log.Fatal(err)
	}
	defer body.Close()
	octets, err := io.ReadAll(io.NewSectionReader(body, 0, body.Size()))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", octets)
	// Output:
	// 1 message, 1 unseen
	// "Subject: hello\r\n\r\nThe body.\r\n"
}
