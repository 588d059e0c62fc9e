package bodybuf

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBuffer(t *testing.T) {
	text := bytes.Repeat([]byte("0123456789"), 50)
	for _, limit := range []int{1, 7, 99, 100, 499, 500, 501} {
		for _, chunk := range []int{1, 33, 500} {
			dir := t.TempDir()
			b := &Buffer{MemoryLimit: limit, Dir: dir}
			for p := text; len(p) > 0; {
				n := min(chunk, len(p))
				_, err := b.Write(p[:n])
				require.NoError(t, err)
				p = p[n:]
			}
			require.EqualValues(t, len(text), b.Size())
			require.NoError(t, iotest.TestReader(b.Reader(), text))
			got, err := io.ReadAll(io.NewSectionReader(b, 90, 30))
			require.NoError(t, err)
			assert.Equal(t, text[90:120], got)
			require.NoError(t, b.Close())
			left, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Empty(t, left)
		}
	}
}

func TestNoRoomForTheFile(t *testing.T) {
	b := &Buffer{MemoryLimit: 2, Dir: filepath.Join(t.TempDir(), "missing")}
	_, err := b.Write([]byte("abc"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}
