package memstore_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/memstore"
)

func Example() {
	ctx := context.Background()
	store := memstore.New()
	defer store.Close()

	_, err := store.Enqueue(ctx, queue.Message{
		Envelope: queue.Envelope{
			ReversePath: "ann@example.org",
			Recipients:  []queue.Recipient{{Address: "bob@one.test"}, {Address: "cid@two.test"}},
		},
		Body: strings.NewReader("Subject: hello\r\n\r\nHello!\r\n"),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	leases, err := store.Lease(ctx, queue.Want{Max: 10, For: time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, l := range leases {
		fmt.Println(l.Token.Route, len(l.Due))
	}
	// Output:
	// one.test 1
	// two.test 1
}
