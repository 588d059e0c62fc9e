package relay_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/smtptest"
)

const bothFamilies = `
	dest.test. MX 10 mx.dest.test.
	mx.dest.test. AAAA 2001:db8::1
	mx.dest.test. AAAA 2001:db8::2
	mx.dest.test. A 192.0.2.1
`

// road is what becomes of a dial to one address.
type road struct {
	takes time.Duration
	ok    bool
}

// TestHappyEyeballs follows RFC 8305, 5 with a clock that is virtual: who is dialled when, and who wins.
func TestHappyEyeballs(t *testing.T) {
	for _, c := range []struct {
		name  string
		roads map[string]road
		calls []string // "address@when"
		won   string
	}{
		{
			"IPv6 is quick", map[string]road{"2001:db8::1": {100 * time.Millisecond, true}, "192.0.2.1": {0, true}},
			[]string{"2001:db8::1@0s"}, "2001:db8::1",
		},
		{
			"IPv6 hangs", map[string]road{"2001:db8::1": {time.Hour, true}, "192.0.2.1": {10 * time.Millisecond, true}},
			[]string{"2001:db8::1@0s", "192.0.2.1@250ms"}, "192.0.2.1",
		},
		{
			"IPv6 is refused", map[string]road{"2001:db8::1": {5 * time.Millisecond, false}, "192.0.2.1": {0, true}},
			[]string{"2001:db8::1@0s", "192.0.2.1@5ms"}, "192.0.2.1",
		},
		{
			"IPv6 is slow, and still first", map[string]road{"2001:db8::1": {300 * time.Millisecond, true}, "192.0.2.1": {time.Second, true}},
			[]string{"2001:db8::1@0s", "192.0.2.1@250ms"}, "2001:db8::1",
		},
		{
			"the third", map[string]road{"2001:db8::1": {time.Hour, true}, "192.0.2.1": {time.Hour, true}, "2001:db8::2": {time.Millisecond, true}},
			[]string{"2001:db8::1@0s", "192.0.2.1@250ms", "2001:db8::2@500ms"}, "2001:db8::2",
		},
		{
			"nobody", map[string]road{"2001:db8::1": {time.Hour, true}, "192.0.2.1": {time.Second, false}, "2001:db8::2": {time.Hour, true}},
			[]string{"2001:db8::1@0s", "192.0.2.1@250ms", "2001:db8::2@500ms"}, "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var mu sync.Mutex
				var calls []string
				var won string
				var open int
				tr := &relay.Transport{Resolver: resolver.MustParseZones(bothFamilies), Hostname: "relay.test", Addresses: []netip.Addr{}}
				tr.Dial = func(ctx context.Context, _, addr string, _ netip.Addr) (net.Conn, error) {
					host := netip.MustParseAddrPort(addr).Addr().String()
					mu.Lock()
					calls = append(calls, host+"@"+time.Since(began).String())
					mu.Unlock()
					select {
					case <-ctx.Done():
						return nil, ctx.Err()
					case <-time.After(c.roads[host].takes):
					}
					if !c.roads[host].ok {
						return nil, errors.New("refused")
					}
					mu.Lock()
					if won == "" {
						won = host
					}
					open++
					mu.Unlock()
					here, there := net.Pipe()
					go func() {
						there.Write([]byte("554 not today\r\n"))
						buf := make([]byte, 100)
						for {
							if _, err := there.Read(buf); err != nil {
								break
							}
						}
						there.Close()
						mu.Lock()
						open--
						mu.Unlock()
					}()
					return here, nil
				}
				tr.MaxHosts = len(c.calls)
				if c.won != "" {
					tr.MaxHosts = 3
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan []queue.Outcome, 1)
				go func() { done <- tr.Deliver(ctx, attempt(message, queue.Envelope{}, "a@dest.test")) }()
				<-time.After(600 * time.Millisecond)
				mu.Lock()
				assert.Equal(t, c.calls, calls[:min(len(calls), len(c.calls))])
				first := won
				mu.Unlock()
				if c.won != "" {
					assert.Equal(t, c.won, first)
				}
				<-time.After(time.Minute)
				cancel()
				out := <-done
				assert.Equal(t, queue.RouteDown, out[0].Result)
				synctest.Wait()
				mu.Lock()
				assert.Zero(t, open, "connections that lost are closed")
				mu.Unlock()
			})
		})
	}
}

