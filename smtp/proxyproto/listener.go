package proxyproto

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Options configure a Listener. Trusted is required; the zero value of all else works.
type Options struct {
	// Trusted are the addresses of proxies. Their connections must begin with a header, and
	// are closed if they don't. Connections of all others are handed on as they are: a header
	// from them is not read, and the server takes it for the nonsense it is (smtp.Server closes
	// the connection at once).
	Trusted []netip.Prefix

	// RefuseOthers closes connections that do not come from Trusted.
	RefuseOthers bool

	// Timeout is how long a proxy may take to send the header. Zero means 5 seconds.
	Timeout time.Duration

	// MaxPending bounds the connections whose header is awaited; while there are so many, no
	// further one is accepted. Zero means 1,000.
	MaxPending int

	// Logger gets refusals at Info. Nil means slog.Default().
	Logger *slog.Logger
}

// Listen wraps l. What the Listener accepts has its header behind it: RemoteAddr and LocalAddr are the
// ends of the client's connection, which a server that counts connections by
// address can rely on. Headers are awaited beside each other, so one that is slow
// delays nobody else.
func Listen(l net.Listener, opt Options) net.Listener {
	if opt.Timeout <= 0 {
		opt.Timeout = 5 * time.Second
	}
	if opt.MaxPending <= 0 {
		opt.MaxPending = 1000
	}
	p := &listener{Listener: l, opt: opt, ready: make(chan net.Conn), failed: make(chan error),
		closed: make(chan struct{}), slots: make(chan struct{}, opt.MaxPending), pending: make(map[net.Conn]struct{})}
	p.running.Go(p.accept)
	return p
}

type listener struct {
	net.Listener
	opt     Options
	ready   chan net.Conn
	failed  chan error
	closed  chan struct{}
	slots   chan struct{}
	once    sync.Once
	running sync.WaitGroup

	mu      sync.Mutex
	pending map[net.Conn]struct{} // nil once closed
}

// Accept returns the next connection that is past its header.
func (p *listener) Accept() (net.Conn, error) {
	select {
	case <-p.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-p.ready:
		return c, nil
	case err := <-p.failed:
		return nil, err
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close closes the listener and the connections that were not accepted yet.
func (p *listener) Close() (err error) {
	p.once.Do(func() {
		close(p.closed)
		err = p.Listener.Close()
		p.mu.Lock()
		for c := range p.pending {
			c.Close()
		}
		p.pending = nil
		p.mu.Unlock()
		p.running.Wait()
	})
	return err
}

// accept is the goroutine behind Accept.
func (p *listener) accept() {
	for {
		select {
		case p.slots <- struct{}{}:
		case <-p.closed:
			return
		}
		c, err := p.Listener.Accept()
		if err != nil {
			<-p.slots
			select {
			case p.failed <- err: // the server waits before it asks again
			case <-p.closed:
				return
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		p.mu.Lock()
		if p.pending == nil {
			p.mu.Unlock()
			c.Close()
			return
		}
		p.pending[c] = struct{}{}
		p.mu.Unlock()
		p.running.Go(func() {
			defer func() { <-p.slots }()
			p.prepare(c)
		})
	}
}

// prepare reads the header of a connection and hands it on, or closes it.
func (p *listener) prepare(c net.Conn) {
	out, err := p.header(c)
	p.mu.Lock()
	delete(p.pending, c)
	p.mu.Unlock()
	if err != nil {
		c.Close()
		log := p.opt.Logger
		if log == nil {
			log = slog.Default()
		}
		log.Info("connection refused", slog.String("remote", c.RemoteAddr().String()), slog.Any("err", err))
		return
	}
	select {
	case p.ready <- out:
	case <-p.closed:
		c.Close()
	}
}

var errStranger = errors.New("proxyproto: not from a trusted proxy")

func (p *listener) header(c net.Conn) (net.Conn, error) {
	if !p.trusted(c.RemoteAddr()) {
		if p.opt.RefuseOthers {
			return nil, errStranger
		}
		return c, nil
	}
	if err := c.SetReadDeadline(time.Now().Add(p.opt.Timeout)); err != nil {
		return nil, err
	}
	a, err := readHeader(c)
	if err != nil {
		return nil, fmt.Errorf("proxyproto: reading the header: %w", err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if a.source == nil {
		return c, nil
	}
	return &Conn{Conn: c, addr: a}, nil
}

func (p *listener) trusted(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return false
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, prefix := range p.opt.Trusted {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// Conn is a connection whose ends are those that a proxy told.
type Conn struct {
	net.Conn // the proxy's
	addr     addresses
}

// RemoteAddr returns the client's address.
func (c *Conn) RemoteAddr() net.Addr { return c.addr.source }

// LocalAddr returns the address that the client connected to.
func (c *Conn) LocalAddr() net.Addr { return c.addr.destination }

// Carrier returns the connection to the proxy. Its octets are those of c.
func (c *Conn) Carrier() net.Conn { return c.Conn }

// CloseWrite shuts down the writing side, where the connection can.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
