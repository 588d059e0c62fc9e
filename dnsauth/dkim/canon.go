package dkim

// Canonicalization is how much change on the way a signature tolerates
// (RFC 6376, 3.4).
type Canonicalization string

// The canonicalizations of RFC 6376, 3.4.
const (
	Simple  Canonicalization = "simple"
	Relaxed Canonicalization = "relaxed"
)
