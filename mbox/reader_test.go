package mbox

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var when = time.Date(2026, 11, 22, 0, 21, 3, 0, time.UTC)

const sep = "From a@example.org Sun Nov 22 00:21:03 2026\n"

// readAll returns the bodies of r, and checks that readers of every manner agree.
func readAll(t testing.TB, file string, opts *ReaderOptions) []string {
	t.Helper()
	read := func(r io.Reader) (bodies []string) {
		for m, err := range NewReader(r, opts).Messages() {
			require.NoError(t, err)
			b, err := io.ReadAll(m.Body)
			require.NoError(t, err)
			bodies = append(bodies, string(b))
		}
		return bodies
	}
	whole := read(strings.NewReader(file))
	require.Equal(t, whole, read(iotest.DataErrReader(strings.NewReader(file))))
	if len(file) < 10_000 {
		require.Equal(t, whole, read(iotest.OneByteReader(strings.NewReader(file))))
	}
	return whole
}

func write(t testing.TB, d Dialect, bodies ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, &WriterOptions{Dialect: d})
	for _, body := range bodies {
		require.NoError(t, w.Write("a@example.org", when, strings.NewReader(body)))
	}
	return b.String()
}

func TestParseSeparator(t *testing.T) {
	for _, c := range []struct {
		line, sender, date string
	}{
		{"From a@example.org Sun Nov 22 00:21:03 2026", "a@example.org", "2026-11-22T00:21:03Z"},
		{"From a@example.org  Sun Nov 22 00:21:03 2026\r\n", "a@example.org", "2026-11-22T00:21:03Z"},
		{"From - Sun Nov  2 00:21 2026\n", "-", "2026-11-02T00:21:00Z"},
		{"From a Sun Nov 22 00:21:03 EST 2026", "a", "2026-11-22T00:21:03-05:00"},
		{"From a Sun Nov 22 00:21:03 2026 +0130", "a", "2026-11-22T00:21:03+01:30"},
		{"From a Sun Nov 22 00:21:03 MET DST 2026", "a", "2026-11-22T00:21:03Z"},
		{"From a Thu, 9 Nov 2002 22:33:52", "a", "2002-11-09T22:33:52Z"},
		{"From a Thu, 9 Nov 2002 22:33:52 -0800", "a", "2002-11-09T22:33:52-08:00"},
		{`From "a b"@example.org Sun Nov 22 00:21:03 2026`, `"a b"@example.org`, "2026-11-22T00:21:03Z"},
		{"From  Sun Nov 22 00:21:03 2026", "", "2026-11-22T00:21:03Z"},
		{"From a Sun Nov 22 00:21:03 2026 remote from host", "a", "2026-11-22T00:21:03Z"},
		{"From nodate here", "", ""},
		{"From a@example.org", "", ""},
		{"From ", "", ""},
		{"From: a Sun Nov 22 00:21:03 2026", "", ""},
		{"From the office on Sun Nov 22 00:21:03 2026", "", ""},
		{"From a Sun Nov 31 00:21:03 2026", "", ""},
		{"From a Sun Nov 22 24:21:03 2026", "", ""},
		{"From a Sun Nov 22 00:21:03 2026 we met", "", ""},
		{"From a Sun Nov 22 00:21:03 26", "", ""},
		{"From a Xxx Nov 22 00:21:03 2026", "", ""},
		{"From a Sun Nov 22 00:21:03 2026\nx", "", ""},
		{"From " + strings.Repeat("a", maxLine) + " Sun Nov 22 00:21:03 2026", "", ""},
	} {
		sender, date, ok := ParseSeparator(c.line, nil)
		assert.Equal(t, c.date != "", ok, c.line)
		if ok {
			assert.Equal(t, c.sender, sender, c.line)
			assert.Equal(t, c.date, date.Format(time.RFC3339), c.line)
		}
	}
}

