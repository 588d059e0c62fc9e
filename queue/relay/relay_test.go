package relay_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/internal/testcert"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/smtptest"
)

const message = "Subject: hello\r\n\r\nHello!\r\n"

// internet is DNS, and hosts by address. Whoever is not there refuses connections.
type internet struct {
	zones *resolver.Zones
	mu    sync.Mutex
	hosts map[string]string // "192.0.2.1:25" → where it really is
	calls []string
}

func newInternet(zones string) *internet {
	return &internet{zones: resolver.MustParseZones(zones), hosts: map[string]string{}}
}

func (n *internet) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.calls = append(n.calls, addr)
	real := n.hosts[addr]
	n.mu.Unlock()
	if real == "" {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", real)
}

func (n *internet) dialled() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls
}

// transport gives one that lives in the internet.
func (n *internet) transport(t *testing.T) *relay.Transport {
	tr := &relay.Transport{Resolver: n.zones, Hostname: "relay.test", Addresses: []netip.Addr{}, Client: smtp.ClientOptions{Dial: n.dial}}
	t.Cleanup(func() { tr.Close() })
	return tr
}

type nopCloser struct{ *strings.Reader }

func (nopCloser) Close() error { return nil }

func attempt(text string, e queue.Envelope, to ...string) *queue.Attempt {
	if e.ReversePath == "" {
		e.ReversePath = "sender@example.org"
	}
	for _, address := range to {
		e.Recipients = append(e.Recipients, queue.Recipient{Address: address})
	}
	return &queue.Attempt{
		ID: "Q1", Route: "route", Envelope: &e, Recipients: e.Recipients, Size: int64(len(text)),
		Open: func() (io.ReadSeekCloser, error) { return nopCloser{strings.NewReader(text)}, nil },
	}
}

// results gives the outcomes as text: "delivered 2.0.0".
func results(outcomes []queue.Outcome) []string {
	var all []string
	for _, o := range outcomes {
		all = append(all, strings.TrimSpace(o.Result.String()+" "+o.Enhanced))
	}
	return all
}

func TestDeliver(t *testing.T) {
	server := smtptest.NewServer(t)
	net := newInternet(`
		dest.test.    MX 10 mx.dest.test.
		mx.dest.test. A 192.0.2.1
	`)
	net.hosts["192.0.2.1:25"] = server.Addr
	tr := net.transport(t)
	a := attempt(message, queue.Envelope{EnvID: "id 1", Return: queue.ReturnHeaders}, "a@dest.test", "b@DEST.test")
	a.Recipients[0].Notify, a.Recipients[0].ORcpt = queue.NotifySuccess, "rfc822;a@old.test"
	outcomes := tr.Deliver(t.Context(), a)
	require.Equal(t, []string{"delivered 2.0.0", "delivered 2.0.0"}, results(outcomes))
	assert.Equal(t, "mx.dest.test", outcomes[0].RemoteMTA)
	assert.Equal(t, queue.HandoverRelayed, outcomes[0].Handover, "the server does not offer DSN")
	got := server.Messages()
	require.Len(t, got, 1, "recipients of one domain go in one transaction")
	assert.Equal(t, "relay.test", got[0].Hello)
	assert.Equal(t, "sender@example.org", got[0].From)
	assert.Equal(t, message, string(got[0].Data))
	assert.Len(t, got[0].To, 2)
	assert.False(t, got[0].TLS)
}

func TestDSNParametersArePassedOn(t *testing.T) {
	server := smtptest.NewServer(t, func(s *smtp.Server) { s.Extensions = smtp.DefaultExtensions | smtp.ExtDSN | smtp.ExtPriority })
	net := newInternet("dest.test. A 192.0.2.1")
	net.hosts["192.0.2.1:25"] = server.Addr
	a := attempt(message, queue.Envelope{EnvID: "id 1", Return: queue.ReturnHeaders, Priority: 3}, "a@dest.test")
	a.Recipients[0].Notify, a.Recipients[0].ORcpt = queue.NotifySuccess|queue.NotifyDelay, "rfc822;a+b@old.test"
	outcomes := net.transport(t).Deliver(t.Context(), a)
	require.Equal(t, []string{"delivered 2.0.0"}, results(outcomes))
	assert.Equal(t, queue.HandoverDSN, outcomes[0].Handover)
	got := server.Messages()[0]
	assert.Equal(t, "id 1", got.Params.EnvelopeID)
	assert.Equal(t, smtp.ReturnHeaders, got.Params.Return)
	assert.Equal(t, 3, got.Params.Priority)
	assert.Equal(t, smtp.NotifySuccess|smtp.NotifyDelay, got.To[0].Params.Notify)
	assert.Equal(t, "a+b@old.test", got.To[0].Params.Original)
	assert.Equal(t, "rfc822", got.To[0].Params.OriginalType)
}

