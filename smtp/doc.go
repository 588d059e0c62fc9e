// Package smtp is an SMTP server and client, with submission and LMTP as modes.
//
// A Server knows the protocol and nothing about storage: a Handler decides. Embed Base and
// write the methods you care about, or give HandlerFunc a function that takes messages;
// Middleware wraps a Handler around any of its methods. A Client sends any number of
// messages over one connection, each to many recipients, and tells the server's reply for each.
//
// # RFCs
//
//	RFC        | what                                    | server            | client
//	5321       | SMTP                                    | yes               | yes
//	5321, 4.4  | Received                                | Transaction.Received |
//	2033       | LMTP                                    | yes               | yes
//	6409       | submission                              | AUTH is required; fix-ups of the header by smtp/middleware | yes
//	8314       | implicit TLS                            | yes               | yes
//	3207       | STARTTLS                                | yes               | yes
//	4954       | AUTH                                    | yes               | yes
//	2920       | PIPELINING                              | yes               | yes, of whole messages by SendAll
//	1870       | SIZE                                    | yes               | yes
//	6152       | 8BITMIME                                | yes               | yes
//	6531       | SMTPUTF8                                | yes               | yes
//	2034, 3463 | ENHANCEDSTATUSCODES                     | yes               | yes
//	3030       | CHUNKING                                | yes               | yes
//	3030       | BINARYMIME                              | on request        | yes
//	3461, 6533 | DSN: RET, ENVID, NOTIFY, ORCPT          | on request, parsed and handed over | yes
//	8689       | REQUIRETLS                              | on request, handed over | yes; the caller verifies
//	9422       | LIMITS                                  | MAILMAX, RCPTMAX  | MAILMAX, RCPTMAX, RCPTDOMAINMAX
//	4865       | FUTURERELEASE                           | on request, handed over | yes
//	2852       | DELIVERBY                               | on request, handed over | yes
//	6710       | MT-PRIORITY                             | on request, handed over | yes
//	7293       | RRVS                                    | on request, handed over | yes
//	3865       | NO-SOLICITING                           | on request; what the server does not want is refused | yes
//	—          | XCLIENT                                 | from trusted addresses | yes
//	—          | PROXY, versions 1 and 2                 | package smtp/proxyproto | no
//
// "On request" means that Server.Extensions names it: the Handler must keep what it promises.
// Mechanisms for AUTH stand in package smtp/saslauth, or come from any Authenticator.
//
// # Line ends
//
// Only CRLF ends a line and only CRLF.CRLF a message, in both directions. A Server refuses a
// bare CR or LF, at once, or makes it CRLF (Newlines); a Client makes it CRLF. So nothing is
// smuggled past a Server or by a Client.
//
// # Cost
//
// A Server has one goroutine for a connection, holds no buffers while it waits for a
// command, answers a pipelined batch in one write, and hands a message to the Handler as it
// stands in the read buffer. A connection's next message like the last costs no allocation.
package smtp
