package imapserver

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/dialog"
)

// deflateConn is a client's compression: Write sends a block, Read inflates.
type deflateConn struct {
	net.Conn
	r io.Reader
	w *flate.Writer
}

func compressed(t *testing.T, conn net.Conn) *deflateConn {
	w, err := flate.NewWriter(conn, flate.DefaultCompression)
	require.NoError(t, err)
	return &deflateConn{conn, flate.NewReader(conn), w}
}

func (d *deflateConn) Read(p []byte) (int, error) { return d.r.Read(p) }

func (d *deflateConn) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	if err == nil {
		err = d.w.Flush()
	}
	return n, err
}

// compressing logs in and starts compression; change may put it under TLS first.
func compressing(t *testing.T, ts *testServer) (*dialog.Player, net.Conn) {
	p := ts.session("ann")
	play(t, p, "C: c COMPRESS DEFLATE\nS: c OK DEFLATE is active from here on")
	return &dialog.Player{Conn: compressed(t, p.Conn)}, p.Conn
}

func TestCompress(t *testing.T) {
	ts := newServer(t, nil)
	body := "Subject: big\r\n\r\n" + strings.Repeat("line of text\r\n", 50000)
	ts.fill("ann", "INBOX", imap.NewMessage{Body: strings.NewReader(body)}, text("Subject: two\n\nsecond\n"))
	p, _ := compressing(t, ts)
	play(t, p, `C: a1 COMPRESS DEFLATE
S: a1 BAD [COMPRESSIONACTIVE] DEFLATE is active already
C: a2 COMPRESS LZW
S: a2 BAD no such compression
C: a3 SELECT INBOX
S* \* .*
S: a3 OK [READ-WRITE] selected
C: a4 FETCH 2 (RFC822.SIZE)
C: a5 NOOP
S: * 2 FETCH (RFC822.SIZE 24)
S: a4 OK fetched
S: a5 OK nothing done
C: a6 IDLE
S: + idling`)
	// Others are told while the session waits in compression.
	other := ts.session("ann")
	play(t, other, "C: b1 APPEND INBOX {3+}\nC: abc\nS~ b1 OK .*")
	play(t, p, `S: * 3 EXISTS
S* \* .*
C: DONE
S: a6 OK done
C: a7 FETCH 1 (BODY.PEEK[])`)
	line := fmt.Sprintf("S: * 1 FETCH (BODY[] {%d}\n", len(body))
	play(t, p, line+"S: Subject: big\nS: \n"+strings.Repeat("S: line of text\n", 50000)+"S: )\nS: a7 OK fetched")
	// More commands at once than a buffer or a block of the compression holds.
	var many strings.Builder
	for i := range 9000 {
		fmt.Fprintf(&many, "C: n%d NOOP\n", i)
	}
	for i := range 9000 {
		fmt.Fprintf(&many, "S: n%d OK nothing done\n", i)
	}
	sent := make(chan error, 1)
	commands, answers, _ := strings.Cut(many.String(), "S:")
	go func() {
		_, err := io.WriteString(p.Conn, strings.ReplaceAll(strings.ReplaceAll(commands, "C: ", ""), "\n", "\r\n"))
		sent <- err
	}()
	play(t, p, "S:"+answers)
	require.NoError(t, <-sent)
	play(t, p, "C: z1 UNAUTHENTICATE\nS: * BYE compression cannot end here\nS. closed")
}

func TestCompressUnderTLS(t *testing.T) {
	ts := newServer(t, nil)
	p := ts.player()
	p.TLS = ts.tls
	play(t, p, "S~ \\* OK .*\nC: a1 STARTTLS\nS~ a1 OK .*\nTLS\nC: a2 LOGIN ann secret\nS~ a2 OK .*\nC: a3 COMPRESS DEFLATE\nS~ a3 OK .*")
	z := &dialog.Player{Conn: compressed(t, p.Conn)}
	play(t, z, "C: a4 NOOP\nS: a4 OK nothing done\nC: a5 LOGOUT\nS: * BYE see you\nS: a5 OK logged out\nS. closed")
}

func TestCompressRefusesWhatIsPipelined(t *testing.T) {
	ts := newServer(t, nil)
	p := ts.player()
	play(t, p, "S~ \\* OK .*\nC: a1 COMPRESS DEFLATE\nS: a1 BAD log in first")
	p = ts.session("ann")
	play(t, p, "C: a1 COMPRESS DEFLATE\nC: a2 NOOP\nS: a1 BAD nothing may follow COMPRESS before its result\nS. closed")
}

// TestCompressBomb: what inflates to more than a command may have ends like that command.
func TestCompressBomb(t *testing.T) {
	ts := newServer(t, nil)
	p, raw := compressing(t, ts)
	var bomb bytes.Buffer
	w, err := flate.NewWriter(&bomb, flate.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(bytes.Repeat([]byte("x"), 64<<20))
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	go func() { _, _ = raw.Write(bomb.Bytes()) }()
	_, err = io.Copy(io.Discard, p.Conn)
	require.Error(t, err, "the session ends")

	p, raw = compressing(t, ts)
	_, err = raw.Write([]byte("\xff\xff\xff\xff this is not compressed\r\n"))
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, p.Conn)
	require.Error(t, err, "the session ends")
}
