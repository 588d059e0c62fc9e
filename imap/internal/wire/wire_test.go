package wire

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

func decoder(in string) *Decoder {
	d := &Decoder{MaxLine: 1000, MaxCommand: 2000, MaxLiteral: 100}
	d.Reset(bufio.NewReader(strings.NewReader(in)))
	return d
}

func next(t *testing.T, in string) *Decoder {
	t.Helper()
	d := decoder(in)
	require.NoError(t, d.Next())
	return d
}

func TestCommand(t *testing.T) {
	d := next(t, "a1 LOGIN {4}\r\nfred \"a \\\"word\\\\\"\r\nb NOOP\r\n")
	asked := 0
	d.Continue = func() error { asked++; return nil }
	assert.Equal(t, "a1", d.Tag())
	d.SP()
	assert.Equal(t, "LOGIN", d.Word())
	d.SP()
	assert.Equal(t, "fred", d.AString())
	d.SP()
	assert.Equal(t, `a "word\`, d.AString())
	d.End()
	require.NoError(t, d.Err())
	assert.Equal(t, 1, asked)
	require.NoError(t, d.Next())
	assert.Equal(t, "b", d.Tag())
}

func TestStrings(t *testing.T) {
	for _, tc := range []struct {
		in, want string
		ok       bool
	}{
		{"abc", "abc", true},
		{"a]b", "a]b", true},
		{`"a b"`, "a b", true},
		{`""`, "", true},
		{`"é"`, "é", true},
		{"{3+}\r\na b", "a b", true},
		{"{0+}\r\n", "", true},
		{"{5+}\r\n\r\n\r\na", "\r\n\r\na", true},
		{"(", "", false},
		{"", "", false},
		{`"abc`, "", false},
		{`"a\b"`, "", false},
		{"\"a\x00\"", "", false},
		{"{3+}\r\na\x00b", "", false},
		{"{a}", "", false},
		{"{}", "", false},
		{"{3", "", false},
		{"{3}x", "", false},
		{"{101+}\r\n" + strings.Repeat("x", 101), "", false},
		{"{99999999999999999999}", "", false},
		{"{-1}", "", false},
	} {
		d := next(t, tc.in+"\r\nnext\r\n")
		got := d.AString()
		d.End()
		assert.Equal(t, tc.ok, d.OK(), "%q: %v", tc.in, d.Err())
		if tc.ok {
			assert.Equal(t, tc.want, got)
		}
		require.NoError(t, d.Finish(1000))
		require.NoError(t, d.Next())
		assert.Equal(t, "next", d.Atom(), "after %q", tc.in)
	}
}

func TestFinishSkipsTheCommand(t *testing.T) {
	d := next(t, "a BAD ( {10+}\r\n0123\r\n6789 {2+}\r\nxy {7}\r\nb NOOP\r\n")
	d.Fail("no such command")
	require.NoError(t, d.Finish(100))
	require.NoError(t, d.Next())
	assert.Equal(t, "b", d.Tag())

	d = next(t, "a BAD {1000000+}\r\n")
	d.Fail("no such command")
	assert.ErrorIs(t, d.Finish(1000), ErrLiteralTooBig)

	// A literal that its reader gave up on.
	d = next(t, "{10+}\r\n0123456789 rest {1+}\r\nx\r\nb NOOP\r\n")
	d.Literal()
	r := d.LiteralReader()
	_, err := io.ReadFull(r, make([]byte, 3))
	require.NoError(t, err)
	d.Fail("no room")
	require.NoError(t, d.Finish(100))
	require.NoError(t, d.Next())
	assert.Equal(t, "b", d.Tag())
}

