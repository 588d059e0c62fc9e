// Package netserve is what every connection-oriented server needs below its protocol: the
// accept loop, limits on connections in all and per address, and a shutdown that ends idle
// sessions at once and lets busy ones finish.
package netserve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ErrServerClosed is returned by Serve after Shutdown or Close.
var ErrServerClosed = errors.New("server closed")

// Why a connection was refused, given to Server.Refuse.
var (
	ErrTooManyConns        = errors.New("too many connections")
	ErrTooManyConnsAddress = errors.New("too many connections from this address")
)

// A Server accepts connections. The zero value has no limits. Its fields must not change
// once it serves.
type Server struct {
	MaxConns        int // 0: no limit
	MaxConnsPerAddr int // 0: no limit; IPv6 addresses count by their /64
	// Refuse, when set, tells the peer of a connection over a limit why, before it is
	// closed. It runs on the accept loop with a write deadline of a second: one small write.
	Refuse func(c net.Conn, why error)
	Logger *slog.Logger // nil: slog.Default()

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	conns     map[*Conn]struct{}
	perAddr   map[netip.Addr]int
	draining  bool
	empty     chan struct{} // closed when draining and the last connection has gone
}

// Serve accepts connections from ln and runs handle for each on a goroutine of its own,
// until Shutdown or Close, when it returns ErrServerClosed, or until ln fails. The context
// ends when handle returns, and when connections are cut. The connection is closed after
// handle. Serve closes ln. It may run for several listeners at once.
func (s *Server) Serve(ln net.Listener, handle func(ctx context.Context, c *Conn)) error {
	defer ln.Close()
	if !s.addListener(ln) {
		return ErrServerClosed
	}
	defer s.removeListener(ln)
	var delay time.Duration
	for {
		nc, err := ln.Accept()
		if err != nil {
			if s.isDraining() {
				return ErrServerClosed
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Out of descriptors, or the peer was gone already: both pass.
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.logger().Warn("accept failed", slog.Any("err", err), slog.Duration("retry_in", delay))
			time.Sleep(delay)
			continue
		}
		delay = 0
		ctx, cancel := context.WithCancel(context.Background())
		c := &Conn{Conn: nc, server: s, cancel: cancel, addr: addrKey(nc.RemoteAddr())}
		if err := s.add(c); err != nil {
			cancel()
			if s.Refuse != nil && !errors.Is(err, ErrServerClosed) {
				_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
				s.Refuse(nc, err)
			}
			s.logger().Warn("connection refused", slog.String("remote", nc.RemoteAddr().String()), slog.Any("err", err))
			nc.Close()
			continue
		}
		go func() {
			defer s.remove(c)
			defer cancel()
			defer nc.Close()
			handle(ctx, c)
		}()
	}
}

// Shutdown closes the listeners, ends idle connections, and waits until all have gone. When
// ctx ends first, those left are cut and ctx's error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	empty := s.drain()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		s.cut()
		<-empty
		return ctx.Err()
	}
}

// Close closes the listeners, cuts all connections, and waits until their handlers returned.
func (s *Server) Close() error {
	empty := s.drain()
	s.cut()
	<-empty
	return nil
}

// Len returns the number of connections now open.
func (s *Server) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *Server) drain() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining {
		s.draining = true
		s.empty = make(chan struct{})
		if len(s.conns) == 0 {
			close(s.empty)
		}
		for ln := range s.listeners {
			ln.Close()
		}
		for c := range s.conns {
			c.interrupt()
		}
	}
	return s.empty
}

func (s *Server) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.cancel()
		c.Conn.Close()
	}
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

func (s *Server) addListener(ln net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	if s.listeners == nil {
		s.listeners = make(map[net.Listener]struct{})
	}
	s.listeners[ln] = struct{}{}
	return true
}

func (s *Server) removeListener(ln net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, ln)
}

func (s *Server) add(c *Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining:
		return ErrServerClosed
	case s.MaxConns > 0 && len(s.conns) >= s.MaxConns:
		return ErrTooManyConns
	case s.MaxConnsPerAddr > 0 && c.addr.IsValid() && s.perAddr[c.addr] >= s.MaxConnsPerAddr:
		return ErrTooManyConnsAddress
	}
	if s.conns == nil {
		s.conns, s.perAddr = make(map[*Conn]struct{}), make(map[netip.Addr]int)
	}
	s.conns[c] = struct{}{}
	if c.addr.IsValid() {
		s.perAddr[c.addr]++
	}
	return nil
}

func (s *Server) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if c.addr.IsValid() {
		if s.perAddr[c.addr]--; s.perAddr[c.addr] == 0 {
			delete(s.perAddr, c.addr)
		}
	}
	if s.draining && len(s.conns) == 0 {
		close(s.empty)
	}
}

func (s *Server) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}

// RemoteAddr returns the peer's address and port, the zero value for a unix socket.
func RemoteAddr(c net.Conn) netip.AddrPort {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// addrKey is what connections are counted by: the address, for IPv6 its network.
func addrKey(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}

// A Conn is a connection whose waits Shutdown can end. Its session brackets each wait for
// the next command between Idle and Busy; all other reads and writes are left to finish.
type Conn struct {
	net.Conn
	server *Server
	cancel context.CancelFunc
	addr   netip.Addr

	mu       sync.Mutex
	idle     bool
	draining bool
}

// Idle says that the session now waits for its peer, at the longest until deadline (zero:
// for ever), and sets the read deadline. It returns false when the server is shutting down:
// the session says goodbye and returns. A wait that Shutdown cuts short fails with
// os.ErrDeadlineExceeded, and Draining tells the cause.
func (c *Conn) Idle(deadline time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return false
	}
	c.idle = true
	return c.Conn.SetReadDeadline(deadline) == nil
}

// Busy says that the session has something to do and wants to finish it. No read deadline
// of Shutdown's making stays on the connection.
func (c *Conn) Busy() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle && c.draining {
		_ = c.Conn.SetReadDeadline(time.Time{})
	}
	c.idle = false
}

// Draining reports whether the server is shutting down.
func (c *Conn) Draining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

func (c *Conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.idle {
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}
