package dialog

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// peer answers with the given bytes to each line it reads, then closes.
func peer(t *testing.T, replies ...string) *Player {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	go func() {
		r := bufio.NewReader(a)
		for i, reply := range replies {
			if i > 0 {
				if _, err := r.ReadString('\n'); err != nil {
					return
				}
			}
			_, _ = io.WriteString(a, reply)
		}
		a.Close()
	}()
	return &Player{Conn: b, Timeout: 5 * time.Second}
}

func TestPlay(t *testing.T) {
	p := peer(t, "220 hello\r\n", "250-a\r\n250-b\r\n250 c\r\n", "221 bye\r\n")
	p.Vars = map[string]string{"NAME": "x.test"}
	require.NoError(t, p.Play("t", `
# greeting
S: 220 hello
C: EHLO ${NAME}
S* 250-.*
S: 250 c
C! QUIT\r\n
S~ 221 .*
S. closed
`))
}

func TestPlayFails(t *testing.T) {
	for script, want := range map[string]string{
		"S: 220 other":      "t:1: want \"220 other\"\n got \"220 hello\"",
		"\n\nS~ 22[1-9] .*": "t:3: want a match of",
		"S. closed":         "t:1: want the connection closed",
		"X: what":           "t:1: no such line",
		"C! \\q":            "t:1: bad escape",
	} {
		err := peer(t, "220 hello\r\n").Play("t", script)
		require.Error(t, err, script)
		assert.Contains(t, err.Error(), want)
	}
	err := peer(t, "220 hello\n").Play("t", "S: 220 hello")
	assert.ErrorContains(t, err, "does not end in CRLF")
}