func TestLimits(t *testing.T) {
	d := next(t, strings.Repeat("x", 5000)+"\r\nb NOOP\r\n")
	assert.ErrorIs(t, d.Err(), ErrTooLong)
	require.NoError(t, d.Finish(0))
	require.NoError(t, d.Next())
	assert.Equal(t, "b", d.Tag())

	// Literals add up.
	d = decoder(strings.Repeat("{100+}\r\n"+strings.Repeat("x", 100)+" ", 30) + "\r\nb NOOP\r\n")
	require.NoError(t, d.Next())
	for d.OK() {
		d.AString()
		d.SP()
	}
	assert.ErrorIs(t, d.Err(), ErrTooLong)
	require.NoError(t, d.Finish(10000))
	require.NoError(t, d.Next())
	assert.Equal(t, "b", d.Tag())

	// A line without end is no command, and costs no memory.
	d = decoder("")
	d.Reset(bufio.NewReader(endless{}))
	assert.Error(t, d.Next())
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func TestLiteralMinus(t *testing.T) {
	d := next(t, "{5000+}\r\n")
	d.NoNonSync, d.MaxLiteral = true, 1<<20
	_ = d.String()
	assert.ErrorIs(t, d.Err(), ErrLiteralTooBig)
}

func TestRefusedContinuation(t *testing.T) {
	d := next(t, "{5}\r\n")
	gone := errors.New("gone")
	d.Continue = func() error { return gone }
	_ = d.String()
	assert.ErrorIs(t, d.Err(), gone)
	assert.ErrorIs(t, d.Finish(0), gone)
}

func TestValues(t *testing.T) {
	d := next(t, `7 4294967295 1:*,3 (\Seen $Junk) "17-Jul-1996 02:44:25 -0700" " 1-Jul-1996 02:44:25 +0000" 1-Feb-1994 "01-Feb-1994"`+"\r\n")
	assert.EqualValues(t, 7, d.Number())
	d.SP()
	assert.EqualValues(t, 4294967295, d.Number())
	d.SP()
	assert.Equal(t, "1:*,3", d.Set().String())
	d.SP()
	assert.Equal(t, []imap.Flag{`\Seen`, "$Junk"}, d.FlagList())
	d.SP()
	assert.Equal(t, "1996-07-17T02:44:25-07:00", d.DateTime().Format(time.RFC3339))
	d.SP()
	assert.Equal(t, "1996-07-01T02:44:25Z", d.DateTime().UTC().Format(time.RFC3339))
	d.SP()
	assert.Equal(t, "1994-02-01", d.Date().Format(time.DateOnly))
	d.SP()
	assert.Equal(t, "1994-02-01", d.Date().Format(time.DateOnly))
	d.End()
	require.NoError(t, d.Err())
	for _, bad := range []string{"4294967296", "x", "-1", ""} {
		d := next(t, bad+"\r\n")
		d.Number()
		assert.Error(t, d.Err(), bad)
	}
	for _, bad := range []string{`"31-Feb-1996 02:44:25 -0700"`, `"1-Jul-1996 02:44:25 -0700"`, `"17-Jul-1996 02:44:25"`, "now", `"`} {
		d := next(t, bad+"\r\n")
		d.DateTime()
		assert.Error(t, d.Err(), bad)
	}
}

func TestUTF7(t *testing.T) {
	for utf, want := range map[string]string{
		"INBOX": "INBOX", "Entwürfe": "Entw&APw-rfe", "a&b": "a&-b", "~peter/mail/台北/日本語": "~peter/mail/&U,BTFw-/&ZeVnLIqe-",
		"👍": "&2D3cTQ-", "&": "&-", "": "", "ü&ü": "&APw-&-&APw-",
	} {
		assert.Equal(t, want, EncodeUTF7(utf))
		got, err := DecodeUTF7(want)
		assert.NoError(t, err, want)
		assert.Equal(t, utf, got)
	}
	for _, bad := range []string{"&", "&APw", "&Jjo!", "&U,BTFw-&ZeVnLIqe-", "&AGE-", "&A-", "ü", "a\x00", "&2D0-", "&3E3YPQ-", "&AP-"} {
		_, err := DecodeUTF7(bad)
		assert.ErrorIs(t, err, ErrBadUTF7, bad)
	}
}

func TestEncoder(t *testing.T) {
	var b bytes.Buffer
	e := NewEncoder(&b)
	e.Raw("* X ").String(`a"b\`).SP().String("a\r\nb").SP().String("é").SP().String("a\x00b").SP().NString("").SP().AString("a b").SP().AString("ab").SP().AString("nil").SP().AString("")
	e.SP().Flags(imap.NewFlags(imap.FlagSeen, "$Junk"), imap.FlagRecent).SP().Mailbox("Entwürfe").SP().Num(7).SP().Set(imap.UIDSet{{First: 1, Last: 3}})
	e.SP().DateTime(time.Date(1996, 7, 7, 2, 44, 25, 0, time.FixedZone("", -7*3600))).CRLF()
	e.Literal(strings.NewReader("body"), 4, false).Literal(strings.NewReader("b\x00"), 2, true).CRLF()
	require.NoError(t, e.Flush())
	assert.Equal(t, "* X \"a\\\"b\\\\\" {4}\r\na\r\nb {2}\r\né \"ab\" NIL \"a b\" ab \"nil\" \"\" (\\Seen $Junk \\Recent) Entw&APw-rfe 7 1:3 \" 7-Jul-1996 02:44:25 -0700\"\r\n"+
		"{4}\r\nbody~{2}\r\nb\x00\r\n", b.String())

	e = NewEncoder(io.Discard)
	e.Literal(strings.NewReader("short"), 10, false)
	assert.ErrorIs(t, e.Flush(), io.ErrUnexpectedEOF, "a body that ends early spoils the stream")
	e = NewEncoder(io.Discard)
	e.Literal(endless{}, 1<<20, false)
	require.NoError(t, e.Flush())
	assert.LessOrEqual(t, cap(e.buf), flushAt+8192, "a literal is not held in memory")
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte("a LOGIN {4+}\r\nfred \"x\"\r\nb NOOP\r\n"))
	f.Add([]byte("a APPEND x (\\Seen) \" 1-Jul-1996 02:44:25 +0000\" ~{3+}\r\nabc\r\n"))
	f.Add([]byte("a FETCH 1:*,3 (FLAGS)\r\n{99999999999+}\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		d := &Decoder{MaxLine: 200, MaxCommand: 400, MaxLiteral: 50}
		d.Reset(bufio.NewReader(bytes.NewReader(in)))
		for d.Next() == nil {
			for i := 0; d.OK() && !d.AtEnd(); i++ {
				before := d.pos
				switch c := d.Peek(); {
				case c == ' ':
					d.SP()
				case c == '(':
					d.FlagList()
				case c == '~':
					d.Literal()
					_, _ = io.Copy(io.Discard, d.LiteralReader())
					d.LiteralDone()
					before = -1
				case c == '"' && i%3 == 0:
					d.DateTime()
				case d.IsSet() && i%2 == 0:
					d.Set()
				default:
					s := d.AString()
					require.LessOrEqual(t, len(s), 200)
					before = -1
				}
				require.True(t, d.pos > before || !d.OK(), "a method takes something or fails")
			}
			require.LessOrEqual(t, cap(d.line), 1<<13)
			if d.Finish(1000) != nil {
				return
			}
		}
	})
}

func FuzzUTF7(f *testing.F) {
	f.Add("Entw&APw-rfe")
	f.Add("&U,BTFw-/&ZeVnLIqe-")
	f.Fuzz(func(t *testing.T, s string) {
		if utf, err := DecodeUTF7(s); err == nil {
			require.True(t, utf8.ValidString(utf))
			again, err := DecodeUTF7(EncodeUTF7(utf))
			require.NoError(t, err)
			require.Equal(t, utf, again)
		}
		if utf8.ValidString(s) && !strings.ContainsRune(s, utf8.RuneError) {
			back, err := DecodeUTF7(EncodeUTF7(s))
			require.NoError(t, err)
			require.Equal(t, s, back)
		}
	})
}
