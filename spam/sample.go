package spam

import (
	"encoding/binary"
	"slices"
	"strings"
)

// The memory of single messages. Each class has its slots; a message takes the next one until
// all are full, then a random one of a uniform sample of all that came (reservoir sampling).
// A sample holds cells, from which no text can be read.
//
//	sample = version label key user sender domain days cells cells cells cells
//	key    = 16 bytes under which the message is marked as seen
//	user, sender, domain = uint32, hashes of who taught it and of whom it is from
//	days   = uint32, since 1970, when it was learned
//	cells: of bytes of the head, of bytes of the text, of words of the head, of words of the text
//	cells  = uvarint(count) then count times uvarint(distance to the one before)
const samplesPerClass = 2048

type sample struct {
	data  []byte
	fresh bool // the regression has not learned it yet
}

// samples are those of one class.
type samples struct {
	slots []sample
	fresh []uint32 // slots with fresh samples, some perhaps twice or no longer
	free  []uint32 // slots whose sample was forgotten
	came  uint64
	rand  uint64
}

// random returns a number below n. The sequence is fixed, so that a run can be repeated.
func (s *samples) random(n uint64) uint64 {
	s.rand += 0x9E3779B97F4A7C15
	x := s.rand
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return (x ^ x>>31) % n
}

// choose returns the slot for the sample of one more message, or false when it is left out.
func (s *samples) choose() (slot uint32, ok bool) {
	s.came++
	if n := len(s.free) - 1; n >= 0 {
		slot, s.free = s.free[n], s.free[:n]
		return slot, true
	}
	if len(s.slots) < samplesPerClass {
		s.slots = append(s.slots, sample{})
		return uint32(len(s.slots) - 1), true
	}
	n := s.random(s.came)
	return uint32(n), n < samplesPerClass
}

func (s *samples) set(slot uint32, data []byte, fresh bool) {
	s.slots[slot] = sample{data, fresh}
	if fresh {
		s.fresh = append(s.fresh, slot)
	}
}

// reserve is how many fresh samples the regression does not learn, so that there are some to
// tell what it is worth.
func (s *samples) reserve() int {
	if len(s.slots) < 200 {
		return 0
	}
	return len(s.slots) / 8
}

// next returns a sample to learn: a fresh one when there is one to spare, or any that was
// learned before.
func (s *samples) next() (data []byte, fresh bool) {
	for len(s.fresh) > s.reserve() {
		i := s.random(uint64(len(s.fresh)))
		slot := s.fresh[i]
		last := len(s.fresh) - 1
		s.fresh[i] = s.fresh[last]
		s.fresh = s.fresh[:last]
		if sm := &s.slots[slot]; sm.fresh && sm.data != nil {
			sm.fresh = false
			return sm.data, true
		}
	}
	if len(s.slots) == 0 {
		return nil, false
	}
	for range 4 {
		if sm := s.slots[s.random(uint64(len(s.slots)))]; !sm.fresh {
			return sm.data, false
		}
	}
	return nil, false
}

// reserved returns a fresh sample that stays so, or nil.
func (s *samples) reserved() []byte {
	if len(s.fresh) == 0 {
		return nil
	}
	if sm := s.slots[s.fresh[s.random(uint64(len(s.fresh)))]]; sm.fresh {
		return sm.data
	}
	return nil
}

// An origin says where a sample is from.
type origin struct {
	key                  markKey
	user, sender, domain uint32
	days                 uint32
}

// A markKey is the id of a message in the marks of the shared model.
type markKey [16]byte

const sampleHead = 2 + 16 + 4*4

func (o *origin) append(b []byte) []byte {
	b = append(b, o.key[:]...)
	for _, n := range [...]uint32{o.user, o.sender, o.domain, o.days} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

// sampleOrigin returns where a sample is from. It has been unpacked before.
func sampleOrigin(b []byte) (o origin) {
	b = b[2:]
	copy(o.key[:], b)
	for i, n := range [...]*uint32{&o.user, &o.sender, &o.domain, &o.days} {
		*n = binary.LittleEndian.Uint32(b[16+4*i:])
	}
	return o
}

// nameHash is what a sample knows of a name. No name is 0.
func nameHash(s string) uint32 {
	if s == "" {
		return 0
	}
	h := hash(hashStart, strings.ToLower(s))
	return uint32(h^h>>32) | 1
}

func packSample(f *features, l Label, from *origin) []byte {
	t := scratchPool.Get().(*tokenScratch)
	b := make([]byte, 0, sampleHead+16+len(f.grams)*5/4+len(f.words)*5/2)
	b = from.append(append(b, TokenizerVersion, byte(l)))
	b = appendCells(b, f.grams[:f.textGrams], 0)
	b = appendCells(b, f.grams[f.textGrams:], 0)
	for _, words := range [][]word{f.words[:f.textWords], f.words[f.textWords:]} {
		for i := range words {
			c := words[i].cell - wordBase
			t.seen[c>>6] |= 1 << (c & 63)
		}
		t.list = t.seen.drain(t.list[:0])
		b = appendCells(b, t.list, wordBase)
	}
	scratchPool.Put(t)
	return slices.Clip(b)
}

// appendCells appends ascending cells, to each of which base is added.
func appendCells(b []byte, cells []uint32, base uint32) []byte {
	b = binary.AppendUvarint(b, uint64(len(cells)))
	before := uint32(0)
	for _, c := range cells {
		b = binary.AppendUvarint(b, uint64(c+base-before))
		before = c + base
	}
	return b
}

// unpackSample reads a sample into f, whose memory it reuses.
func unpackSample(b []byte, f *features) (Label, bool) {
	f.grams, f.words = f.grams[:0], f.words[:0]
	if len(b) < sampleHead || b[0] != TokenizerVersion {
		return Unlabelled, false
	}
	l := Label(b[1])
	b = b[sampleHead:]
	for group := range 4 {
		count, n := binary.Uvarint(b)
		if n <= 0 || count > uint64(len(b)) {
			return Unlabelled, false
		}
		b = b[n:]
		switch group {
		case 1:
			f.textGrams = len(f.grams)
		case 3:
			f.textWords = len(f.words)
		}
		c := uint64(0)
		for range count {
			d, n := binary.Uvarint(b)
			if n <= 0 {
				return Unlabelled, false
			}
			b = b[n:]
			if c += d; d > cellCount || c >= cellCount || (c >= wordBase) != (group >= 2) {
				return Unlabelled, false
			}
			if group < 2 {
				f.grams = append(f.grams, uint32(c))
			} else {
				f.words = append(f.words, word{cell: uint32(c)})
			}
		}
	}
	return l, l == Ham || l == Spam
}
