package imapserver

import (
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

func TestEntryIsSmall(t *testing.T) {
	assert.EqualValues(t, 24, unsafe.Sizeof(entry{}))
}

func TestEntryKeepsWhatItIsGiven(t *testing.T) {
	k := newKeywordSets()
	for _, m := range []imap.Message{
		{UID: 1, ModSeq: 1 << 62, Size: 0, InternalDate: time.Unix(0, 0).UTC()},
		{UID: 1<<32 - 1, ModSeq: 1, Size: 1<<32 - 2, InternalDate: time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", -(9*3600+1800))), Flags: imap.NewFlags(imap.FlagSeen, imap.FlagDraft, "b", "a")},
		{UID: 7, InternalDate: time.Date(2038, 1, 20, 0, 0, 0, 0, time.FixedZone("", 14*3600)), Flags: imap.NewFlags(imap.FlagDeleted, imap.FlagAnswered, imap.FlagFlagged, "a")},
	} {
		e, err := k.entry(m)
		require.NoError(t, err)
		x := &index{sets: k.sets}
		assert.Equal(t, m.UID, e.uid)
		assert.Equal(t, m.ModSeq, e.modSeq)
		assert.EqualValues(t, m.Size, e.size)
		assert.True(t, m.Flags.Equal(x.flags(&e)), "%v", x.flags(&e))
		assert.Equal(t, m.InternalDate.Format(time.RFC1123Z), e.internalDate().Format(time.RFC1123Z))
	}
}

func messages(list []imap.Message) iter.Seq2[imap.Message, error] {
	return func(yield func(imap.Message, error) bool) {
		for _, m := range list {
			if !yield(m, nil) {
				return
			}
		}
	}
}

// Versions, merged and partly told, must be what maps make of the same history.
func TestIndexAgainstModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	k := newKeywordSets()
	cur := &index{sets: k.sets}
	model := make(map[imap.UID]imap.Message)
	var modSeq imap.ModSeq
	next := imap.UID(1)
	view, viewModel := cur, map[imap.UID]imap.Message{} // as a session that is told no expunges
	for step := range 150 {
		modSeq++
		changed := make(map[imap.UID]imap.Message)
		var gone imap.UIDSet
		for range rnd.IntN(600) / (1 + step%7) {
			changed[next] = imap.Message{UID: next, ModSeq: modSeq, Size: int64(next), InternalDate: time.Unix(int64(next), 0)}
			next += imap.UID(1 + rnd.IntN(3))
		}
		for uid, m := range model {
			switch rnd.IntN(20 + 500*(step%3)) {
			case 0:
				gone.Add(uid)
				delete(model, uid)
			case 1:
				m.ModSeq = modSeq
				m.Flags = m.Flags.With([]imap.Flag{imap.FlagSeen, "a", "b"}[rnd.IntN(3)])
				changed[uid] = m
			}
		}
		maps.Copy(model, changed)
		list := slices.SortedFunc(maps.Values(changed), func(a, b imap.Message) int { return int(a.UID) - int(b.UID) })
		var err error
		cur, err = k.apply(cur, imap.Delta{State: imap.State{HighestModSeq: modSeq}, Messages: messages(list), Gone: gone})
		require.NoError(t, err)
		checkIndex(t, cur, model)

		// Told of a random part: the view has that part as it is now, the rest as it was.
		var told imap.UIDSet
		for uid := range viewModel {
			if rnd.IntN(3) == 0 {
				told.Add(uid)
				if m, ok := model[uid]; ok {
					viewModel[uid] = m
				}
			}
		}
		s := &selected{view: view}
		s.told(cur, told)
		view = s.view
		checkIndex(t, view, viewModel)
		if step%5 == 0 {
			view, viewModel = cur, maps.Clone(model)
		}
	}
	assert.LessOrEqual(t, len(cur.chunks), 3*(cur.len()/chunkLen+1)+8, "chunks stay full")
}

func checkIndex(t *testing.T, x *index, model map[imap.UID]imap.Message) {
	t.Helper()
	require.Equal(t, len(model), x.len())
	want := slices.Sorted(maps.Keys(model))
	i := 0
	for pos, e := range x.from(0) {
		m := model[want[i]]
		if i != pos || want[i] != e.uid || m.ModSeq != e.modSeq || !m.Flags.Equal(x.flags(e)) {
			require.Fail(t, "a message differs", "position %d (%d): %+v, want %+v", i, pos, *e, m)
		}
		i++
	}
	require.Equal(t, len(want), i)
	for _, c := range x.chunks {
		require.NotEmpty(t, c)
	}
	if len(want) == 0 {
		return
	}
	k := len(want) / 2
	pos, e := x.find(want[k])
	require.Equal(t, k, pos)
	require.Same(t, e, x.at(k))
	require.Equal(t, want[len(want)-1], x.lastUID())
	_, e = x.find(want[k] + 100000)
	require.Nil(t, e)
	set := imap.UIDSet{{First: want[k/2], Last: want[k]}}
	n := 0
	for range x.within(set) {
		n++
	}
	require.Equal(t, k-k/2+1, n)
	require.EqualValues(t, len(want), x.allUIDs().Len())
}
