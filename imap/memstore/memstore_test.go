package memstore_test

import (
	"testing"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/memstore"
	"github.com/mailblocks/mailblocks/imap/storetest"
)

func open(testing.TB) storetest.Open {
	storage := memstore.New()
	return func() (imap.Store, error) { return storage.Open(), nil }
}

func TestStore(t *testing.T) { storetest.Test(t, open) }

func BenchmarkStore(b *testing.B) { storetest.Benchmark(b, open) }
