// Package queue keeps mail until somebody else is responsible for it: a durable, fair and
// inspectable retry queue.
//
// It is four small contracts and one loop. A [Store] holds messages on stable storage and gives
// out leases on due work. A [Transport] tries to deliver. A [RetryPolicy] says when to try again,
// warn or give up. A [Runner.Report] function writes the reports senders get. The [Runner] joins them: it leases,
// calls the Transport within each destination's limits, and settles.
//
//	store, err := spool.Open("/var/spool/mail", nil)
//	...
//	ids, err := store.Enqueue(ctx, queue.Message{Envelope: envelope, Body: body})
//	// err == nil: the message survives a power cut from here on
//	...
//	r := queue.Runner{Store: store, Transport: relay, Report: reports.Report}
//	err = r.Run(ctx)
//
// # Promises
//
// At least once, never lost. When Enqueue returns nil the message is on stable storage, and it leaves
// the store only by a Settle that records for each recipient that another host took it, or that
// its failure was reported (or nobody wanted to know). A crash at any instant repeats at most the
// attempts in flight. Leases carry a fencing token, so a worker that was believed dead can not
// undo its successor's work.
//
// Work is divided into items, one for each route a message has (its recipients' domains, unless
// a Router says otherwise). A dead or slow route holds up its own items and nobody else's: each route
// has a window of concurrent attempts that grows with success and shrinks with failure, and
// a breaker that stops attempts while nothing answers. While it is open the items are looked
// after (warned about, given up in time) without being tried. Routes take turns, and within a route its senders do;
// Rate and Limits bound how often something is tried, RetryBy gives destinations and kinds of trouble their own patience.
//
// # Packages
//
// spool is the store for one process and one directory; memstore keeps everything in memory, for tests
// and for reading; queuetest proves a Store. dsn writes and reads reports; relay is the Transport
// that delivers by MX and SMTP, and has the SMTP handler that enqueues.
//
// # RFCs
//
//	RFC   section, feature                                  here
//	5321  4.5.4.1 retry strategy, 4.5.4 give-up time        yes, Backoff and the breaker
//	5321  4.5.5 null reverse-path gets no report            yes
//	5321  6.1 reliable delivery and replies by email        yes
//	5321  6.3 loops, by counting Received                   in relay
//	3461  4 NOTIFY, RET, ENVID, ORCPT                       yes; reports are in dsn
//	2852  DELIVERBY, both modes and trace                   yes, DeliverBy
//	4865  FUTURERELEASE                                     yes, HoldUntil
//	6710  MT-PRIORITY                                       yes, Priority orders the work of a route
//	6531  SMTPUTF8, 8689 REQUIRETLS                         kept, for the Transport to honour
package queue
