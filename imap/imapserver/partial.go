package imapserver

import (
	"strconv"

	"github.com/mailblocks/mailblocks/imap"
)

// partialRange is a range of results (RFC 9394, 4: partial-range), as the client wrote it:
// from the first, which is 1, or, when negative, from the last, which is -1.
type partialRange struct{ from, to int64 }

func (p partialRange) given() bool { return p.from != 0 }

func (p partialRange) String() string {
	return strconv.FormatInt(p.from, 10) + ":" + strconv.FormatInt(p.to, 10)
}

// partialRange takes SP and a range.
func (c *conn) partialRange() (p partialRange) {
	c.dec.SP()
	number := func(sign int64) int64 {
		n := int64(c.dec.Number())
		if n == 0 {
			c.dec.Fail("results are counted from one")
		}
		return sign * n
	}
	sign := int64(1)
	if c.dec.Accept('-') {
		sign = -1
	}
	p.from = number(sign)
	c.dec.Expect(':')
	if sign < 0 {
		c.dec.Expect('-')
	}
	p.to = number(sign)
	return p
}

// bounds returns the half-open range of positions, counted from zero, among n results.
func (p partialRange) bounds(n int64) (start, end int64) {
	start, end = min(p.from, p.to), max(p.from, p.to)
	if start < 0 {
		start, end = n+start+1, n+end+1
	}
	start = max(start-1, 0)
	return min(start, n), max(min(end, n), min(start, n))
}

// partialOf returns the numbers of set that stand at the range's places.
func partialOf[T ~uint32](p partialRange, set imap.NumSet[T]) (out imap.NumSet[T]) {
	start, end := p.bounds(int64(set.Len()))
	at := int64(0) // the place of the range's first number
	for _, r := range set {
		n := int64(r.Last-r.First) + 1
		if from, to := max(start-at, 0), min(end-at, n); from < to {
			out.AddRange(r.First+T(from), r.First+T(to-1))
		}
		at += n
	}
	return out
}
