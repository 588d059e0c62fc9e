package spam_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/spam"
)

// What was learned after a snapshot is gone after the roll-back, here and in other processes,
// and can be learned again.
func TestRollback(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	store, err := spam.OpenFile(path)
	require.NoError(t, err)
	defer store.Close()
	c := newClassifier(t, store)
	for i := range 20 {
		require.NoError(t, c.Learn(t.Context(), "ann", fmt.Sprint("h", i), hamOf(t, i), spam.Ham))
		require.NoError(t, c.Learn(t.Context(), "ann", fmt.Sprint("s", i), spamOf(t, i), spam.Spam))
	}
	before, err := c.Score(t.Context(), "ann", hamOf(t, 99))
	require.NoError(t, err)
	require.NoError(t, c.Snapshot(t.Context(), "good"))
	want := counts(t, store)

	now := time.Now()
	second, err := spam.OpenFile(path)
	require.NoError(t, err)
	defer second.Close()
	other, err := spam.NewClassifier(t.Context(), second, &spam.Options{Now: func() time.Time { return now }})
	require.NoError(t, err)

	for i := range 50 { // somebody poisons the model
		require.NoError(t, c.Learn(t.Context(), "ann", fmt.Sprint("p", i), hamOf(t, 100+i), spam.Spam))
	}
	bad, err := c.Score(t.Context(), "ann", hamOf(t, 99))
	require.NoError(t, err)
	assert.Greater(t, bad.Score, before.Score)

	require.NoError(t, c.Rollback(t.Context(), "good"))
	assert.Equal(t, want, counts(t, store))
	after, err := c.Score(t.Context(), "ann", hamOf(t, 99))
	require.NoError(t, err)
	assert.InDelta(t, before.Score, after.Score, 1e-3)
	now = now.Add(time.Minute)
	seen, err := other.Score(t.Context(), "ann", hamOf(t, 99))
	require.NoError(t, err)
	assert.InDelta(t, before.Score, seen.Score, 1e-3)

	require.NoError(t, c.Learn(t.Context(), "ann", "p1", hamOf(t, 101), spam.Ham))
	assert.Equal(t, 21, c.Stats().Ham)
	assert.ErrorIs(t, c.Rollback(t.Context(), "other"), spam.ErrNoSnapshot)
}

// Forgetting a sender leaves the counts as if its mail had never been learned.
func TestForget(t *testing.T) {
	s := spam.NewMemory()
	c := newClassifier(t, s)
	github := func(i int) *spam.Message {
		return message(t, fmt.Sprintf("From: GitHub <noreply@github.example>\nSubject: issue %d\n\nSomebody wrote on issue %d\n", i, i))
	}
	for i := range 10 {
		require.NoError(t, c.Learn(t.Context(), "ann", fmt.Sprint("h", i), hamOf(t, i), spam.Ham))
		require.NoError(t, c.Learn(t.Context(), "ben", fmt.Sprint("s", i), spamOf(t, i), spam.Spam))
	}
	want := counts(t, s)
	for i := range 5 {
		require.NoError(t, c.Learn(t.Context(), "ben", fmt.Sprint("g", i), github(i), spam.Spam))
	}
	n, err := c.Forget(t.Context(), spam.Forgetting{Sender: "GitHub.example", User: "ann"})
	require.NoError(t, err)
	assert.Zero(t, n, "it was another user")
	n, err = c.Forget(t.Context(), spam.Forgetting{Sender: "GitHub.example", User: "ben"})
	require.NoError(t, err)
	assert.Equal(t, 5, n)
	assert.Equal(t, want, counts(t, s))
	assert.Equal(t, 20, c.Stats().Kept)

	require.NoError(t, c.Learn(t.Context(), "ben", "g1", github(1), spam.Spam))
	assert.Equal(t, want, counts(t, s), "what was forgotten stays so")
	require.NoError(t, c.Learn(t.Context(), "ben", "g1", github(1), spam.Ham))
	assert.Equal(t, 11, c.Stats().Ham, "until it is judged anew")
	n, err = c.Forget(t.Context(), spam.Forgetting{})
	require.NoError(t, err)
	assert.Zero(t, n, "nothing was chosen")
}

