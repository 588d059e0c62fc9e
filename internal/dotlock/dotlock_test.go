package dotlock

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTry(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mbox")
	l, err := Try(file, dir)
	require.NoError(t, err)
	content, err := os.ReadFile(file + ".lock")
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("%d:%s", os.Getpid(), hostname()), string(content))
	_, err = Try(file, dir)
	assert.ErrorIs(t, err, ErrHeld)
	require.NoError(t, l.Unlock())
	l, err = Try(file, dir)
	require.NoError(t, err)
	require.NoError(t, l.Unlock())
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left)
	_, err = Try(file, filepath.Join(dir, "missing"))
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func TestStale(t *testing.T) {
	old := time.Now().Add(-Stale - time.Second)
	for name, tc := range map[string]struct {
		content       string
		lock, file    time.Time
		stale, noFile bool
	}{
		"a dead process of this host":   {"999999999:" + hostname(), time.Now(), time.Now(), true, false}, // process ids end below 2^22
		"the same, with a line end":     {"999999999:" + hostname() + "\n", time.Now(), time.Now(), true, false},
		"ours, held":                    {fmt.Sprintf("%d:%s", os.Getpid(), hostname()), time.Now(), old, false, false},
		"of our number, before us":      {fmt.Sprintf("%d:%s", os.Getpid(), hostname()), started.Add(-time.Second), time.Now(), true, false},
		"of another host":               {"999999999:elsewhere", time.Now(), time.Now(), false, false},
		"a living one":                  {fmt.Sprintf("%d:%s", os.Getppid(), hostname()), time.Now(), time.Now(), false, false},
		"old, and the file was changed": {"1:elsewhere", old, time.Now(), false, false},
		"old, and so is the file":       {"1:elsewhere", old, old, true, false},
		"old, without a file":           {"1:elsewhere", old, old, true, true},
		"empty and new":                 {"", time.Now(), old, false, false},
		"empty and old":                 {"", old, old, true, false},
		"rubbish":                       {"x", time.Now(), old, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "mbox")
			require.NoError(t, os.WriteFile(file+".lock", []byte(tc.content), 0o600))
			require.NoError(t, os.Chtimes(file+".lock", tc.lock, tc.lock))
			if !tc.noFile {
				require.NoError(t, os.WriteFile(file, nil, 0o600))
				require.NoError(t, os.Chtimes(file, tc.file, tc.file))
			}
			_, err := Try(file, dir)
			if tc.stale {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, ErrHeld)
			}
		})
	}
}

// Many want the lock, and stale ones keep turning up: never do two have it.
func TestExclusive(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mbox")
	require.NoError(t, os.WriteFile(file+".lock", []byte("999999999:"+hostname()), 0o600))
	var holders, taken int
	var mu sync.Mutex
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for done := 0; done < 50; {
				l, err := Try(file, dir)
				if err != nil {
					assert.ErrorIs(t, err, ErrHeld)
					continue
				}
				mu.Lock()
				holders++
				taken++
				assert.Equal(t, 1, holders)
				mu.Unlock()
				mu.Lock()
				holders--
				mu.Unlock()
				assert.NoError(t, l.Unlock())
				done++
			}
		})
	}
	wait.Wait()
	assert.Equal(t, 400, taken)
}
