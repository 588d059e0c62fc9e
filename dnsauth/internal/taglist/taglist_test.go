package taglist

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	s := " v = DKIM1 ;p=MII\r\n\t G=;n="
	list, err := Parse(s, false)
	require.NoError(t, err)
	assert.Len(t, list, 3)
	v, _ := list.Get("v")
	assert.Equal(t, "DKIM1", v)
	p := list.Tag("p")
	assert.Equal(t, "MIIG=", Unspaced(p.Value))
	assert.Equal(t, "MII\r\n\t G=", s[p.Start:p.End])
	n, ok := list.Get("n")
	assert.True(t, ok)
	assert.Empty(t, n)
	_, ok = list.Get("x")
	assert.False(t, ok)

	for _, bad := range []string{"", " ", ";", "v", "v=1; v=2", "=1", "1a=2", "a=1;;b=2", "a b=1", "a=\x00", strings.Repeat("a=1;", 2)} {
		_, err := Parse(bad, false)
		assert.Error(t, err, "%q", bad)
	}
	list, err = Parse("a=1;; b=2; ;", true)
	require.NoError(t, err)
	assert.Len(t, list, 2)
}

func FuzzParse(f *testing.F) {
	f.Add("v=1; a=rsa-sha256; b=\r\n  abc=; h=from : to")
	f.Fuzz(func(t *testing.T, s string) {
		list, err := Parse(s, false)
		if err != nil {
			return
		}
		var b strings.Builder
		for _, tag := range list {
			assert.Equal(t, tag.Value, trim(s[tag.Start:tag.End]))
			b.WriteString(tag.Name + "=" + tag.Value + ";")
		}
		again, err := Parse(b.String(), false)
		require.NoError(t, err)
		require.Len(t, again, len(list))
		for i := range list {
			assert.Equal(t, list[i].Name, again[i].Name)
			assert.Equal(t, list[i].Value, again[i].Value)
		}
	})
}
