package imap

import (
	"cmp"
	"errors"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
)

// UID is a unique identifier of a message in its mailbox (RFC 9051, 2.3.1.1). Zero is none.
type UID uint32

// SeqNum is a message sequence number, counted from 1 (RFC 9051, 2.3.1.2).
type SeqNum uint32

// UIDSet is a set of UIDs.
type UIDSet = NumSet[UID]

// SeqSet is a set of message sequence numbers.
type SeqSet = NumSet[SeqNum]

// A Range is all numbers from First to Last, both included.
type Range[T ~uint32] struct{ First, Last T }

// NumSet is a set of numbers as ascending ranges that neither overlap nor touch. The zero
// value is the empty set. Add keeps the order; a literal must already be in it. Its size is
// the number of ranges, not of numbers: 1:4294967295 costs as much as 1.
type NumSet[T ~uint32] []Range[T]

// AllUIDs holds every UID that a message can have.
var AllUIDs = UIDSet{{1, math.MaxUint32}}

// NumSetOf returns the set of the given numbers.
func NumSetOf[T ~uint32](nums ...T) NumSet[T] {
	var s NumSet[T]
	for _, n := range nums {
		s.Add(n)
	}
	return s
}

// Add adds n. It is cheapest when n is larger than all numbers in the set.
func (s *NumSet[T]) Add(n T) { s.AddRange(n, n) }

// AddRange adds all numbers from first to last, in either order.
func (s *NumSet[T]) AddRange(first, last T) {
	if first > last {
		first, last = last, first
	}
	r := *s
	if n := len(r); n == 0 || r[n-1].Last < math.MaxUint32 && r[n-1].Last+1 < first {
		*s = append(r, Range[T]{first, last})
		return
	}
	// All ranges in [i,j) overlap or touch the new one.
	i, _ := slices.BinarySearchFunc(r, first, func(x Range[T], first T) int {
		if x.Last < first && x.Last+1 < first {
			return -1
		}
		return 1
	})
	j := i
	for ; j < len(r) && (r[j].First <= last || r[j].First-1 == last); j++ {
		first, last = min(first, r[j].First), max(last, r[j].Last)
	}
	*s = slices.Replace(r, i, j, Range[T]{first, last})
}

// Contains reports whether n is in the set.
func (s NumSet[T]) Contains(n T) bool {
	i, _ := slices.BinarySearchFunc(s, n, func(x Range[T], n T) int {
		if x.Last < n {
			return -1
		}
		return 1
	})
	return i < len(s) && s[i].First <= n
}

// Len returns how many numbers are in the set.
func (s NumSet[T]) Len() uint64 {
	var n uint64
	for _, r := range s {
		n += uint64(r.Last-r.First) + 1
	}
	return n
}

// Max returns the largest number, zero when the set is empty.
func (s NumSet[T]) Max() T {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1].Last
}

// All returns the numbers in ascending order. Intersect a set that came from a peer with
// what is there first: 1:4294967295 has four thousand million of them.
func (s NumSet[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, r := range s {
			for n := r.First; ; n++ {
				if !yield(n) {
					return
				}
				if n == r.Last {
					break
				}
			}
		}
	}
}

// Intersect returns the numbers that are in both sets.
func (s NumSet[T]) Intersect(t NumSet[T]) NumSet[T] {
	var out NumSet[T]
	for i, j := 0, 0; i < len(s) && j < len(t); {
		if first, last := max(s[i].First, t[j].First), min(s[i].Last, t[j].Last); first <= last {
			out = append(out, Range[T]{first, last})
		}
		if s[i].Last < t[j].Last {
			i++
		} else {
			j++
		}
	}
	return out
}

