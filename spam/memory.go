package spam

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"
)

// Memory is the storage of Stores that keep all in memory, for tests and small programs. The
// zero Memory is empty and ready for use. It is a KV, too.
type Memory struct {
	mu     sync.Mutex
	models map[string]*memoryModel
	shots  map[string]memoryShot
	kv     map[string]memoryValue
	writes int // of kv since old values were removed
}

type memoryModel struct {
	sums  cellSums
	first uint64 // position of log[0]
	log   []memoryChange
	seen  map[string]memoryMark
	slots map[uint32][]byte
}

type memoryChange struct {
	by    *memoryStore
	cells []Cell
}

type memoryMark struct {
	label Label
	until time.Time
}

type memoryValue struct {
	data  []byte
	until time.Time
}

// memoryLog is how many changes other Stores may be behind before they load everything.
const memoryLog = 256

type memoryStore struct{ m *Memory }

var (
	_ Store  = (*memoryStore)(nil)
	_ Keeper = (*memoryStore)(nil)

	_ Snapshotter = (*memoryStore)(nil)

	_ KV = (*Memory)(nil)
)

// NewMemory returns a Store on a Memory of its own.
func NewMemory() Store { return new(Memory).Open() }

// Open returns another Store on m. It is a [Keeper].
func (m *Memory) Open() Store { return &memoryStore{m} }

func (m *Memory) model(name string) *memoryModel {
	mm := m.models[name]
	if mm == nil {
		mm = &memoryModel{first: 1, seen: map[string]memoryMark{}, slots: map[uint32][]byte{}}
		if m.models == nil {
			m.models = map[string]*memoryModel{}
		}
		m.models[name] = mm
	}
	return mm
}

// Load implements [Store].
func (s *memoryStore) Load(_ context.Context, name string, since uint64) (iter.Seq2[Cell, error], uint64, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	mm := s.m.model(name)
	end := mm.first + uint64(len(mm.log))
	if since == 0 {
		return cellSeq(mm.sums.sorted()), end, nil
	}
	if since < mm.first || since > end {
		return nil, 0, ErrTooOld
	}
	var cells []Cell
	for _, ch := range mm.log[since-mm.first:] {
		if ch.by != s {
			cells = append(cells, ch.cells...)
		}
	}
	return cellSeq(cells), end, nil
}

// Add implements [Store].
func (s *memoryStore) Add(_ context.Context, name string, deltas []Cell) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	mm := s.m.model(name)
	mm.sums.add(deltas...)
	if len(mm.log) >= memoryLog {
		mm.log = slices.Delete(mm.log, 0, memoryLog/2)
		mm.first += memoryLog / 2
	}
	mm.log = append(mm.log, memoryChange{s, slices.Clone(deltas)})
	return nil
}

// SetSeen implements [Store].
func (s *memoryStore) SetSeen(_ context.Context, name, id string, l Label, ttl time.Duration) (Label, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	seen := s.m.model(name).seen
	old := seen[id]
	if ended(old.until) {
		old.label = Unlabelled
	}
	if l == Unlabelled {
		delete(seen, id)
	} else {
		seen[id] = memoryMark{l, endOf(ttl)}
	}
	return old.label, nil
}

// endOf returns when something ends that lasts for ttl from now; the zero time is never.
func endOf(ttl time.Duration) time.Time {
	if ttl <= 0 {
		return time.Time{}
	}
	return time.Now().Add(ttl)
}

func ended(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// Keep implements [Keeper].
func (s *memoryStore) Keep(_ context.Context, name string, slot uint32, data []byte) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if data == nil {
		delete(s.m.model(name).slots, slot)
	} else {
		s.m.model(name).slots[slot] = slices.Clone(data)
	}
	return nil
}

// Kept implements [Keeper].
func (s *memoryStore) Kept(_ context.Context, name string) (iter.Seq2[uint32, []byte], error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return maps.All(maps.Clone(s.m.model(name).slots)), nil
}

// A memoryShot is a snapshot: its models never change.
type memoryShot struct {
	models map[string]*memoryModel
	time   time.Time
}

func (mm *memoryModel) clone(first uint64) *memoryModel {
	c := &memoryModel{first: first, seen: maps.Clone(mm.seen), slots: maps.Clone(mm.slots)}
	c.sums.add(mm.sums.sorted()...)
	return c
}

// Snapshot implements [Snapshotter].
func (s *memoryStore) Snapshot(_ context.Context, name string) error {
	if err := checkSnapshotName(name); err != nil {
		return err
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	shot := memoryShot{map[string]*memoryModel{}, time.Now()}
	for n, mm := range s.m.models {
		shot.models[n] = mm.clone(0)
	}
	if s.m.shots == nil {
		s.m.shots = map[string]memoryShot{}
	}
	s.m.shots[name] = shot
	return nil
}

// Restore implements [Snapshotter].
func (s *memoryStore) Restore(_ context.Context, name string) error {
	if err := checkSnapshotName(name); err != nil {
		return err
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	shot, ok := s.m.shots[name]
	if !ok {
		return ErrNoSnapshot
	}
	for n, mm := range s.m.models {
		old := shot.models[n]
		if old == nil {
			old = &memoryModel{seen: map[string]memoryMark{}, slots: map[uint32][]byte{}}
		}
		s.m.models[n] = old.clone(mm.first + uint64(len(mm.log)) + 1)
	}
	return nil
}

// Snapshots implements [Snapshotter].
func (s *memoryStore) Snapshots(context.Context) (list []SnapshotInfo, err error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	for name, shot := range s.m.shots {
		list = append(list, SnapshotInfo{name, shot.time})
	}
	slices.SortFunc(list, func(a, b SnapshotInfo) int { return a.Time.Compare(b.Time) })
	return list, nil
}

// RemoveSnapshot implements [Snapshotter].
func (s *memoryStore) RemoveSnapshot(_ context.Context, name string) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if _, ok := s.m.shots[name]; !ok {
		return ErrNoSnapshot
	}
	delete(s.m.shots, name)
	return nil
}

// Update implements [KV].
func (m *Memory) Update(_ context.Context, key string, ttl time.Duration, f func(old []byte) []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kv == nil {
		m.kv = map[string]memoryValue{}
	}
	old := m.kv[key]
	if ended(old.until) {
		old.data = nil
	}
	if data := f(old.data); data == nil {
		delete(m.kv, key)
	} else {
		m.kv[key] = memoryValue{data, endOf(ttl)}
	}
	// Now and then, what has ended is removed: at a cost of a constant for each write.
	if m.writes++; m.writes > len(m.kv) {
		m.writes = 0
		maps.DeleteFunc(m.kv, func(_ string, v memoryValue) bool { return ended(v.until) })
	}
	return nil
}
