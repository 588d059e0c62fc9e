package storetest_test

import (
	"testing"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/memstore"
	"github.com/mailblocks/mailblocks/imap/storetest"
)

// A store's whole test. In a _test.go file the function is called by go test.
func Example() {
	testStore := func(t *testing.T) {
		storetest.Test(t, func(t testing.TB) storetest.Open {
			storage := memstore.New() // for files: t.TempDir()
			return func() (imap.Store, error) { return storage.Open(), nil }
		})
	}
	_ = testStore
	// Output:
}
