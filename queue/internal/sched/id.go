package sched

import (
	"time"

	"github.com/mailblocks/mailblocks/queue"
)

// digits are in ASCII order, so that IDs sort as their numbers do, and leave out letters that
// look like others.
const digits = "0123456789BCDFGHJKLMNPQRSTVWXYZb"

const idLength = 13 // 13 × 5 bits hold 64

// FormatID gives a message number its text.
func FormatID(n uint64) queue.ID {
	var text [idLength]byte
	for i := idLength - 1; i >= 0; i-- {
		text[i] = digits[n&31]
		n >>= 5
	}
	return queue.ID(text[:])
}

var digitValue = func() (v [256]int8) {
	for i := range v {
		v[i] = -1
	}
	for i, c := range []byte(digits) {
		v[c] = int8(i)
	}
	return v
}()

// ParseID reads what FormatID wrote; ok is false for anything else.
func ParseID(id queue.ID) (n uint64, ok bool) {
	if len(id) != idLength || digitValue[id[0]] > 15 {
		return 0, false
	}
	for i := range len(id) {
		v := digitValue[id[i]]
		if v < 0 {
			return 0, false
		}
		n = n<<5 | uint64(v)
	}
	return n, true
}

// FirstID is where a new numbering begins: the time in microseconds, so that a queue that was
// deleted and made anew does not repeat IDs that stand in logs and Received lines.
func FirstID(now time.Time) uint64 { return uint64(max(now.UnixMicro(), 1)) }
