package imapclient

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkFetch fetches 10,000 messages from a server that costs nothing: it says again what
// was recorded.
func BenchmarkFetch(b *testing.B) {
	for _, bench := range []struct {
		name  string
		items FetchItems
		line  func(i int) string
	}{
		{"flags", FetchItems{Flags: true}, func(i int) string { return fmt.Sprintf("* %d FETCH (UID %d FLAGS (\\Seen))\r\n", i, i) }},
		{"envelope", FetchItems{Flags: true, Envelope: true}, func(i int) string {
			return fmt.Sprintf("* %d FETCH (UID %d FLAGS (\\Seen) ENVELOPE (\"Wed, 17 Jul 1996 02:23:25 -0700\" \"message %d\" ((\"Bob\" NIL \"bob\" \"example.org\")) ((\"Bob\" NIL \"bob\" \"example.org\")) ((\"Bob\" NIL \"bob\" \"example.org\")) ((NIL NIL \"ann\" \"example.org\")) NIL NIL NIL \"<%d@example.org>\"))\r\n", i, i, i, i)
		}},
		{"8KiB", FetchItems{Sections: []Section{{}}}, func(i int) string {
			return fmt.Sprintf("* %d FETCH (UID %d BODY[] {8192}\r\n%s)\r\n", i, i, strings.Repeat("01234567", 1024))
		}},
		{"100KiB", FetchItems{Sections: []Section{{}}}, func(i int) string {
			if i > 1000 {
				return ""
			}
			return fmt.Sprintf("* %d FETCH (UID %d BODY[] {102400}\r\n%s)\r\n", i, i, strings.Repeat("0123456789", 10240))
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			var all bytes.Buffer
			n := 0
			for i := range 10000 {
				if s := bench.line(i + 1); s != "" {
					all.WriteString(s)
					n++
				}
			}
			near, far := net.Pipe()
			defer far.Close()
			go func() {
				_, _ = io.WriteString(far, "* PREAUTH [CAPABILITY IMAP4rev1] hello\r\n")
				in := make([]byte, 4096)
				for i := 1; ; i++ {
					if _, err := far.Read(in); err != nil {
						return
					}
					if _, err := far.Write(all.Bytes()); err != nil {
						return
					}
					_, _ = fmt.Fprintf(far, "m%d OK done\r\n", i)
				}
			}()
			c, err := NewClient(b.Context(), near, "peer.test", &ClientOptions{TLSPolicy: TLSNever})
			require.NoError(b, err)
			defer c.Close()
			b.SetBytes(int64(all.Len()))
			b.ReportAllocs()
			for b.Loop() {
				got := 0
				for m, err := range c.Fetch(b.Context(), All(), bench.items) {
					if err != nil {
						b.Fatal(err)
					}
					for body := range m.Bodies() {
						_, _ = io.Copy(io.Discard, body)
					}
					got++
				}
				if got != n {
					b.Fatalf("%d messages of %d", got, n)
				}
			}
		})
	}
}
