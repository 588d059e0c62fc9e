// Package dmarcrpt collects DMARC results and writes and reads the reports about
// them: aggregate reports (RFC 9990) and failure reports (RFC 9991, RFC 6591).
//
// Whether an address outside a domain agreed to take its reports tells
// dmarc.ReportDestination.
//
//	RFC             | section/feature                                  |
//	RFC 9990, 3     | aggregate reports: XML, gzip; extensions skipped | yes
//	RFC 9990, 3.5   | Report-ID, file name, subject, the message       | yes
//	RFC 7489, C     | older aggregate reports                          | read
//	RFC 9991, 6591  | failure reports                                  | yes
package dmarcrpt