func TestReader(t *testing.T) {
	for _, c := range []struct {
		name    string
		dialect Dialect
		file    string
		bodies  []string
		doubts  []DoubtReason
	}{
		{"empty", Auto, "", nil, nil},
		{"blank", Auto, "\n\n", nil, nil},
		{"two", RD, sep + "A: b\n\nx\n\n" + sep + "C: d\n\ny\n\n", []string{"A: b\n\nx\n", "C: d\n\ny\n"}, nil},
		{"empty messages", RD, sep + sep + sep + "\n" + sep, []string{"", "", "", ""}, nil},
		{"no blank line", RD, sep + "A: b\n\nx\n" + sep + "y\n", []string{"A: b\n\nx", "y"}, []DoubtReason{NoBlankLine}},
		{"torn", RD, sep + "A: b\n\nx", []string{"A: b\n\nx"}, nil},
		{"prose", RD, sep + "\nFrom nodate here\nx\n\n", []string{"\nFrom nodate here\nx\n"}, []DoubtReason{NoDate}},
		{"leading text", RD, "x\n" + sep + "y\n", []string{"y"}, []DoubtReason{NoBlankLine, Leading}},
		{"rd", RD, sep + ">From a\n>>From b\n> From c\n>from\n\n", []string{"From a\n>From b\n> From c\n>from\n"}, nil},
		{"o", O, sep + ">From a\n>>From b\n\n", []string{"From a\n>>From b\n"}, nil},
		{"cl", CL, sep + "Content-Length: 9\n\n>From a\n\n\n" + sep + "\n", []string{"Content-Length: 9\n\nFrom a\n\n", ""}, nil},
		{"cl2", CL2, sep + "Content-Length: 44\n\n" + sep + "\n" + sep + "y\n", []string{"Content-Length: 44\n\n" + sep, "y"}, nil},
		{"cl2, length with the empty line", CL2, sep + "Content-Length: 3\n\nx\n\n" + sep + "y\n", []string{"Content-Length: 3\n\nx\n\n", "y"}, nil},
		{"cl2, wrong length", CL2, sep + "Content-Length: 2\n\nx\nz\n\n" + sep + "y\n", []string{"Content-Length: 2\n\nx\nz\n", "y"}, []DoubtReason{WrongLength}},
		{"cl2, far too long", CL2, sep + "Content-Length: 9223372036854775807\n\nx\n\n" + sep + "y\n", []string{"Content-Length: 9223372036854775807\n\nx\n", "y"}, []DoubtReason{WrongLength}},
		{"dovecot, no length", Dovecot, sep + "X-UID: 1\n\n>From x\n\n" + sep + "y\n", []string{"X-UID: 1\n\n>From x\n", "y"}, nil},
		{"crlf file", RD, strings.ReplaceAll(sep+"A: b\n\n>From x\n\n"+sep+"y\n\n", "\n", "\r\n"), []string{"A: b\r\n\r\nFrom x\r\n", "y\r\n"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.bodies, readAll(t, c.file, &ReaderOptions{Dialect: c.dialect}))
			var doubts []DoubtReason
			r := NewReader(strings.NewReader(c.file), &ReaderOptions{Dialect: c.dialect, Doubt: func(d Doubt) { doubts = append(doubts, d.Reason) }})
			for m, err := range r.Messages() { // bodies passed over
				require.NoError(t, err)
				require.True(t, strings.HasPrefix(c.file[m.Offset:], "From "))
			}
			assert.Equal(t, c.doubts, doubts)
		})
	}
}

func TestReaderNotMbox(t *testing.T) {
	_, err := NewReader(strings.NewReader("Subject: x\n\ny\n"), nil).Next()
	assert.ErrorIs(t, err, ErrNotMbox)
}

func TestReaderError(t *testing.T) {
	r := NewReader(io.MultiReader(strings.NewReader(sep+"x"), iotest.ErrReader(io.ErrClosedPipe)), &ReaderOptions{Dialect: RD})
	m, err := r.Next()
	if err == nil {
		_, err = io.ReadAll(m.Body)
	}
	assert.ErrorIs(t, err, io.ErrClosedPipe)
}

func TestReaderCRLF(t *testing.T) {
	got := readAll(t, sep+"A: b\r\n\nx\n\r\ny\r\n\n", &ReaderOptions{Dialect: RD, CRLF: true})
	assert.Equal(t, []string{"A: b\r\n\r\nx\r\n\r\ny\r\n"}, got)
}

func TestStaleBody(t *testing.T) {
	r := NewReader(strings.NewReader(sep+"x\n"+sep+"y\n"), nil)
	first, err := r.Next()
	require.NoError(t, err)
	_, err = r.Next()
	require.NoError(t, err)
	_, err = first.Body.Read(make([]byte, 1))
	assert.Error(t, err)
}

// Lines, quotes and separators that lie across the ends of the buffer.
func TestReaderBoundaries(t *testing.T) {
	for shift := -40; shift < 40; shift++ {
		pad := strings.Repeat("x", bufferSize-len(sep)+shift) + "\n"
		bodies := []string{pad + ">>From me\n", "From you\n" + pad, strings.Repeat(">", bufferSize+shift) + "From x"}
		require.Equal(t, bodies, readAll(t, write(t, RD, bodies...), &ReaderOptions{Dialect: RD}), shift)
		body := pad + sep
		r := NewReader(strings.NewReader(write(t, CL2, "A: b\n\n"+body, "B: c\n\n")), &ReaderOptions{Dialect: CL2})
		m, err := r.Next()
		require.NoError(t, err)
		b, err := io.ReadAll(m.Body)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("A: b\nContent-Length: %d\n\n%s", len(body), body), string(b), shift)
		_, err = r.Next()
		require.NoError(t, err)
		_, err = r.Next()
		require.Equal(t, io.EOF, err)
	}
}

