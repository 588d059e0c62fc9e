// Package authres writes, reads and strips Authentication-Results fields, by
// which a receiving server tells everything behind it what it has checked.
//
// Readers trust such a field by its authserv-id alone. So [Header.String] lets
// nothing that a sender chose end a value, the field or a line of it, and
// [Strip] removes fields that arrive under our name.
//
//	RFC           | section/feature                                    |
//	RFC 8601, 2.2 | syntax, read with comments, quoting and versions   | yes
//	RFC 8601, 2.2 | written folded, quoted where needed                | yes
//	RFC 8601, 5   | removing forged fields                             | yes
//	RFC 8601, 2.7 | registered methods and results                     | any keyword
//	RFC 8601, 5   | UTF-8 in values                                    | yes
package authres
