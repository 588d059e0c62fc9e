package imapserver

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/memstore"
	"github.com/mailblocks/mailblocks/internal/dialog"
	"github.com/mailblocks/mailblocks/internal/netserve"
)

// scripted is a connection whose client has said all it has to say.
type scripted struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *scripted) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s *scripted) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *scripted) SetReadDeadline(time.Time) error  { return nil }
func (s *scripted) SetWriteDeadline(time.Time) error { return nil }
func (s *scripted) SetDeadline(time.Time) error      { return nil }
func (s *scripted) Close() error                     { return nil }
func (s *scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// panics fails the test when the server logs a panic.
type panics struct {
	slog.Handler
	t testing.TB
}

func (p panics) Enabled(context.Context, slog.Level) bool { return true }
func (p panics) WithAttrs([]slog.Attr) slog.Handler       { return p }
func (p panics) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "panic" {
		r.Attrs(func(a slog.Attr) bool { p.t.Errorf("%s", a); return true })
	}
	return nil
}

// FuzzSession lets a client that has logged in and selected a mailbox say anything.
func FuzzSession(f *testing.F) {
	scripts, err := dialog.Files("testdata/dialog")
	require.NoError(f, err)
	for _, script := range scripts {
		var said strings.Builder
		for line := range strings.Lines(script) {
			if text, ok := strings.CutPrefix(line, "C: "); ok && !strings.Contains(text, "LOGIN") {
				said.WriteString(strings.TrimSuffix(text, "\n") + "\r\n")
			}
		}
		f.Add([]byte(said.String()))
	}
	for _, said := range []string{
		"a NOTIFY SET STATUS (selected (MessageNew (uid body.peek[header.fields (from)]) MessageExpunge FlagChange)) (subtree (a b) (MailboxName)) (personal (MessageNew MessageExpunge FlagChange SubscriptionChange))\r\nb CREATE a\r\nc APPEND INBOX {3+}\r\nabc\r\nd NOTIFY NONE\r\n",
		"a ESEARCH IN (selected mailboxes (INBOX a) subtree-one b personal) RETURN (MIN MAX COUNT SAVE PARTIAL 1:2) CHARSET UTF-8 FUZZY SUBJECT x 1:* $ UID $\r\n",
		"a SEARCH RETURN (RELEVANCY ALL UPDATE (UID)) FUZZY (TEXT \"a b\" OR FUZZY BODY hello NOT FROM x)\r\nb SORT (RELEVANCY) UTF-8 FUZZY TO x\r\nc THREAD REFS UTF-8 ALL\r\n",
		"a COMPARATOR \"i;*\" default\r\nb LANGUAGE fr \"*\" en-US\r\nc ENABLE UTF8=ACCEPT UIDONLY\r\nd UIDBATCHES 500 1:2\r\ne UNSELECT\r\nf ENABLE UIDONLY\r\ng SELECT INBOX\r\nh UID FETCH 1:* (UID FLAGS)\r\ni UID STORE 1 +FLAGS (x)\r\n",
		"a APPEND INBOX UTF8 (~{3+}\r\na\x00b)\r\nb APPEND INBOX CATENATE (UTF8 (~{1+}\r\nx) TEXT {1+}\r\ny)\r\n",
		"a COMPRESS DEFLATE\r\n\x4a\x34\x54\xf0\xf3\xf7\x0f\xe0\xe5\x02\x08",
	} {
		f.Add([]byte(said))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		storage := memstore.New()
		mb, err := storage.Open().Open(t.Context(), "INBOX")
		require.NoError(t, err)
		_, err = mb.Append(t.Context(), standardMail())
		require.NoError(t, err)
		s := &Server{
			Authenticator:     new(accounts),
			Login:             func(context.Context, string) (imap.Store, error) { return storage.Open(), nil },
			AllowInsecureAuth: true,
			MaxErrors:         1000,
			Logger:            slog.New(panics{t: t}),
		}
		in := append([]byte("s LOGIN ann secret\r\ns SELECT INBOX\r\n"), said...)
		raw := &scripted{in: bytes.NewReader(in)}
		var nc netserve.Conn
		nc.Conn = raw
		c := newConn(s, &nc, netip.AddrPort{}, s.Logger)
		_ = c.run(t.Context())
		compressed := c.deflated != nil
		c.close()
		s.closeAccounts()
		if compressed {
			return
		}
		// Whatever was said, the answer is lines, and after literals more of them.
		out := raw.out.Bytes()
		require.True(t, bytes.HasSuffix(out, []byte("\r\n")) || len(out) == 0, "the last line ends: %q", out[max(len(out)-100, 0):])
	})
}

