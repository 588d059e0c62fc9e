// Package saslauth makes the server side of SASL mechanisms from callbacks: Accounts is an
// authenticator as the servers of this module want it (smtp, imapserver and pop3 each declare the
// same interface), so one value serves all three. For clients there is NewScramClient, which
// go-sasl lacks.
//
// What a peer learns is the same for an unknown user and a wrong password, and takes
// the same time, as far as the callbacks let it: CheckPassword shows how.
//
//	RFC        | what                                         | done
//	4422       | SASL                                         | yes
//	4616       | PLAIN                                        | yes
//	4013       | SASLprep                                     | yes, of what comes by PLAIN and LOGIN
//	—          | LOGIN                                        | yes
//	5802, 7677 | SCRAM-SHA-1, SCRAM-SHA-256, and -PLUS        | yes
//	9266       | channel binding tls-exporter                 | yes
//	5929       | channel binding tls-server-end-point         | yes, where the certificate is told
//	7628       | OAUTHBEARER                                  | yes
//	—          | XOAUTH2                                      | yes
//	2195       | CRAM-MD5                                     | yes, off unless its callback is set
//	4422, A    | EXTERNAL                                     | yes, for client certificates
package saslauth
