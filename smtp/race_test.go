//go:build race

package smtp_test

// raceEnabled says that sync.Pool forgets at random, so allocations can't be counted.
const raceEnabled = true