// TestWhere is about domains that nothing is delivered to, or by odd ways.
func TestWhere(t *testing.T) {
	zones := `
		implicit.test.  A 192.0.2.1
		null.test.      MX 0 .
		nullplus.test.  MX 0 .
		nullplus.test.  MX 5 mx1.test.
		noaddr.test.    MX 5 text.test.
		text.test.      TXT "no address here"
		alias.test.     CNAME implicit.test.
		ours.test.      MX 5 relay.test.
		oursaddr.test.  MX 5 other-name.test.
		other-name.test. A 198.51.100.7
		loopback.test.  MX 5 local.test.
		local.test.     A 127.0.0.1
		backup.test.    MX 5 mx1.test.
		backup.test.    MX 10 relay.test.
		backup.test.    MX 20 mx2.test.
		equal.test.     MX 10 mx2.test.
		equal.test.     MX 10 relay.test.
		mx1.test.       A 192.0.2.1
		mx2.test.       A 192.0.2.2
		order.test.     MX 20 mx2.test.
		order.test.     MX 10 mx1.test.
		both.test.      MX 10 six.test.
		six.test.       AAAA 2001:db8::1
		six.test.       AAAA 2001:db8::2
		six.test.       A 192.0.2.6
		broken.test.    TXT "x"
		half.test.      MX 5 dead.test.
		half.test.      MX 6 mx1.test.
		dead.test.      A 192.0.2.9
	`
	for _, c := range []struct {
		to, want string
		dialled  []string
		text     string
	}{
		{"a@implicit.test", "route down 4.4.1", []string{"192.0.2.1:25"}, "connection refused"},
		{"a@alias.test", "route down 4.4.1", []string{"192.0.2.1:25"}, ""},
		{"a@null.test", "permanent 5.1.10", nil, "null MX"},
		{"a@nullplus.test", "route down 4.4.1", []string{"192.0.2.1:25"}, ""},
		{"a@nosuch.test", "permanent 5.1.2", nil, "does not exist"},
		{"a@text.test", "permanent 5.4.4", nil, "no address"},
		{"a@noaddr.test", "permanent 5.4.4", nil, "no address"},
		{"a@ours.test", "permanent 5.4.6", nil, "loops back"},
		{"a@oursaddr.test", "permanent 5.4.6", nil, "loops back"},
		{"a@loopback.test", "permanent 5.4.6", nil, "loops back"},
		{"a@backup.test", "route down 4.4.1", []string{"192.0.2.1:25"}, ""},
		{"a@equal.test", "permanent 5.4.6", nil, "loops back"},
		{"a@order.test", "route down 4.4.1", []string{"192.0.2.1:25", "192.0.2.2:25"}, ""},
		{"a@both.test", "route down 4.4.1", []string{"[2001:db8::1]:25", "192.0.2.6:25", "[2001:db8::2]:25"}, ""},
		{"a@broken.test", "route down 4.4.3", nil, "looked up"},
		{"a@half.test", "route down 4.4.1", []string{"192.0.2.1:25"}, ""},
		{"a@[192.0.2.5]", "route down 4.4.1", []string{"192.0.2.5:25"}, ""},
		{"a@[IPv6:2001:db8::5]", "route down 4.4.1", []string{"[2001:db8::5]:25"}, ""},
		{"a@[127.0.0.1]", "permanent 5.4.6", nil, "loops back"},
		{"a@[nonsense]", "permanent 5.1.2", nil, ""},
		{"postmaster", "permanent 5.1.3", nil, ""},
		{"a@" + strings.Repeat("x", 70) + ".test", "permanent 5.1.2", nil, ""},
	} {
		t.Run(c.to, func(t *testing.T) {
			net := newInternet(zones)
			net.zones.Fail("broken.test", 0, resolver.ErrServFail)
			net.zones.Fail("dead.test", 0, resolver.ErrTimeout)
			tr := net.transport(t)
			tr.Addresses = []netip.Addr{netip.MustParseAddr("198.51.100.7")}
			outcomes := tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, c.to))
			assert.Equal(t, []string{c.want}, results(outcomes))
			assert.Equal(t, c.dialled, net.dialled())
			assert.Contains(t, outcomes[0].Text, c.text)
			assert.Empty(t, outcomes[0].RemoteMTA, "nobody answered")
		})
	}
}

