// Package returnpath writes reverse-paths that tell, when a report comes back to them, whom it is about: [VERP] for
// those who send to many, [SRS] for those who forward. Both are functions of addresses, with an authentication code in the address, and
// need no memory.
//
//	srs := &returnpath.SRS{Domain: "forward.example", Keys: [][]byte{key}}
//	transport.ReversePath = func(a *queue.Attempt, r *queue.Recipient) string { return srs.Forward(a.Envelope.ReversePath) }
//
// Whoever receives for the domain gives addresses back to Reverse, or Decode, and refuses those it does not know at
// RCPT: so reports about mail that others sent in our name never come in.
//
//	RFC   section, feature                                       here
//	5321  4.5.3.1.1 local parts of at most 64 octets             yes: what would be longer is left alone, or goes without (VERP)
//	5321  4.5.5 the null reverse-path                            yes: it stays what it is
//	6531  addresses beyond ASCII                                 yes, as they are
package returnpath
