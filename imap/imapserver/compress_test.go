package imapserver

import (
	"bufio"
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

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

// byteConn lets a decompressor read no further than its stream.
type byteConn struct {
	net.Conn
	r *bufio.Reader
}

func (c *byteConn) Read(p []byte) (int, error) { return c.r.Read(p) }
func (c *byteConn) ReadByte() (byte, error)    { return c.r.ReadByte() }

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
	raw := &byteConn{p.Conn, bufio.NewReader(p.Conn)}
	return &dialog.Player{Conn: compressed(t, raw)}, raw
}

func TestCompress(t *testing.T) {
	ts := newServer(t, nil)
	body := "Subject: big\r\n\r\n" + strings.Repeat("line of text\r\n", 50000)
	ts.fill("ann", "INBOX", imap.NewMessage{Body: strings.NewReader(body)}, text("Subject: two\n\nsecond\n"))
	p, _ := compressing(t, ts)
	play(t, p, `C: a1 COMPRESS DEFLATE
S: a1 NO [COMPRESSIONACTIVE] DEFLATE is active already
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

// TestCompressEnds: UNAUTHENTICATE ends compression in both directions (RFC 8437, 2), and it
// can begin again.
func TestCompressEnds(t *testing.T) {
	ts := newServer(t, nil)
	p, raw := compressing(t, ts)
	play(t, p, "C: a NOOP\nS: a OK nothing done")
	for range 2 {
		z := p.Conn.(*deflateConn)
		_, err := io.WriteString(z.w, "b UNAUTHENTICATE\r\n")
		require.NoError(t, err)
		require.NoError(t, z.w.Close())
		_, err = io.WriteString(raw, "c LOGIN ann secret\r\n")
		require.NoError(t, err)
		answer, err := io.ReadAll(z.r)
		require.NoError(t, err, "the server's stream ends")
		require.Equal(t, "b OK who are you?\r\n", string(answer))
		plain := &dialog.Player{Conn: raw}
		play(t, plain, "S~ c OK .*\nC: d COMPRESS DEFLATE\nS~ d OK .*")
		p = &dialog.Player{Conn: compressed(t, raw)}
		play(t, p, "C: e NOOP\nS: e OK nothing done")
	}
	// A stream that goes on is no end.
	play(t, p, "C: f UNAUTHENTICATE\nC: g NOOP\nS~ f OK .*\nS. closed")
}

// TestCompressFlushes sends what zlib makes, octet by octet: what follows a command's last
// octet must neither wake the session up for good nor end its wait.
func TestCompressFlushes(t *testing.T) {
	python := peer(t, "python3")
	ts := newServer(t, func(s *Server) { s.IOTimeout, s.packAfter = 2*time.Second, 1 })
	script := `
import zlib, socket, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
f = s.makefile("rb")
f.readline()
s.sendall(b"a LOGIN ann secret\r\nb SELECT INBOX\r\n")
while not f.readline().startswith(b"b OK"): pass
s.sendall(b"c COMPRESS DEFLATE\r\n")
assert f.readline().startswith(b"c OK")
c = zlib.compressobj(6, zlib.DEFLATED, -15)
d = zlib.decompressobj(-15)
def expect(tag):
    got = b""
    while tag not in got:
        b = s.recv(4096)
        assert b, got
        got += d.decompress(b)
    return got
for i, flush in enumerate([zlib.Z_PARTIAL_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH, zlib.Z_BLOCK] * 4):
    for o in c.compress(b"t%d NOOP\r\n" % i) + c.flush(flush):
        s.send(bytes([o]))
    if flush == zlib.Z_BLOCK:
        s.sendall(c.flush(zlib.Z_PARTIAL_FLUSH))
    expect(b"t%d OK" % i)
    s.sendall(c.compress(b"i%d IDLE\r\n" % i) + c.flush(flush) + c.flush(zlib.Z_PARTIAL_FLUSH))
    expect(b"+ idling")
    for o in c.compress(b"DONE\r\n") + c.flush(flush) + c.flush(zlib.Z_SYNC_FLUSH):
        s.send(bytes([o]))
    expect(b"i%d OK" % i)
print("fine")
`
	_, port, err := net.SplitHostPort(ts.addr)
	require.NoError(t, err)
	require.Equal(t, "fine\n", runPeer(t, python, "-c", script, port))
}