func TestEqualPreferenceIsShuffled(t *testing.T) {
	net := newInternet(`
		dest.test. MX 10 mx1.test.
		dest.test. MX 10 mx2.test.
		mx1.test.  A 192.0.2.1
		mx2.test.  A 192.0.2.2
	`)
	first := map[string]bool{}
	for n := 0; len(first) < 2; n++ {
		require.Less(t, n, 200, "it is always the same host that comes first")
		before := len(net.dialled())
		net.transport(t).Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@dest.test"))
		first[net.dialled()[before]] = true
	}
}

func TestLoopbackAllowed(t *testing.T) {
	server := smtptest.NewServer(t)
	_, port, err := net.SplitHostPort(server.Addr)
	require.NoError(t, err)
	tr := &relay.Transport{
		Resolver: resolver.MustParseZones("dest.test. A 127.0.0.1"), Hostname: "relay.test", AllowLoopback: true,
	}
	fmt.Sscan(port, &tr.Port)
	t.Cleanup(func() { tr.Close() })
	assert.Equal(t, []string{"delivered 2.0.0"}, results(tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@dest.test"))))
}

// TestManyHosts: what a host does decides whether the next one is asked.
func TestManyHosts(t *testing.T) {
	const greeting = "S: 220 mx1.test\nC~ EHLO .*\nS: 250 mx1.test\n"
	for _, c := range []struct {
		name, script string // of the first host; the second takes everything
		want         string
		next         bool
	}{
		{"greets with 421", "S: 421 4.3.2 busy", "delivered 2.0.0", true},
		{"greets with 554", "S: 554 5.3.2 no mail here", "delivered 2.0.0", true},
		{"hangs up", "S.", "delivered 2.0.0", true},
		{"talks nonsense", "S: SSH-2.0-OpenSSH", "delivered 2.0.0", true},
		{"refuses the sender", greeting + "C~ MAIL .*\nS: 550 5.7.1 go away\nC~ RSET|QUIT\nS: 250 ok", "permanent 5.7.1", false},
		{"refuses the sender for now", greeting + "C~ MAIL .*\nS: 451 4.7.1 greylisted\nC~ RSET|QUIT\nS: 250 ok", "temporary 4.7.1", false},
		{"421 to MAIL", greeting + "C~ MAIL .*\nS: 421 4.3.2 shutting down\nS.", "delivered 2.0.0", true},
		{"hangs up at RCPT", greeting + "C~ MAIL .*\nS: 250 ok\nC~ RCPT .*\nS.", "delivered 2.0.0", true},
		{"hangs up after DATA", greeting + "C~ MAIL .*\nS: 250 ok\nC~ RCPT .*\nS: 250 ok\nC: DATA\nS: 354 go\nC>\nS.", "temporary 4.4.2", false},
		{"refuses the message", greeting + "C~ MAIL .*\nS: 250 ok\nC~ RCPT .*\nS: 250 ok\nC: DATA\nS: 354 go\nC>\nS: 554 5.6.0 spam\nC: QUIT\nS: 221 bye", "permanent 5.6.0", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			net := newInternet(`
				dest.test. MX 10 mx1.test.
				dest.test. MX 20 mx2.test.
				mx1.test.  A 192.0.2.1
				mx2.test.  A 192.0.2.2
			`)
			server := smtptest.NewServer(t)
			net.hosts["192.0.2.1:25"] = smtptest.Script(t, nil, c.script)
			net.hosts["192.0.2.2:25"] = server.Addr
			tr := net.transport(t)
			tr.IdleTimeout = -1
			outcomes := tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@dest.test"))
			assert.Equal(t, []string{c.want}, results(outcomes))
			assert.Equal(t, c.next, len(net.dialled()) == 2, "the second host was asked")
		})
	}
}

func TestAllHostsDown(t *testing.T) {
	net := newInternet("dest.test. A 192.0.2.1")
	net.hosts["192.0.2.1:25"] = smtptest.Script(t, nil, "S: 421 4.3.2 come back later")
	outcomes := net.transport(t).Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@dest.test"))
	require.Equal(t, []string{"route down 4.3.2"}, results(outcomes))
	assert.Equal(t, 421, outcomes[0].Code)
	assert.Equal(t, "come back later", outcomes[0].Text)
	assert.Equal(t, "dest.test", outcomes[0].RemoteMTA)
}

func TestPerRecipient(t *testing.T) {
	server := smtptest.NewServer(t, func(s *smtp.Server) { s.Handler = picky{} })
	net := newInternet("dest.test. A 192.0.2.1\nother.test. A 192.0.2.1")
	net.hosts["192.0.2.1:25"] = server.Addr
	outcomes := net.transport(t).Deliver(t.Context(),
		attempt(message, queue.Envelope{}, "good@dest.test", "bad@dest.test", "good@other.test", "grey@dest.test", "good@nosuch.test"))
	assert.Equal(t, []string{"delivered 2.0.0", "permanent 5.1.1", "delivered 2.0.0", "temporary 4.2.0", "permanent 5.1.2"}, results(outcomes))
	assert.Len(t, server.Messages(), 2, "one transaction for each domain")
}

// picky judges recipients by their names.
type picky struct{ smtp.Base }

func (picky) Rcpt(_ context.Context, _ *smtp.Transaction, r *smtp.Recipient) error {
	switch local, _ := smtp.SplitAddress(r.Address); local {
	case "bad":
		return &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 1}, Text: "no such user"}
	case "grey":
		return &smtp.Reply{Code: 450, Enhanced: smtp.EnhancedCode{4, 2, 0}, Text: "later"}
	}
	return nil
}

