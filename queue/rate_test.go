package queue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestLimiter(t *testing.T) {
	type step struct {
		at    time.Duration // of the question
		room  int           // that there is
		take  int
		ready time.Duration // after it
	}
	for _, c := range []struct {
		name  string
		rate  Rate
		steps []step
	}{
		{"none", Rate{}, []step{{0, 100, 50, 0}, {0, 100, 0, 0}}},
		{"one a second", Rate{Count: 1, Per: time.Second}, []step{
			{0, 1, 1, time.Second}, {500 * time.Millisecond, 0, 0, time.Second}, {time.Second, 1, 1, 2 * time.Second},
			{time.Hour, 1, 0, 2 * time.Second},
		}},
		{"ten a minute, three at once", Rate{Count: 10, Per: time.Minute, Burst: 3}, []step{
			{0, 3, 3, 6 * time.Second}, {5 * time.Second, 0, 0, 6 * time.Second}, {6 * time.Second, 1, 0, 6 * time.Second},
			{12 * time.Second, 2, 2, 18 * time.Second}, {time.Hour, 3, 1, time.Hour - 6*time.Second}, {time.Hour, 2, 2, time.Hour + 6*time.Second},
		}},
		{"over the limit costs later", Rate{Count: 1, Per: time.Second}, []step{{0, 1, 3, 3 * time.Second}, {2 * time.Second, 0, 0, 3 * time.Second}}},
		{"no count means once", Rate{Per: time.Minute}, []step{{0, 1, 1, time.Minute}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			l := newLimiter(c.rate)
			for i, s := range c.steps {
				now := start.Add(s.at)
				assert.Equal(t, s.room, l.room(now, 100), "room at step %d", i)
				for range s.take {
					l.take(now)
				}
				if c.rate.Per > 0 {
					assert.Equal(t, start.Add(s.ready), l.ready(), "ready after step %d", i)
					assert.Equal(t, l.room(l.ready(), 100) > 0, true, "ready says when there is room")
					assert.Zero(t, l.room(l.ready().Add(-1), 100), "and not before")
				}
			}
		})
	}
}
