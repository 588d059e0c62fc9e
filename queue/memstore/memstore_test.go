package memstore_test

import (
	"testing"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/memstore"
	"github.com/mailblocks/mailblocks/queue/queuetest"
)

func TestStore(t *testing.T) {
	queuetest.Test(t, func(t *testing.T) func() (queue.Store, error) {
		s := memstore.New()
		return func() (queue.Store, error) { return s, nil }
	}, queuetest.Options{})
}
