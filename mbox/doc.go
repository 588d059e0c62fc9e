// Package mbox reads and writes mailboxes that are one file: message after message, each
// under a line "From sender date".
//
// [Reader] streams the messages of any of the dialects that differ in how they keep a body
// from looking like a separator, and [Detect] tells them apart. Its memory does not grow with
// the file. [Writer] writes them; what it writes as mboxrd comes back octet by octet, whatever
// it is. [Lock] and [Append] let several programs share the file: Append either adds its
// messages whole and durably, or leaves the file as it was, also after a crash (with one exception,
// named there).
//
// [Store] is a tree of such files with the whole mailbox contract of package imap over it. UIDs,
// flags and keywords stand in header fields, as Dovecot keeps them, so that both may serve one
// tree; what those can not hold (mod-sequences, what was expunged, where everything stands) is
// in an index beside each file, which is made anew when it is lost. Every change of what is
// there is written down whole in a journal first: a crash at any moment leaves the old state or
// the new one, also where the file's end moves. Other programs may append, rewrite and expunge
// under the locks at any time.
//
//	file      = *( separator message LF )         the LF is the separator's, not the message's
//	separator = "From " [ sender ] SP date LF     sender: one word, or a quoted local part
//	date      = [ day-name [","] ] ( month day time [zone] year [zone] / day month year time [zone] )
//
// Files end their lines with LF. Those that end them with CRLF are read as they are.
//
//	dialect  "From " in a body     length of a body
//	mboxrd   >From, >From >>From   by separators
//	mboxo    >From                 by separators
//	mboxcl   >From                 Content-Length, where it leads to a separator or the end
//	mboxcl2  From                  Content-Length, likewise
//	dovecot  From                  Content-Length, likewise; else by separators
//
// A line that begins with "From " and holds no valid date is text; [Reader] tells of it, and
// of other places of doubt.
//
//	RFC   subject                               here
//	4155  default format, appendix A            yes: sender, UTC date, LF; other dates are read
//	4155  application/mbox, its parameter       no
//	976   "remote from" after the date          yes, read and passed over
//	9051  UIDs, flags, names                    yes, through imap.Store
//	3501  \Recent: no O in Status               yes
//	6154  special uses                          yes, set when a mailbox is created
//	7162  mod-sequences, expunged UIDs          yes, the last 65,536 expunges of a mailbox
//	8474  object ids                            partly: of mailboxes, not of messages
//	8514  SAVEDATE                              yes, while the index is there
//
// Limits of a Store: a mailbox takes one change at a time, whole; an expunge writes all that
// follows it twice; an open body is a copy, in memory or a temporary file, because the file may
// be written over at any time; 500 keywords a mailbox; Dovecot 2.3, expunging in a file that both
// serve, may lose an octet of a body that holds a line which could be a separator (also of its own); a Rename of several mailboxes that a crash
// cuts short leaves some under their old names.
package mbox
