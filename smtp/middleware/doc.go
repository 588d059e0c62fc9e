// Package middleware holds handlers' wrappers that many servers want, each a smtp.Middleware:
// put them together with smtp.Chain, the outermost first.
//
//	Received    | the trace field on top of each message          | RFC 5321, 4.4
//	MaxHops     | messages that go round in circles               | RFC 5321, 6.3
//	FixUp       | Date and Message-ID, where a client left them out | RFC 6409, 8
//	RequireAuth | nothing without AUTH                            | RFC 6409, 4.3
//	SenderLogin | nobody sends in another's name                  | RFC 6409, 6.1
//	RateLimit   | messages and recipients, by address or identity |
//	Tarpit      | refusals come slowly                            |
//	Log         | a line for each message                         |
package middleware
