package relay

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
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
	d := &delivery{t: t, a: a, body: body}
	if o, ok := d.examine(); !ok {
		return a.All(o)
	}
	if t.Smarthost != nil {
		if host := t.Smarthost(a.Route); host != nil {
			d.group = all(a)
			d.deliver(ctx, outcomes, func() ([]target, *queue.Outcome) { return t.smarthost(ctx, host) })
			return outcomes
		}
	}
	for _, g := range byDomain(a) {
		d.group = g.members
		d.deliver(ctx, outcomes, func() ([]target, *queue.Outcome) {
			return t.targets(ctx, g.domain, a.Envelope.RequireTLS)
		})
	}
	return outcomes
}

type group struct {
	domain  string
	members []int // indexes of recipients
}

func all(a *queue.Attempt) []int {
	members := make([]int, len(a.Recipients))
	for i := range members {
		members[i] = i
	}
	return members
}

// byDomain divides an attempt's recipients; usually they are all of one domain.
func byDomain(a *queue.Attempt) []group {
	var groups []group
next:
	for i := range a.Recipients {
		_, domain := smtp.SplitAddress(a.Recipients[i].Address)
		domain = strings.ToLower(domain)
		for j := range groups {
			if groups[j].domain == domain {
				groups[j].members = append(groups[j].members, i)
				continue next
			}
		}
		groups = append(groups, group{domain, []int{i}})
	}
	return groups
}

func failed(result queue.Result, enhanced, format string, args ...any) *queue.Outcome {
	return &queue.Outcome{Result: result, Enhanced: enhanced, Text: fmt.Sprintf(format, args...)}
}
