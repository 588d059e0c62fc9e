package imapserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-sasl"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/authfail"
	"github.com/mailblocks/mailblocks/internal/netserve"
)

// ErrServerClosed is returned by Serve and ServeTLS after Shutdown or Close.
var ErrServerClosed = netserve.ErrServerClosed

// An Authenticator checks who a client is. It must be safe for concurrent use. The servers
// of packages smtp and pop3 ask for the same methods, so that one type serves all three.
type Authenticator interface {
	// Mechanisms returns the names of the SASL mechanisms to offer. A nil state means a
	// plain connection.
	Mechanisms(tls *tls.ConnectionState) []string

	// Start begins an exchange of a mechanism that Mechanisms named. The sasl.Server
	// calls done with the authorization identity once it is proved, before it reports
	// that the exchange is done; an error that done returns must end it as a failure.
	// An error with a method Temporary() bool that says true is our own trouble (UNAVAILABLE),
	// any other a wrong credential.
	Start(ctx context.Context, mech string, remote netip.AddrPort, tls *tls.ConnectionState, done func(identity string) error) (sasl.Server, error)
}

// A Server serves IMAP over any imap.Store. Authenticator and Login are required; the zero
// value of every other field is safe to use. Fields must not change once it serves.
type Server struct {
	Authenticator Authenticator

	// Login opens the mail of a user who has proved to be identity. It is called for the
	// first session of an identity: the Store is shared by all its sessions, and closed
	// a minute after the last one left. An embedder who wants to see what sessions do to
	// mail returns a Store that wraps another; see imap.Wrapper.
	Login func(ctx context.Context, identity string) (imap.Store, error)

	// Owners names those whose mail identity may come to: by a mailbox whose access control
	// list says so, under "user/NAME/" (RFC 4314), or by a URL that carries authorization
	// (RFC 4467). It may name too many, such as all users; nil: nobody shares. Login is called
	// for them too. It is asked at every listing. A user's own mailboxes below "user" are hidden.
	Owners func(ctx context.Context, identity string) ([]string, error)
	// Submitter reports whether identity is a submission server, which may use URLs that users
	// made for it (RFC 4467, 3). Nil: nobody is.
	Submitter func(identity string) bool
	// QuotaAdmin reports whether identity may set quotas, its own and those of its Owners. Nil:
	// nobody may, and quotas are set where accounts are.
	QuotaAdmin func(identity string) bool
	// Annotations are shared annotations of the server, read-only, such as "/shared/admin"
	// (RFC 5464, 6.2.1). Their names are in lower case.
	Annotations map[string]string
	// JMAPURL is the session resource of a JMAP server for the same mail (RFC 9698).
	JMAPURL string

	// TLSConfig enables STARTTLS, and is needed by ServeTLS.
	TLSConfig *tls.Config
	// AllowInsecureAuth offers authentication on connections without TLS.
	AllowInsecureAuth bool

	// Name is shown in the greeting. Empty: nothing is.
	Name string
	// ID is what the ID command tells of the server (RFC 2971). Nil: its name alone.
	ID map[string]string
	// Advertise says whether a session is told of a capability, for clients that trip over
	// one; what it is not told of still works. Nil means AdvertiseByDefault. It may be called
	// concurrently, and must not keep or change the Client.
	Advertise func(client *Client, capability string) bool
	// LiteralMinus offers LITERAL- in place of LITERAL+: clients may send no more than 4096
	// octets without waiting (RFC 7888, 5).
	LiteralMinus bool
	// MaxMessagesPerCommand limits how many messages one FETCH, STORE, MOVE or UID EXPUNGE
	// works on, those with the highest UIDs, and how many one COPY or APPEND may have
	// (MESSAGELIMIT, RFC 9738). Zero means no limit.
	MaxMessagesPerCommand int

	// MaxMessageBytes limits a message that is appended. Zero means 64 MiB.
	MaxMessageBytes int64
	// MaxConns and MaxConnsPerAddr limit connections, IPv6 ones by their /64. Zero means
	// 10,000 and 100; negative means no limit.
	MaxConns, MaxConnsPerAddr int
	// MaxErrors is how many commands may be BAD, and how many logins may fail, before a
	// session is ended. Zero means 20 and a quarter of it for logins.
	MaxErrors int
	// MaxAuthFailuresPerAddress is how many logins may fail from an address within ten minutes
	// before it is refused any more. Zero means 30; negative means no limit.
	MaxAuthFailuresPerAddress int
	// IdleTimeout ends a session that sends nothing. Zero means 30 minutes, the least
	// that RFC 9051, 5.4 allows.
	IdleTimeout time.Duration
	// LoginTimeout ends a session that has not logged in. Zero means 3 minutes.
	LoginTimeout time.Duration
	// IOTimeout bounds the wait for the rest of a command that has begun, between any two
	// pieces of it, and for the client to take 32 KiB of a response. Zero means 2 minutes.
	IOTimeout time.Duration
	// CommandTimeout bounds the work for one command. Zero means 30 minutes.
	CommandTimeout time.Duration
	// SpoolBytes is how much of an appended message is held in memory; the rest goes to
	// a temporary file in SpoolDir. Zero means 256 KiB; an empty SpoolDir is os.TempDir.
	SpoolBytes int64
	SpoolDir   string
	// CacheBytes bounds the memory for envelopes and structures of messages that were
	// fetched, of all users together. Zero means 64 MiB; negative means none is kept.
	CacheBytes int64

	Logger *slog.Logger // nil: slog.Default()
	Trace  *Trace       // nil: none

	once     sync.Once
	net      netserve.Server
	failures authfail.Counter // of logins
	cache    cache
	boxes    atomic.Uint64 // the last box.id given out
	urlKeys  sync.Mutex    // held while a key for URLs is made
	lists    atomic.Int64  // how often an access control list was changed
	// See progressEvery and packAfter: other than those in tests alone.
	progress, packAfter time.Duration

	mu        sync.Mutex
	accounts  map[string]*account
	lingering int // accounts without sessions
	closing   bool
}

