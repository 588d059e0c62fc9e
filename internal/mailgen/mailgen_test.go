package mailgen

import (
	"bytes"
	"net/mail"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMessages(t *testing.T) {
	total := 0
	for n := range 500 {
		msg := Message(n)
		total += len(msg)
		require.Equal(t, msg, Message(n), "the same each time")
		require.Equal(t, bytes.Count(msg, []byte("\n")), bytes.Count(msg, []byte("\r\n")), "message %d", n)
		m, err := mail.ReadMessage(bytes.NewReader(msg))
		require.NoError(t, err, "message %d", n)
		_, err = m.Header.AddressList("To")
		require.NoError(t, err, "message %d", n)
		for _, line := range bytes.Split(msg, []byte("\r\n")) {
			require.LessOrEqual(t, len(line), 998, "message %d", n)
		}
	}
	assert.InDelta(t, 33500, total/500, 4000, "20,000 messages have about 670 MB")
}

func TestMaildir(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, Maildir(dir, 20, false))
	files, err := os.ReadDir(filepath.Join(dir, "cur"))
	require.NoError(t, err)
	require.Len(t, files, 20)
	b, err := os.ReadFile(filepath.Join(dir, "cur", files[3].Name()))
	require.NoError(t, err)
	assert.NotContains(t, string(b), "\r")
}
