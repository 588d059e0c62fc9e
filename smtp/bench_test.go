package smtp_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/smtp"
)

// discard is the handler that the benchmarks receive with.
func discard(_ context.Context, _ *smtp.Transaction, body smtp.Body) error {
	_, err := io.Copy(io.Discard, body)
	return err
}

// talker is a client that costs next to nothing: it writes octets made before, and
// counts lines.
type talker struct {
	conn net.Conn
	br   *bufio.Reader
}

func newTalker(t testing.TB, addr string) *talker {
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	k := &talker{conn, bufio.NewReader(conn)}
	k.read(t, 1, "220")
	k.write(t, []byte("EHLO client.test\r\n"))
	for {
		line, err := k.br.ReadSlice('\n')
		require.NoError(t, err)
		if line[3] == ' ' {
			return k
		}
	}
}

func (k *talker) write(t testing.TB, p []byte) {
	if _, err := k.conn.Write(p); err != nil {
		t.Fatal(err)
	}
}

// read reads n lines; the last must begin with code.
func (k *talker) read(t testing.TB, n int, code string) {
	for i := range n {
		line, err := k.br.ReadSlice('\n')
		if err != nil {
			t.Fatal(err)
		}
		if i == n-1 && !bytes.HasPrefix(line, []byte(code)) {
			t.Fatalf("reply %q, want %s", line, code)
		}
	}
}

// mail4K is a message of 4 KiB.
var mail4K = []byte("Subject: benchmark\r\nFrom: a@example.org\r\nTo: b@example.org\r\n\r\n" +
	strings.Repeat("All work and no play makes Jack a dull boy. All work and no play.....\r\n", 56))

func (k *talker) lockstep(t testing.TB) {
	k.write(t, cmdMail)
	k.read(t, 1, "250")
	k.write(t, cmdRcpt)
	k.read(t, 1, "250")
	k.write(t, cmdData)
	k.read(t, 1, "354")
	k.write(t, dotted4K)
	k.read(t, 1, "250")
}

func (k *talker) pipelined(t testing.TB) {
	k.write(t, cmdBatch)
	k.read(t, 3, "354")
	k.write(t, dotted4K)
	k.read(t, 1, "250")
}

func (k *talker) chunked(t testing.TB) {
	k.write(t, chunked4K)
	k.read(t, 3, "250")
}

var (
	cmdMail  = []byte("MAIL FROM:<sender@example.org>\r\n")
	cmdRcpt  = []byte("RCPT TO:<recipient@example.org>\r\n")
	cmdData  = []byte("DATA\r\n")
	cmdBatch = []byte("MAIL FROM:<sender@example.org>\r\nRCPT TO:<recipient@example.org>\r\nDATA\r\n")

	dotted4K  = append(bytes.Clone(mail4K), ".\r\n"...)
	chunked4K = append([]byte(fmt.Sprintf("MAIL FROM:<sender@example.org>\r\nRCPT TO:<recipient@example.org>\r\nBDAT %d LAST\r\n", len(mail4K))), mail4K...)
)

func BenchmarkReceive4K(b *testing.B) {
	for _, way := range []struct {
		name string
		send func(*talker, testing.TB)
	}{{"lockstep", (*talker).lockstep}, {"pipelined", (*talker).pipelined}, {"BDAT", (*talker).chunked}} {
		b.Run(way.name, func(b *testing.B) {
			k := newTalker(b, start(b, newServerWith(b, smtp.HandlerFunc(discard))))
			way.send(k, b)
			b.SetBytes(int64(len(mail4K)))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				way.send(k, b)
			}
		})
	}
}

