// Package wire reads and writes the lexical elements of IMAP (RFC 9051, 9): atoms, strings,
// literals, numbers, sets, dates, flags and mailbox names, with bounds on everything a peer
// can make long.
package wire
