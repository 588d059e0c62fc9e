package disktest

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/disk"
)

// left returns what each disk of a crash holds, as "name=content" with blanks between.
func left(t *testing.T, work func(root string)) []string {
	dir := t.TempDir()
	root, after := filepath.Join(dir, "root"), filepath.Join(dir, "after")
	require.NoError(t, os.Mkdir(root, 0o700))
	rec := Record(t, root)
	work(root)
	rec.Stop()
	disks := make(map[string]bool)
	rec.Crashes(t, after, rec.Len(), rec.Len(), 0, func(int, string) {
		var files []string
		require.NoError(t, filepath.WalkDir(after, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			files = append(files, strings.TrimPrefix(path, after+"/")+"="+string(b))
			return err
		}))
		disks[strings.Join(files, " ")] = true
	})
	return slices.Sorted(maps.Keys(disks))
}

func create(t *testing.T, path, text string) *disk.File {
	f, err := disk.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	require.NoError(t, err)
	_, err = f.Write([]byte(text))
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func TestWhatIsSyncedStays(t *testing.T) {
	assert.Equal(t, []string{"", "a=", "a=\x00\x00e!", "a=on", "a=one!"}, left(t, func(root string) {
		create(t, filepath.Join(root, "a"), "one!")
	}), "nothing synced: the name, the text, half of it, or nothing")
	assert.Equal(t, []string{"", "a=one!"}, left(t, func(root string) {
		require.NoError(t, create(t, filepath.Join(root, "a"), "one!").Sync())
	}), "the file, but not its name")
	assert.Equal(t, []string{"a=one!"}, left(t, func(root string) {
		require.NoError(t, create(t, filepath.Join(root, "a"), "one!").Sync())
		require.NoError(t, disk.SyncDir(root))
	}))
	assert.Equal(t, []string{"a=one!", "b=one!"}, left(t, func(root string) {
		require.NoError(t, create(t, filepath.Join(root, "a"), "one!").Sync())
		require.NoError(t, disk.SyncDir(root))
		require.NoError(t, disk.Rename(filepath.Join(root, "a"), filepath.Join(root, "b")))
	}), "a rename is whole")
	assert.Equal(t, []string{"", "a=1", "a=1 b=2", "b=2"}, left(t, func(root string) {
		require.NoError(t, create(t, filepath.Join(root, "a"), "1").Sync())
		require.NoError(t, create(t, filepath.Join(root, "b"), "2").Sync())
	}), "two names, in any order")
	assert.Equal(t, []string{"a=old!", "a=old!nd", "a=olde", "a=oldend"}, left(t, func(root string) {
		f := create(t, filepath.Join(root, "a"), "old!")
		require.NoError(t, f.Sync())
		require.NoError(t, disk.SyncDir(root))
		_, err := f.WriteAt([]byte("end"), 3)
		require.NoError(t, err)
	}), "half of a write in place")
	assert.Equal(t, []string{"sub/b=1"}, left(t, func(root string) {
		sub := filepath.Join(root, "sub")
		require.NoError(t, disk.Mkdir(sub, 0o700))
		require.NoError(t, create(t, filepath.Join(root, "a"), "1").Sync())
		require.NoError(t, disk.Rename(filepath.Join(root, "a"), filepath.Join(sub, "b")))
		require.NoError(t, disk.SyncDir(sub))
		require.NoError(t, disk.SyncDir(root))
		require.NoError(t, disk.Link(filepath.Join(sub, "b"), filepath.Join(sub, "c")))
		require.NoError(t, disk.Remove(filepath.Join(sub, "c")))
		require.NoError(t, disk.SyncDir(sub))
	}))
}
