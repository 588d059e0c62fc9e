package spam_test

import (
	"context"
	"fmt"
	"math"
	"math/rand"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/spam"
)

func message(t testing.TB, text string) *spam.Message {
	m, err := spam.Parse(strings.NewReader(text), spam.Limits{})
	require.NoError(t, err)
	return m
}

func hamOf(t testing.TB, n int) *spam.Message {
	return message(t, fmt.Sprintf("From: Ann <ann%d@example.org>\r\nSubject: minutes of meeting %d\r\n\r\nThe board met on day %d and agreed on the budget.\r\n", n, n, n))
}

func spamOf(t testing.TB, n int) *spam.Message {
	return message(t, fmt.Sprintf("From: WIN <win%d@example.net>\r\nSubject: You WON %d!!!\r\n\r\nCheap pills, buy now number %d http://203.0.113.%d/\r\n", n, n, n, n%250))
}

func newClassifier(t testing.TB, s spam.Store) *spam.Classifier {
	c, err := spam.NewClassifier(t.Context(), s, nil)
	require.NoError(t, err)
	return c
}

// counts returns the sums of what is in the store, without the regression.
func counts(t testing.TB, s spam.Store) map[uint32][2]int32 {
	cells, _, err := s.Load(t.Context(), "", 0)
	require.NoError(t, err)
	sums := map[uint32][2]int32{}
	for c, err := range cells {
		require.NoError(t, err)
		n := sums[c.Index]
		n[0] += c.Ham
		n[1] += c.Spam
		sums[c.Index] = n
	}
	for i, n := range sums {
		if n == [2]int32{} {
			delete(sums, i)
		}
	}
	return sums
}

func TestEmptyIsUnsure(t *testing.T) {
	v, err := newClassifier(t, spam.NewMemory()).Score(t.Context(), "ann", spamOf(t, 1))
	require.NoError(t, err)
	assert.True(t, v.Unsure)
	assert.Equal(t, spam.Accept, v.Action)
	assert.Equal(t, 0.5, v.Probability)
}

func TestReasonsSumToScore(t *testing.T) {
	c := newClassifier(t, spam.NewMemory())
	for i := range 60 {
		require.NoError(t, c.Learn(t.Context(), "ann", fmt.Sprint("h", i), hamOf(t, i), spam.Ham))
		require.NoError(t, c.Learn(t.Context(), "ann", fmt.Sprint("s", i), spamOf(t, i), spam.Spam))
	}
	for _, user := range []string{"", "ann", "ben"} {
		for _, m := range []*spam.Message{hamOf(t, 50), spamOf(t, 51), message(t, ""), message(t, "x")} {
			v, err := c.Score(t.Context(), user, m)
			require.NoError(t, err)
			sum := 0.0
			for _, r := range v.Reasons {
				sum += r.Score
			}
			assert.InDelta(t, v.Score, sum, 1e-3)
			assert.InDelta(t, v.Probability, 1/(1+math.Exp(-v.Score)), 1e-6)
		}
	}
	v, err := c.Score(t.Context(), "ann", spamOf(t, 51))
	require.NoError(t, err)
	assert.Equal(t, "spam", v.String())
	assert.Equal(t, spam.Junk, v.Action)
}

func TestLearnOnceByID(t *testing.T) {
	s := spam.NewMemory()
	c := newClassifier(t, s)
	require.NoError(t, c.Learn(t.Context(), "", "1", hamOf(t, 1), spam.Ham))
	once := counts(t, s)
	require.NoError(t, c.Learn(t.Context(), "", "1", hamOf(t, 1), spam.Ham))
	assert.Equal(t, once, counts(t, s))

	// The other label moves the message there, as if it had never had the first one.
	require.NoError(t, c.Learn(t.Context(), "", "1", hamOf(t, 1), spam.Spam))
	other := spam.NewMemory()
	require.NoError(t, newClassifier(t, other).Learn(t.Context(), "", "1", hamOf(t, 1), spam.Spam))
	assert.Equal(t, counts(t, other), counts(t, s))
}

func TestUnlearnRestoresCounts(t *testing.T) {
	s := spam.NewMemory()
	c := newClassifier(t, s)
	for i := range 5 {
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint(i), hamOf(t, i), spam.Ham))
	}
	before := counts(t, s)
	for i := range 5 {
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint("s", i), spamOf(t, i), spam.Spam))
	}
	require.NoError(t, c.Learn(t.Context(), "", "n", spamOf(t, 9), spam.Neutral))
	for i := range 5 {
		require.NoError(t, c.Unlearn(t.Context(), "", fmt.Sprint("s", i), spamOf(t, i)))
		require.NoError(t, c.Unlearn(t.Context(), "", "never learned", spamOf(t, i)))
	}
	assert.Equal(t, before, counts(t, s))
}

func TestOrderLeavesCountsAlone(t *testing.T) {
	var want map[uint32][2]int32
	for round := range 4 {
		s := spam.NewMemory()
		c := newClassifier(t, s)
		for _, i := range rand.New(rand.NewSource(int64(round))).Perm(30) {
			if i%3 == 0 {
				require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint(i), hamOf(t, i), spam.Ham))
			} else {
				require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint(i), spamOf(t, i), spam.Spam))
			}
		}
		got := counts(t, s)
		if want == nil {
			want = got
		}
		assert.Equal(t, want, got)
	}
}

func TestScoreWhileLearning(t *testing.T) {
	c := newClassifier(t, spam.NewMemory())
	ctx := context.Background()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			m := spamOf(t, 7)
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := c.Score(ctx, "ann", m); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 100 {
		require.NoError(t, c.Learn(ctx, "ann", fmt.Sprint("h", i), hamOf(t, i), spam.Ham))
		require.NoError(t, c.Learn(ctx, "ann", fmt.Sprint("s", i), spamOf(t, i), spam.Spam))
	}
	close(stop)
	wg.Wait()
}

// A user's own judgement wins for that user, and the others keep theirs.
func TestUserDiffers(t *testing.T) {
	c := newClassifier(t, spam.NewMemory())
	for i := range 40 {
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint("h", i), hamOf(t, i), spam.Ham))
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint("s", i), spamOf(t, i), spam.Spam))
	}
	for i := range 5 {
		require.NoError(t, c.Learn(t.Context(), "ann", fmt.Sprint("mine", i), spamOf(t, 100+i), spam.Ham))
	}
	ann, err := c.Score(t.Context(), "ann", spamOf(t, 200))
	require.NoError(t, err)
	ben, err := c.Score(t.Context(), "ben", spamOf(t, 200))
	require.NoError(t, err)
	assert.Less(t, ann.Score, ben.Score-0.5)
	assert.Equal(t, "ham", ann.String())
}
