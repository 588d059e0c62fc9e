// Package spool is the [queue.Store] for one process: one directory, crash-safe by construction.
//
// Metadata and small bodies stand in a log that is written and synced in groups, so that parallel Enqueues
// share a sync; a large body has a file, synced before the log names it. Memory holds an index, about
// 150 octets an item; envelopes and bodies are read when they are needed. One process owns the directory;
// another that opens it gets queue.ErrBusy.
//
//	lock                 locked while a Store is open
//	log/0000002a.seg     the log's segments, ascending; format.go has their grammar
//	log/spare            the next segment, written all over with zeros beforehand
//	body/1f/0T…8.eml     large bodies, by ID
//
// # States
//
// What a message is on the disk, how it gets there, and what a crash then means. "Synced" means that
// the group's fsync returned.
//
//	state              on the disk                          after a crash
//	arriving, small    nothing, or an unsynced record       not queued; nobody was told otherwise. A whole
//	                                                        record may survive, then it is queued though the
//	                                                        sender will send it again
//	arriving, large    body file, maybe torn; no record     not queued; Open removes the file
//	queued             message record synced (its body      queued, due as the record says
//	                   file and folder synced before)
//	leased             the same: leases are in memory       queued; the attempt in flight is made again
//	settling           state or gone record unsynced        either as before (the attempt is made again) or as
//	                                                        settled; never with half of the reports, for they are in
//	                                                        the same transaction
//	settled, pending   state record synced                  queued with the new state
//	done               gone record synced (or states that   gone; a body file that was not removed yet is an
//	                   say done for each route)             orphan, which Open removes
//	moving             a second message record, unsynced    the first counts
//	                   then synced                          the second counts, states before it don't
//
// And the segments:
//
//	state              on the disk                          after a crash
//	spare              zeros, no name of its own            made anew
//	begun              renamed, folder synced, header       empty, removed
//	                   not synced
//	last               records, the end maybe torn          cut after the last whole transaction, the rest cleared;
//	                                                        the next Store begins a new segment
//	full               records, all synced                  replayed; bodies are checked when they are read
//	dropped            renamed to spare, or removed, then   gone, or there with nothing live in it; always the
//	                   the folder synced                    oldest, so what ends a message outlives the message
//
// An octet that changed after it was synced is told apart from a torn end (see format.go), reported as
// [Damage], and costs the message it belongs to and no other.
//
// A write or sync of the log that fails ends the Store: what the disk holds then is not known, and a second
// fsync that succeeds proves nothing. Every call gives queue.ErrFailed from then on; Open recovers. A full disk is
// no such failure: segments are written all over before they are used, so only the preparation of the next
// one fails, and Enqueue says so (ENOSPC) while Settle goes on in the room there is.
//
// # RFCs
//
//	RFC   section, feature                             here
//	5321  6.1 no message lost once it was accepted     yes
//	5321  4.5.4 queue survives restarts                yes
package spool