func FuzzMatchPattern(f *testing.F) {
	f.Add("a%b*c", "a/b/c")
	f.Add("*a%", "aaa/aa")
	f.Add("%*%", "x/y")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 30 || len(name) > 60 || strings.Contains(name, "\xff") || strings.Contains(name, "\n") {
			return
		}
		var re strings.Builder
		for _, c := range []byte(pattern) {
			switch c {
			case '*':
				re.WriteString(`(?s:.*)`)
			case '%':
				re.WriteString(`[^/]*`)
			default:
				re.WriteString(regexp.QuoteMeta(string([]byte{c})))
			}
		}
		exp, err := regexp.Compile(`\A` + re.String() + `\z`)
		if err != nil { // not UTF-8
			return
		}
		if !isASCII(name) || !isASCII(pattern) {
			_ = matchPattern(pattern, name) // regexp folds what is not UTF-8: only that it ends
			return
		}
		require.Equal(t, exp.MatchString(name), matchPattern(pattern, name), "%q %q", pattern, name)
	})
}

// What is found does not depend on the pieces in which a text comes.
func FuzzSearchText(f *testing.F) {
	f.Add("grüße", "viele GRÜSSE, Grüße", 3)
	f.Add("abc", "xxABxxaBc", 1)
	f.Fuzz(func(t *testing.T, want, text string, pad int) {
		if !isASCII(want) || len(want) > 100 {
			return // other letters may be composed differently at a cut
		}
		n := newNeedle(want, fold)
		text = strings.Repeat("-", 32<<10-max(min(pad, 200), 0)) + text
		hit, err := n.inReader(new(scratch), strings.NewReader(text))
		require.NoError(t, err)
		require.Equal(t, n.in(new(scratch), []byte(text)), hit)
		hit, err = n.inReader(new(scratch), iotest.HalfReader(strings.NewReader(text)))
		require.NoError(t, err)
		require.Equal(t, n.in(new(scratch), []byte(text)), hit)
	})
}

func FuzzDecodeTransfer(f *testing.F) {
	f.Add("a=FCb=\r\nc=3D = \r\n=")
	f.Add("AAECAw==")
	f.Add("AAE\r\nCA*w=trailing")
	f.Fuzz(func(t *testing.T, text string) {
		for _, encoding := range []string{"quoted-printable", "base64", "8bit"} {
			r, known := decodeTransfer(encoding, strings.NewReader(text))
			require.True(t, known)
			want, err := io.ReadAll(r)
			require.NoError(t, err, "nothing is too broken to be decoded")
			require.LessOrEqual(t, len(want), len(text))
			r, _ = decodeTransfer(encoding, iotest.OneByteReader(strings.NewReader(text)))
			got, err := io.ReadAll(iotest.OneByteReader(r))
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	})
}

func TestDecodeTransfer(t *testing.T) {
	long := strings.Repeat("x", 4094) + "=FC" + strings.Repeat("y", 5000) + "=\r\nz"
	for _, tc := range []struct{ encoding, in, want string }{
		{"quoted-printable", "a=FCb=\r\nc=3D = \r\n=", "a\xfcbc= ="}, // "= " at a line's end is a soft break
		{"Quoted-Printable", "a  \r\nb=zz=4", "a\r\nb=zz=4"},
		{"quoted-printable", long, strings.Repeat("x", 4094) + "\xfc" + strings.Repeat("y", 5000) + "z"},
		{"base64", "aGVs\r\nbG8=", "hello"},
		{"base64", "aGVsbG8", "hello"},
		{"base64", "aGVs!bG8=trailing", "hello"},
		{"base64", "aGVsb", "hel"},
		{"", "as it is", "as it is"},
	} {
		r, known := decodeTransfer(tc.encoding, strings.NewReader(tc.in))
		require.True(t, known)
		got, err := io.ReadAll(r)
		require.NoError(t, err)
		require.Equal(t, tc.want, string(got), "%.40q", tc.in)
	}
	_, known := decodeTransfer("x-uuencode", strings.NewReader(""))
	require.False(t, known)
}
