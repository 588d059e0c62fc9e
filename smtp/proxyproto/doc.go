// Package proxyproto lets a server stand behind a proxy or load balancer that tells, by a
// header at the beginning of each connection, whose connection it carries: the PROXY
// protocol, versions 1 and 2, of HAProxy's document proxy-protocol.txt. A Listener wraps the one
// the server would use, and serves SMTP, IMAP, POP3 or any other protocol alike.
//
//	section | what                                | done
//	2.1     | version 1                           | yes
//	2.2     | version 2: TCP over IPv4 and IPv6   | yes
//	2.2     | LOCAL, UNKNOWN, other families      | yes: the connection counts as the proxy's own
//	2.2     | additional data (TLS, CRC, ...)     | read over
//	4       | headers from trusted addresses only | yes
//
// With implicit TLS, the Listener stands below tls.NewListener: the header comes in the clear.
package proxyproto
