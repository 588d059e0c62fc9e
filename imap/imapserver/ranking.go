package imapserver

import (
	"cmp"
	"slices"
	"sync"

	"github.com/mailblocks/mailblocks/imap"
)

// A ranking is the order of a mailbox's messages by one criterion of SORT, as it once was: what
// a message is sorted by never changes, so it stays the order of those that are still there.
type ranking struct {
	uids  []imap.UID // ascending
	ranks []uint32   // of each; alike for those that compare as equal
}

// rankKey names a ranking.
type rankKey struct {
	criterion string
	facts     itemKind // of the comparator
}

// rankings are those of one mailbox, of all comparators.
type rankings struct {
	mu   sync.Mutex
	list map[rankKey]*ranking
}

// maxRankings bounds them: 8 octets a message each.
const maxRankings = 6

// get returns the ranks of the messages of view by position, nil when one has none.
func (r *rankings) get(key rankKey, view *index) []uint32 {
	r.mu.Lock()
	have := r.list[key]
	r.mu.Unlock()
	if have == nil {
		return nil
	}
	out := make([]uint32, 0, view.len())
	i := 0
	for _, e := range view.from(0) {
		for i < len(have.uids) && have.uids[i] < e.uid {
			i++
		}
		if i == len(have.uids) || have.uids[i] != e.uid {
			return nil
		}
		out = append(out, have.ranks[i])
	}
	return out
}

// put makes a ranking of all messages of a mailbox, in its order.
func (r *rankings) put(key rankKey, hits []hit, compare func(a, b *hit) int) {
	order := make([]int, len(hits))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return compare(&hits[i], &hits[j]) })
	have := &ranking{make([]imap.UID, len(hits)), make([]uint32, len(hits))}
	rank := uint32(0)
	for n, i := range order {
		if n > 0 && compare(&hits[order[n-1]], &hits[i]) != 0 {
			rank++
		}
		have.uids[i], have.ranks[i] = hits[i].uid, rank
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.list == nil || len(r.list) >= maxRankings {
		r.list = make(map[rankKey]*ranking)
	}
	r.list[key] = have
}

// ranked returns keys that need no header, where the mailbox was sorted by them before.
func (c *conn) ranked(keys []sortKey) ([]sortKey, bool) {
	out := slices.Clone(keys)
	for i := range out {
		if !out[i].header {
			continue
		}
		ranks := c.sel.box.rankings.get(rankKey{out[i].name, c.comparator.facts}, c.sel.view)
		if ranks == nil {
			return keys, false
		}
		sign := 1
		if out[i].reverse {
			sign = -1
		}
		out[i].ranks = ranks
		out[i].compare = func(a, b *hit) int { return sign * cmp.Compare(ranks[a.pos], ranks[b.pos]) }
	}
	return out, true
}

// keepRanks remembers the order of a whole mailbox that was found.
func (c *conn) keepRanks(keys []sortKey, hits []hit) {
	if len(hits) < c.sel.view.len() || len(hits) == 0 {
		return
	}
	for _, k := range keys {
		if k.header {
			c.sel.box.rankings.put(rankKey{k.name, c.comparator.facts}, hits, sortKeys[k.name].compare)
		}
	}
}

// sortRanked puts hits in the order of keys, all of which are ranks; ties go by position. Numbers
// are sorted in their stead, once for each key, the last one first.
func sortRanked(hits []hit, keys []sortKey) []hit {
	order := make([]uint64, len(hits))
	for i := range order {
		order[i] = uint64(i)
	}
	next := make([]uint64, len(hits))
	for k := len(keys) - 1; k >= 0; k-- {
		ranks := keys[k].ranks
		for n, i := range order {
			rank := ranks[hits[i].pos]
			if keys[k].reverse {
				rank = ^rank
			}
			next[n] = uint64(rank)<<32 | uint64(n)
		}
		slices.Sort(next)
		sorted := make([]uint64, len(hits))
		for n, x := range next {
			sorted[n] = order[uint32(x)]
		}
		order = sorted
	}
	out := make([]hit, len(hits))
	for n, i := range order {
		out[n] = hits[i]
	}
	return out
}
