// Package memo remembers the results of a pure function of a string, such as a
// parser, within bounds. The records of the large mail providers come by again
// and again, and parsing them costs more than all the rest of a look-up.
package memo

import "sync"

// Memo remembers at most Max results for arguments of at most MaxLen octets. It
// is safe for concurrent use. Results are shared: nobody may change them.
type Memo[T any] struct {
	Max    int
	MaxLen int

	mu      sync.RWMutex
	results map[string]T
}

// Get returns f(s), from memory if it can.
func (m *Memo[T]) Get(s string, f func(string) T) T {
	m.mu.RLock()
	v, ok := m.results[s]
	m.mu.RUnlock()
	if ok {
		return v
	}
	v = f(s)
	if len(s) > m.MaxLen {
		return v
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.results == nil {
		m.results = make(map[string]T)
	}
	// Go's map order is random enough to pick what to forget.
	for old := range m.results {
		if len(m.results) < m.Max {
			break
		}
		delete(m.results, old)
	}
	m.results[s] = v
	return v
}
