package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func write(t *testing.T, path, text string) string {
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func ham(n int) string {
	return fmt.Sprintf("From: ann@example.org\nSubject: minutes of meeting %d\n\nThe board met on day %d.\n", n, n)
}

func junk(n int) string {
	return fmt.Sprintf("From: win%d@example.net\nSubject: You WON!!!\n\nCheap pills, number %d\n", n, n)
}

// Training from files, a Maildir and an mbox; then every command.
func TestCommands(t *testing.T) {
	dir := t.TempDir()
	db := filepath.Join(dir, "db")
	call := func(in string, args ...string) string {
		var out bytes.Buffer
		require.NoError(t, run(t.Context(), append([]string{"-db", db}, args...), strings.NewReader(in), &out, io.Discard))
		return out.String()
	}
	var mbox strings.Builder
	for n := range 40 {
		write(t, filepath.Join(dir, "box", "cur", fmt.Sprint(n, ":2,S")), ham(n))
		mbox.WriteString("From x@example.org Thu Jan  1 00:00:00 1970\n" + junk(n) + "\n")
	}
	hams := write(t, filepath.Join(dir, "hams"), filepath.Join(dir, "box")+"\n")
	call("", "train", "ham", hams)
	spams := write(t, filepath.Join(dir, "mbox"), mbox.String())
	call(spams+"\n", "train", "spam", "-")
	assert.Contains(t, call("", "stats"), "ham 40\nspam 40\n")

	call(spams+"\n", "train", "spam", "-")
	assert.Contains(t, call("", "stats"), "ham 40\nspam 40\n", "the same again counts once")

	h := write(t, filepath.Join(dir, "h.eml"), ham(77))
	s := write(t, filepath.Join(dir, "s.eml"), junk(77))
	lines := strings.Split(call(h+"\n"+s+"\n", "score", "-"), "\n")
	require.Len(t, lines, 3)
	assert.Regexp(t, `^-\d+\.\d+ ham$`, lines[0])
	assert.Regexp(t, `^\d+\.\d+ spam$`, lines[1])

	lines = strings.Split(call("ham\t"+h+"\nspam\t"+s+"\n", "online", "-"), "\n")
	require.Len(t, lines, 3)
	assert.Contains(t, call("", "stats"), "ham 41\nspam 41\n")
	assert.Contains(t, call("", "explain", s), "spam: score ")

	call("", "snapshot", "good")
	assert.Contains(t, call("", "stats"), "snapshot good ")
	assert.Equal(t, "41 messages forgotten\n", call("", "forget", "ann@example.org"))
	assert.Contains(t, call("", "stats"), "ham 0\nspam 41\n")
	call("", "rollback", "good")
	assert.Contains(t, call("", "stats"), "ham 41\nspam 41\n")

	err := run(t.Context(), []string{"-db", db, "train", "sauce", hams}, nil, io.Discard, io.Discard)
	assert.ErrorContains(t, err, "no label")
	err = run(t.Context(), []string{"-db", db, "score"}, nil, io.Discard, io.Discard)
	assert.ErrorIs(t, err, errUsage)
	err = run(t.Context(), []string{"-db", db, "score", "-"}, strings.NewReader(filepath.Join(dir, "none")+"\n"), io.Discard, io.Discard)
	assert.ErrorIs(t, err, os.ErrNotExist)
}
