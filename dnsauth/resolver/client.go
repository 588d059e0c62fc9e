package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Client asks recursive name servers. Its zero value asks those of
// /etc/resolv.conf. It is safe for concurrent use; set its fields before.
//
// Each query goes out by UDP from a fresh port with EDNS(0), and again by TCP
// when the answer was truncated. A server that fails, refuses or stays silent
// gives way to the next; after the last one the round begins again, Attempts
// times in all.
type Client struct {
	// Servers are the name servers in order of preference, each as
	// "host:port" or a bare address, for which the port is 53. None means
	// those of /etc/resolv.conf, read once, or 127.0.0.1:53 without it.
	Servers []string

	// Timeout bounds one try with one server. Zero means 3 s.
	Timeout time.Duration

	// Attempts is how many times the list of servers is gone through. Zero means 2.
	Attempts int

	// TrustAD says that the way to the servers is safe, so that their AD flag
	// means Answer.Secure. Servers at a loopback address are trusted anyway.
	TrustAD bool

	// Dial opens the connection to a server. Nil means net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	once    sync.Once
	servers []string
}

// udpSize is the EDNS buffer size that the DNS Flag Day of 2020 settled on: it
// passes common path MTUs without fragments.
const udpSize = 1232

// Resolve asks the servers. See [Resolver].
func (c *Client) Resolve(ctx context.Context, name string, qtype uint16) (Answer, error) {
	fqdn := dns.CanonicalName(name)
	if _, ok := dns.IsDomainName(fqdn); !ok {
		return Answer{}, &Error{Name: name, Type: qtype, Err: ErrName}
	}
	c.once.Do(c.init)

	answer := Answer{Secure: true, TTL: maxTTL}
	at := fqdn
	for range maxChain {
		msg, server, err := c.ask(ctx, at, qtype)
		if err != nil {
			var e *Error
			if errors.As(err, &e) {
				e.Name = name
			}
			return Answer{}, err
		}
		rrs, final, ok := chain(msg.Answer, at, qtype)
		if !ok {
			return Answer{}, &Error{Name: name, Type: qtype, Server: server, Err: fmt.Errorf("CNAME chain without end: %w", ErrServFail)}
		}
		answer.RRs = append(answer.RRs, rrs...)
		answer.NXDomain = msg.Rcode == dns.RcodeNameError
		answer.Secure = answer.Secure && msg.AuthenticatedData && (c.TrustAD || isLoopback(server))
		answer.TTL = min(answer.TTL, ttlOf(msg, rrs))

		// A recursive server follows the chain itself. An authoritative one
		// may leave that to us: it then sends no proof that the end is empty.
		unfinished := final != at && !answer.NXDomain && !answer.Has(qtype) && !hasSOA(msg)
		if !unfinished {
			return answer, nil
		}
		at = final
	}
	return Answer{}, &Error{Name: name, Type: qtype, Err: fmt.Errorf("CNAME chain without end: %w", ErrServFail)}
}

func (c *Client) init() {
	c.servers = c.Servers
	if len(c.servers) == 0 {
		if conf, err := dns.ClientConfigFromFile("/etc/resolv.conf"); err == nil {
			c.servers = conf.Servers
		}
	}
	if len(c.servers) == 0 {
		c.servers = []string{"127.0.0.1:53"}
	}
	with := make([]string, len(c.servers))
	for i, s := range c.servers {
		with[i] = s
		if _, _, err := net.SplitHostPort(s); err != nil {
			with[i] = net.JoinHostPort(strings.Trim(s, "[]"), "53")
		}
	}
	c.servers = with
}

// ask goes through the servers until one gives a usable response.
func (c *Client) ask(ctx context.Context, fqdn string, qtype uint16) (*dns.Msg, string, error) {
	attempts := c.Attempts
	if attempts <= 0 {
		attempts = 2
	}
	fail := &Error{Name: fqdn, Type: qtype, Err: ErrServFail}
	for range attempts {
		for _, server := range c.servers {
			msg, err := c.exchange(ctx, server, fqdn, qtype)
			if ctx.Err() != nil {
				return nil, server, contextError(ctx, fqdn, qtype)
			}
			fail.Server = server
			if err != nil {
				fail.RCode, fail.Err = 0, classify(err)
				continue
			}
			if msg.Rcode == dns.RcodeSuccess || msg.Rcode == dns.RcodeNameError {
				return msg, server, nil
			}
			fail.RCode, fail.Err = msg.Rcode, rcodeError(msg)
		}
	}
	return nil, fail.Server, fail
}

