// Package middleware holds handlers' wrappers that many servers want, each a smtp.Middleware:
// put them together with smtp.Chain, the outermost first.
//
//	Received    | the trace field on top of each message          | RFC 5321, 4.4
//	MaxHops     | messages that go round in circles               | RFC 5321, 6.3
//	FixUp       | Date and Message-ID, where a client left them out | RFC 6409, 8
//	RequireAuth | nothing without AUTH                            | RFC 6409, 4.3
//	SenderLogin | nobody sends in another's name                  | RFC 6409, 6.1
//	FixSender   | Sender, where From is not the identity's address | RFC 6409, 8.1
//	RateLimit   | messages and recipients, by address or identity; connections |
//	MaxSessions | sessions of one identity at a time              |
//	MaxRecipients | recipients, by who sends                      | RFC 5321, 4.5.3.1.10
//	Tarpit      | refusals come slowly                            |
//	Log         | a line for each message                         |
//	Trace       | spans around each decision                      |
//
// Clients that talk before the greeting are for Server.GreetDelay, and connections open at a time
// for Server.MaxConnections and MaxConnectionsPerAddress: they come before any Handler.
package middleware
