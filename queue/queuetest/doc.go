// Package queuetest proves that a [queue.Store] keeps the contract. A store's own test is one call:
//
//	func TestStore(t *testing.T) {
//		queuetest.Test(t, func(t *testing.T) func() (queue.Store, error) {
//			dir := t.TempDir()
//			return func() (queue.Store, error) { return Open(dir, nil) }
//		}, queuetest.Options{Durable: true})
//	}
//
// It uses the standard library only, waits by Wake and by the store's own leases, and says in each failure which
// rule was broken.
package queuetest