func (picky) Data(_ context.Context, _ *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	_, err := io.Copy(io.Discard, body)
	return nil, err
}

func TestTLS(t *testing.T) {
	cert, roots, err := testcert.New("mx.test")
	require.NoError(t, err)
	good := &tls.Config{Certificates: []tls.Certificate{cert}}
	wrong, _, err := testcert.New("other.test")
	require.NoError(t, err)
	bad := &tls.Config{Certificates: []tls.Certificate{wrong}}
	broken := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("no certificate") }}
	for _, c := range []struct {
		name       string
		server     *tls.Config
		level      relay.Level
		requireTLS bool
		want       string
		tls        bool
	}{
		{"opportunistic, none offered", nil, relay.Opportunistic, false, "delivered 2.0.0", false},
		{"opportunistic", good, relay.Opportunistic, false, "delivered 2.0.0", true},
		{"opportunistic, wrong name", bad, relay.Opportunistic, false, "delivered 2.0.0", true},
		{"opportunistic, handshake fails", broken, relay.Opportunistic, false, "delivered 2.0.0", false},
		{"encrypted, none offered", nil, relay.Encrypted, false, "route down 4.7.5", false},
		{"encrypted, wrong name", bad, relay.Encrypted, false, "delivered 2.0.0", true},
		{"encrypted, handshake fails", broken, relay.Encrypted, false, "route down 4.7.5", false},
		{"verified", good, relay.Verified, false, "delivered 2.0.0", true},
		{"verified, wrong name", bad, relay.Verified, false, "route down 4.7.5", false},
		{"plain", good, relay.Plain, false, "delivered 2.0.0", false},
		{"refused", good, relay.Refused, false, "route down 4.7.5", false},
		{"REQUIRETLS", good, relay.Opportunistic, true, "delivered 2.0.0", true},
		{"REQUIRETLS, wrong name", bad, relay.Opportunistic, true, "route down 4.7.5", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := smtptest.NewServer(t, func(s *smtp.Server) {
				s.TLS = c.server
				s.Extensions = smtp.DefaultExtensions | smtp.ExtRequireTLS
			})
			net := newInternet("dest.test. MX 5 mx.test.\nmx.test. A 192.0.2.1")
			net.hosts["192.0.2.1:25"] = server.Addr
			tr := net.transport(t)
			tr.Security = func(context.Context, string, resolver.MX, bool) (relay.Security, error) {
				return relay.Security{Level: c.level, Config: &tls.Config{RootCAs: roots}}, nil
			}
			outcomes := tr.Deliver(t.Context(), attempt(message, queue.Envelope{RequireTLS: c.requireTLS}, "a@dest.test"))
			require.Equal(t, []string{c.want}, results(outcomes), outcomes[0].Text)
			if outcomes[0].Result == queue.Delivered {
				assert.Equal(t, c.tls, server.Messages()[0].TLS)
			}
		})
	}
}

