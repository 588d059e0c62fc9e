// Package arc verifies and extends the Authenticated Received Chain of a message: what each
// server on its way has found when it checked the message, sealed against later
// change (RFC 8617).
//
// A chain that passes says who vouches for which results, not that they are
// true: that depends on whether one trusts those who sealed.
//
//	RFC             | section/feature                               |
//	RFC 8617, 4     | the three fields, instances up to 50          | yes
//	RFC 8617, 5.2   | validation, oldest-pass                       | yes
//	RFC 8617, 5.1   | sealing                                       | yes
//	RFC 8463, 8301  | ed25519-sha256; no rsa-sha1, no short keys    | yes
package arc
