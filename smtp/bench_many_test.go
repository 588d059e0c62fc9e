package smtp_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/smtp"
)

// BenchmarkSendAll4K is BenchmarkSend4K with the messages in one stream.
func BenchmarkSendAll4K(b *testing.B) {
	for name, opt := range ways {
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			c, err := smtp.Dial(b.Context(), start(b, newServerWith(b, smtp.HandlerFunc(discard))), &opt)
			require.NoError(b, err)
			defer c.Close()
			env := &smtp.Envelope{From: "sender@example.org", To: to("recipient@example.org")}
			b.SetBytes(int64(len(mail4K)))
			b.ReportAllocs()
			b.ResetTimer()
			err = c.SendAll(b.Context(), func(yield func(smtp.Message) bool) {
				for range b.N {
					if !yield(smtp.Message{Envelope: env, Body: bytes.NewReader(mail4K)}) {
						return
					}
				}
			}, func(r *smtp.Result, err error) {
				if err != nil || !r.All() {
					b.Error(r, err)
				}
			})
			require.NoError(b, err)
		})
	}
}

// BenchmarkFlat tells the time of a message at the beginning of a connection's life, and once it has
// carried 100,000.
func BenchmarkFlat(b *testing.B) {
	k := newTalker(b, start(b, newServerWith(b, smtp.HandlerFunc(discard))))
	for _, at := range []string{"first", "later"} {
		b.Run(at, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				k.pipelined(b)
			}
		})
		for range 100_000 {
			k.chunked(b)
		}
	}
}
