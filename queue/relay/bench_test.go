package relay_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/queue/spool"
	"github.com/mailblocks/mailblocks/smtp"
)

// sink takes messages and counts them.
type sink struct {
	smtp.Base
	taken atomic.Int64
	want  int64
	all   chan struct{}
}

func (s *sink) Data(_ context.Context, _ *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return nil, err
	}
	if s.taken.Add(1) == s.want {
		close(s.all)
	}
	return nil, nil
}

func serve(b *testing.B, h smtp.Handler) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &smtp.Server{
		Handler: h, Hostname: "mx.test", Logger: slog.New(slog.DiscardHandler),
		MaxConnections: -1, MaxConnectionsPerAddress: -1,
	}
	go s.Serve(l)
	b.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// BenchmarkThroughput sends messages of 4 KiB through it all: 20 clients, server, spool, runner, relay and a
// sink, until the last one is delivered.
func BenchmarkThroughput(b *testing.B) {
	out := &sink{want: int64(b.N), all: make(chan struct{})}
	_, port, err := net.SplitHostPort(serve(b, out))
	if err != nil {
		b.Fatal(err)
	}
	store, err := spool.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	tr := &relay.Transport{
		Resolver: &resolver.Cache{Next: resolver.MustParseZones("sink.test. MX 10 mx.sink.test.\nmx.sink.test. A 127.0.0.1")},
		Hostname: "relay.test", Addresses: []netip.Addr{}, AllowLoopback: true,
	}
	if tr.Port, err = strconv.Atoi(port); err != nil {
		b.Fatal(err)
	}
	defer tr.Close()
	runner := queue.Runner{Store: store, Transport: tr, Report: queue.NoReports, Logger: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	in := serve(b, &relay.Handler{Store: store})

	body := append([]byte("From: a@b.test\r\nSubject: bench\r\nMessage-ID: <1@b.test>\r\n\r\n"),
		bytes.Repeat([]byte("A line of text, as there are many.\r\n"), 112)...)
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	failed := make(chan error, 20)
	for range 20 {
		go func() {
			c, err := smtp.Dial(ctx, in, &smtp.ClientOptions{Hello: "client.test"})
			if err != nil {
				failed <- err
				return
			}
			defer c.Close()
			for n := left.Add(-1); n >= 0; n = left.Add(-1) {
				env := &smtp.Envelope{From: "a@b.test", To: []smtp.Recipient{{Address: fmt.Sprintf("u%d@sink.test", n)}}}
				if res, err := c.Send(ctx, env, bytes.NewReader(body)); err != nil || !res.All() {
					failed <- fmt.Errorf("not accepted: %v", err)
					return
				}
			}
		}()
	}
	select {
	case <-out.all:
	case err := <-failed:
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