func TestLearnFor(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	s := spam.NewMemory()
	c, err := spam.NewClassifier(t.Context(), s, &spam.Options{LearnFor: 30 * 24 * time.Hour, Now: func() time.Time { return now }})
	require.NoError(t, err)
	for i := range 5 {
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint(i), hamOf(t, i), spam.Ham))
		now = now.Add(24 * time.Hour)
	}
	now = now.Add(28 * 24 * time.Hour)
	require.NoError(t, c.Learn(t.Context(), "", "last", hamOf(t, 9), spam.Ham))
	other := spam.NewMemory()
	fresh := newClassifier(t, other)
	for _, i := range []int{3, 4, 9} {
		require.NoError(t, fresh.Learn(t.Context(), "", fmt.Sprint(i), hamOf(t, i), spam.Ham))
	}
	assert.Equal(t, counts(t, other), counts(t, s))
}

// One user teaches all others only so much; own judgement goes on.
func TestUserMost(t *testing.T) {
	c, err := spam.NewClassifier(t.Context(), spam.NewMemory(), &spam.Options{UserMost: 10})
	require.NoError(t, err)
	for i := range 30 {
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint("h", i), hamOf(t, i), spam.Ham))
	}
	for i := range 40 {
		require.NoError(t, c.Learn(t.Context(), "eve", fmt.Sprint("e", i), hamOf(t, 100+i), spam.Spam))
	}
	assert.Equal(t, spam.Stats{Ham: 30, Spam: 10}, spam.Stats{Ham: c.Stats().Ham, Spam: c.Stats().Spam})
	require.NoError(t, c.Learn(t.Context(), "eve", "e1", hamOf(t, 101), spam.Spam))
	assert.Equal(t, 10, c.Stats().Spam, "the same again takes nothing back")
	require.NoError(t, c.Unlearn(t.Context(), "eve", "e1", hamOf(t, 101)))
	assert.Equal(t, 9, c.Stats().Spam)
	require.NoError(t, c.Unlearn(t.Context(), "eve", "e30", hamOf(t, 130)))
	assert.Equal(t, 9, c.Stats().Spam, "it never counted")
}

// Words that speak for ham, however many, do not outweigh the rest of a message.
func TestGoodWords(t *testing.T) {
	c := newClassifier(t, spam.NewMemory())
	var good strings.Builder
	for i := range 200 {
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint("h", i), hamOf(t, i), spam.Ham))
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint("s", i), spamOf(t, i), spam.Spam))
		fmt.Fprintf(&good, "The board met on day %d and agreed on the budget.\n", i)
	}
	head := "X-Sent-By: from mail.example.net by mx.example.org with a program of many words that nobody knows\r\n" +
		"To: Ann <ann@example.org>, Ben <ben@example.org>\r\nX-Mailer: Some Program 1.0\r\nX-Priority: 3 normal\r\n"
	m := message(t, head+"From: WIN <win3@example.net>\r\nSubject: You WON 3!!!\r\n\r\nCheap pills\r\n"+good.String())
	v, err := c.Score(t.Context(), "", m)
	require.NoError(t, err)
	assert.Equal(t, "spam", v.String())
	sum := 0.0
	for _, r := range v.Reasons {
		sum += r.Score
	}
	assert.InDelta(t, v.Score, sum, 1e-3)
}

// Characters that show nothing do not hide a word.
func TestIgnorable(t *testing.T) {
	c := newClassifier(t, spam.NewMemory())
	for i := range 20 {
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint("h", i), hamOf(t, i), spam.Ham))
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint("s", i), spamOf(t, i), spam.Spam))
	}
	words := func(text string) (sum float64) {
		v, err := c.Score(t.Context(), "", message(t, "Subject: x\n\n"+text+"\n"))
		require.NoError(t, err)
		for _, r := range v.Reasons {
			if r.Name == "word" {
				sum += r.Score
			}
		}
		return sum
	}
	assert.NotZero(t, words("pills"))
	assert.InDelta(t, words("pills"), words("pi\u200bll\u00ads\u3164"), 1e-6)
}