// TestNextAddress: when a host greets badly at one address, the others are asked.
func TestNextAddress(t *testing.T) {
	server := smtptest.NewServer(t)
	net := newInternet(bothFamilies)
	net.hosts["[2001:db8::1]:25"] = smtptest.Script(t, nil, "S: 421 4.3.2 busy")
	net.hosts["[2001:db8::2]:25"] = server.Addr
	tr := net.transport(t)
	assert.Equal(t, []string{"delivered 2.0.0"}, results(tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@dest.test"))))
	assert.Equal(t, []string{"[2001:db8::1]:25", "192.0.2.1:25", "[2001:db8::2]:25"}, net.dialled())
	assert.Equal(t, []string{"delivered 2.0.0"}, results(tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "b@dest.test"))))
	assert.Len(t, net.dialled(), 3, "the connection that is up is used, whichever address it has")
}

func TestSource(t *testing.T) {
	server := smtptest.NewServer(t)
	var froms []string
	tr := &relay.Transport{
		Resolver: resolver.MustParseZones(bothFamilies), Hostname: "relay.test", Addresses: []netip.Addr{},
		Source: func(a *queue.Attempt) relay.Source {
			if strings.HasSuffix(a.Envelope.ReversePath, "@bulk.test") {
				return relay.Source{IPv4: netip.MustParseAddr("198.51.100.9"), IPv6: netip.MustParseAddr("2001:db8:9::9"), Hello: "bulk.relay.test"}
			}
			return relay.Source{}
		},
		Dial: func(ctx context.Context, network, addr string, from netip.Addr) (net.Conn, error) {
			froms = append(froms, addr+" from "+from.String())
			if strings.HasPrefix(addr, "[2001:db8::1]") {
				return nil, errors.New("no route to host")
			}
			return new(net.Dialer).DialContext(ctx, "tcp", server.Addr)
		},
	}
	t.Cleanup(func() { tr.Close() })
	for _, sender := range []string{"news@bulk.test", "person@other.test", "news@bulk.test"} {
		out := tr.Deliver(t.Context(), attempt(message, queue.Envelope{ReversePath: sender}, "a@dest.test"))
		require.Equal(t, []string{"delivered 2.0.0"}, results(out))
	}
	assert.Equal(t, []string{
		"[2001:db8::1]:25 from 2001:db8:9::9", "192.0.2.1:25 from 198.51.100.9",
		"[2001:db8::1]:25 from invalid IP", "192.0.2.1:25 from invalid IP",
	}, froms, "connections of different sources are not shared, those of one are")
	var hellos []string
	for _, m := range server.Messages() {
		hellos = append(hellos, m.Hello)
	}
	assert.Equal(t, []string{"bulk.relay.test", "relay.test", "bulk.relay.test"}, hellos)
}