// Subtract returns the numbers of s that are not in t.
func (s NumSet[T]) Subtract(t NumSet[T]) NumSet[T] {
	var out NumSet[T]
	j := 0
	for _, r := range s {
		for j < len(t) && t[j].Last < r.First {
			j++
		}
		first, done := r.First, false
		for k := j; k < len(t) && t[k].First <= r.Last; k++ {
			if t[k].First > first {
				out = append(out, Range[T]{first, t[k].First - 1})
			}
			if t[k].Last >= r.Last {
				done = true
				break
			}
			first = t[k].Last + 1
		}
		if !done {
			out = append(out, Range[T]{first, r.Last})
		}
	}
	return out
}

// Union returns the numbers that are in either set.
func (s NumSet[T]) Union(t NumSet[T]) NumSet[T] {
	if len(s) < len(t) {
		s, t = t, s
	}
	out := slices.Clone(s)
	for _, r := range t {
		out.AddRange(r.First, r.Last)
	}
	return out
}

// String returns the set in IMAP's form: 1:3,7,9:10. It is empty for the empty set.
func (s NumSet[T]) String() string { return string(s.AppendText(nil)) }

// AppendText appends String's form of the set to b.
func (s NumSet[T]) AppendText(b []byte) []byte {
	for i, r := range s {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(r.First), 10)
		if r.Last != r.First {
			b = append(b, ':')
			b = strconv.AppendUint(b, uint64(r.Last), 10)
		}
	}
	return b
}

// SetSpec is a set as a client writes it (RFC 9051, 9: sequence-set), where zero stands for
// "*", the largest number there is. Resolve makes a NumSet of it.
type SetSpec []Range[uint32]

// ErrBadSet is returned for text that is not a sequence-set.
var ErrBadSet = errors.New("imap: malformed sequence set")

// ParseSetSpec parses a sequence-set such as 2,4:7,12:*. Numbers are 1 to 2^32-1. The
// result has at most one range for every two octets of s.
func ParseSetSpec(s string) (SetSpec, error) {
	spec := make(SetSpec, 0, strings.Count(s, ",")+1)
	for part := range strings.SplitSeq(s, ",") {
		a, b, isRange := strings.Cut(part, ":")
		first, err := parseSetNum(a)
		if err != nil {
			return nil, err
		}
		last := first
		if isRange {
			if last, err = parseSetNum(b); err != nil {
				return nil, err
			}
		}
		spec = append(spec, Range[uint32]{first, last})
	}
	return spec, nil
}

func parseSetNum(s string) (uint32, error) {
	if s == "*" {
		return 0, nil
	}
	if s == "" || s[0] < '1' || s[0] > '9' {
		return 0, ErrBadSet
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, ErrBadSet
	}
	return uint32(n), nil
}

// String returns the spec as a client would write it.
func (s SetSpec) String() string {
	var b []byte
	num := func(n uint32) {
		if n == 0 {
			b = append(b, '*')
		} else {
			b = strconv.AppendUint(b, uint64(n), 10)
		}
	}
	for i, r := range s {
		if i > 0 {
			b = append(b, ',')
		}
		num(r.First)
		if r.Last != r.First {
			b = append(b, ':')
			num(r.Last)
		}
	}
	return string(b)
}

// Resolve returns the numbers that spec stands for when largest is the largest there is.
// With largest zero (an empty mailbox) "*" stands for nothing. 559:* always contains the
// largest number, also when it is below 559 (RFC 9051, 6.4.9).
func Resolve[T ~uint32](spec SetSpec, largest T) NumSet[T] {
	ranges := make([]Range[T], 0, len(spec))
	for _, r := range spec {
		first, last := T(r.First), T(r.Last)
		if first == 0 {
			first = largest
		}
		if last == 0 {
			last = largest
		}
		if first == 0 || last == 0 {
			continue
		}
		ranges = append(ranges, Range[T]{min(first, last), max(first, last)})
	}
	// Sorting first keeps a hostile set of n ranges at n log n.
	slices.SortFunc(ranges, func(a, b Range[T]) int { return cmp.Compare(a.First, b.First) })
	var out NumSet[T]
	for _, r := range ranges {
		out.AddRange(r.First, r.Last)
	}
	return out
}
