// Package tlsrpt collects how TLS with other domains' mail hosts went, and writes
// and reads the reports about it (RFC 8460).
//
//	RFC            | section/feature                            |
//	RFC 8460, 3    | TXT record                                 | yes
//	RFC 8460, 4    | reports: collecting, writing, reading      | yes
//	RFC 8460, 5.1  | file names, gzip                           | yes
//	RFC 8460, 5.3  | mail: fields and parts of the message      | reading; writing and signing are the caller's
//	RFC 8460, 5.4  | HTTPS POST                                 | no: the caller's
package tlsrpt
