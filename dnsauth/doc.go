// Package dnsauth checks everything that the DNS can tell about a message while
// the message arrives: who may send for the domain (SPF), who signed it (DKIM),
// what the author's domain wishes (DMARC), and what the client's address is
// called and listed as.
//
// A [Check] begins at MAIL FROM, takes the message once in any chunks, and ends
// in a [Report]. Look-ups run beside the transfer: those of SPF, of the reverse
// name and of lists from MAIL FROM on, those of DKIM keys and DMARC records from
// the end of the header on, all within one budget of queries and one deadline.
//
// What the peer or its domain did wrong is data in the report, never an error.
// The parts stand in packages of their own, each usable alone:
//
//	RFC              | package                               |
//	RFC 7208         | dnsauth/spf                           | yes
//	RFC 6376, 8301, 8463, 8616 | dnsauth/dkim                | yes
//	RFC 9989, 7489   | dnsauth/dmarc                         | yes
//	RFC 8601         | dnsauth/authres, dnsauth/iprev        | yes
//	RFC 5782         | dnsauth/dnsbl                         | yes
//	RFC 8617         | dnsauth/arc                           | yes
//	RFC 8461, 7672   | dnsauth/mtasts, dnsauth/dane          | yes
//	RFC 8460, 9990, 9991 | dnsauth/tlsrpt, dnsauth/dmarcrpt  | yes
package dnsauth
