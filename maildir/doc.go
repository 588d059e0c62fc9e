// Package maildir keeps mail in Maildirs: one file a message, so that any number of programs
// may deliver, read, flag and remove mail at once without asking each other.
//
// [Dir] is the format, usable alone: deliver, list, flag, remove. [Store] is a Maildir++ tree
// with the whole mailbox contract of package imap over it: lasting UIDs, keywords,
// mod-sequences, and changes that other programs made, in files that Dovecot reads and writes
// too (dovecot-uidlist, dovecot-keywords, dovecot-uidvalidity, dovecot-acl, maildirsize, subscriptions, each described
// where it is read). What those cannot hold stands in an index of ours, which is made anew
// when it is lost. So does what servers found out by reading messages (imap.ParsedCache), in
// mailblocks-parsed.
//
// A message is durable when Deliver or Append returns: its file, its folder and its UID are
// synced. Deliveries that arrive together share these syncs. What comes by one Append or Copy
// comes all or none, and what Expunge removed is gone, also when the power fails.
//
// Limits: flags are not synced, so that a power cut may take the last changes back, each message's
// for itself. A crash in the middle of a Move leaves messages in both mailboxes, one in the
// middle of a Rename may leave children under their old names. A change by a program that knows
// no locks, in the very instant of one of ours, is seen a second later. An open folder holds
// three descriptors, four once a server read messages, and about 0.3 KiB of memory a message.
//
//	RFC   subject                            here
//	9051  UIDs, flags, names                 yes, through imap.Store
//	3501  \Recent: what is in new/           yes
//	6154  special uses                       yes, set when a mailbox is created
//	7162  mod-sequences, expunged UIDs       yes, the last 65,536 expunges of a mailbox
//	8474  object ids                         yes: Dovecot's GUIDs
//	8514  SAVEDATE                           yes: when we first saw it, for a foreign delivery
//	4314  access control lists               yes: dovecot-acl
//	5464  annotations                        yes, in a file of ours
//	9208  quotas: octets, messages           yes: maildirsize of Maildir++
package maildir
