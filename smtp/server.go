package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/internal/authfail"
	"github.com/mailblocks/mailblocks/internal/netserve"
)

// Newlines says what a Server does about a CR or LF that stands alone (RFC 5321, 2.3.8).
// No setting makes one end a message: only CRLF.CRLF does.
type Newlines uint8

const (
	// NewlinesReject refuses the message or command, at once, and closes the
	// connection: what follows can not be told from the message with certainty.
	NewlinesReject Newlines = iota
	// NewlinesNormalise makes a CRLF of each bare CR and LF in a message, and accepts
	// commands that end in LF. A client that ends its messages with LF.LF waits in vain.
	NewlinesNormalise
)

// Server serves SMTP, submission or LMTP. Handler is required; the zero value of all
// else works. The fields must not change once it serves. One Server may serve several
// listeners.
type Server struct {
	// Handler decides. It must be safe for concurrent use.
	Handler Handler

	// Mode is the dialect spoken; the zero value is ModeSMTP.
	Mode Mode

	// Hostname is the name in the greeting and behind EHLO. Empty means os.Hostname.
	Hostname string

	// Greeting is the text behind the name in the greeting. Empty means "ESMTP" or "LMTP".
	Greeting string

	// TLS enables STARTTLS, and is what ServeTLS uses. Nil means no TLS.
	TLS *tls.Config

	// RequireTLS refuses mail and AUTH on a plain connection (530, 538).
	RequireTLS bool

	// Authenticator offers the mechanisms of AUTH. Nil means no AUTH.
	Authenticator Authenticator

	// InsecureAuth offers AUTH on plain connections, too.
	InsecureAuth bool

	// Extensions are those announced. Zero means DefaultExtensions. STARTTLS and AUTH
	// are ruled by TLS and Authenticator.
	Extensions Extensions

	// NoSoliciting are the kinds of solicitation, such as "org.example:ADV", that are refused
	// when a client declares its message to be one (RFC 3865); they are announced, if Extensions
	// has ExtNoSoliciting. What single recipients don't want is up to the Handler.
	NoSoliciting []string

	// Keywords are further lines of the EHLO reply, for private extensions. AllowParam
	// is asked about parameters of MAIL and RCPT (verb) that are not known here, key in upper case;
	// those it allows are handed over in Params.Other. Nil allows none.
	Keywords   []string
	AllowParam func(verb, key, value string) bool

	// Verbs holds commands this package does not know, by their upper case verb. They
	// return their reply as the methods of Handler do; nil and nil are 250.
	Verbs map[string]func(ctx context.Context, s *Session, arg string) (*Reply, error)

	// Expand answers EXPN. Nil means that EXPN is not offered (502).
	Expand func(ctx context.Context, s *Session, arg string) (*Reply, error)

	// TrustXClient are the addresses of proxies that may use XCLIENT to say whose session
	// they carry; keep it as narrow as can be. Nil means none.
	TrustXClient []netip.Prefix

	// Help answers HELP; a URL or a few lines. Empty means a line of verbs.
	Help string

	// Newlines is what to do about bare CR and LF.
	Newlines Newlines

	// StrictPipelining ends sessions (554) that pipeline something behind a command that must be the
	// last of a group, such as a message behind DATA before that was answered (RFC 2920, 3.1). Mail
	// servers wait there; programs that abuse another protocol's client to send mail can't.
	StrictPipelining bool

	// MaxMessageBytes limits one message, counted after dot-unstuffing; it is announced
	// by SIZE. Zero means 32 MiB; negative means no limit.
	MaxMessageBytes int64

	// MaxDrainBytes limits what is read and dropped of a message or chunk that was
	// refused, beyond which the connection is closed. Zero means 64 MiB.
	MaxDrainBytes int64

	// MaxRecipients limits those of one message (452 for more). Zero means 100;
	// negative means no limit.
	MaxRecipients int

	// MaxMessages limits the transactions of one session (421 for more); it is announced as MAILMAX
	// (RFC 9422). Zero or negative means no limit.
	MaxMessages int

	// MaxLineBytes limits a command line, its CRLF included. Zero means 12,288 (RFC 4954, 4);
	// it is at most 16,384.
	MaxLineBytes int

	// MaxConnections and MaxConnectionsPerAddress limit those open at a time (421 for
	// more); IPv6 addresses count by /64. Zero means 1,000 and 50; negative means no limit.
	MaxConnections           int
	MaxConnectionsPerAddress int

	// MaxErrors is how many bad commands a client may send before it is sent away (421); a
	// message accepted forgives them. MaxRejects is the same for senders and
	// recipients refused by the Handler. Zero means 10 and 100; negative means no limit.
	MaxErrors, MaxRejects int

	// MaxAuthFailures is how many times AUTH may fail in a session before it ends (421), and
	// MaxAuthFailuresPerAddress within ten minutes from one address before AUTH is
	// refused to it (454). Zero means 3 and 30; negative means no limit.
	MaxAuthFailures, MaxAuthFailuresPerAddress int

	// AuthFailureDelay is how long a client waits for the answer to its first failed AUTH; twice as long
	// for the second, and so on, up to 30 seconds. Zero means 1 second; negative means no wait.
	AuthFailureDelay time.Duration

	// CommandTimeout is how long to wait for the next command, DataTimeout for the next
	// piece of a message. They are kept coarsely: a wait ends between one and two times
	// them. Zero means 5 and 3 minutes (RFC 5321, 4.5.3.2.7).
	CommandTimeout, DataTimeout time.Duration

	// MessageTimeout bounds the time spent waiting for the pieces of one message. Zero
	// means 10 minutes.
	MessageTimeout time.Duration

	// MinDataRate is the least octets per second of waiting that a message may come
	// in with, once 30 seconds were waited. Zero means 100; negative means none.
	MinDataRate int

	// GreetDelay makes clients wait for the greeting; those that speak before it are sent away
	// (554), as no mail server does that. Zero means no delay.
	GreetDelay time.Duration

	// WriteTimeout bounds a write of replies, HandshakeTimeout a TLS handshake. Zero
	// means 1 minute and 30 seconds.
	WriteTimeout, HandshakeTimeout time.Duration

	// Logger gets what is worth a note: refusals at Info, the Handler's trouble at Warn and
	// Error, comings and goings at Debug. Nil means slog.Default().
	Logger *slog.Logger

	// Trace is called as things happen. Nil means no calls.
	Trace *Trace

	once        sync.Once
	base        netserve.Server
	conf        config
	failures    authfail.Counter
	maxFailures int // by address
}

