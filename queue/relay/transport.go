package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/tlsrpt"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/smtp"
)

// A Transport is a queue.Transport that delivers by SMTP. The zero value works once Resolver is set; the
// fields must not change after the first Deliver. It is safe for concurrent use.
type Transport struct {
	// Resolver answers DNS questions. Required, but for routes that Smarthost serves with an address.
	Resolver resolver.Resolver

	// Hostname is the name for EHLO; empty means os.Hostname. An MX of that name, or one of Names, is ourselves.
	Hostname string
	Names    []string

	// Addresses are ours: an MX that has one of them is ourselves. Nil means those of the network
	// interfaces, as they are at the first Deliver. Loopback addresses that are not among them count as ours
	// as well, unless AllowLoopback is set, which is for tests.
	Addresses     []netip.Addr
	AllowLoopback bool

	// Port is that of mail exchangers. 0 means 25.
	Port int

	// MaxHosts is how many addresses are tried in one attempt. 0 means 10.
	MaxHosts int

	// Smarthost chooses the host for a route, in place of MX records; nil, or a nil result,
	// means MX.
	Smarthost func(route string) *Smarthost

	// Security decides about TLS for a host of a domain. Nil means Opportunistic for all. An error
	// makes the domain RouteDown.
	Security func(ctx context.Context, domain string, mx resolver.MX, secure bool) (Security, error)

	// Client is what connections are made with: timeouts, Dial, Chunking, Log. Its Hello, LMTP,
	// TLSPolicy, TLS and Auth are set here.
	Client smtp.ClientOptions

	// Source chooses where an attempt's connections come from, by its sender, its route, its Tag. Nil leaves it to the system.
	Source func(a *queue.Attempt) Source

	// Dial, if not nil, makes the connections in place of Client.Dial: from is what Source gave for the family of addr,
	// the zero Addr when it is to be any.
	Dial func(ctx context.Context, network, addr string, from netip.Addr) (net.Conn, error)

	// ConnectDelay is how long one address of a host is given before the next is tried beside it (RFC 8305, 5). 0 means
	// 250 ms.
	ConnectDelay time.Duration

	// ReversePath, if not nil, gives the reverse-path to send with for one recipient: VERP, SRS (package returnpath).
	// Recipients for whom it differs go in transactions of their own. It is not asked for the null sender.
	ReversePath func(a *queue.Attempt, r *queue.Recipient) string

	// Downgrade converts messages with 8-bit or binary parts to 7 bits for a host that can not take them (RFC 6152, 3),
	// unless that would break a signature in it. Without it such a message is refused with 5.6.3. Up to 16 MiB are converted.
	Downgrade bool

	// TLSResult, if not nil, is told how each connection to a mail exchanger went as far as TLS is concerned (RFC 8460, 4.3).
	// tlsrpt.Collector.Add takes it.
	TLSResult func(at time.Time, s tlsrpt.Session)

	// Prepare, if not nil, gives what is sent in place of a message: with a signature
	// before it, or with other headers. It is called for each attempt and host, and may read body, which it
	// is given at its beginning, as it likes. An error is queue.Temporary.
	Prepare func(ctx context.Context, a *queue.Attempt, body io.ReadSeeker) (io.Reader, error)

	// MaxReceived is how many Received fields a message may have before it counts as looping. 0 means 100
	// (RFC 5321, 6.3).
	MaxReceived int

	// IdleTimeout is how long a connection is kept for the next message to the same host. 0 means 5 seconds;
	// negative closes it after each message. MessagesPerConnection bounds its use; 0 means 100.
	IdleTimeout           time.Duration
	MessagesPerConnection int

	pool  pool
	names sync.Once
	ours  map[netip.Addr]bool
}

var _ queue.Transport = (*Transport)(nil)

// A Smarthost is a host that takes mail for other domains, or a local delivery agent.
type Smarthost struct {
	// Addr is "host:port" or "unix:/path". A host that is a name is looked up with Transport.Resolver, or by
	// the system where that is nil.
	Addr string

	// LMTP speaks LMTP, for a delivery agent: what it takes is delivered.
	LMTP bool

	// ImplicitTLS begins with TLS (port 465).
	ImplicitTLS bool

	// Level and TLS are as in Security. The zero Level is Opportunistic; with Auth it is Verified.
	Level Level
	TLS   *tls.Config

	// Auth makes a new SASL exchange for each connection; nil means none. InsecureAuth allows it without TLS.
	Auth         func() sasl.Client
	InsecureAuth bool
}

