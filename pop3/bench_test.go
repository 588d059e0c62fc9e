package pop3_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/peertest"
	"github.com/mailblocks/mailblocks/maildir"
	"github.com/mailblocks/mailblocks/pop3"
	"github.com/mailblocks/mailblocks/pop3/maildrop"
)

// BenchmarkRetrieve fetches messages of 8 KiB from a Maildir of 10,000: ours beside Debian's
// Dovecot, one by one and pipelined, by the same client without TLS.
func BenchmarkRetrieve(b *testing.B) {
	const count = 10_000
	text := strings.Repeat("A line of mail as it often is, about seventy octets until its end.\r\n", 120)
	mails := make([]string, count)
	for i := range mails {
		mails[i] = fmt.Sprintf("X-Test: %d\r\nSubject: one of many\r\n\r\n", i) + text
	}
	servers := map[string]func() (addr, password string){
		"mailblocks": func() (string, string) {
			store, err := maildir.Open(b.TempDir(), nil)
			require.NoError(b, err)
			box, err := store.Open(b.Context(), imap.Inbox)
			require.NoError(b, err)
			var batch []imap.NewMessage
			for _, m := range mails {
				batch = append(batch, imap.NewMessage{Body: strings.NewReader(m)})
			}
			_, err = box.Append(b.Context(), batch)
			require.NoError(b, err)
			return serveBench(b, func(ctx context.Context, _ string) (pop3.Maildrop, error) {
				box, err := store.Open(ctx, imap.Inbox)
				if err != nil {
					return nil, err
				}
				return maildrop.Open(ctx, box)
			}), "wonder land"
		},
		"dovecot": func() (string, string) {
			addr, _ := peertest.Dovecot(b, "pop3", mails)
			return addr, "secret"
		},
	}
	for _, name := range []string{"mailblocks", "dovecot"} {
		b.Run(name, func(b *testing.B) {
			addr, password := servers[name]()
			c, err := pop3.Dial(b.Context(), addr, &pop3.ClientOptions{TLSPolicy: pop3.TLSNever, InsecureAuth: true})
			require.NoError(b, err)
			defer c.Close()
			require.NoError(b, c.Login(b.Context(), "alice", password))
			list, err := c.List(b.Context())
			require.NoError(b, err)
			require.Len(b, list, count)
			n := 0
			next := func() int { n++; return (n-1)%count + 1 }
			b.Run("one by one", func(b *testing.B) {
				b.SetBytes(int64(len(mails[0])))
				for b.Loop() {
					r, err := c.Retrieve(b.Context(), next())
					if err == nil {
						_, err = io.Copy(io.Discard, r)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("pipelined", func(b *testing.B) {
				b.SetBytes(int64(len(mails[0])))
				numbers := make([]int, 0, b.N)
				for range b.N {
					numbers = append(numbers, next())
				}
				b.ResetTimer()
				err := c.Fetch(b.Context(), numbers, func(_ int, r io.Reader, err error) error {
					if err == nil {
						_, err = io.Copy(io.Discard, r)
					}
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func serveBench(b *testing.B, open func(ctx context.Context, identity string) (pop3.Maildrop, error)) string {
	s := &pop3.Server{Authenticator: accounts{}, Open: open, AllowInsecureAuth: true, MaxConns: -1, MaxConnsPerAddr: -1, Logger: slog.New(slog.DiscardHandler)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	go s.Serve(ln) //nolint:errcheck // it ends with Close
	b.Cleanup(func() { s.Close() })
	return ln.Addr().String()
}

// listed is a maildrop of many messages that nobody opens.
type listed struct{ list []pop3.Message }

func (l listed) Messages() []pop3.Message                       { return l.list }
func (listed) Open(context.Context, int) (io.ReadCloser, error) { return nil, io.EOF }
func (listed) Delete(context.Context, []int) error              { return nil }
func (listed) Close() error                                     { return nil }

// BenchmarkList asks STAT, LIST and UIDL of a maildrop of a million.
func BenchmarkList(b *testing.B) {
	l := listed{make([]pop3.Message, 1_000_000)}
	for i := range l.list {
		l.list[i] = pop3.Message{Size: 8192, UID: fmt.Sprintf("%08X%08X", i+1, 1)}
	}
	c, err := pop3.Dial(b.Context(), serveBench(b, func(context.Context, string) (pop3.Maildrop, error) { return l, nil }),
		&pop3.ClientOptions{TLSPolicy: pop3.TLSNever, InsecureAuth: true})
	require.NoError(b, err)
	defer c.Close()
	require.NoError(b, c.Login(b.Context(), "alice", "wonder land"))
	for b.Loop() {
		if _, _, err := c.Stat(b.Context()); err != nil {
			b.Fatal(err)
		}
		list, err := c.List(b.Context())
		if err != nil || len(list) != len(l.list) {
			b.Fatal(len(list), err)
		}
	}
}

// BenchmarkIdle reports the heap and stack of a session that waits for a command.
func BenchmarkIdle(b *testing.B) {
	addr := serveBench(b, func(context.Context, string) (pop3.Maildrop, error) { return listed{}, nil })
	const sessions = 500
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		conns := make([]net.Conn, sessions)
		buf := make([]byte, 256)
		for i := range conns {
			c, err := net.Dial("tcp", addr)
			require.NoError(b, err)
			for _, line := range []string{"", "USER alice\r\n", "PASS wonder land\r\n"} {
				_, err = io.WriteString(c, line)
				require.NoError(b, err)
				_, err = c.Read(buf)
				require.NoError(b, err)
			}
			conns[i] = c
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		used := after.HeapInuse + after.StackInuse - before.HeapInuse - before.StackInuse
		b.ReportMetric(float64(used)/sessions/1024, "KiB/session")
		for _, c := range conns {
			c.Close()
		}
	}
}