// BenchmarkBareLoop is what the machine and the runtime cost: the lockstep dialogue with no
// policy, no parsing, no limits.
func BenchmarkBareLoop(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		br := bufio.NewReaderSize(conn, 32<<10)
		io.WriteString(conn, "220 x\r\n")
		for {
			line, err := br.ReadSlice('\n')
			if err != nil {
				return
			}
			if line[0] != 'D' {
				io.WriteString(conn, "250 2.1.0 sender ok\r\n")
				continue
			}
			io.WriteString(conn, "354 end data with <CRLF>.<CRLF>\r\n")
			for {
				if line, err = br.ReadSlice('\n'); err != nil {
					return
				}
				if len(line) == 3 && line[0] == '.' {
					break
				}
			}
			io.WriteString(conn, "250 2.0.0 message accepted\r\n")
		}
	}()
	k := newTalker(b, l.Addr().String())
	b.SetBytes(int64(len(mail4K)))
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		k.lockstep(b)
	}
}

// BenchmarkSend4K is client and server together.
func BenchmarkSend4K(b *testing.B) {
	for name, opt := range ways {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			c, err := smtp.Dial(b.Context(), start(b, newServerWith(b, smtp.HandlerFunc(discard))), &opt)
			require.NoError(b, err)
			defer c.Close()
			env := &smtp.Envelope{From: "sender@example.org", To: to("recipient@example.org")}
			body := bytes.NewReader(nil)
			b.SetBytes(int64(len(mail4K)))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				body.Reset(mail4K)
				if res, err := c.Send(b.Context(), env, body); err != nil || !res.All() {
					b.Fatal(res, err)
				}
			}
		})
	}
}

// BenchmarkReceiveLarge is one message of 16 MiB.
func BenchmarkReceiveLarge(b *testing.B) {
	k := newTalker(b, start(b, newServerWith(b, smtp.HandlerFunc(discard))))
	big := append(bytes.Repeat(mail4K, 4096), ".\r\n"...)
	b.SetBytes(int64(len(big)))
	b.ReportAllocs()
	for b.Loop() {
		k.write(b, cmdBatch)
		k.read(b, 3, "354")
		k.write(b, big)
		k.read(b, 1, "250")
	}
}

// BenchmarkIdle reports what a connection costs that has received a message and waits.
func BenchmarkIdle(b *testing.B) {
	s := newServerWith(b, smtp.HandlerFunc(discard))
	s.MaxConnections, s.MaxConnectionsPerAddress = -1, -1
	addr := start(b, s)
	const n = 200
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		conns := make([]*talker, n)
		for i := range conns {
			conns[i] = newTalker(b, addr)
			conns[i].pipelined(b)
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		// The talkers' own buffers of 4 KiB are not the server's.
		total := float64(after.HeapAlloc+after.StackInuse) - float64(before.HeapAlloc+before.StackInuse)
		b.ReportMetric(total/n-4096, "B/conn")
		for _, k := range conns {
			k.conn.Close()
		}
	}
}

// A connection that has carried a message costs no allocations for the next like it.
func TestNoAllocationsPerMessage(t *testing.T) {
	k := newTalker(t, start(t, newServerWith(t, smtp.HandlerFunc(discard))))
	for name, send := range map[string]func(*talker, testing.TB){
		"lockstep": (*talker).lockstep, "pipelined": (*talker).pipelined, "BDAT": (*talker).chunked,
	} {
		send(k, t)
		if n := testing.AllocsPerRun(200, func() { send(k, t) }); n > 0 && !raceEnabled {
			t.Errorf("%s: %v allocations per message", name, n)
		}
	}
}

// BenchmarkNormaliseHostile is a message of bare CRs, each of which has to be mended.
func BenchmarkNormaliseHostile(b *testing.B) {
	s := newServerWith(b, smtp.HandlerFunc(discard))
	s.Newlines = smtp.NewlinesNormalise
	k := newTalker(b, start(b, s))
	bad := append(bytes.Repeat([]byte("\r"), 64<<10), "\r\n.\r\n"...)
	b.SetBytes(int64(len(bad)))
	for b.Loop() {
		k.write(b, cmdBatch)
		k.read(b, 3, "354")
		k.write(b, bad)
		k.read(b, 1, "250")
	}
}
