package imap

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// model is the set of numbers below 64 that a uint64 has bits for.
type model uint64

func (m model) set() SeqSet {
	var s SeqSet
	for n := range SeqNum(64) {
		if m>>n&1 != 0 {
			s.Add(n)
		}
	}
	return s
}

func checkSet(t *testing.T, want model, got SeqSet) {
	t.Helper()
	var bits model
	last := -2
	for _, r := range got {
		require.LessOrEqual(t, r.First, r.Last, "a range runs upwards")
		require.Greater(t, int(r.First), last+1, "ranges ascend and do not touch")
		last = int(r.Last)
		for n := r.First; n <= r.Last; n++ {
			bits |= 1 << n
		}
	}
	require.Equal(t, want, bits)
}

func TestNumSetAgainstModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		a, b := model(rnd.Uint64()&rnd.Uint64()), model(rnd.Uint64()|rnd.Uint64())
		x, y := a.set(), b.set()
		checkSet(t, a|b, x.Union(y))
		checkSet(t, a&b, x.Intersect(y))
		checkSet(t, a&^b, x.Subtract(y))
		checkSet(t, b&^a, y.Subtract(x))
		checkSet(t, a, x) // the operations leave their operands alone
		checkSet(t, b, y)

		var grown SeqSet
		var bits model
		for range 10 {
			first, last := rnd.IntN(64), rnd.IntN(64)
			grown.AddRange(SeqNum(first), SeqNum(last))
			for n := min(first, last); n <= max(first, last); n++ {
				bits |= 1 << n
			}
			checkSet(t, bits, grown)
		}
		n := SeqNum(rnd.IntN(64))
		require.Equal(t, bits>>n&1 != 0, grown.Contains(n))
		require.EqualValues(t, grown.Len(), len(slices.Collect(grown.All())))
	}
}

func TestNumSetAtTheEdge(t *testing.T) {
	var s UIDSet
	s.Add(math.MaxUint32)
	s.Add(1)
	s.AddRange(math.MaxUint32-1, math.MaxUint32)
	assert.Equal(t, "1,4294967294:4294967295", s.String())
	assert.Equal(t, UID(math.MaxUint32), s.Max())
	assert.EqualValues(t, 3, s.Len())
	assert.Equal(t, "2:4294967293", AllUIDs.Subtract(s).String())
	assert.Equal(t, "", UIDSet(nil).String())
	assert.Zero(t, UIDSet(nil).Max())
}

func TestResolve(t *testing.T) {
	for _, tc := range []struct {
		in      string
		largest UID
		want    string
	}{
		{"1", 9, "1"},
		{"*", 9, "9"},
		{"*", 0, ""},
		{"1:*", 0, ""},
		{"559:*", 9, "9:559"},
		{"*:4", 9, "4:9"},
		{"4:2,3:7,9", 9, "2:7,9"},
		{"1:4294967295", 9, "1:4294967295"},
		{"4294967295,1", 9, "1,4294967295"},
		{"5:*,1:3,*,4", 7, "1:7"},
	} {
		spec, err := ParseSetSpec(tc.in)
		require.NoError(t, err, tc.in)
		assert.Equal(t, tc.want, Resolve(spec, tc.largest).String(), "%s of %d", tc.in, tc.largest)
	}
	for _, bad := range []string{"", ",", "0", "01", "1,", ":1", "1:", "1::2", "1:2:3", "4294967296", "-1", "+1", "a", "1 ", "**", "$"} {
		_, err := ParseSetSpec(bad)
		assert.ErrorIs(t, err, ErrBadSet, "%q", bad)
	}
}

func FuzzParseSetSpec(f *testing.F) {
	for _, s := range []string{"1", "*", "1:*", "*:4,7", "4:2,3:7", "1:*,1:*,1:*", "4294967295"} {
		f.Add(s, uint32(10))
	}
	f.Fuzz(func(t *testing.T, s string, largest uint32) {
		spec, err := ParseSetSpec(s)
		if err != nil {
			return
		}
		again, err := ParseSetSpec(spec.String())
		require.NoError(t, err)
		require.Equal(t, spec, again)
		set := Resolve(spec, UID(largest))
		for i := 1; i < len(set); i++ {
			require.Greater(t, uint64(set[i].First), uint64(set[i-1].Last)+1)
		}
		for _, r := range spec {
			for _, n := range []uint32{r.First, r.Last} {
				if largest == 0 && (r.First == 0 || r.Last == 0) {
					continue
				}
				if n == 0 {
					n = largest
				}
				require.True(t, set.Contains(UID(n)))
			}
		}
	})
}
