package inflate

const (
	maxLit, maxDist = 288, 32
	maxBits         = 15 // of a code
	fastBits        = 9
)

// huffman is a code (RFC 1951, 3.2.2). Short codes are looked up by the bits that come; for
// long ones the symbols are counted up as the code was made.
type huffman struct {
	fast    [1 << fastBits]uint16 // symbol<<4 | bits; zero: none so short
	count   [maxBits + 1]uint16   // codes of each length
	symbols [maxLit]uint16        // by code
}

// build makes the code with the given lengths. It reports false when there is none, or when
// it leaves codes unused: only a single code of one bit may do that, and no code at all.
func (h *huffman) build(lengths []uint8) bool {
	h.fast = [len(h.fast)]uint16{}
	h.count = [len(h.count)]uint16{}
	used := 0
	for _, n := range lengths {
		if n > 0 {
			h.count[n]++
			used++
		}
	}
	free := 1 // codes that are left
	var next, at [maxBits + 2]uint16
	for n := 1; n <= maxBits; n++ {
		next[n] = (next[n-1] + h.count[n-1]) << 1
		at[n+1] = at[n] + h.count[n]
		if free = free<<1 - int(h.count[n]); free < 0 {
			return false
		}
	}
	if free > 0 && !(used == 0 || used == 1 && h.count[1] == 1) {
		return false
	}
	for symbol, n := range lengths {
		if n == 0 {
			continue
		}
		h.symbols[at[n]] = uint16(symbol)
		at[n]++
		code := next[n]
		next[n]++
		if n <= fastBits {
			for i := reverse(code, n); i < len(h.fast); i += 1 << n {
				h.fast[i] = uint16(symbol)<<4 | uint16(n)
			}
		}
	}
	return true
}

// reverse returns the n bits of code in the order in which they come.
func reverse(code uint16, n uint8) (r int) {
	for range n {
		r = r<<1 | int(code&1)
		code >>= 1
	}
	return r
}

type result uint8

const (
	found   result = iota
	short          // more bits are needed to know
	corrupt        // no code begins like this
)

// decode finds the code that the next of the have bits begin with, and its length.
func (h *huffman) decode(bits uint64, have uint) (symbol int, n uint, res result) {
	if e := h.fast[bits&(1<<fastBits-1)]; e != 0 {
		if n = uint(e & 15); n > have {
			return 0, 0, short
		}
		return int(e >> 4), n, found
	}
	code, first, index := 0, 0, 0
	for n = 1; n <= maxBits; n++ {
		if n > have {
			return 0, 0, short
		}
		code |= int(bits >> (n - 1) & 1)
		count := int(h.count[n])
		if code-first < count {
			return int(h.symbols[index+code-first]), n, found
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return 0, 0, corrupt
}

var fixedLit, fixedDist = func() (lit, dist huffman) { // RFC 1951, 3.2.6
	var lengths [maxLit]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	lit.build(lengths[:])
	for i := range maxDist {
		lengths[i] = 5
	}
	dist.build(lengths[:maxDist])
	return lit, dist
}()
