// Package resolvertest serves a [resolver.Resolver], usually static zones, as a
// DNS server on loopback, for programs under test that take the address of one.
package resolvertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// Server answers over UDP and TCP at one address until Close.
type Server struct {
	// Addr is where it listens, as "127.0.0.1:port".
	Addr string

	answers resolver.Resolver
	ctx     context.Context // ends with Close: pending answers end with it
	cancel  context.CancelFunc
	udp     *dns.Server
	tcp     *dns.Server
	done    sync.WaitGroup
}

// Listen begins to serve the answers of r at addr; "" means a free port of
// 127.0.0.1. Errors of r become SERVFAIL, time-outs get no answer at all, and
// answers longer than the client's UDP size are truncated. Secure sets the AD
// flag.
func Listen(r resolver.Resolver, addr string) (*Server, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	s := &Server{answers: r}
	pc, ln, err := listenBoth(addr)
	if err != nil {
		return nil, fmt.Errorf("resolvertest: %w", err)
	}
	s.Addr = pc.LocalAddr().String()
	s.ctx, s.cancel = context.WithCancel(context.Background())

	var started sync.WaitGroup
	started.Add(2)
	s.udp = &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(s.serve), NotifyStartedFunc: started.Done}
	s.tcp = &dns.Server{Listener: ln, Handler: dns.HandlerFunc(s.serve), NotifyStartedFunc: started.Done}
	s.done.Go(func() { s.udp.ActivateAndServe() })
	s.done.Go(func() { s.tcp.ActivateAndServe() })
	started.Wait()
	return s, nil
}

// listenBoth finds a port that is free for UDP and TCP alike.
func listenBoth(addr string) (net.PacketConn, net.Listener, error) {
	var lastErr error
	for range 20 {
		pc, err := net.ListenPacket("udp", addr)
		if err != nil {
			return nil, nil, err
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, ln, nil
		}
		pc.Close()
		lastErr = err
	}
	return nil, nil, lastErr
}

// Close stops serving and returns when all goroutines have ended.
func (s *Server) Close() error {
	s.cancel()
	err := errors.Join(s.udp.Shutdown(), s.tcp.Shutdown())
	s.done.Wait()
	return err
}

func (s *Server) serve(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	opt := q.IsEdns0()
	if opt != nil {
		m.SetEdns0(4096, opt.Do())
	}
	if len(q.Question) != 1 || q.Opcode != dns.OpcodeQuery {
		m.Rcode = dns.RcodeNotImplemented
		w.WriteMsg(m)
		return
	}
	name := q.Question[0].Name
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	a, err := s.answers.Resolve(ctx, name, q.Question[0].Qtype)
	cancel()
	switch {
	case errors.Is(err, resolver.ErrTimeout), errors.Is(err, context.Canceled):
		return
	case err != nil:
		m.Rcode = dns.RcodeServerFailure
		if errors.Is(err, resolver.ErrBogus) && opt != nil {
			o := m.IsEdns0()
			o.Option = append(o.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeDNSBogus})
		}
	default:
		m.Answer, m.AuthenticatedData = a.RRs, a.Secure
		if a.NXDomain {
			m.Rcode = dns.RcodeNameError
		}
		if a.NXDomain || !a.Has(q.Question[0].Qtype) {
			m.Ns = append(m.Ns, soa(a.TTL))
		}
	}
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size := uint16(dns.MinMsgSize)
		if opt != nil {
			size = max(opt.UDPSize(), dns.MinMsgSize)
		}
		m.Truncate(int(size))
	}
	w.WriteMsg(m)
}

// soa carries the TTL of a negative answer (RFC 2308, 3).
func soa(ttl time.Duration) dns.RR {
	t := uint32(ttl / time.Second)
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: t},
		Ns:  "ns.test.", Mbox: "hostmaster.test.", Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: t,
	}
}
