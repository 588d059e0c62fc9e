package memo

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMemo(t *testing.T) {
	m := Memo[int]{Max: 3, MaxLen: 4}
	calls := 0
	length := func(s string) int { calls++; return len(s) }
	assert.Equal(t, 2, m.Get("ab", length))
	assert.Equal(t, 2, m.Get("ab", length))
	assert.Equal(t, 1, calls)
	for i := range 100 {
		m.Get(fmt.Sprint(i), length)
	}
	assert.Len(t, m.results, 3)
	m.Get(strings.Repeat("x", 5), length)
	assert.Len(t, m.results, 3)
	assert.NotContains(t, m.results, "xxxxx")
}
