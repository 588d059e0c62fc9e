package spam_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/spam"
)

// TestKilled kills a process while it learns, several times, and opens what it left: a whole
// model that holds all that was synced, and no message twice.
func TestKilled(t *testing.T) {
	if path := os.Getenv("SPAM_TEST_LEARN"); path != "" {
		learnForEver(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "db")
	synced := 0 // the most that any of them has told: each begins anew
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), "SPAM_TEST_LEARN="+path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n := 0; n < 3+round && lines.Scan(); n++ {
			told := 0
			require.True(t, sscan(lines.Text(), &told), lines.Text())
			synced = max(synced, told)
		}
		require.NoError(t, cmd.Process.Kill())
		for lines.Scan() { // what it said before it died
			if told := 0; sscan(lines.Text(), &told) {
				synced = max(synced, told)
			}
		}
		_ = cmd.Wait()

		s, err := spam.OpenFile(path)
		require.NoError(t, err)
		st := newClassifier(t, s).Stats()
		assert.GreaterOrEqual(t, st.Ham+st.Spam, synced)
		assert.LessOrEqual(t, st.Ham+st.Spam, synced+learnBatch)
		require.NoError(t, s.Close())
	}
	assert.Positive(t, synced)
}

func sscan(line string, n *int) bool {
	_, err := fmt.Sscanf(line, "synced %d\n", n)
	return err == nil
}

const learnBatch = 10

// learnForEver learns from message 0 on; what was learned before it was killed counts once.
func learnForEver(t *testing.T, path string) {
	s, err := spam.OpenFile(path)
	require.NoError(t, err)
	c := newClassifier(t, s)
	for i := 0; ; i++ {
		m, l := hamOf(t, i), spam.Ham
		if i%2 == 1 {
			m, l = spamOf(t, i), spam.Spam
		}
		require.NoError(t, c.Learn(t.Context(), "", fmt.Sprint(i), m, l))
		if (i+1)%learnBatch == 0 {
			require.NoError(t, s.Sync(t.Context()))
			fmt.Printf("synced %d\n", i+1)
		}
	}
}

// A frame that a crash left half written is dropped by the next writer, and nothing else.
func TestTornFrame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, err := spam.OpenFile(path)
	require.NoError(t, err)
	require.NoError(t, s.Add(t.Context(), "", []spam.Cell{{Index: 1, Ham: 1}}))
	require.NoError(t, s.Sync(t.Context()))
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, s.Add(t.Context(), "", []spam.Cell{{Index: 1, Ham: 1}}))
	require.NoError(t, s.Close())
	both, err := os.ReadFile(path)
	require.NoError(t, err)

	for cut := len(whole); cut < len(both); cut++ {
		require.NoError(t, os.WriteFile(path, both[:cut], 0o600))
		s, err := spam.OpenFile(path)
		require.NoError(t, err)
		require.Equal(t, int32(1), counts(t, s)[1][0], "cut at %d", cut)
		require.NoError(t, s.Add(t.Context(), "", []spam.Cell{{Index: 1, Ham: 5}}))
		require.NoError(t, s.Close())
		s, err = spam.OpenFile(path)
		require.NoError(t, err)
		require.Equal(t, int32(6), counts(t, s)[1][0], "cut at %d", cut)
		require.NoError(t, s.Close())
	}
	// A file that is no store is left alone.
	require.NoError(t, os.WriteFile(path, []byte("something else entirely"), 0o600))
	_, err = spam.OpenFile(path)
	assert.Error(t, err)
}
