// Package dmarc tells whether the domain in a message's From field is used with
// its owner's consent, and what the owner wishes for messages where it is not
// (DMARC, RFC 9989; before it RFC 7489).
//
// The records of all names of a tree walk are asked for at once, so an
// evaluation takes one round trip where the walk as written takes up to eight.
//
//	RFC               | section/feature                                     |
//	RFC 9989, 4.7     | records; unknown tags and bad values are passed over | yes
//	RFC 9989, 4.10    | DNS tree walk, psd=, at most eight queries           | yes
//	RFC 9989, 4.10.1  | p=, sp=, np=, t=                                     | yes
//	RFC 9989, 4.10.2  | strict and relaxed alignment                         | yes
//	RFC 9989, 5.3.1   | author domains, U-labels converted                   | yes
//	RFC 9989, 11.5    | several author domains: the strictest outcome        | yes
//	RFC 7489, 3.2     | organizational domain by public suffix list          | option
//	RFC 7489, 6.3     | pct=                                                 | parsed, not applied
//	RFC 9990, 3       | external report destinations                         | no
//	RFC 9990, 9991    | reports                                              | no
package dmarc
