package queue_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/memstore"
)

// A queue that delivers to a function. With spool.Open for the store and relay for the transport
// it is the queue of a mail server.
func ExampleRunner() {
	store := memstore.New()
	ctx, cancel := context.WithCancel(context.Background())

	runner := queue.Runner{
		Store:  store,
		Report: queue.NoReports,
		Transport: queue.TransportFunc(func(ctx context.Context, a *queue.Attempt) []queue.Outcome {
			for _, r := range a.Recipients {
				fmt.Println("deliver", a.Size, "octets to", r.Address)
			}
			cancel()
			return a.All(queue.Outcome{Result: queue.Delivered})
		}),
	}
	_, err := store.Enqueue(ctx, queue.Message{
		Envelope: queue.Envelope{ReversePath: "ann@example.org", Recipients: []queue.Recipient{{Address: "bob@example.net"}}},
		Body:     strings.NewReader("Subject: hello\r\n\r\nHello!\r\n"),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(runner.Run(ctx))
	// Output:
	// deliver 26 octets to bob@example.net
	// <nil>
}
