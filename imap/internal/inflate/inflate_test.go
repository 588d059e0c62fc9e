package inflate

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func deflated(t testing.TB, level int, b []byte) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	require.NoError(t, err)
	_, err = w.Write(b)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// samples are texts of all kinds: short, long, repetitive, random.
func samples() (out [][]byte) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random := make([]byte, 100<<10)
	for i := range random {
		random[i] = byte(rnd.Uint32())
	}
	words := new(strings.Builder)
	for words.Len() < 300<<10 {
		words.WriteString([]string{"FETCH ", "UID ", "STORE ", "1:* ", "\r\n", "(FLAGS) ", "inbox", "\x00"}[rnd.IntN(8)])
		if rnd.IntN(40) == 0 {
			words.Write(random[:rnd.IntN(3000)])
		}
	}
	return [][]byte{nil, []byte("a"), []byte("a1 NOOP\r\n"), random, []byte(words.String()), bytes.Repeat([]byte("x"), 1<<20)}
}

func TestReader(t *testing.T) {
	for _, want := range samples() {
		for _, level := range []int{flate.NoCompression, flate.BestSpeed, flate.DefaultCompression, flate.BestCompression, flate.HuffmanOnly} {
			packed := deflated(t, level, want)
			for _, src := range []io.Reader{bytes.NewReader(packed), iotest.OneByteReader(bytes.NewReader(packed)), iotest.HalfReader(bytes.NewReader(packed))} {
				got, err := io.ReadAll(NewReader(src))
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, got), "level %d", level)
			}
		}
	}
}

// partial is what zlib's deflate made of "a1 NOOP\r\n" and of "a2 NOOP\r\n", each followed
// by Z_PARTIAL_FLUSH.
var partial = [][]byte{
	{0x4a, 0x34, 0x54, 0xf0, 0xf3, 0xf7, 0x0f, 0xe0, 0xe5, 0x02, 0x08},
	{0xa0, 0x44, 0x23, 0x28, 0x03, 0x20},
}

func TestPartialFlush(t *testing.T) {
	r, w := io.Pipe()
	d := NewReader(r)
	buf := make([]byte, 100)
	for i, want := range []string{"a1 NOOP\r\n", "a2 NOOP\r\n"} {
		go func() { _, _ = w.Write(partial[i]) }()
		n, err := io.ReadFull(d, buf[:len(want)])
		require.NoError(t, err)
		require.Equal(t, want, string(buf[:n]))
		require.False(t, d.Ready())
		d.Rest()
		d.Pack()
	}
}

// TestRest rests after every flush, and goes on with the history that was packed.
func TestRest(t *testing.T) {
	var in bytes.Buffer
	w, err := flate.NewWriter(&in, flate.BestCompression)
	require.NoError(t, err)
	d := NewReader(&in)
	for i, b := range samples()[2:] {
		for range 3 {
			for at := 0; at < len(b); at += 20 << 10 {
				part := b[at:min(at+20<<10, len(b))]
				_, err := w.Write(part)
				require.NoError(t, err)
				require.NoError(t, w.Flush())
				got := make([]byte, len(part))
				_, err = io.ReadFull(d, got)
				require.NoError(t, err)
				require.True(t, bytes.Equal(part, got))
				require.False(t, d.Ready())
				d.Rest()
				if i%2 == 0 {
					d.Pack()
				}
				require.Nil(t, d.buf)
				require.LessOrEqual(t, cap(d.hist), maxHist+maxMatch)
			}
		}
	}
}

// TestHistoryIsBounded reads what inflates a thousandfold.
func TestHistoryIsBounded(t *testing.T) {
	d := NewReader(bytes.NewReader(deflated(t, flate.BestCompression, make([]byte, 8<<20))))
	buf := make([]byte, 1000)
	total := 0
	for {
		n, err := d.Read(buf)
		total += n
		require.LessOrEqual(t, cap(d.hist), 2*maxHist)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
	}
	require.Equal(t, 8<<20, total)
}

func TestEnded(t *testing.T) {
	for _, want := range samples() {
		in := append(deflated(t, flate.BestSpeed, want), "a1 NOOP\r\n"...)
		src := bytes.NewReader(in)
		d := NewReader(src)
		got, err := io.ReadAll(d)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		rest, ended := d.Ended()
		require.True(t, ended)
		behind, err := io.ReadAll(src)
		require.NoError(t, err)
		require.Equal(t, "a1 NOOP\r\n", string(rest)+string(behind))
	}
	_, ended := NewReader(nil).Ended()
	require.False(t, ended)
}

// FuzzReader compares with compress/flate, in one read and octet by octet with rests.
func FuzzReader(f *testing.F) {
	for _, b := range samples()[:3] {
		for level := -2; level <= 9; level += 3 {
			f.Add(deflated(f, level, b))
		}
	}
	for _, b := range partial {
		f.Add(b)
	}
	f.Add(deflated(f, 9, samples()[4][:5000]))
	f.Fuzz(func(t *testing.T, in []byte) {
		const most = 1 << 16
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(in)), most))
		got, err := io.ReadAll(io.LimitReader(NewReader(bytes.NewReader(in)), most))
		if wantErr == nil && len(want) < most {
			require.NoError(t, err)
		}
		// We give what compress/flate still holds back, also in front of an error.
		require.True(t, bytes.HasPrefix(got, want))
		var bad flate.CorruptInputError
		if errors.As(wantErr, &bad) && len(got) < most {
			// We may want to see a whole code before we say that there is none.
			_, err = io.ReadAll(NewReader(io.MultiReader(bytes.NewReader(in), strings.NewReader("\x00\x00\x00\x00"))))
			require.Error(t, err)
		}
		d := NewReader(iotest.OneByteReader(bytes.NewReader(in)))
		var slow []byte
		buf := make([]byte, 77)
		for len(slow) < len(got) {
			n, err := d.Read(buf)
			slow = append(slow, buf[:n]...)
			if err != nil {
				break
			}
			if !d.Ready() {
				d.Rest()
				if len(slow)%64 == 0 {
					d.Pack()
				}
			}
		}
		require.True(t, bytes.HasPrefix(slow, got))
	})
}

func BenchmarkReader(b *testing.B) {
	want := samples()[4]
	packed := deflated(b, flate.DefaultCompression, want)
	for name, open := range map[string]func(io.Reader) io.Reader{
		"own":  func(r io.Reader) io.Reader { return NewReader(r) },
		"std ": func(r io.Reader) io.Reader { return flate.NewReader(r) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(want)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = io.Copy(io.Discard, open(bytes.NewReader(packed)))
			}
		})
	}
}
