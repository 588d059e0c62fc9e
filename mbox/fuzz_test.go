package mbox

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// Whatever the file holds, the reader ends, yields no octets that are not there, and does
// not mind how they come.
func FuzzReader(f *testing.F) {
	f.Add([]byte(sep+"A: b\n\n>From x\n\n"+sep), uint8(0), false)
	f.Add([]byte(sep+"Content-Length: 4\n\nabc\n\n"+sep+"x\n"), uint8(4), false)
	f.Add([]byte("\n\n"+sep+"\r\n>>From \r\n"), uint8(1), true)
	f.Fuzz(func(t *testing.T, file []byte, dialect uint8, crlf bool) {
		opts := &ReaderOptions{Dialect: Dialect(dialect % 6), CRLF: crlf}
		read := func(in io.Reader) (out [][]byte, err error) {
			for m, err := range NewReader(in, opts).Messages() {
				if err != nil {
					return out, err
				}
				b, err := io.ReadAll(m.Body)
				if err != nil {
					return out, err
				}
				out = append(out, b)
			}
			return out, nil
		}
		want, err := read(bytes.NewReader(file))
		got, err2 := read(iotest.OneByteReader(bytes.NewReader(file)))
		require.Equal(t, want, got)
		require.Equal(t, err == nil, err2 == nil)
		octets := 0
		for _, b := range want {
			octets += len(b)
		}
		if !crlf {
			require.LessOrEqual(t, octets, len(file))
		}
	})
}

func FuzzDetect(f *testing.F) {
	f.Add([]byte(sep + "Content-Length: 4\nX-UID: 1\n\nabc\n\n" + sep + "x\n>From \n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		d, err := Detect(bytes.NewReader(file))
		require.NoError(t, err)
		require.NotEqual(t, Auto, d.Dialect)
		e, err := Detect(iotest.OneByteReader(bytes.NewReader(file)))
		require.NoError(t, err)
		require.Equal(t, d, e)
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("From x\n", ">>From y", "\r\n")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		bodies := []string{a, b, c}
		require.Equal(t, bodies, readAll(t, write(t, RD, bodies...), &ReaderOptions{Dialect: RD}))
		for _, d := range []Dialect{O, CL, CL2, Dovecot} {
			n := 0
			for _, err := range NewReader(strings.NewReader(write(t, d, bodies...)), &ReaderOptions{Dialect: d}).Messages() {
				require.NoError(t, err)
				n++
			}
			require.Equal(t, 3, n, d)
		}
	})
}

func FuzzSeparator(f *testing.F) {
	f.Add("From a Sun Nov 22 00:21:03 2026\n")
	f.Add("From \"a b\"@c Thu, 9 Nov 2002 22:33:52 +0100\n")
	f.Fuzz(func(t *testing.T, line string) {
		sender, date, ok := ParseSeparator(line, nil)
		if !ok || sender == "" || date.UTC().Year() < 1970 || date.UTC().Year() > 9999 {
			return
		}
		out, err := formatSeparator(sender, date, nil, RD)
		if err != nil {
			return // longer than it may be
		}
		sender2, date2, ok := ParseSeparator(out, nil)
		require.True(t, ok)
		require.Equal(t, sender, sender2)
		require.True(t, date.Equal(date2))
	})
}
