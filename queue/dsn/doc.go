// Package dsn writes the reports that senders get about their mail, and reads those of others.
//
//	reports := &dsn.Writer{Hostname: "mx.example.org"}
//	runner := queue.Runner{Store: store, Transport: relay, Report: reports.Report}
//
// A report is a multipart/report message of three parts: a text for people, the delivery status for
// programs, and the message it is about, or its header. It is written as it is read: the message that
// is returned is never held in memory. When an address is not ASCII, or the message was sent with
// SMTPUTF8, the report takes the form of RFC 6533.
//
// What comes back to a reverse-path is read by [Parse] (delivery reports) and [ParseFeedback] (complaints); [ReadBounce] tells those who
// keep lists what to do about it.
//
//	RFC   section, feature                                         here
//	3461  4.3 RET; 6.2 only failures return the whole message      yes
//	3461  4.4 ENVID, 4.2 ORCPT, given back unchanged               yes
//	3461  6.1 null return path, NOTIFY=NEVER                       yes
//	3462, 6522  multipart/report                                   yes
//	3464  2.2 fields of the message                                yes, but for DSN-Gateway and Received-From-MTA
//	3464  2.3 fields of each recipient                             yes, but for Final-Log-ID
//	3464  2.3.3 action expanded                                    read, not written
//	3834  Auto-Submitted                                           yes
//	5965  3 feedback reports                                       read
//	6533  4 UTF-8 form, 3 utf-8 addresses                          yes; Localized-Diagnostic is not written
package dsn
