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
//
// Not here: flags kept in headers (Status, X-Status) are the user's to read.
package mbox
