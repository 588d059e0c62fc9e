//go:build unix

package mbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain is, when it is asked, another process that holds a lock until its input ends.
func TestMain(m *testing.M) {
	var err error
	switch path, name := os.Getenv("MBOX_TEST_PATH"), os.Getenv("MBOX_TEST_NAME"); os.Getenv("MBOX_TEST_ROLE") {
	case "worker", "other":
		err = worker(path, name)
	case "deliverer":
		err = deliverer(path, name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	path := os.Getenv("MBOX_TEST_LOCK")
	if path == "" {
		os.Exit(m.Run())
	}
	l, err := LockFile(context.Background(), path, &LockOptions{Wait: -1, NoDotLock: true})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Print("locked\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = l.Unlock()
}

var oneTry = &LockOptions{Wait: -1}

func outgoing(body string) Outgoing {
	return Outgoing{Sender: "a@example.org", Date: when, Body: strings.NewReader(body)}
}

func content(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func TestAppend(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "box")
	require.NoError(t, Append(ctx, path, nil, nil, outgoing("A: b\n\nFrom x\n"), outgoing("y")))
	require.NoError(t, Append(ctx, path, nil, &WriterOptions{LF: true}, outgoing("z\r\n")))
	old := content(t, path)
	assert.Equal(t, []string{"A: b\n\nFrom x\n", "y", "z\n"}, readAll(t, old, &ReaderOptions{Dialect: RD}))

	bad := Outgoing{Body: io.MultiReader(strings.NewReader(strings.Repeat("x", 1<<20)), iotest.ErrReader(io.ErrClosedPipe))}
	assert.ErrorIs(t, Append(ctx, path, nil, nil, outgoing("new"), bad), io.ErrClosedPipe)
	assert.Equal(t, old, content(t, path))
	assert.Error(t, Append(ctx, path, nil, nil, Outgoing{Sender: "a b"}))
	assert.Equal(t, old, content(t, path))
	files, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, files, 1, "no lock and no undo record stays")

	require.NoError(t, os.WriteFile(path, []byte(sep+"torn"), 0o600))
	require.NoError(t, Append(ctx, path, nil, nil, outgoing("z")))
	assert.Equal(t, []string{"torn", "z"}, readAll(t, content(t, path), &ReaderOptions{Dialect: RD}))
}

// A crash at any octet of an append leaves the file as it was; what others wrote stays.
func TestAppendCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box")
	old := sep + "old\n\n"
	added := write(t, RD, "A: b\n\nFrom x\n>From \n", "second\n")
	record := fmt.Sprintf("%s%d\n%s%s", undoHeader, len(old), sep, sep)
	undo := (&Lock{path: path}).undo()
	foreign := "From c@example.org Sun Nov 22 00:30:00 2026\n\nforeign\n\n"
	for n := range len(added) + 1 {
		for _, tail := range []string{"", strings.Repeat("\x00", 100), foreign} {
			require.NoError(t, os.WriteFile(path, []byte(old+added[:n]+tail), 0o600))
			require.NoError(t, os.WriteFile(undo, []byte(record), 0o600))
			l, err := LockFile(context.Background(), path, oneTry)
			require.NoError(t, err)
			require.NoError(t, l.Unlock())
			if tail == foreign {
				require.True(t, strings.HasSuffix(content(t, path), foreign), n)
			} else {
				require.Equal(t, old, content(t, path), n)
			}
			_, err = os.Stat(undo)
			require.ErrorIs(t, err, os.ErrNotExist)
		}
	}
}

func TestAppendParallel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 4 {
				assert.NoError(t, Append(context.Background(), path, nil, nil, outgoing("x\n")))
			}
		})
	}
	wg.Wait()
	assert.Equal(t, strings.Repeat(sep+"x\n\n", 32), content(t, path))
}

func TestLock(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "box")
	hostname, err := os.Hostname()
	require.NoError(t, err)
	l, err := LockFile(ctx, path, nil)
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("%d:%s", os.Getpid(), hostname), content(t, path+".lock"))
	l.Touch()
	_, err = LockFile(ctx, path, oneTry)
	assert.ErrorIs(t, err, ErrLocked)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err = LockFile(gone, path, nil)
	assert.ErrorIs(t, err, context.Canceled)
	require.NoError(t, l.Unlock())
	require.NoError(t, l.Unlock())
	_, err = os.Stat(path + ".lock")
	require.ErrorIs(t, err, os.ErrNotExist)

	// Another program's lock file; the fcntl lock is given back meanwhile.
	require.NoError(t, os.WriteFile(path+".lock", []byte("1:elsewhere"), 0o600))
	_, err = LockFile(ctx, path, oneTry)
	assert.ErrorIs(t, err, ErrLocked)
	l, err = LockFile(ctx, path, &LockOptions{Wait: -1, NoDotLock: true})
	require.NoError(t, err)
	require.NoError(t, l.Unlock())

	// One of a process that is dead.
	dead := exec.Command(os.Args[0], "-test.run=^$")
	require.NoError(t, dead.Run())
	require.NoError(t, os.WriteFile(path+".lock", fmt.Appendf(nil, "%d:%s", dead.Process.Pid, hostname), 0o600))
	l, err = LockFile(ctx, path, nil)
	require.NoError(t, err)
	require.NoError(t, l.Unlock())
}

func TestLockOtherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "box")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "MBOX_TEST_LOCK="+path)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	said := make([]byte, len("locked\n"))
	_, err = io.ReadFull(out, said)
	require.NoError(t, err)
	require.Equal(t, "locked\n", string(said))
	_, err = LockFile(context.Background(), path, oneTry)
	assert.ErrorIs(t, err, ErrLocked)
	_, err = os.Stat(path + ".lock")
	assert.True(t, errors.Is(err, os.ErrNotExist), "no lock file stays of an attempt")
	require.NoError(t, in.Close())
	require.NoError(t, cmd.Wait())
	l, err := LockFile(context.Background(), path, oneTry)
	require.NoError(t, err)
	require.NoError(t, l.Unlock())
}
