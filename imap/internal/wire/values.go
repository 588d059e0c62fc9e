package wire

import (
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

// Number takes a number of 32 bits.
func (d *Decoder) Number() uint32 { return uint32(d.number(32)) }

// Number64 takes a number of 63 bits (RFC 9051, 9: number64; RFC 7162: mod-sequence-valzer).
func (d *Decoder) Number64() uint64 { return d.number(63) }

func (d *Decoder) number(bits int) uint64 {
	s := d.while(func(c byte) bool { return c >= '0' && c <= '9' })
	n, err := strconv.ParseUint(s, 10, bits)
	if err != nil {
		d.Fail("expected a number of %d bits", bits)
		return 0
	}
	return n
}

// Set takes a sequence-set.
func (d *Decoder) Set() imap.SetSpec {
	s := d.while(func(c byte) bool { return c >= '0' && c <= '9' || c == ':' || c == ',' || c == '*' })
	spec, err := imap.ParseSetSpec(s)
	if err != nil {
		d.Fail("expected a set of numbers")
	}
	return spec
}

// IsSet reports whether a set comes next.
func (d *Decoder) IsSet() bool {
	c := d.Peek()
	return c >= '0' && c <= '9' || c == '*'
}

// Flag takes a flag. \Recent and unknown flags that begin with a backslash are taken too:
// the caller decides what they are worth.
func (d *Decoder) Flag() imap.Flag {
	prefix := ""
	if d.Accept('\\') {
		prefix = `\`
	}
	// Some servers and clients use "]" in keywords (RFC 9051 has no such flag-keyword).
	return imap.Flag(prefix + d.Atom())
}

// FlagList takes flags in parentheses.
func (d *Decoder) FlagList() []imap.Flag {
	d.Expect('(')
	var flags []imap.Flag
	for d.OK() && !d.Accept(')') {
		if len(flags) > 0 {
			d.SP()
		}
		flags = append(flags, d.Flag())
	}
	return flags
}

// List takes a list in parentheses, calling item for each element. It may be empty.
func (d *Decoder) List(item func()) {
	d.Expect('(')
	for n := 0; d.OK() && !d.Accept(')'); n++ {
		if n > 0 {
			d.SP()
		}
		item()
	}
}

// DateTime takes a quoted date-time: "17-Jul-1996 02:44:25 -0700".
func (d *Decoder) DateTime() time.Time {
	if d.Peek() != '"' {
		d.Fail("expected a date-time")
		return time.Time{}
	}
	s := d.quoted()
	t, err := time.Parse("_2-Jan-2006 15:04:05 -0700", s)
	if err != nil || len(s) != 26 {
		d.Fail("malformed date-time")
		return time.Time{}
	}
	return t
}

// Date takes a date, quoted or not: 1-Feb-1994. It is midnight in UTC of that day.
func (d *Decoder) Date() time.Time {
	var s string
	if d.Peek() == '"' {
		s = d.quoted()
	} else {
		s = d.while(isAtomChar)
	}
	t, err := time.Parse("2-Jan-2006", strings.TrimPrefix(s, "0"))
	if err != nil {
		d.Fail("malformed date")
		return time.Time{}
	}
	return t
}
