package queuetest_test

import (
	"testing"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/memstore"
	"github.com/mailblocks/mailblocks/queue/queuetest"
)

// A store's test gives the suite a way to make an empty storage and to open it.
func ExampleTest() {
	test := func(t *testing.T) {
		queuetest.Test(t, func(t *testing.T) func() (queue.Store, error) {
			s := memstore.New()
			return func() (queue.Store, error) { return s, nil }
		}, queuetest.Options{Durable: false})
	}
	_ = test // func TestStore(t *testing.T) in your package
}
