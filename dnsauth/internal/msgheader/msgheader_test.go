package msgheader

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCollectorAnyChunks(t *testing.T) {
	for _, c := range []struct{ msg, header, body string }{
		{"A: 1\r\nB: 2\r\n\r\nbody\r\n", "A: 1\r\nB: 2\r\n", "body\r\n"},
		{"A: 1\nB: 2\n\nbody\n", "A: 1\nB: 2\n", "body\n"},
		{"\r\nbody", "", "body"},
		{"\nbody", "", "body"},
		{"A: 1\r\n\r\n", "A: 1\r\n", ""},
		{"A: 1\r\n", "A: 1\r\n", ""},
		{"A: 1\r\n x\r\n\r\n\r\n", "A: 1\r\n x\r\n", "\r\n"},
		{"", "", ""},
	} {
		for size := 1; size <= len(c.msg)+1; size++ {
			var col Collector
			var body strings.Builder
			for rest := c.msg; rest != ""; {
				chunk := rest[:min(size, len(rest))]
				rest = rest[len(chunk):]
				n, done, err := col.Write([]byte(chunk))
				require.NoError(t, err)
				if done {
					body.WriteString(chunk[n:])
				}
			}
			assert.Equal(t, c.header, string(col.Header()), "%q in chunks of %d", c.msg, size)
			assert.Equal(t, c.body, body.String(), "%q in chunks of %d", c.msg, size)
		}
	}
}

func TestCollectorLimit(t *testing.T) {
	col := Collector{Max: 10}
	_, _, err := col.Write([]byte("A: 12345\r\n\r\nbody body body"))
	assert.NoError(t, err)
	col = Collector{Max: 10}
	_, _, err = col.Write([]byte("A: 123456789\r\n\r\nbody"))
	assert.ErrorIs(t, err, ErrTooLong)
	assert.LessOrEqual(t, len(col.Header()), 14)
}

func TestParse(t *testing.T) {
	h := Parse([]byte("From a@b Mon\r\nA: 1\r\nB :2\r\n\t3\r\nbroken line\r\n: x\r\nC:\r\nD: no end"))
	var got []string
	for i := range h.Fields {
		got = append(got, string(h.Name(i))+"|"+string(h.Value(i)))
	}
	assert.Equal(t, []string{"|", "A| 1", "B|2\r\n\t3", "|", "|", "C|", "D| no end"}, got)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("A: 1\r\n b\r\nB: 2\n\tc\r\n\r\nbody"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		h := Parse(msg)
		var all []byte
		for i := range h.Fields {
			f := h.Fields[i]
			all = append(all, msg[f.Start:f.End]...)
			h.Name(i)
			h.Value(i)
		}
		assert.Equal(t, string(msg), string(all))
	})
}