// config is Server with the defaults filled in.
type config struct {
	hostname, greeting, help string
	ext                      Extensions
	maxMessage, maxDrain     int64
	maxRcpts, maxLine        int
	maxErrors, maxRejects    int
	maxAuth                  int
	command, data, message   time.Duration
	minRate                  int64
	write, handshake         time.Duration
	authDelay                time.Duration
	trace                    Trace
	params                   paramReader
}

const maxInt = int(^uint(0) >> 1)

// limit fills in the default for 0 and the largest value for negative ones.
func limit(v, def int) int {
	switch {
	case v == 0:
		return def
	case v < 0:
		return maxInt
	}
	return v
}

func orDefault[T int | time.Duration | int64](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

func (s *Server) setup() {
	s.once.Do(func() {
		c := &s.conf
		c.hostname = s.Hostname
		if c.hostname == "" {
			if c.hostname, _ = os.Hostname(); c.hostname == "" {
				c.hostname = "localhost"
			}
		}
		c.greeting = s.Greeting
		if c.greeting == "" {
			c.greeting = "ESMTP"
			if s.Mode == ModeLMTP {
				c.greeting = "LMTP"
			}
		}
		c.help = s.Help
		if c.help == "" {
			c.help = "EHLO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY HELP, see RFC 5321"
		}
		if c.ext = s.Extensions; c.ext == 0 {
			c.ext = DefaultExtensions
		}
		if c.ext&ExtChunking == 0 {
			c.ext &^= ExtBinaryMIME
		}
		c.maxMessage = s.MaxMessageBytes
		if c.maxMessage == 0 {
			c.maxMessage = 32 << 20
		} else if c.maxMessage < 0 {
			c.maxMessage = 1<<63 - 1
		}
		c.maxDrain = orDefault(s.MaxDrainBytes, 64<<20)
		c.maxRcpts = limit(s.MaxRecipients, 100)
		c.maxLine = min(orDefault(s.MaxLineBytes, 12<<10), readBufferSize/2)
		c.maxErrors = limit(s.MaxErrors, 10)
		c.maxRejects = limit(s.MaxRejects, 100)
		c.maxAuth = limit(s.MaxAuthFailures, 3)
		s.maxFailures = limit(s.MaxAuthFailuresPerAddress, 30)
		c.command = orDefault(s.CommandTimeout, 5*time.Minute)
		c.data = orDefault(s.DataTimeout, 3*time.Minute)
		c.message = orDefault(s.MessageTimeout, 10*time.Minute)
		c.minRate = max(int64(s.MinDataRate), 0)
		if s.MinDataRate == 0 {
			c.minRate = 100
		}
		if c.authDelay = s.AuthFailureDelay; c.authDelay == 0 {
			c.authDelay = time.Second
		}
		c.write = orDefault(s.WriteTimeout, time.Minute)
		c.handshake = orDefault(s.HandshakeTimeout, 30*time.Second)
		if s.Trace != nil {
			c.trace = *s.Trace
		}
		c.params = paramReader{ext: c.ext, other: s.AllowParam}

		s.base.MaxConns = limit(s.MaxConnections, 1000)
		s.base.MaxConnsPerAddr = limit(s.MaxConnectionsPerAddress, 50)
		s.base.Logger = s.Logger
		s.base.Refuse = func(c net.Conn, why error) {
			text := "421 4.3.2 too many connections, try again later\r\n"
			if errors.Is(why, netserve.ErrTooManyConnsAddress) {
				text = "421 4.7.0 too many connections from your address\r\n"
			}
			if _, isTLS := c.(*tls.Conn); !isTLS {
				_, _ = c.Write([]byte(text))
			}
		}
	})
}

// Serve accepts connections from l, which it closes in the end, until Shutdown or Close (then it
// returns ErrServerClosed) or until l fails. Connections that are *tls.Conn are
// implicit TLS (RFC 8314, 3.3).
func (s *Server) Serve(l net.Listener) error {
	if s.Handler == nil {
		l.Close()
		return errors.New("smtp: Server without Handler")
	}
	s.setup()
	err := s.base.Serve(l, s.handle)
	if errors.Is(err, netserve.ErrServerClosed) {
		return ErrServerClosed
	}
	return err
}

// ServeTLS serves l with implicit TLS after s.TLS, which must be set.
func (s *Server) ServeTLS(l net.Listener) error {
	if s.TLS == nil {
		l.Close()
		return errors.New("smtp: ServeTLS without TLS configuration")
	}
	return s.Serve(tls.NewListener(l, s.TLS))
}

// ListenAndServe listens on a TCP address such as ":25", or on a Unix socket given as
// "unix:/path", and calls Serve.
func (s *Server) ListenAndServe(addr string) error {
	network := "tcp"
	if len(addr) > 5 && addr[:5] == "unix:" {
		network, addr = "unix", addr[5:]
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	return s.Serve(l)
}

// Shutdown closes the listeners, sends sessions away (421) when they have no
// transaction, at once or at its end, and waits for them. If ctx ends first, the
// connections left are cut, their contexts cancelled, and ctx's error is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.setup()
	return s.base.Shutdown(ctx)
}

// Close closes listeners and connections, and returns when the handlers have.
func (s *Server) Close() error {
	s.setup()
	return s.base.Close()
}

func (s *Server) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}
