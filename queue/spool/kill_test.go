package spool_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/spool"
)

// childDir names the spool of a child process; TestMain then is that child.
const childDir = "MAILBLOCKS_SPOOL_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child accepts and delivers as fast as it can until it is killed, and writes a line to standard output
// after each acknowledgement: "+ ID checksum" for an Enqueue, "~ ID" before and "- ID" after a Settle.
func child(dir string) error {
	s, err := spool.Open(dir, &spool.Options{SegmentSize: 1 << 20, SmallBody: 8 << 10})
	if err != nil {
		return err
	}
	ctx := context.Background()
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(os.Stdout, format+"\n", args...)
	}
	say("ready")
	failed := make(chan error)
	for n := range 4 {
		go func() {
			for i := 0; ; i++ {
				body := bytes.Repeat([]byte{byte('a' + i%26)}, rand.IntN(6000))
				if rand.IntN(20) == 0 {
					body = bytes.Repeat(body, 10)
				}
				ids, err := s.Enqueue(ctx, queue.Message{
					Envelope: queue.Envelope{Recipients: []queue.Recipient{{Address: fmt.Sprintf("u@d%d.test", n)}}},
					Body:     bytes.NewReader(body),
				})
				if err != nil {
					failed <- err
					return
				}
				say("+ %s %08x", ids[0], crc32.ChecksumIEEE(body))
			}
		}()
		go func() {
			for {
				leases, err := s.Lease(ctx, queue.Want{Max: 2, For: time.Hour})
				if err != nil {
					failed <- err
					return
				}
				for _, l := range leases {
					r := l.Envelope.Recipients[0]
					r.Status = queue.StatusDelivered
					say("~ %s", l.Token.ID)
					if _, err := s.Settle(ctx, l.Token, queue.Settlement{Recipients: map[int]queue.Recipient{0: r}}); err != nil {
						failed <- err
						return
					}
					say("- %s", l.Token.ID)
				}
			}
		}()
	}
	return <-failed
}

// TestKill kills a process that accepts and delivers, at random moments, again and again on one spool.
func TestKill(t *testing.T) {
	kills := 12
	if testing.Short() {
		kills = 3
	}
	dir := t.TempDir()
	there := map[string]string{} // acknowledged, by ID
	begun := map[string]bool{}   // a Settle began
	gone := map[string]bool{}
	for n := range kills {
		run(t, dir, 50+rand.IntN(2000), there, begun, gone)

		s, err := spool.Open(dir, nil)
		require.NoError(t, err)
		require.Empty(t, s.Recovery().Damage)
		found := map[string]bool{}
		for e, err := range s.List(t.Context(), queue.Filter{}) {
			require.NoError(t, err)
			id := string(e.ID)
			found[id] = true
			require.False(t, gone[id], "kill %d: %s was settled and is back", n, id)
			if sum, ok := there[id]; ok {
				r, err := s.Open(t.Context(), e.ID)
				require.NoError(t, err)
				body, err := io.ReadAll(r)
				require.NoError(t, err)
				r.Close()
				require.Equal(t, sum, fmt.Sprintf("%08x", crc32.ChecksumIEEE(body)), "kill %d: body of %s", n, id)
			}
		}
		for id := range there {
			require.True(t, found[id] || begun[id], "kill %d: %s was acknowledged and is lost", n, id)
			if !found[id] {
				delete(there, id)
			}
		}
		clear(begun)
		require.NoError(t, s.Close())
	}
}

// run starts the child, kills it after it said so many lines, and keeps the books.
func run(t *testing.T, dir string, lines int, there map[string]string, begun, gone map[string]bool) {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	scanner := bufio.NewScanner(out)
	for n := 0; scanner.Scan(); n++ {
		if n == lines {
			require.NoError(t, cmd.Process.Kill())
		}
		f := strings.Fields(scanner.Text())
		switch {
		case len(f) == 3 && f[0] == "+" && len(f[2]) == 8:
			there[f[1]] = f[2]
		case len(f) == 2 && f[0] == "~" && len(f[1]) == 13:
			begun[f[1]] = true
		case len(f) == 2 && f[0] == "-" && len(f[1]) == 13:
			gone[f[1]] = true
		}
	}
	cmd.Wait()
	require.Empty(t, stderr.String())
}
