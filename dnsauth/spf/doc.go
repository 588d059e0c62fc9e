// Package spf tells whether a host may use a domain in MAIL FROM or HELO
// (Sender Policy Framework, RFC 7208).
//
// A record is parsed whole before anything of it is evaluated, so one syntax
// error anywhere is a permerror wherever a match would have been. A [Result] is
// data: what the peer or its domain did wrong is a status with a reason, never
// an error.
//
//	RFC            | section/feature                                     |
//	RFC 7208, 2.4  | MAIL FROM, HELO for the null reverse-path           | yes
//	RFC 7208, 4    | check_host(), limits of 4.6.4, counts in the result | yes
//	RFC 7208, 5    | all mechanisms, ptr included                        | yes
//	RFC 7208, 6    | redirect=, exp= with its text                       | yes
//	RFC 7208, 7    | macros and transformers                             | yes
//	RFC 7208, 9.1  | Received-SPF                                        | yes
//	RFC 8616       | internationalised domains in both identities        | yes
//	RFC 6652       | failure report modifiers                            | parsed as unknown
package spf
