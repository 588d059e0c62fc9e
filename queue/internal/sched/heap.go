package sched

// place says which structure holds an item.
type place uint8

const (
	nowhere place = iota // done, or not entered yet
	waiting              // in its route's waiting heap: due in the future
	ready                // in its route's ready heap: due
	parked               // in its route's parked heap: due, route down, alarm in the future
	held                 // in its route's held heap, until released
	leased               // in no heap; Index.leases knows it
	pinned               // in no heap, while its owner changes it on disk
)

// before orders the items of one heap.
func before[P any](in place, a, b *Item[P]) bool {
	switch in {
	case waiting:
		return a.due < b.due
	case parked:
		return a.alarm < b.alarm
	}
	if a.rank.Priority != b.rank.Priority {
		return a.rank.Priority > b.rank.Priority
	}
	if in == ready && a.turn != b.turn {
		return later(b.turn, a.turn)
	}
	return a.due < b.due
}

// itemHeap is a binary heap whose items know their position, for removal from the middle.
type itemHeap[P any] struct {
	in    place
	items []*Item[P]
}

func (h *itemHeap[P]) set(i int, it *Item[P]) {
	h.items[i] = it
	it.pos = int32(i)
}

func (h *itemHeap[P]) push(it *Item[P]) {
	h.items = append(h.items, it)
	it.place = h.in
	h.up(len(h.items)-1, it)
}

func (h *itemHeap[P]) up(i int, it *Item[P]) {
	for i > 0 {
		parent := (i - 1) / 2
		if !before(h.in, it, h.items[parent]) {
			break
		}
		h.set(i, h.items[parent])
		i = parent
	}
	h.set(i, it)
}

func (h *itemHeap[P]) down(i int, it *Item[P]) {
	n := len(h.items)
	for {
		child := 2*i + 1
		if child >= n {
			break
		}
		if child+1 < n && before(h.in, h.items[child+1], h.items[child]) {
			child++
		}
		if !before(h.in, h.items[child], it) {
			break
		}
		h.set(i, h.items[child])
		i = child
	}
	h.set(i, it)
}

func (h *itemHeap[P]) remove(it *Item[P]) {
	i, n := int(it.pos), len(h.items)-1
	last := h.items[n]
	h.items[n] = nil
	h.items = h.items[:n]
	if last != it {
		if i > 0 && before(h.in, last, h.items[(i-1)/2]) {
			h.up(i, last)
		} else {
			h.down(i, last)
		}
	}
	if n == 0 {
		h.items = nil
	}
	it.place = nowhere
}

func (h *itemHeap[P]) min() *Item[P] {
	if len(h.items) == 0 {
		return nil
	}
	return h.items[0]
}