// Level says how much TLS there must be.
type Level uint8

const (
	// Opportunistic uses TLS when the host offers it, without looking at its certificate, and goes on in
	// plain text when the handshake fails.
	Opportunistic Level = iota
	// Encrypted requires TLS with any certificate.
	Encrypted
	// Verified requires TLS with a certificate that is valid for the host.
	Verified
	// Plain uses no TLS.
	Plain
	// Refused is not to be used at all: the domain's policy rules this host out.
	Refused
)

// Security is what TLS must be like with one host.
type Security struct {
	Level Level

	// Config is the configuration to use; nil means the system's roots. Its ServerName is filled in when empty.
	// With Encrypted its own verification (VerifyConnection) still runs, which is how DANE comes in.
	Config *tls.Config

	// Key says that connections made with equal Keys (and Levels) are alike, where each call of Security makes a new
	// Config. While it is empty those of one and the same Config are.
	Key string

	// Observe, with Opportunistic, has the certificate looked at for TLSResult alone: MTA-STS in testing mode (RFC 8461, 5).
	Observe bool

	// Policy is what the domain asked for, and Failure what is wrong with the policy itself, "" if nothing; for TLSResult. The
	// zero Policy is tlsrpt.NoPolicy.
	Policy  tlsrpt.Policy
	Failure tlsrpt.ResultType
}

func (t *Transport) hostname() string {
	if t.Hostname != "" {
		return t.Hostname
	}
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	return name
}

func (t *Transport) port() int {
	if t.Port == 0 {
		return 25
	}
	return t.Port
}

// Close closes idle connections. Later ones are not kept.
func (t *Transport) Close() error {
	t.pool.close()
	return nil
}

// Deliver implements queue.Transport.
func (t *Transport) Deliver(ctx context.Context, a *queue.Attempt) []queue.Outcome {
	outcomes := make([]queue.Outcome, len(a.Recipients))
	body, err := a.Open()
	if err != nil {
		return a.All(*failed(queue.Temporary, "4.3.0", "queued message can not be read"))
	}
	defer body.Close()
	d := &delivery{t: t, a: a, body: body, src: t.source(a)}
	if o, ok := d.examine(); !ok {
		return a.All(o)
	}
	if t.Smarthost != nil {
		if host := t.Smarthost(a.Route); host != nil {
			for _, g := range t.groups(a, false) {
				d.group, d.from = g.members, g.from
				d.deliver(ctx, outcomes, func() ([]target, *queue.Outcome) { return t.smarthost(ctx, host) })
			}
			return outcomes
		}
	}
	for _, g := range t.groups(a, true) {
		d.group, d.from = g.members, g.from
		d.deliver(ctx, outcomes, func() ([]target, *queue.Outcome) {
			return t.targets(ctx, g.domain, a.Envelope.RequireTLS, d.lax)
		})
	}
	return outcomes
}

// A group is what goes in one transaction.
type group struct {
	domain, from string
	members      []int // indexes of recipients
}

// groups divides an attempt's recipients, by domain where that matters; usually there is one group.
func (t *Transport) groups(a *queue.Attempt, byDomain bool) []group {
	var groups []group
next:
	for i := range a.Recipients {
		r := &a.Recipients[i]
		g := group{from: a.Envelope.ReversePath, members: []int{i}}
		if t.ReversePath != nil && g.from != "" {
			g.from = t.ReversePath(a, r)
		}
		if byDomain {
			_, domain := smtp.SplitAddress(r.Address)
			g.domain = strings.ToLower(domain)
		}
		for j := range groups {
			if groups[j].domain == g.domain && groups[j].from == g.from {
				groups[j].members = append(groups[j].members, i)
				continue next
			}
		}
		groups = append(groups, g)
	}
	return groups
}

func failed(result queue.Result, enhanced, format string, args ...any) *queue.Outcome {
	return &queue.Outcome{Result: result, Enhanced: enhanced, Text: fmt.Sprintf(format, args...)}
}