// A stream can not be looked ahead in: what is too far away is not believed.
func TestUnknownLength(t *testing.T) {
	file := write(t, CL2, "A: b\n\n"+strings.Repeat("x\n", bufferSize))
	var doubts []DoubtReason
	r := NewReader(io.MultiReader(strings.NewReader(file)), &ReaderOptions{Dialect: CL2, Doubt: func(d Doubt) { doubts = append(doubts, d.Reason) }})
	_, err := r.Next()
	require.NoError(t, err)
	assert.Equal(t, []DoubtReason{UnknownLength}, doubts)
}

// Any octets come back from mboxrd as they were.
func TestRoundTrip(t *testing.T) {
	words := []string{"\n", "\r", "\r\n", ">", "From ", "From", " ", sep, "x", "\x00", "é", "Content-Length: 3\n"}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		bodies := make([]string, 1+rnd.IntN(4))
		for i := range bodies {
			for range rnd.IntN(12) {
				bodies[i] += words[rnd.IntN(len(words))]
			}
		}
		file := write(t, RD, bodies...)
		require.Equal(t, bodies, readAll(t, file, &ReaderOptions{Dialect: RD}), "%q", file)
	}
}

func TestWriter(t *testing.T) {
	body := "A: b\nContent-Length: 77\n folded\n\nFrom a\n>From b\n"
	for d, want := range map[Dialect]string{
		RD:      sep + "A: b\nContent-Length: 77\n folded\n\n>From a\n>>From b\n\n",
		O:       sep + "A: b\nContent-Length: 77\n folded\n\n>From a\n>From b\n\n",
		CL:      sep + "A: b\nContent-Length: 16\n\n>From a\n>From b\n\n",
		CL2:     sep + "A: b\nContent-Length: 15\n\nFrom a\n>From b\n\n",
		Dovecot: strings.Replace(sep, " Sun", "  Sun", 1) + "A: b\nContent-Length: 15\n\nFrom a\n>From b\n\n",
	} {
		assert.Equal(t, want, write(t, d, body), d)
	}
	assert.Equal(t, sep+"A: b\nContent-Length: 0\n\n\n", write(t, CL2, "A: b"))
	var b bytes.Buffer
	w := NewWriter(&b, &WriterOptions{LF: true})
	for _, bad := range []string{"a b", "a\nFrom b", "a\x00", strings.Repeat("a", maxLine)} {
		assert.Error(t, w.Write(bad, when, strings.NewReader("")), bad)
	}
	assert.Zero(t, b.Len())
	require.NoError(t, w.Write("", when, iotest.OneByteReader(strings.NewReader("a\r\n\r\rb\r\r\n\r"))))
	assert.Equal(t, "From MAILER-DAEMON Sun Nov 22 00:21:03 2026\na\n\r\rb\r\n\r\n", b.String())
}

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		name    string
		file    string
		dialect Dialect
		certain bool
	}{
		{"empty", "", RD, true},
		{"plain", sep + "A: b\n\nx\n\n", RD, true},
		{"one quote", sep + "A: b\n\n>From x\n\n", RD, false},
		{"rd", sep + "A: b\n\n> you said\n>>From x\n\n", RD, true},
		{"o", sep + "A: b\n\n> you said\n>From x\n\n", O, true},
		{"cl2", write(t, CL2, "A: b\n\nx\n"+sep+"y\n", "B: c\n\n"), CL2, true},
		{"cl", write(t, CL, "A: b\n\nx\nFrom y\n", "B: c\n\n"), CL, false},
		{"dovecot", sep + "X-IMAPbase: 1 0000000002\nX-UID: 1\n\nx\n\n", Dovecot, true},
		{"wrong lengths", sep + "Content-Length: 1\n\nx\n\n" + sep + "Content-Length: 7\n\ny\n\n", RD, true},
	} {
		got, err := Detect(strings.NewReader(c.file))
		require.NoError(t, err)
		assert.Equal(t, c.dialect, got.Dialect, "%s: %+v", c.name, got)
		assert.Equal(t, c.certain, got.Certain, "%s: %+v", c.name, got)
		r := NewReader(strings.NewReader(c.file), nil)
		for _, err := range r.Messages() {
			require.NoError(t, err, c.name)
		}
		assert.Equal(t, c.dialect, r.Dialect(), c.name)
	}
}

func TestDialectNames(t *testing.T) {
	for d := Auto; d <= Dovecot; d++ {
		got, err := ParseDialect(d.String())
		require.NoError(t, err)
		assert.Equal(t, d, got)
	}
	_, err := ParseDialect("mbx")
	assert.Error(t, err)
}
