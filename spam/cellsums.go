package spam

import (
	"cmp"
	"iter"
	"math/bits"
	"slices"
	"sync"
)

// cellSums adds up cells. The zero cellSums is empty. A few cells are a list; many have a
// table of all that a model has.
type cellSums struct {
	list  []Cell // as they were added; with a table only those that have no place in it
	table *cellTable
}

// fewCells is how long a list may become. That of a user's own model has room in it.
const fewCells = 2 * userCells

type cellTable struct {
	used  [(cellsInAll + 63) / 64]uint64
	cells [cellsInAll]cell
	count int // cells in use
}

var cellTables = sync.Pool{New: func() any { return new(cellTable) }}

func (s *cellSums) add(deltas ...Cell) {
	if s.table == nil {
		if len(s.list)+len(deltas) > fewCells {
			s.list = s.sorted()
		}
		if len(s.list)+len(deltas) <= fewCells {
			s.list = append(s.list, deltas...)
			return
		}
		s.table = cellTables.Get().(*cellTable)
		few := s.list
		s.list = nil
		s.add(few...)
	}
	t := s.table
	for i := range deltas {
		d := &deltas[i]
		if d.Index >= cellsInAll {
			s.list = append(s.list, *d)
			continue
		}
		if bit := uint64(1) << (d.Index & 63); t.used[d.Index>>6]&bit == 0 {
			t.used[d.Index>>6] |= bit
			t.count++
		}
		t.cells[d.Index].add(d)
	}
}

func (c *cell) add(d *Cell) {
	c.weight += d.Weight
	c.square += d.Square
	c.ham += d.Ham
	c.spam += d.Spam
}

// len returns about how many cells there are.
func (s *cellSums) len() int {
	if s.table == nil {
		return len(s.list)
	}
	return s.table.count + len(s.list)
}

// sorted returns the sums by ascending index, each index once.
func (s *cellSums) sorted() []Cell {
	out := make([]Cell, 0, s.len())
	if t := s.table; t != nil {
		for at, word := range t.used {
			for ; word != 0; word &= word - 1 {
				i := at<<6 + bits.TrailingZeros64(word)
				c := &t.cells[i]
				out = append(out, Cell{Index: uint32(i), Ham: c.ham, Spam: c.spam, Weight: c.weight, Square: c.square})
			}
		}
	}
	rest := slices.Clone(s.list)
	slices.SortFunc(rest, func(a, b Cell) int { return cmp.Compare(a.Index, b.Index) })
	for _, d := range rest {
		if n := len(out) - 1; n >= 0 && out[n].Index == d.Index {
			c := &out[n]
			c.Ham += d.Ham
			c.Spam += d.Spam
			c.Weight += d.Weight
			c.Square += d.Square
			continue
		}
		out = append(out, d)
	}
	return out
}

// reset empties s, and leaves its table to others.
func (s *cellSums) reset() {
	if t := s.table; t != nil {
		for at, word := range t.used {
			if word != 0 {
				clear(t.cells[at<<6 : min(at<<6+64, len(t.cells))])
				t.used[at] = 0
			}
		}
		t.count = 0
		cellTables.Put(t)
	}
	*s = cellSums{}
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
