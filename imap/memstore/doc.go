// Package memstore keeps mail in memory. It is the reference implementation of the mailbox
// contract of package imap: short, complete, and meant to be read before another store is
// written. Nothing survives the process, and each message costs its own size in memory. What a
// store may leave out (quotas, annotations, access control lists) stands apart in upgrades.go.
//
//	RFC   subject                                            here
//	9051  UIDs, flags, names, the contract as a whole        yes
//	4314  access control lists                               yes
//	5464  annotations                                        yes
//	9208  quotas: octets, messages, mailboxes                yes
//	3501  \Recent                                            yes
//	6154  special uses, set when a mailbox is created        yes
//	7162  mod-sequences, expunged UIDs                       yes, the last 65,536 expunges of a mailbox
//	8474  object ids                                         yes
//	8514  SAVEDATE                                           yes
package memstore
