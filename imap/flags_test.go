package imap

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFlagValid(t *testing.T) {
	for flag, want := range map[Flag]bool{
		FlagSeen: true, `\sEEN`: true, "$Junk": true, "a": true, "NonJunk": true, "a[b": true, "+1": true,
		Flag(strings.Repeat("x", 128)): true,
		"":                             false, FlagRecent: false, `\Other`: false, "a b": false, "(": false, "a)": false, "{": false,
		"%": false, "*": false, `"`: false, "]": false, "é": false, "\x7f": false, "a\r\n": false,
		Flag(strings.Repeat("x", 129)): false,
	} {
		assert.Equal(t, want, flag.Valid(), "%q", flag)
	}
}

func TestFlags(t *testing.T) {
	f := NewFlags("b", FlagSeen, "A", "a", `\answered`, FlagRecent, `\Nonsense`, "")
	assert.Equal(t, `(\Answered \Seen A b)`, f.String())
	assert.Equal(t, 4, f.Len())
	assert.True(t, f.Has("B") && f.Has(`\seen`) && !f.Has(FlagDeleted) && !f.Has("c"))
	g := f.Without("a", FlagSeen, "nothing")
	assert.Equal(t, `(\Answered b)`, g.String())
	assert.Equal(t, `(\Answered \Seen A b)`, f.String(), "a Flags is a value")
	assert.True(t, f.Equal(NewFlags("B", "a", FlagSeen, FlagAnswered)))
	assert.False(t, f.Equal(g))
	assert.Equal(t, "()", Flags{}.String())
}

// A FlagOp must agree with sets of lower-case names.
func TestFlagOpAgainstModel(t *testing.T) {
	names := []Flag{FlagSeen, FlagDeleted, FlagDraft, FlagFlagged, "a", "B", "b", "C", "ab", "$Junk", "$JUNK"}
	rnd := rand.New(rand.NewPCG(3, 4))
	pick := func() []Flag {
		var out []Flag
		for _, n := range names {
			if rnd.IntN(2) == 0 {
				out = append(out, n)
			}
		}
		rnd.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		return out
	}
	fold := func(flags []Flag) map[string]bool {
		m := make(map[string]bool)
		for _, f := range flags {
			m[strings.ToLower(string(f))] = true
		}
		return m
	}
	for range 2000 {
		old, change := pick(), pick()
		want := fold(old)
		action := FlagAction(rnd.IntN(3))
		switch action {
		case FlagsAdd:
			for k := range fold(change) {
				want[k] = true
			}
		case FlagsRemove:
			for k := range fold(change) {
				delete(want, k)
			}
		case FlagsReplace:
			want = fold(change)
		}
		before := NewFlags(old...)
		text := before.String()
		got := FlagOp{action, NewFlags(change...)}.Apply(before)
		require.Equal(t, text, before.String(), "the old value is left alone")
		require.Equal(t, want, fold(slices.Collect(got.All())))
		require.Equal(t, len(want), got.Len())
	}
}

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"INBOX", "a/b/c", "Entwürfe", "日本語", "a b", "%*", "~x", ".", "a&b", "#news", strings.Repeat("x", MaxName)} {
		assert.NoError(t, CheckName(ok), "%q", ok)
	}
	for _, bad := range []string{"", "/", "/a", "a/", "a//b", "a\x00", "a\r\n", "\xff", "a\u0085b", "a\u2028b", "\x7f", strings.Repeat("x", MaxName+1)} {
		assert.ErrorIs(t, CheckName(bad), ErrBadName, "%q", bad)
	}
}

type plainMailbox struct{ Mailbox }

type wrapper struct{ Mailbox }

func (w wrapper) Unwrap() Mailbox { return w.Mailbox }

type recentMailbox struct {
	Mailbox
	Recenter
}

func TestUpgradeLooksThroughWrappers(t *testing.T) {
	_, ok := Upgrade[Recenter](wrapper{wrapper{recentMailbox{}}})
	assert.True(t, ok)
	_, ok = Upgrade[Recenter](wrapper{plainMailbox{}})
	assert.False(t, ok)
	_, ok = Upgrade[Recenter](wrapper{})
	assert.False(t, ok)
	set, err := Recent(t.Context(), plainMailbox{}, true)
	assert.NoError(t, err)
	assert.Empty(t, set)
}