// exchange asks one server: UDP, without EDNS if it does not know that, and
// TCP if the answer did not fit.
func (c *Client) exchange(ctx context.Context, server, fqdn string, qtype uint16) (*dns.Msg, error) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 3 * time.Second
	}
	q := new(dns.Msg)
	q.SetQuestion(fqdn, qtype)
	q.AuthenticatedData = true
	q.SetEdns0(udpSize, true)

	msg, err := c.roundTrip(ctx, "udp", server, q, timeout)
	if err == nil && (msg.Rcode == dns.RcodeFormatError || msg.Rcode == dns.RcodeNotImplemented || msg.Rcode == dns.RcodeBadVers) {
		q.Extra, q.Id = nil, dns.Id()
		msg, err = c.roundTrip(ctx, "udp", server, q, timeout)
	}
	if err == nil && msg.Truncated {
		q.Id = dns.Id()
		msg, err = c.roundTrip(ctx, "tcp", server, q, timeout)
		if err == nil && msg.Truncated {
			err = errors.New("answer truncated over TCP")
		}
	}
	return msg, err
}

func (c *Client) roundTrip(ctx context.Context, network, server string, q *dns.Msg, timeout time.Duration) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	dial := c.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	nc, err := dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	// The end of ctx, for whatever cause, ends the wait below.
	defer context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })()

	conn := &dns.Conn{Conn: nc, UDPSize: udpSize}
	if err := conn.WriteMsg(q); err != nil {
		return nil, err
	}
	// What does not match our question is from somebody who guesses: keep
	// waiting for the real answer, but not for ever (RFC 5452, 9.1).
	for range 64 {
		msg, err := conn.ReadMsg()
		if err == nil && answers(msg, q) {
			return msg, nil
		}
		var ne net.Error
		if err != nil && (network == "tcp" || errors.As(err, &ne)) {
			return nil, err
		}
	}
	return nil, errors.New("too many answers to questions we did not ask")
}

func answers(msg, q *dns.Msg) bool {
	if msg.Id != q.Id || !msg.Response || len(msg.Question) > 1 {
		return false
	}
	if len(msg.Question) == 0 { // some servers leave it out when they refuse
		return msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError
	}
	return msg.Question[0].Qtype == q.Question[0].Qtype &&
		msg.Question[0].Qclass == dns.ClassINET &&
		dns.CanonicalName(msg.Question[0].Name) == q.Question[0].Name
}

// classify gives a transport error its class.
func classify(err error) error {
	var ne net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout() {
		return ErrTimeout
	}
	return fmt.Errorf("%w: %w", ErrServFail, err)
}

func rcodeError(msg *dns.Msg) error {
	if msg.Rcode != dns.RcodeServerFailure {
		return fmt.Errorf("%w: %s", ErrServFail, dns.RcodeToString[msg.Rcode])
	}
	if opt := msg.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok && isDNSSEC(e.InfoCode) {
				return fmt.Errorf("%w: %w", ErrServFail, ErrBogus)
			}
		}
	}
	return ErrServFail
}

// isDNSSEC reports whether an extended error code is one of those that a
// validator sends when signatures don't hold (RFC 8914, 4.2 and 4.6 to 4.13).
func isDNSSEC(code uint16) bool {
	return code == dns.ExtendedErrorCodeDNSBogus ||
		code >= dns.ExtendedErrorCodeSignatureExpired && code <= dns.ExtendedErrorCodeNSECMissing
}

func isLoopback(server string) bool {
	host, _, err := net.SplitHostPort(server)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// maxTTL is what is kept of TTLs longer than a day.
const maxTTL = 24 * time.Hour

// ttlOf is the lowest TTL of the chain, or for a negative answer the lower of
// the SOA record's TTL and its minimum field (RFC 2308, 5).
func ttlOf(msg *dns.Msg, rrs []dns.RR) time.Duration {
	ttl := maxTTL
	for _, rr := range rrs {
		ttl = min(ttl, seconds(rr.Header().Ttl))
	}
	if len(rrs) > 0 && rrs[len(rrs)-1].Header().Rrtype != dns.TypeCNAME && msg.Rcode == dns.RcodeSuccess {
		return ttl
	}
	for _, rr := range msg.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(ttl, seconds(soa.Hdr.Ttl), seconds(soa.Minttl))
		}
	}
	return 0 // a negative answer without SOA must not be cached
}

func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 { // RFC 2181, 8
		return 0
	}
	return time.Duration(ttl) * time.Second
}

func hasSOA(msg *dns.Msg) bool {
	for _, rr := range msg.Ns {
		if rr.Header().Rrtype == dns.TypeSOA {
			return true
		}
	}
	return false
}