// Client is what is known of the client of a session.
type Client struct {
	Identity string // empty before login
	Remote   netip.AddrPort
	TLS      *tls.ConnectionState // nil: plain
	ID       map[string]string    // of the ID command, nil before it (RFC 2971)
}

// AdvertiseByDefault advertises every capability but UIDONLY, at the sight of which Outlook
// fails. Who has no such users may advertise that too: it is an experiment that clients can
// do without (RFC 9586).
func AdvertiseByDefault(_ *Client, capability string) bool { return capability != "UIDONLY" }

// Trace has functions that are called as things happen, for metrics. Each may be nil; they
// are called concurrently and should return soon.
type Trace struct {
	// CommandDone tells a command's name in upper case ("UID FETCH"; "?" when unknown),
	// its result ("OK", "NO", "BAD"; empty when the connection broke), and how long it took.
	CommandDone func(ctx context.Context, command, result string, took time.Duration)
	// SessionStart and SessionEnd tell of connections.
	SessionStart func(ctx context.Context, remote netip.AddrPort)
	SessionEnd   func(ctx context.Context, remote netip.AddrPort, cause error)
	// Login tells of attempts to log in; the identity is empty when it failed.
	Login func(ctx context.Context, remote netip.AddrPort, mech, identity string, err error)
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

func (s *Server) setUp() error {
	if s.Authenticator == nil || s.Login == nil {
		return errors.New("imapserver: Authenticator and Login must be set")
	}
	s.once.Do(func() {
		s.net.MaxConns = max(orDefault(s.MaxConns, 10000), 0)
		s.net.MaxConnsPerAddr = max(orDefault(s.MaxConnsPerAddr, 100), 0)
		s.net.Logger = s.Logger
		s.cache.limit = max(orDefault(s.CacheBytes, 64<<20), 0)
		s.net.Refuse = func(c net.Conn, why error) {
			_, _ = io.WriteString(c, "* BYE [LIMIT] "+why.Error()+"\r\n")
		}
	})
	return nil
}

// Serve accepts connections from ln and serves them until Shutdown or Close, when it returns
// ErrServerClosed. It may run for several listeners. One whose connections are *tls.Conn
// serves implicit TLS; ServeTLS makes that of a plain one.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.setUp(); err != nil {
		ln.Close()
		return err
	}
	return s.net.Serve(ln, func(ctx context.Context, nc *netserve.Conn) { s.serve(ctx, nc, false) })
}

// ServeTLS is Serve with TLS from the first octet (RFC 8314, 3.2).
func (s *Server) ServeTLS(ln net.Listener) error {
	if err := s.setUp(); err != nil {
		ln.Close()
		return err
	}
	if s.TLSConfig == nil {
		ln.Close()
		return errors.New("imapserver: ServeTLS without TLSConfig")
	}
	return s.net.Serve(ln, func(ctx context.Context, nc *netserve.Conn) { s.serve(ctx, nc, true) })
}

// Shutdown stops accepting, ends idle sessions with BYE at once and busy ones after their
// command, and closes the stores. When ctx ends first, connections are cut.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.net.Shutdown(ctx)
	s.closeAccounts()
	return err
}

// Close cuts all connections and closes the stores.
func (s *Server) Close() error {
	err := s.net.Close()
	s.closeAccounts()
	return err
}

func (s *Server) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}

// serve runs one session.
func (s *Server) serve(ctx context.Context, nc *netserve.Conn, implicitTLS bool) {
	remote := netserve.RemoteAddr(nc)
	log := s.logger().With(slog.String("remote", remote.String()))
	if t := s.Trace; t != nil && t.SessionStart != nil {
		t.SessionStart(ctx, remote)
	}
	c := newConn(s, nc, remote, log)
	var err error
	if implicitTLS {
		err = c.startTLS(ctx)
	} else if already, ok := nc.Conn.(*tls.Conn); ok {
		err = c.handshake(ctx, already)
	}
	if err == nil {
		err = c.run(ctx)
	} else {
		err = fmt.Errorf("TLS handshake: %w", err)
	}
	c.close()
	level := slog.LevelDebug
	if err != nil && !errors.Is(err, io.EOF) {
		level = slog.LevelInfo
	}
	c.log.LogAttrs(ctx, level, "session ended", slog.Any("err", err))
	if t := s.Trace; t != nil && t.SessionEnd != nil {
		t.SessionEnd(ctx, remote, err)
	}
}
