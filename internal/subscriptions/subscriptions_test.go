package subscriptions_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/subscriptions"
)

func check(name string) error {
	if name == "" {
		return errors.New("no name")
	}
	return nil
}

func TestFile(t *testing.T) {
	f := subscriptions.File{Path: filepath.Join(t.TempDir(), "s"), Separator: ".", Escape: ".", Check: check}
	names, err := f.Read()
	require.NoError(t, err)
	assert.Empty(t, names)
	for _, name := range []string{"b/c", "Entwürfe", "a.b", "b/c"} {
		require.NoError(t, f.Set(name, true))
	}
	require.NoError(t, f.Set("not there", false))
	names, err = f.Read()
	require.NoError(t, err)
	assert.Equal(t, []string{"Entwürfe", "a.b", "b/c"}, names)
	b, err := os.ReadFile(f.Path)
	require.NoError(t, err)
	assert.Equal(t, "V\t2\n\nEntw&APw-rfe\na&AC4-b\nb\tc\n", string(b))
	require.NoError(t, f.Set("a.b", false))
	names, err = f.Read()
	require.NoError(t, err)
	assert.Equal(t, []string{"Entwürfe", "b/c"}, names)
}

func TestVersion1(t *testing.T) {
	f := subscriptions.File{Path: filepath.Join(t.TempDir(), "s"), Separator: ".", Check: check}
	require.NoError(t, os.WriteFile(f.Path, []byte("b.c\n\na\nEntw&APw-rfe\na\n&broken\n"), 0o600))
	names, err := f.Read()
	require.NoError(t, err)
	assert.Equal(t, []string{"&broken", "Entwürfe", "a", "b/c"}, names)
	require.NoError(t, f.Set("d", true))
	b, err := os.ReadFile(f.Path)
	require.NoError(t, err)
	assert.Contains(t, string(b), "b\tc\n", "it is written as version 2")
}
