// Package imap has the vocabulary of IMAP (flags, sets of numbers, errors) and the mailbox
// contract, [Store] and [Mailbox], on which servers and storage meet. It uses the standard
// library only, opens no socket and starts no goroutine.
//
// A store keeps messages under UIDs and tells what changed since a mod-sequence; it knows
// nothing of sequence numbers, FETCH or SEARCH. Package imapserver makes a complete server of
// any store, pop3/maildrop makes a POP3 server of it, and storetest proves that a store keeps
// its promises. Package memstore is the reference store, meant to be read first.
//
//	RFC   subject                         here
//	9051  flags, UIDs, names, response    yes
//	      codes as errors
//	3501  \Recent                         yes, as the upgrade Recenter
//	4315  UIDPLUS: APPENDUID, COPYUID     yes, AppendResult and Copied
//	4314  access control lists            yes, as the upgrade Rights of a Store
//	5464  annotations                     yes, as the upgrade Annotations of a Store
//	9208  quotas                          yes, as the upgrade Quotas of a Store
//	6154  SPECIAL-USE                     yes
//	7162  mod-sequences, vanished UIDs    yes, Changes and SetFlags
//	8474  object ids                      yes, MailboxInfo.ID, Message.ID and ThreadID
//	8514  SAVEDATE                        yes, Message.SaveDate
package imap
