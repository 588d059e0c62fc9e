package spam

import (
	"cmp"
	"iter"
	"slices"
)

// cellSums adds up cells, each index once. The zero cellSums is empty.
type cellSums struct {
	list  []Cell
	at    []int32 // index → place in list, plus one; nil while there are few
	other map[uint32]int32
}

// fewCells is how many a map serves better than a table of all.
const fewCells = 1 << 14

func (s *cellSums) add(deltas ...Cell) {
	for i := range deltas {
		d := &deltas[i]
		p := s.place(d.Index)
		if p < 0 {
			s.list = append(s.list, *d)
			continue
		}
		c := &s.list[p]
		c.Ham += d.Ham
		c.Spam += d.Spam
		c.Weight += d.Weight
		c.Square += d.Square
	}
}

// place returns where an index stands in the list, or -1 when it comes next.
func (s *cellSums) place(index uint32) int32 {
	next := int32(len(s.list)) + 1
	if next == fewCells && s.at == nil {
		s.at = make([]int32, cellsInAll)
		for i, c := range s.list {
			if c.Index < cellsInAll {
				s.at[c.Index] = int32(i) + 1
				delete(s.other, c.Index)
			}
		}
	}
	if s.at != nil && index < cellsInAll {
		p := s.at[index]
		if p == 0 {
			s.at[index] = next
		}
		return p - 1
	}
	p := s.other[index]
	if p == 0 {
		if s.other == nil {
			s.other = map[uint32]int32{}
		}
		s.other[index] = next
	}
	return p - 1
}

func sortCells(list []Cell) {
	slices.SortFunc(list, func(a, b Cell) int { return cmp.Compare(a.Index, b.Index) })
}

func cellSeq(cells []Cell) iter.Seq2[Cell, error] {
	return func(yield func(Cell, error) bool) {
		for _, c := range cells {
			if !yield(c, nil) {
				return
			}
		}
	}
}
