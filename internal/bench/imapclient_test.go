package bench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	goimap "github.com/emersion/go-imap/v2"
	goimapclient "github.com/emersion/go-imap/v2/imapclient"

	"github.com/mailblocks/mailblocks/imap/imapclient"
)

// replay serves one connection on loopback: whatever the client asks once it is in, it is told
// all, with the tag of its question. It costs no more than writing that.
func replay(b *testing.B, all []byte) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	b.Cleanup(func() { ln.Close(); <-done })
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "* PREAUTH [CAPABILITY IMAP4rev1] hello\r\n")
		in := make([]byte, 4096)
		for {
			n, err := conn.Read(in)
			if err != nil {
				return
			}
			tag, command, _ := strings.Cut(string(in[:n]), " ")
			switch {
			case strings.Contains(command, "FETCH"):
				_, _ = conn.Write(all)
			case strings.HasPrefix(command, "SELECT"):
				_, _ = io.WriteString(conn, "* 10000 EXISTS\r\n* FLAGS ()\r\n* OK [UIDVALIDITY 1] x\r\n")
			}
			if _, err := fmt.Fprintf(conn, "%s OK done\r\n", tag); err != nil {
				return
			}
		}
	}()
	return ln.Addr().String()
}

// BenchmarkIMAPFetch fetches 10,000 messages by our client and by go-imap's.
func BenchmarkIMAPFetch(b *testing.B) {
	const messages = 10000
	for _, bench := range []struct {
		name  string
		ours  imapclient.FetchItems
		peers goimap.FetchOptions
		line  string // of message %[1]d
	}{
		{"flags", imapclient.FetchItems{Flags: true}, goimap.FetchOptions{UID: true, Flags: true}, "* %[1]d FETCH (UID %[1]d FLAGS (\\Seen))\r\n"},
		{"envelope", imapclient.FetchItems{Envelope: true}, goimap.FetchOptions{UID: true, Envelope: true},
			`* %[1]d FETCH (UID %[1]d ENVELOPE ("Wed, 17 Jul 1996 02:23:25 -0700" "message %[1]d" (("Bob" NIL "bob" "example.org")) (("Bob" NIL "bob" "example.org")) (("Bob" NIL "bob" "example.org")) ((NIL NIL "ann" "example.org")) NIL NIL NIL "<%[1]d@example.org>"))` + "\r\n"},
		{"body 8 KiB", imapclient.FetchItems{Sections: []imapclient.Section{{}}}, goimap.FetchOptions{UID: true, BodySection: []*goimap.FetchItemBodySection{{Peek: true}}},
			"* %[1]d FETCH (UID %[1]d BODY[] {8192}\r\n" + strings.Repeat("01234567", 1024) + ")\r\n"},
	} {
		var all bytes.Buffer
		for i := range messages {
			fmt.Fprintf(&all, bench.line, i+1)
		}
		b.Run(bench.name+"/ours", func(b *testing.B) {
			ctx := context.Background()
			c, err := imapclient.Dial(ctx, replay(b, all.Bytes()), &imapclient.ClientOptions{TLSPolicy: imapclient.TLSNever})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Select(ctx, "INBOX", nil); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(all.Len()))
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				for m, err := range c.Fetch(ctx, imapclient.All(), bench.ours) {
					if err != nil {
						b.Fatal(err)
					}
					for body := range m.Bodies() {
						_, _ = io.Copy(io.Discard, body)
					}
					n++
				}
				if n != messages {
					b.Fatalf("%d messages", n)
				}
			}
		})
		b.Run(bench.name+"/go-imap", func(b *testing.B) {
			c, err := goimapclient.DialInsecure(replay(b, all.Bytes()), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Select("INBOX", nil).Wait(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(all.Len()))
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				cmd := c.Fetch(goimap.UIDSet{{Start: 1}}, &bench.peers)
				for m := cmd.Next(); m != nil; m = cmd.Next() {
					for item := m.Next(); item != nil; item = m.Next() {
						if body, ok := item.(goimapclient.FetchItemDataBodySection); ok {
							_, _ = io.Copy(io.Discard, body.Literal)
						}
					}
					n++
				}
				if err := cmd.Close(); err != nil || n != messages {
					b.Fatalf("%d messages: %v", n, err)
				}
			}
		})
	}
}
