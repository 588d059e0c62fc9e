// Package pop3 serves mail by POP3. A [Server] knows the protocol; the mail comes from a
// [Maildrop], which package maildrop makes of any IMAP mailbox, and which package pop3test
// proves to keep its contract.
//
// Deletions are applied once, when the client says QUIT: a connection that breaks, or a
// server that crashes, before that deletes nothing. Messages are streamed; a session holds a
// few KiB whatever their size.
//
//	RFC   subject                                  here
//	1939  POP3, with TOP, UIDL and APOP            yes; APOP is off by default
//	2449  CAPA, PIPELINING, EXPIRE, LOGIN-DELAY,   yes
//	      response codes
//	2595  STLS                                     yes
//	3206  SYS and AUTH response codes              yes
//	5034  AUTH (SASL)                              yes, the mechanisms of the Authenticator
//	6856  UTF8, UTF8 USER, LANG                    yes, but messages with UTF-8 header fields
//	                                               are sent as they are in either mode
//	8314  implicit TLS                             yes
package pop3
