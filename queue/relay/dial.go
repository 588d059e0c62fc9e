package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/smtp"
)

// A Source is where connections come from, and what they call themselves.
type Source struct {
	IPv4, IPv6 netip.Addr // by the family of the destination; the zero Addr leaves it to the system
	Hello      string     // the name for EHLO; "" means Transport.Hostname
}

// of gives the address to dial addr from; the zero Addr when any will do.
func (s Source) of(addr string) netip.Addr {
	to, err := netip.ParseAddrPort(addr)
	switch {
	case err != nil:
		return netip.Addr{}
	case to.Addr().Unmap().Is4():
		return s.IPv4
	}
	return s.IPv6
}

func (t *Transport) source(a *queue.Attempt) Source {
	if t.Source == nil {
		return Source{}
	}
	return t.Source(a)
}

// dial makes one connection.
func (t *Transport) dial(ctx context.Context, g target, src Source) (net.Conn, error) {
	wait := t.Client.ConnectTimeout
	if wait == 0 {
		wait = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	network, addr := "tcp", g.addr
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	from := src.of(g.addr)
	var conn net.Conn
	var err error
	switch {
	case t.Dial != nil:
		conn, err = t.Dial(ctx, network, addr, from)
	case t.Client.Dial != nil:
		conn, err = t.Client.Dial(ctx, network, addr)
	default:
		var d net.Dialer
		if from.IsValid() {
			d.LocalAddr = &net.TCPAddr{IP: from.AsSlice(), Zone: from.Zone()}
		}
		conn, err = d.DialContext(ctx, network, addr)
	}
	if err != nil {
		return nil, &smtp.ConnError{Phase: smtp.PhaseConnect, Host: g.host, Err: err}
	}
	return conn, nil
}

type dialled struct {
	n    int
	conn net.Conn
	err  error
}

// race connects to the first of a host's addresses that answers (RFC 8305, 5): an attempt that failed, or has not
// succeeded within ConnectDelay, is joined by one to the next address. won is -1 when all failed; errs says why, by address.
func (t *Transport) race(ctx context.Context, batch []target, src Source) (conn net.Conn, won int, errs []error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	delay := t.ConnectDelay
	if delay == 0 {
		delay = 250 * time.Millisecond
	}
	errs = make([]error, len(batch))
	results := make(chan dialled, len(batch))
	started, pending := 0, 0
	timer := time.NewTimer(delay)
	defer timer.Stop()
	start := func() {
		if started == len(batch) {
			return
		}
		n := started
		started++
		pending++
		timer.Reset(delay)
		go func() {
			conn, err := t.dial(ctx, batch[n], src)
			results <- dialled{n, conn, err}
		}()
	}
	start()
	for pending > 0 {
		select {
		case <-timer.C:
			start()
		case r := <-results:
			pending--
			if r.err == nil {
				go closeLate(results, pending)
				return r.conn, r.n, errs
			}
			errs[r.n] = r.err
			start()
		}
	}
	return nil, -1, errs
}

// closeLate ends the connections that came up when another had won; their contexts have ended.
func closeLate(results <-chan dialled, pending int) {
	for range pending {
		if r := <-results; r.err == nil {
			r.conn.Close()
		}
	}
}

// connection is how the first target of a run of one host's addresses is spoken to.
type connection struct {
	s    *session
	g    target
	left []target // of the run, those that were not tried
}

// connect takes an idle connection to one of a host's addresses, unless fresh is asked for, or makes a new one. When it
// fails, the connection says with which target, and which are left.
func (t *Transport) connect(ctx context.Context, batch []target, src Source, fresh bool) (connection, error) {
	if !fresh {
		for i, g := range batch {
			if s := t.pool.get(t.key(g, src)); s != nil {
				return connection{s, g, without(batch, i)}, nil
			}
		}
	}
	conn, won, errs := t.race(ctx, batch, src)
	var left []target
	last := won
	for i, g := range batch {
		switch {
		case errs[i] == nil && i != won:
			left = append(left, g)
		case won < 0:
			last = i
		}
		if errs[i] != nil {
			t.noteTLS(g, nil, nil, errs[i])
		}
	}
	g := batch[last]
	if won < 0 {
		return connection{g: g, left: left}, errs[last]
	}
	s, err := t.open(ctx, g, src, conn)
	return connection{s, g, left}, err
}

func without(batch []target, i int) []target {
	return append(append([]target(nil), batch[:i]...), batch[i+1:]...)
}

// sameHost is how many of the targets, from the first on, are addresses of one host.
func sameHost(targets []target) int {
	n := 1
	for n < len(targets) && targets[n].host == targets[0].host && targets[n].smart == targets[0].smart {
		n++
	}
	return n
}

// once gives a connection that is up already to the first who asks, and dials for others.
func (t *Transport) once(conn net.Conn, g target, src Source) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		if c := conn; c != nil {
			conn = nil
			return c, nil
		}
		c, err := t.dial(ctx, g, src)
		var failed *smtp.ConnError
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return c, err
	}
}
