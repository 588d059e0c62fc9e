package imapserver

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/peertest"
	"github.com/mailblocks/mailblocks/internal/shared"
)

// rawClient sends commands and parses what comes, strings in one form whatever the server
// chose to send them as.
type rawClient struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
	n    int
}

func rawSession(t *testing.T, addr string) *rawClient {
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
	c := &rawClient{t: t, conn: conn, r: bufio.NewReader(conn)}
	c.response()
	c.do("LOGIN ann secret")
	return c
}

// do returns the untagged responses of a command that must succeed.
func (c *rawClient) do(command string) (untagged []string) {
	c.n++
	_, err := fmt.Fprintf(c.conn, "x%d %s\r\n", c.n, command)
	require.NoError(c.t, err)
	for {
		line := c.response()
		if strings.HasPrefix(line, "* ") {
			untagged = append(untagged, line[2:])
			continue
		}
		require.True(c.t, strings.HasPrefix(line, fmt.Sprintf("x%d OK", c.n)), "%.200s: %.300s", command, line)
		return untagged
	}
}

func (c *rawClient) response() string {
	var b strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		require.NoError(c.t, err)
		line = strings.TrimSuffix(line, "\r\n")
		size := -1
		if i := strings.LastIndexByte(line, '{'); i >= 0 && strings.HasSuffix(line, "}") {
			if n, err := strconv.Atoi(line[i+1 : len(line)-1]); err == nil {
				line, size = line[:i], n
			}
		}
		b.WriteString(oneForm(line))
		if size < 0 {
			return b.String()
		}
		octets := make([]byte, size)
		_, err = io.ReadFull(c.r, octets)
		require.NoError(c.t, err)
		fmt.Fprintf(&b, "%q", octets)
	}
}

// oneForm writes quoted strings as literals are written by response.
func oneForm(line string) string {
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		if line[i] != '"' {
			b.WriteByte(line[i])
			continue
		}
		var s []byte
		for i++; i < len(line) && line[i] != '"'; i++ {
			if line[i] == '\\' {
				i++
			}
			s = append(s, line[i])
		}
		fmt.Fprintf(&b, "%q", s)
	}
	return b.String()
}

var blankBeforeFold = regexp.MustCompile(`(?mi)^Subject:[^\n]*[ \t]\r\n[ \t]`)

// corpusMail returns the first messages of an archive, with CRLF, without what a server may
// refuse or store in another form.
func corpusMail(t *testing.T, archive string, count int) (mails [][]byte) {
	f, err := os.Open(shared.Path(t, "corpora", "spam", archive))
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	for r := tar.NewReader(z); len(mails) < count; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if !strings.HasSuffix(h.Name, ".eml") || h.Size > 200<<10 {
			continue
		}
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n")), []byte("\n"), []byte("\r\n"))
		if !blankBeforeFold.Match(b) && !bytes.ContainsAny(b, "\x00") && !bytes.HasPrefix(b, []byte("From ")) && len(b) > 0 {
			mails = append(mails, b)
		}
	}
	return mails
}

// TestAsDovecot compares what both servers say of the same mail. Dovecot 2.3 is another
// opinion in these points, which are left out of the comparison:
//   - A value that begins on its field's second line keeps the blank of the fold in its
//     ENVELOPE; nothing says that it should.
//   - What is plain text in US-ASCII shows its type in lower case, whatever the message has.
//   - A base subject keeps two blanks where a line ended in one and the fold has another:
//     RFC 5256, 2.1 makes one of them.
func TestAsDovecot(t *testing.T) {
	mails := append(corpusMail(t, "modern-dev.tar.gz", 150), corpusMail(t, "classic-dev.tar.gz", 350)...)
	ts := newServer(t, func(s *Server) { s.CacheBytes = 256 << 20 })
	addr, _ := peertest.Dovecot(t, "imap", nil)
	theirs := rawSession(t, addr)
	ours := rawSession(t, ts.addr)
	for _, c := range []*rawClient{theirs, ours} {
		for i, m := range mails {
			date := time.Date(2024, 1, 1, 0, 0, i, 0, time.UTC).Format("02-Jan-2006 15:04:05 -0700")
			c.do(fmt.Sprintf("APPEND INBOX %q {%d+}\r\n%s", date, len(m), m))
		}
		c.do("SELECT INBOX")
	}
	messages := func(c *rawClient, item string) (out []string) {
		for _, line := range c.do("FETCH 1:* (" + item + ")") {
			if _, rest, ok := strings.Cut(line, " FETCH ("+item+" "); ok {
				out = append(out, rest)
			}
		}
		return out
	}
	for _, item := range []string{"RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE"} {
		want, got := messages(theirs, item), messages(ours, item)
		require.Len(t, got, len(want), item)
		for i := range want {
			// The blank behind a string's end goes too, from both.
			a, b := strings.ReplaceAll(want[i], `" `, `"`), strings.ReplaceAll(got[i], `" `, `"`)
			assert.True(t, strings.EqualFold(a, b), "%s of %s\nDovecot: %s\n   ours: %s", item, mails[i][:min(len(mails[i]), 2000)], want[i], got[i])
		}
	}
	for _, command := range []string{
		"SORT (DATE) UTF-8 ALL", "SORT (REVERSE DATE) UTF-8 ALL", "SORT (SUBJECT) UTF-8 ALL", "SORT (FROM) UTF-8 ALL", "SORT (TO CC) UTF-8 ALL",
		"SORT (SIZE ARRIVAL) UTF-8 ALL", "SORT (DISPLAYFROM) UTF-8 ALL", "SORT (DISPLAYTO) UTF-8 ALL",
		"THREAD ORDEREDSUBJECT UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL",
		"SEARCH SENTSINCE 1-Sep-2002", "SEARCH SENTBEFORE 1-Jan-2023", "SEARCH SUBJECT the", "SEARCH FROM com", "SEARCH BODY please", "SEARCH TEXT mailing", "SEARCH HEADER Received \"\"",
		"SEARCH CHARSET UTF-8 BODY gru", "SEARCH LARGER 5000",
	} {
		want, got := strings.Fields(theirs.do(command)[0]), strings.Fields(ours.do(command)[0])
		assert.Equal(t, difference(want, got), difference(got, want), command)
	}
}

// difference returns what is in a but not at the same place in b.
func difference(a, b []string) (out []string) {
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			out = append(out, fmt.Sprintf("%d:%s", i, a[i]))
		}
	}
	return out
}
