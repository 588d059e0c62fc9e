package imapserver

import (
	"fmt"
	"iter"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

// entry is what an index holds of a message: 24 octets.
type entry struct {
	modSeq imap.ModSeq
	uid    imap.UID
	size   uint32 // math.MaxUint32: at least that; the body knows
	date   uint32 // internal date, seconds since 1970
	// bits holds, from the lowest: 5 system flags, 7 for the date's zone in quarters of an
	// hour with an offset of zoneZero, 20 for the number of its set of keywords.
	bits uint32
}

const (
	zoneShift, zoneMask, zoneZero = 5, 1<<7 - 1, 64
	keywordShift, maxKeywordSets  = 12, 1 << 20
	flagsMask                     = ^uint32(zoneMask << zoneShift) // flags and keywords
)

func (e *entry) system() imap.SystemFlags { return imap.SystemFlags(e.bits & (1<<zoneShift - 1)) }

func (e *entry) internalDate() time.Time {
	quarters := int(e.bits>>zoneShift&zoneMask) - zoneZero
	return time.Unix(int64(e.date), 0).In(zones[quarters+zoneZero])
}

// sameFlags reports whether e and f have the same flags. Both are of one box.
func (e *entry) sameFlags(f *entry) bool { return (e.bits^f.bits)&flagsMask == 0 }

var zones = func() (z [zoneMask + 1]*time.Location) {
	for i := range z {
		z[i] = time.FixedZone("", (i-zoneZero)*15*60)
	}
	return z
}()

// chunkLen is how many entries a full chunk has: what a change of one flag copies.
const chunkLen = 256

// An index is one version of a mailbox's messages, by ascending UID. It is never written
// to: a newer version shares the chunks that did not change, and so does a session's own
// version, which still has what the session was not told to be gone. Positions count from 0.
type index struct {
	state  imap.State
	chunks [][]entry // none is empty
	ends   []int     // ends[i]: entries in chunks[0..i]
	// sets are the sets of keywords that entries refer to by number. Versions share the
	// array: a newer one has more of it.
	sets []imap.Flags
}

func (x *index) len() int {
	if len(x.ends) == 0 {
		return 0
	}
	return x.ends[len(x.ends)-1]
}

// at returns the entry at position i, which must be there.
func (x *index) at(i int) *entry {
	k := sort.SearchInts(x.ends, i+1)
	return &x.chunks[k][i-x.start(k)]
}

// start returns the position of the first entry of chunk k.
func (x *index) start(k int) int {
	if k == 0 {
		return 0
	}
	return x.ends[k-1]
}

// lower returns the position of the first message whose UID is not below uid, and its
// entry, nil at the end.
func (x *index) lower(uid imap.UID) (int, *entry) {
	k := sort.Search(len(x.chunks), func(k int) bool { c := x.chunks[k]; return c[len(c)-1].uid >= uid })
	if k == len(x.chunks) {
		return x.len(), nil
	}
	c := x.chunks[k]
	i := sort.Search(len(c), func(i int) bool { return c[i].uid >= uid })
	return x.start(k) + i, &c[i]
}

// find returns the position and the entry of a message, nil when it is not there.
func (x *index) find(uid imap.UID) (int, *entry) {
	if i, e := x.lower(uid); e != nil && e.uid == uid {
		return i, e
	}
	return 0, nil
}

// lastUID returns the largest UID, zero when there is none.
func (x *index) lastUID() imap.UID {
	if len(x.chunks) == 0 {
		return 0
	}
	c := x.chunks[len(x.chunks)-1]
	return c[len(c)-1].uid
}

// within yields the messages whose UIDs are in set.
func (x *index) within(set imap.UIDSet) iter.Seq2[int, *entry] {
	return func(yield func(int, *entry) bool) {
		for _, r := range set {
			from, _ := x.lower(r.First)
			for i, e := range x.from(from) {
				if e.uid > r.Last {
					break
				}
				if !yield(i, e) {
					return
				}
			}
		}
	}
}

// from yields the messages from position i on.
func (x *index) from(i int) iter.Seq2[int, *entry] {
	return func(yield func(int, *entry) bool) {
		for k := sort.SearchInts(x.ends, i+1); k < len(x.chunks); k++ {
			c := x.chunks[k]
			for j := i - x.start(k); j < len(c); j++ {
				if !yield(i, &c[j]) {
					return
				}
				i++
			}
		}
	}
}

// uids returns the UIDs of the messages with the given sequence numbers, all of which must
// be there.
func (x *index) uids(nums imap.SeqSet) (set imap.UIDSet) {
	for _, r := range nums {
		for i, e := range x.from(int(r.First) - 1) {
			if i >= int(r.Last) {
				break
			}
			set.Add(e.uid)
		}
	}
	return set
}

// allUIDs returns the UIDs of all messages.
func (x *index) allUIDs() (set imap.UIDSet) {
	for _, e := range x.from(0) {
		set.Add(e.uid)
	}
	return set
}

func (x *index) flags(e *entry) imap.Flags {
	return imap.FlagOp{Action: imap.FlagsAdd, Flags: systemOnly[e.system()]}.Apply(x.sets[e.bits>>keywordShift])
}

var systemOnly = func() (f [1 << zoneShift]imap.Flags) {
	for i := range f {
		f[i] = imap.MakeFlags(imap.SystemFlags(i), nil)
	}
	return f
}()

// push appends an entry, sharing nothing that it writes to.
func (x *index) push(e entry, owned bool) {
	if n := len(x.chunks) - 1; n >= 0 && owned && len(x.chunks[n]) < chunkLen {
		x.chunks[n] = append(x.chunks[n], e)
		x.ends[n]++
		return
	}
	c := make([]entry, 1, chunkLen)
	c[0] = e
	x.chunks = append(x.chunks, c)
	x.ends = append(x.ends, x.len()+1)
}

// share appends a chunk of another version.
func (x *index) share(c []entry) {
	x.chunks = append(x.chunks, c[:len(c):len(c)])
	x.ends = append(x.ends, x.len()+len(c))
}

// merge goes through two versions of a mailbox by ascending UID. It calls same for each
// chunk that both have, and each for every other message, with the entries that a and b
// have of it, of which one may be nil. Positions are those in a, or where it would be.
func merge(a, b *index, same func(pos int, chunk []entry), each func(pos int, a, b *entry)) {
	pos := 0
	i, j, ci, cj := 0, 0, 0, 0 // chunk and entry in it
	for i < len(a.chunks) || j < len(b.chunks) {
		if i == len(a.chunks) {
			for e := range b.chunks[j][cj:] {
				each(pos, nil, &b.chunks[j][cj+e])
			}
			j, cj = j+1, 0
			continue
		}
		if j < len(b.chunks) {
			x, y := a.chunks[i], b.chunks[j]
			if ci == 0 && cj == 0 && &x[0] == &y[0] && len(x) == len(y) {
				same(pos, x)
				pos += len(x)
				i, j = i+1, j+1
				continue
			}
			x1, y1 := &x[ci], &y[cj]
			switch {
			case x1.uid == y1.uid:
				each(pos, x1, y1)
				ci, cj, pos = ci+1, cj+1, pos+1
			case x1.uid < y1.uid:
				each(pos, x1, nil)
				ci, pos = ci+1, pos+1
			default:
				each(pos, nil, y1)
				cj++
			}
			if cj == len(y) {
				j, cj = j+1, 0
			}
		} else {
			each(pos, &a.chunks[i][ci], nil)
			ci, pos = ci+1, pos+1
		}
		if ci == len(a.chunks[i]) {
			i, ci = i+1, 0
		}
	}
}

// builder puts a version together from shared chunks and single entries.
type builder struct {
	x     index
	owned bool // the last chunk is ours to write to
}

func (b *builder) share(c []entry) {
	b.x.share(c)
	b.owned = false
}

func (b *builder) push(e *entry) {
	b.x.push(*e, b.owned)
	b.owned = true
}

// done returns the version, repacked when too many chunks are nearly empty.
func (b *builder) done() *index {
	x := &b.x
	if len(x.chunks) > 8 && len(x.chunks) > 3*(x.len()/chunkLen+1) {
		var packed builder
		for _, e := range x.from(0) {
			packed.push(e)
		}
		x.chunks, x.ends = packed.x.chunks, packed.x.ends
	}
	return x
}

// keywordSets numbers the sets of keywords in use in a mailbox. It belongs to whoever
// makes the mailbox's versions.
type keywordSets struct {
	numbers map[string]uint32
	sets    []imap.Flags
}

// number returns the number of the keywords of f.
func (k *keywordSets) number(f imap.Flags) (uint32, error) {
	words := f.Keywords()
	if len(words) == 0 {
		return 0, nil
	}
	key := strings.Join(words, "\x00")
	if n, ok := k.numbers[key]; ok {
		return n, nil
	}
	only := imap.MakeFlags(0, slices.DeleteFunc(slices.Clone(words), func(w string) bool {
		return !imap.Flag(w).Valid() // would break the syntax of what we send
	}))
	if len(k.sets) >= maxKeywordSets {
		return 0, fmt.Errorf("more than %d different sets of keywords in one mailbox", maxKeywordSets)
	}
	k.sets = append(k.sets, only)
	k.numbers[key] = uint32(len(k.sets) - 1)
	return k.numbers[key], nil
}

func newKeywordSets() keywordSets {
	return keywordSets{numbers: make(map[string]uint32), sets: make([]imap.Flags, 1)}
}

// entry makes an entry of a message.
func (k *keywordSets) entry(m imap.Message) (entry, error) {
	keywords, err := k.number(m.Flags)
	if err != nil {
		return entry{}, err
	}
	_, offset := m.InternalDate.Zone()
	zone := uint32(min(max(offset/(15*60)+zoneZero, 0), zoneMask))
	return entry{
		modSeq: m.ModSeq,
		uid:    m.UID,
		size:   uint32(min(max(m.Size, 0), math.MaxUint32)),
		date:   uint32(min(max(m.InternalDate.Unix(), 0), math.MaxUint32)),
		bits:   uint32(m.Flags.System()) | zone<<zoneShift | keywords<<keywordShift,
	}, nil
}

// apply returns the version after old and what d tells.
func (k *keywordSets) apply(old *index, d imap.Delta) (*index, error) {
	// What changed becomes a version of its own, so that the two can be merged.
	var changed builder
	var last imap.UID
	for m, err := range d.Messages {
		if err != nil {
			return nil, err
		}
		if m.UID <= last {
			return nil, fmt.Errorf("the store tells of uid %d after %d", m.UID, last)
		}
		last = m.UID
		e, err := k.entry(m)
		if err != nil {
			return nil, err
		}
		changed.push(&e)
	}
	var next builder
	if old.len() == 0 {
		next = changed
	} else {
		k.merge(&next, old, changed.done(), d.Gone)
	}
	x := next.done()
	x.state, x.sets = d.State, k.sets
	return x, nil
}

// merge builds old without gone, with changed in place of what it had.
func (k *keywordSets) merge(next *builder, old, changed *index, gone imap.UIDSet) {
	i := 0 // position in changed
	news := func(below imap.UID) {
		for _, e := range changed.from(i) {
			if e.uid >= below {
				return
			}
			next.push(e)
			i++
		}
	}
	for n, c := range old.chunks {
		first, end := c[0].uid, c[len(c)-1].uid
		touched := i < changed.len() && changed.at(i).uid <= end ||
			len(gone.Intersect(imap.UIDSet{{First: first, Last: end}})) > 0
		isLast := n == len(old.chunks)-1 && i < changed.len() && len(c) < chunkLen
		if !touched && !isLast {
			next.share(c)
			continue
		}
		next.owned = false // a chunk of its own, so that later ones stay aligned
		for j := range c {
			e := &c[j]
			news(e.uid)
			switch {
			case i < changed.len() && changed.at(i).uid == e.uid:
				next.push(changed.at(i))
				i++
			case !gone.Contains(e.uid):
				next.push(e)
			}
		}
	}
	news(math.MaxUint32)
	if i < changed.len() { // the very last UID there can be
		next.push(changed.at(i))
	}
}
