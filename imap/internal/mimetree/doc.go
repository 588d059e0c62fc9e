// Package mimetree finds out how a message is made: the tree of its parts with their places
// in the octets (RFC 2045, RFC 2046), and the fields of its header that IMAP's ENVELOPE
// shows. It reads a message once, from its beginning to its end, holds none of it, and takes
// whatever mail holds: there is no message that has no structure.
//
//	RFC   subject                                                here
//	2045  MIME header fields                                     yes
//	2046  multipart, message/rfc822                              yes; message/partial stays a leaf
//	2183  Content-Disposition                                    yes
//	2231  continued parameters are joined (8)                    yes; their encoding is left as it is
//	3501  ENVELOPE, BODY, BODYSTRUCTURE, part numbers (7.4.2)    yes
//	5322  addresses, also obsolete and broken ones               yes
//	6532  message/global                                         yes, as message/rfc822
package mimetree