func TestExtensions(t *testing.T) {
	bare := func(s *smtp.Server) { s.Extensions = smtp.ExtSize }
	eight := "Subject: hello\r\n\r\nGrüße\r\n"
	utf8 := "Subject: Grüße\r\n\r\n"
	for _, c := range []struct {
		name, text string
		env        queue.Envelope
		to         string
		want       string
	}{
		{"8BITMIME not needed", message, queue.Envelope{Body: queue.Body8BitMIME}, "a@dest.test", "delivered"},
		{"8BITMIME needed", eight, queue.Envelope{Body: queue.Body8BitMIME}, "a@dest.test", "permanent 5.6.3"},
		{"SMTPUTF8 not needed", message, queue.Envelope{UTF8: true}, "a@dest.test", "delivered"},
		{"SMTPUTF8 needed by the header", utf8, queue.Envelope{UTF8: true}, "a@dest.test", "permanent 5.6.7"},
		{"SMTPUTF8 needed by the recipient", message, queue.Envelope{UTF8: true}, "ä@dest.test", "permanent 5.6.7"},
		{"SMTPUTF8 needed by the sender", message, queue.Envelope{UTF8: true, ReversePath: "ä@b.test"}, "a@dest.test", "permanent 5.6.7"},
		{"BINARYMIME", message, queue.Envelope{Body: queue.BodyBinaryMIME}, "a@dest.test", "permanent 5.6.3"},
		{"REQUIRETLS", message, queue.Envelope{RequireTLS: true}, "a@dest.test", "route down 4.7.5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			net := newInternet("dest.test. A 192.0.2.1")
			net.hosts["192.0.2.1:25"] = smtptest.NewServer(t, bare).Addr
			outcomes := net.transport(t).Deliver(t.Context(), attempt(c.text, c.env, c.to))
			assert.Equal(t, []string{c.want}, results(outcomes), outcomes[0].Text)
		})
	}
}

func TestSmarthost(t *testing.T) {
	cert, roots, err := testcert.New("smart.test")
	require.NoError(t, err)
	server := smtptest.NewServer(t, func(s *smtp.Server) {
		s.Mode = smtp.ModeSubmission
		s.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		s.Authenticator = password{}
	})
	net := newInternet("smart.test. A 192.0.2.1")
	net.hosts["192.0.2.1:587"] = server.Addr
	tr := net.transport(t)
	host := &relay.Smarthost{
		Addr: "smart.test:587", TLS: &tls.Config{RootCAs: roots},
		Auth: func() sasl.Client { return sasl.NewPlainClient("", "us", "secret") },
	}
	tr.Smarthost = func(route string) *relay.Smarthost {
		assert.Equal(t, "route", route)
		return host
	}
	outcomes := tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@one.test", "b@two.test"))
	require.Equal(t, []string{"delivered 2.0.0", "delivered 2.0.0"}, results(outcomes), outcomes[0].Text)
	got := server.Messages()
	require.Len(t, got, 1, "all recipients go in one transaction")
	assert.Equal(t, "us", got[0].Identity)
	assert.True(t, got[0].TLS)

	host = &relay.Smarthost{Addr: "smart.test:587", TLS: host.TLS, Auth: func() sasl.Client { return sasl.NewPlainClient("", "us", "wrong") }}
	outcomes = tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@one.test"))
	assert.Equal(t, queue.RouteDown, outcomes[0].Result, "our wrong password is not the fault of the mail")
	assert.Equal(t, 535, outcomes[0].Code)
}

// password knows one user.
type password struct{}

func (password) Mechanisms(*tls.ConnectionState) []string { return []string{"PLAIN"} }

func (password) Start(_ context.Context, _ string, _ netip.AddrPort, _ *tls.ConnectionState, done func(string) error) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, pass string) error {
		if user != "us" || pass != "secret" {
			return errors.New("no")
		}
		return done(user)
	}), nil
}

func TestLMTP(t *testing.T) {
	server := smtptest.NewServer(t, func(s *smtp.Server) { s.Mode = smtp.ModeLMTP })
	tr := &relay.Transport{Hostname: "relay.test", Smarthost: func(string) *relay.Smarthost {
		return &relay.Smarthost{Addr: server.Addr, LMTP: true}
	}}
	t.Cleanup(func() { tr.Close() })
	outcomes := tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@one.test"))
	require.Equal(t, queue.Delivered, outcomes[0].Result, outcomes[0].Text)
	assert.Equal(t, queue.HandoverFinal, outcomes[0].Handover)
}

