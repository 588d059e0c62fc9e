// Package storetest proves that a store keeps the promises of the mailbox contract of package
// imap. A store's own tests call Test, and its benchmarks call Benchmark:
//
//	func TestStore(t *testing.T) {
//		storetest.Test(t, func(t testing.TB) storetest.Open {
//			dir := t.TempDir()
//			return func() (imap.Store, error) { return mystore.Open(dir) }
//		})
//	}
//
// Each failure begins with the rule that was broken. What the contract leaves to the store
// (names it cannot keep, keywords it has no room for, a short memory for expunges) is found
// out by asking, not configured.
//
//	RFC   subject                                     proved
//	9051  UIDs, UIDVALIDITY, flags, names, APPEND     yes
//	3501  \Recent, where the store is a Recenter      yes
//	4314  access control lists, where it has Rights   yes
//	5464  annotations, where it has Annotations       yes
//	9208  quotas, where it has Quotas                 yes
//	4315  UIDs of what was appended and copied        yes
//	7162  mod-sequences, conflicts, vanished UIDs     yes
//	8474  object ids, where the store has them        yes
//	8514  SAVEDATE, where the store has it            yes
//	      durability across a power cut               no: only across a reopen
package storetest
