package pop3

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/internal/authfail"
	"github.com/mailblocks/mailblocks/internal/netserve"
)

// ErrServerClosed is returned by Serve and ServeTLS after Shutdown or Close.
var ErrServerClosed = netserve.ErrServerClosed

// Server serves POP3 (RFC 1939). Authenticator and Open are required; the zero value of the
// rest works. Its fields must not change once it serves.
type Server struct {
	// Authenticator checks credentials. USER and PASS are checked by its mechanism PLAIN.
	Authenticator Authenticator
	// Open opens the maildrop of the identity that logged in, for this session alone:
	// ErrInUse when another one has it.
	Open func(ctx context.Context, identity string) (Maildrop, error)

	// Secret offers APOP (RFC 1939, 7), which needs passwords in the clear on our side and MD5
	// on both; better not. It returns a user's password and identity, or ErrNoUser. Nil: no APOP.
	Secret func(ctx context.Context, user string) (secret, identity string, err error)

	// TLSConfig is used by STLS and ServeTLS. Nil: neither is offered.
	TLSConfig *tls.Config
	// AllowInsecureAuth lets clients log in without TLS: their passwords can be read on
	// the way.
	AllowInsecureAuth bool

	// LoginDelay is the least time between two logins of an identity; a login that comes
	// sooner is [LOGIN-DELAY]. Zero: none.
	LoginDelay time.Duration
	// Expire is announced to clients: how long the server keeps mail it has sent. Zero: for
	// ever; less than a day: mail may be gone after the session that fetched it. The
	// server does not delete anything by itself.
	Expire *time.Duration

	IdleTimeout     time.Duration // waiting for a command. Zero: 10 min, the least RFC 1939, 3 allows
	WriteTimeout    time.Duration // for a peer that does not read. Zero: 1 min
	MaxConns        int           // zero: 1,000; negative: no limit
	MaxConnsPerAddr int           // zero: 50; negative: no limit
	MaxErrors       int           // commands not understood before we hang up. Zero: 10
	MaxAuthFailures int           // wrong credentials before we hang up. Zero: 3
	// MaxAuthFailuresPerAddress is how many wrong credentials an address may send within ten
	// minutes before it is refused any more. Zero: 30; negative: no limit.
	MaxAuthFailuresPerAddress int
	// FailureDelay is how long a wrong credential's answer is held back. Zero: 1 s;
	// negative: not at all.
	FailureDelay time.Duration

	Logger *slog.Logger // nil: slog.Default()
	Trace  *Trace       // nil: none

	once     sync.Once
	net      netserve.Server
	failures authfail.Counter

	loginsMu sync.Mutex
	logins   map[string]time.Time // last login, by identity; only with LoginDelay
}

// Trace is told what a Server does. Functions may be nil; they must be quick and safe for
// concurrent use.
type Trace struct {
	// CommandDone is called after a command was answered.
	CommandDone func(ctx context.Context, verb string, ok bool, took time.Duration)
}

func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// Serve serves connections from ln, which it closes, until Shutdown or Close; then it
// returns ErrServerClosed. It may run for several listeners at once.
func (s *Server) Serve(ln net.Listener) error { return s.serve(ln, false) }

// ServeTLS is Serve with TLS from the first octet on (RFC 8314, 3.2: port 995).
func (s *Server) ServeTLS(ln net.Listener) error { return s.serve(ln, true) }

func (s *Server) serve(ln net.Listener, implicitTLS bool) error {
	if s.Authenticator == nil || s.Open == nil || implicitTLS && s.TLSConfig == nil {
		panic("pop3: Server without Authenticator, Open or TLSConfig")
	}
	s.once.Do(func() {
		s.net.MaxConns = max(0, orDefault(s.MaxConns, 1000))
		s.net.MaxConnsPerAddr = max(0, orDefault(s.MaxConnsPerAddr, 50))
		s.net.Logger = s.logger()
		// A client that awaits TLS cannot read this, and is no worse off than without it.
		s.net.Refuse = func(c net.Conn, _ error) { _, _ = io.WriteString(c, "-ERR [SYS/TEMP] too many connections\r\n") }
	})
	return s.net.Serve(ln, func(ctx context.Context, c *netserve.Conn) {
		newSession(s, c, implicitTLS).run(ctx)
	})
}

// Shutdown stops accepting, ends sessions that wait for a command, and waits for the others
// to finish theirs. When ctx ends first they are cut. Messages marked for deletion in a
// session that did not say QUIT stay.
func (s *Server) Shutdown(ctx context.Context) error { return s.net.Shutdown(ctx) }

// Close cuts all connections.
func (s *Server) Close() error { return s.net.Close() }

func (s *Server) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}

// mayLogIn notes a login of identity, or refuses it for coming too soon after the last.
func (s *Server) mayLogIn(identity string, now time.Time) bool {
	if s.LoginDelay <= 0 {
		return true
	}
	s.loginsMu.Lock()
	defer s.loginsMu.Unlock()
	if last, ok := s.logins[identity]; ok && now.Sub(last) < s.LoginDelay {
		return false
	}
	if s.logins == nil {
		s.logins = make(map[string]time.Time)
	}
	if len(s.logins) >= 10_000 {
		for id, last := range s.logins {
			if now.Sub(last) >= s.LoginDelay {
				delete(s.logins, id)
			}
		}
	}
	s.logins[identity] = now
	return true
}
