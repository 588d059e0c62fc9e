package spool_test

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/spool"
)

func Example() {
	dir, err := os.MkdirTemp("", "spool")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	store, err := spool.Open(dir, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = store.Enqueue(context.Background(), queue.Message{
		Envelope: queue.Envelope{ReversePath: "ann@example.org", Recipients: []queue.Recipient{{Address: "bob@example.net"}}},
		Body:     strings.NewReader("Subject: hello\r\n\r\nHello!\r\n"),
	})
	fmt.Println("queued:", err == nil)
	store.Close()

	store, err = spool.Open(dir, nil) // as after a restart
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close()
	for entry, err := range store.List(context.Background(), queue.Filter{}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(entry.Envelope.ReversePath, entry.Size)
	}
	// Output:
	// queued: true
	// ann@example.org 26
}