func TestReuse(t *testing.T) {
	server := smtptest.NewServer(t)
	net := newInternet("dest.test. A 192.0.2.1")
	net.hosts["192.0.2.1:25"] = server.Addr
	tr := net.transport(t)
	tr.IdleTimeout = time.Hour
	tr.MessagesPerConnection = 3
	for range 7 {
		outcomes := tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@dest.test"))
		require.Equal(t, []string{"delivered 2.0.0"}, results(outcomes))
	}
	assert.Len(t, net.dialled(), 3)
	assert.Len(t, server.Messages(), 7)
}

// TestReusedIsDead: a connection that died while idle costs no attempt.
func TestReusedIsDead(t *testing.T) {
	const once = "S: 220 mx\nC~ EHLO .*\nS: 250 mx\nC~ MAIL .*\nS: 250 ok\nC~ RCPT .*\nS: 250 ok\nC: DATA\nS: 354 go\nC>\nS: 250 2.0.0 ok\nS."
	net := newInternet("dest.test. A 192.0.2.1")
	net.hosts["192.0.2.1:25"] = smtptest.Script(t, nil, once)
	tr := net.transport(t)
	tr.IdleTimeout = time.Hour
	for range 3 {
		outcomes := tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@dest.test"))
		require.Equal(t, []string{"delivered 2.0.0"}, results(outcomes), outcomes[0].Text)
	}
	assert.Len(t, net.dialled(), 3)
}

func TestPrepare(t *testing.T) {
	server := smtptest.NewServer(t)
	net := newInternet("dest.test. A 192.0.2.1")
	net.hosts["192.0.2.1:25"] = server.Addr
	tr := net.transport(t)
	fail := false
	tr.Prepare = func(_ context.Context, _ *queue.Attempt, body io.ReadSeeker) (io.Reader, error) {
		if fail {
			return nil, errors.New("key is missing")
		}
		if _, err := io.Copy(io.Discard, body); err != nil {
			return nil, err
		}
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		return io.MultiReader(strings.NewReader("DKIM-Signature: x\r\n"), body), nil
	}
	outcomes := tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@dest.test"))
	require.Equal(t, []string{"delivered 2.0.0"}, results(outcomes))
	assert.Equal(t, "DKIM-Signature: x\r\n"+message, string(server.Messages()[0].Data))
	fail = true
	outcomes = tr.Deliver(t.Context(), attempt(message, queue.Envelope{}, "a@dest.test"))
	assert.Equal(t, []string{"temporary 4.3.0"}, results(outcomes))
}

func TestHops(t *testing.T) {
	net := newInternet("dest.test. A 192.0.2.1")
	tr := net.transport(t)
	looping := strings.Repeat("RECEIVED: from a by b\r\n", 101) + message
	assert.Equal(t, []string{"permanent 5.4.6"}, results(tr.Deliver(t.Context(), attempt(looping, queue.Envelope{}, "a@dest.test"))))
	fine := strings.Repeat("Received: from a by b\r\n", 100) + message + strings.Repeat("Received: in the body\r\n", 200)
	assert.Equal(t, []string{"route down 4.4.1"}, results(tr.Deliver(t.Context(), attempt(fine, queue.Envelope{}, "a@dest.test"))))
}

func TestUnreadable(t *testing.T) {
	net := newInternet("dest.test. A 192.0.2.1")
	a := attempt(message, queue.Envelope{}, "a@dest.test")
	a.Open = func() (io.ReadSeekCloser, error) { return nil, errors.New("disk") }
	assert.Equal(t, []string{"temporary 4.3.0"}, results(net.transport(t).Deliver(t.Context(), a)))
}

func TestContextEnds(t *testing.T) {
	net := newInternet("dest.test. A 192.0.2.1")
	net.zones.Hang("dest.test", 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	outcomes := net.transport(t).Deliver(ctx, attempt(message, queue.Envelope{}, "a@dest.test"))
	assert.NotEqual(t, queue.Permanent, outcomes[0].Result)
	assert.NotEqual(t, queue.Delivered, outcomes[0].Result)
}
