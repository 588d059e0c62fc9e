package wire

import "io"

// What a client needs of a Decoder beyond what a server does.

// While takes the octets that come next as long as ok likes them. They may be none.
func (d *Decoder) While(ok func(byte) bool) string { return d.while(ok) }

// Rest takes all that is left of the line: human-readable text.
func (d *Decoder) Rest() string { return d.while(func(byte) bool { return true }) }

// Size returns how many octets of lines and of literals held in memory were read since Next.
func (d *Decoder) Size() int { return d.total }

// IOErr returns the error of the connection, after which nothing more comes.
func (d *Decoder) IOErr() error { return d.ioErr }

// SkipLiteral passes over a literal or literal8 of any size that comes next.
func (d *Decoder) SkipLiteral() {
	d.Literal()
	_, _ = io.Copy(io.Discard, d.LiteralReader())
	d.LiteralDone()
}
