package dotio

import (
	"bufio"
	"bytes"
	"io"
	"net/textproto"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stuff is the whole rule in one place, slow and plain.
func stuff(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.ReplaceAll(s, "\r", "\n")
	if s != "" && !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	var b strings.Builder
	for line := range strings.Lines(s) {
		if strings.HasPrefix(line, ".") {
			b.WriteByte('.')
		}
		b.WriteString(strings.TrimSuffix(line, "\n") + "\r\n")
	}
	return b.String() + ".\r\n"
}

func write(t testing.TB, text string, chunk int) string {
	var b bytes.Buffer
	w := NewWriter(&b)
	for i := 0; i < len(text); i += chunk {
		p := text[i:min(i+chunk, len(text))]
		n, err := w.Write([]byte(p))
		require.NoError(t, err)
		require.Equal(t, len(p), n)
	}
	require.NoError(t, w.Close())
	return b.String()
}

func TestWriter(t *testing.T) {
	for in, want := range map[string]string{
		"":                        ".\r\n",
		"a":                       "a\r\n.\r\n",
		"a\r\n":                   "a\r\n.\r\n",
		".":                       "..\r\n.\r\n",
		"..\r\n.a\r\n":            "...\r\n..a\r\n.\r\n",
		"a\n.\nb":                 "a\r\n..\r\nb\r\n.\r\n",
		"a\r.\rb":                 "a\r\n..\r\nb\r\n.\r\n",
		"a\r\n.\r\nb":             "a\r\n..\r\nb\r\n.\r\n",
		"\r\n\r\n":                "\r\n\r\n.\r\n",
		"a\r\r\nb":                "a\r\n\r\nb\r\n.\r\n",
		"a\n\r.\r\n":              "a\r\n\r\n..\r\n.\r\n",
		"a\r":                     "a\r\n.\r\n",
		"\x00.\r\n.\x00\r\n.\r\n": "\x00.\r\n..\x00\r\n..\r\n.\r\n",
	} {
		require.Equal(t, want, stuff(in), "the model, %q", in)
		for _, chunk := range []int{1, 2, 3, 5, 1000} {
			assert.Equal(t, want, write(t, in, chunk), "%q in chunks of %d", in, chunk)
		}
	}
}

func FuzzWriter(f *testing.F) {
	f.Add("a\r\n.\r\n\rb\n.c", 2)
	f.Fuzz(func(t *testing.T, text string, chunk int) {
		if chunk < 1 {
			chunk = 1
		}
		got := write(t, text, chunk)
		require.Equal(t, stuff(text), got)
		back, err := io.ReadAll(textproto.NewReader(bufio.NewReader(strings.NewReader(got))).DotReader())
		require.NoError(t, err)
		want := strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
		assert.Equal(t, strings.TrimSuffix(want, "\n"), strings.TrimSuffix(string(back), "\n"))
	})
}

func BenchmarkWriter(b *testing.B) {
	text := []byte(strings.Repeat("A line of mail as it often is, about seventy octets to the end.\r\n", 1000))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	w := NewWriter(io.Discard)
	for b.Loop() {
		_, _ = w.Write(text)
	}
}