// TestSourceIsBound: the address is the one the peer sees.
func TestSourceIsBound(t *testing.T) {
	seen := make(chan netip.Addr, 1)
	server := smtptest.NewServer(t, func(s *smtp.Server) { s.Handler = remote{seen: seen} })
	port := netip.MustParseAddrPort(server.Addr).Port()
	tr := &relay.Transport{
		Resolver: resolver.MustParseZones("dest.test. A 127.0.0.1"), Hostname: "relay.test", AllowLoopback: true, Port: int(port),
		Source: func(*queue.Attempt) relay.Source { return relay.Source{IPv4: netip.MustParseAddr("127.0.0.7")} },
	}
	t.Cleanup(func() { tr.Close() })
	require.Equal(t, []string{"delivered 2.0.0"}, results(tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@dest.test"))))
	assert.Equal(t, netip.MustParseAddr("127.0.0.7"), <-seen)
}

type remote struct {
	smtp.Base
	seen chan netip.Addr
}

func (r remote) Mail(_ context.Context, tx *smtp.Transaction) error {
	r.seen <- tx.Session.Remote.Addr()
	return nil
}

func (remote) Data(_ context.Context, _ *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	_, err := io.Copy(io.Discard, body)
	return nil, err
}

func TestReversePath(t *testing.T) {
	server := smtptest.NewServer(t)
	net := newInternet("dest.test. A 192.0.2.1")
	net.hosts["192.0.2.1:25"] = server.Addr
	tr := net.transport(t)
	tr.ReversePath = func(a *queue.Attempt, r *queue.Recipient) string {
		if strings.HasPrefix(r.Address, "plain") {
			return a.Envelope.ReversePath
		}
		return "news+" + strings.ReplaceAll(r.Address, "@", "=") + "@example.org"
	}
	a := attempt(message, queue.Envelope{ReversePath: "news@example.org"}, "plain1@dest.test", "a@dest.test", "plain2@dest.test", "b@dest.test")
	require.Equal(t, []string{"delivered 2.0.0", "delivered 2.0.0", "delivered 2.0.0", "delivered 2.0.0"}, results(tr.Deliver(t.Context(), a)))
	null := attempt(message, queue.Envelope{}, "a@dest.test")
	null.Envelope.ReversePath = ""
	require.Equal(t, []string{"delivered 2.0.0"}, results(tr.Deliver(t.Context(), null)))
	var got []string
	for _, m := range server.Messages() {
		line := m.From + ":"
		for _, to := range m.To {
			line += " " + to.Address
		}
		got = append(got, line)
	}
	assert.Equal(t, []string{
		"news@example.org: plain1@dest.test plain2@dest.test", "news+a=dest.test@example.org: a@dest.test",
		"news+b=dest.test@example.org: b@dest.test", ": a@dest.test",
	}, got)
	assert.Len(t, net.dialled(), 1)
}

// TestDeliverBy: RFC 2852, 4.1.4.
func TestDeliverBy(t *testing.T) {
	for _, c := range []struct {
		name     string
		by       queue.DeliverBy
		ext      smtp.Extensions
		want     string
		handover queue.Handover
		mode     byte
	}{
		{"N, known", queue.DeliverBy{}, smtp.ExtDeliverBy | smtp.ExtDSN, "delivered 2.0.0", queue.HandoverDSN, 'N'},
		{"N, not known", queue.DeliverBy{}, smtp.ExtDSN, "delivered 2.0.0", queue.HandoverTold, 0},
		{"R, known", queue.DeliverBy{Return: true}, smtp.ExtDeliverBy | smtp.ExtDSN, "delivered 2.0.0", queue.HandoverDSN, 'R'},
		{"R, not known", queue.DeliverBy{Return: true}, smtp.ExtDSN, "permanent 5.3.3", 0, 0},
		{"traced", queue.DeliverBy{Trace: true}, smtp.ExtDeliverBy | smtp.ExtDSN, "delivered 2.0.0", queue.HandoverTold, 'N'},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := smtptest.NewServer(t, func(s *smtp.Server) { s.Extensions = smtp.DefaultExtensions | c.ext })
			net := newInternet("dest.test. A 192.0.2.1")
			net.hosts["192.0.2.1:25"] = server.Addr
			c.by.Time = time.Now().Add(time.Hour)
			out := net.transport(t).Deliver(t.Context(), attempt(message, queue.Envelope{DeliverBy: c.by}, "a@dest.test"))
			require.Equal(t, []string{c.want}, results(out), out[0].Text)
			assert.Equal(t, c.handover, out[0].Handover)
			if c.mode != 0 {
				by := server.Messages()[0].Params.DeliverBy
				assert.Equal(t, c.mode, by.Mode)
				assert.InDelta(t, 3600, by.Seconds, 60)
				assert.Equal(t, c.by.Trace, by.Trace)
			}
		})
	}
}

// TestUnixSocket: a delivery agent behind a Unix socket takes mail by LMTP, and what it takes is delivered.
func TestUnixSocket(t *testing.T) {
	server := smtptest.NewServer(t, func(s *smtp.Server) { s.Mode = smtp.ModeLMTP })
	path := filepath.Join(t.TempDir(), "lmtp")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	server.ServeAlso(t, l)
	host := &relay.Smarthost{Addr: "unix:" + path, LMTP: true}
	tr := &relay.Transport{Hostname: "relay.test", Smarthost: func(string) *relay.Smarthost { return host }}
	t.Cleanup(func() { tr.Close() })
	for range 2 {
		out := tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@dest.test", "b@else.test"))
		require.Equal(t, []string{"delivered 2.0.0", "delivered 2.0.0"}, results(out), out[0].Text)
		assert.Equal(t, queue.HandoverFinal, out[0].Handover)
	}
	assert.Len(t, server.Messages(), 2)
	host = &relay.Smarthost{Addr: "unix:" + path + ".gone", LMTP: true}
	out := tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@dest.test"))
	assert.Equal(t, []string{"route down 4.4.1"}, results(out))
}
