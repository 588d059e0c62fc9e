package imap

import (
	"context"
	"iter"
)

// ParsedCache is implemented by mailboxes that keep what a server found out by reading their
// messages, so that neither it nor the next one has to read them again. What is kept is the
// server's own affair: octets, a few for each message, that the store gives back as they were.
// It costs time, never truth, when they are lost. They are never those of another message: a
// UID's octets end with the UIDVALIDITY, and what is damaged is as good as not there.
type ParsedCache interface {
	// Parsed yields what is kept of the messages of set, of each once, in any order. The octets
	// are valid until the next ones.
	Parsed(ctx context.Context, set UIDSet) iter.Seq2[UID, []byte]

	// KeepParsed keeps octets for messages, in place of earlier ones. It may keep nothing.
	KeepParsed(ctx context.Context, parsed map[UID][]byte)
}
