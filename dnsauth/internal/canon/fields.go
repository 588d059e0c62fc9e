package canon

import (
	"hash/maphash"
	"strings"

	"github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"
)

// Fields finds the fields of a header by name, from the bottom up, as h=
// lists them (RFC 6376, 5.4.2). It is a hash table with a random seed over
// names that stay where they are in the header, so selecting the fields of a
// signature takes time linear in the lengths of h= and of the header, whatever
// they hold.
type Fields struct {
	header *msgheader.Header
	seed   maphash.Seed
	table  []int32 // slot → group+1
	groups []group
	above  []int32 // field → next field of the same name above it, or -1
	lower  []byte  // scratch, at first in short
	short  [64]byte
}

// group are the fields of one name.
type group struct {
	first  int   // a field, for its name
	last   int32 // the lowest one
	count  int
	cursor int32 // the next one to take, for the signature at hand
	used   int   // taken
}

// NewFields returns the index of a header's fields.
func NewFields(h *msgheader.Header) *Fields {
	size := 16
	for size < 2*len(h.Fields) {
		size *= 2
	}
	numbers := make([]int32, size+len(h.Fields))
	x := &Fields{
		header: h,
		seed:   maphash.MakeSeed(),
		table:  numbers[:size],
		above:  numbers[size:],
		groups: make([]group, 0, len(h.Fields)),
	}
	x.lower = x.short[:0]
	for i := range h.Fields {
		name := h.Name(i)
		if len(name) == 0 {
			continue
		}
		g, slot := x.find(name)
		if g == nil {
			x.groups = append(x.groups, group{first: i, last: -1})
			x.table[slot] = int32(len(x.groups))
			g = &x.groups[len(x.groups)-1]
		}
		x.above[i] = g.last
		g.last = int32(i)
		g.count++
	}
	return x
}

// find returns the group of a name, or nil and the slot that is free for it.
func (x *Fields) find(name []byte) (*group, int) {
	x.lower = append(x.lower[:0], name...)
	for i, c := range x.lower {
		if 'A' <= c && c <= 'Z' {
			x.lower[i] = c | 0x20
		}
	}
	mask := len(x.table) - 1
	slot := int(maphash.Bytes(x.seed, x.lower)) & mask
	for ; x.table[slot] != 0; slot = (slot + 1) & mask {
		g := &x.groups[x.table[slot]-1]
		if EqualFold(x.header.Name(g.first), x.lower) {
			return g, slot
		}
	}
	return nil, slot
}

func (x *Fields) named(name string) *group {
	x.lower = append(x.lower[:0], name...)
	g, _ := x.find(x.lower)
	return g
}

// once are the fields that a message has at most one of (RFC 5322, 3.6, and
// RFC 2045, 3), and that readers are shown or that say how to show the rest.
var once = []string{
	"From", "Sender", "Reply-To", "To", "Cc", "Message-ID", "In-Reply-To", "References",
	"Subject", "Date", "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
}

// AppendSigned appends the fields that names list, each with its line end. extra
// is the name of a field, out of those that may be there only once, of which
// the header has more than names cover.
func (x *Fields) AppendSigned(dst []byte, names []string, relaxed bool) (_ []byte, extra string) {
	for i := range x.groups {
		x.groups[i].cursor, x.groups[i].used = x.groups[i].last, 0
	}
	for _, name := range names {
		g := x.named(name)
		if g == nil || g.cursor < 0 {
			continue // a field that must not be added
		}
		dst = AppendHeader(dst, x.header, int(g.cursor), relaxed)
		dst = append(dst, "\r\n"...)
		g.cursor = x.above[g.cursor]
		g.used++
	}
	for i := range x.groups {
		if g := &x.groups[i]; g.used > 0 && g.count > g.used {
			if name := onceName(x.header.Name(g.first)); name != "" {
				return dst, name
			}
		}
	}
	return dst, ""
}

func onceName(field []byte) string {
	for _, name := range once {
		if strings.EqualFold(name, string(field)) {
			return name
		}
	}
	return ""
}

// CountOf returns how many fields of a name there are.
func (x *Fields) CountOf(name string) int {
	if g := x.named(name); g != nil {
		return g.count
	}
	return 0
}

// EqualFold compares a field's name with one in lower case.
func EqualFold(b, lower []byte) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
