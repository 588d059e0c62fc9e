package smtp_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/dialog"
	"github.com/mailblocks/mailblocks/internal/testcert"
	"github.com/mailblocks/mailblocks/smtp"
)

// testHandler does what the local parts of the addresses ask for, and keeps what it got.
type testHandler struct {
	smtp.Base
	mu    sync.Mutex
	last  string // the last message accepted
	calls []string
}

func (h *testHandler) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, fmt.Sprintf(format, args...))
}

func (h *testHandler) taken() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.calls...)
}

func (h *testHandler) verdict(address string) error {
	local, _ := smtp.SplitAddress(address)
	switch local {
	case "unknown":
		return &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 1, 1}, Text: "no such user"}
	case "two-lines":
		return &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "not\nwanted\r\nhere\x00"}
	case "busy":
		return &smtp.Reply{Code: 450, Text: "try later"}
	case "broken":
		return errors.New("secret internals")
	case "panic":
		panic("handler bug")
	case "close":
		return &smtp.Reply{Code: 554, Text: "go away", Close: true}
	case "three":
		return &smtp.Reply{Code: 354, Text: "go ahead"}
	case "fine":
		return &smtp.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 1, 5}, Text: "most welcome"}
	}
	return nil
}

func (h *testHandler) Mail(_ context.Context, tx *smtp.Transaction) error {
	h.note("mail %s %+v", tx.From, tx.Params)
	return h.verdict(tx.From)
}

func (h *testHandler) Rcpt(_ context.Context, tx *smtp.Transaction, r *smtp.Recipient) error {
	h.note("rcpt %s %+v", r.Address, r.Params)
	return h.verdict(r.Address)
}

func (h *testHandler) Data(_ context.Context, tx *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	if local, _ := smtp.SplitAddress(tx.From); local == "unread" {
		return nil, &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "not read"}
	} else if local == "unread-ok" {
		return nil, nil
	}
	b, err := io.ReadAll(body)
	h.note("data %q %v", b, err)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.last = string(b)
	h.mu.Unlock()
	for _, r := range tx.Recipients {
		switch local, _ := smtp.SplitAddress(r.Address); local {
		case "full":
			r.Verdict = &smtp.Reply{Code: 452, Enhanced: smtp.EnhancedCode{4, 2, 2}, Text: "mailbox full"}
		case "lost":
			r.Verdict = &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 2, 1}, Text: "mailbox lost"}
		case "datapanic":
			panic("handler bug")
		}
	}
	if local, _ := smtp.SplitAddress(tx.From); local == "queued" {
		return &smtp.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 0, 0}, Text: "queued as Q1"}, nil
	} else if local == "spam" {
		return nil, fmt.Errorf("filter: %w", &smtp.Reply{Code: 550, Enhanced: smtp.EnhancedCode{5, 7, 1}, Text: "spam"})
	} else if local == "failed" {
		return nil, errors.New("secret internals")
	}
	return nil, nil
}

func (h *testHandler) Verify(_ context.Context, _ *smtp.Session, arg string) (*smtp.Reply, error) {
	if arg == "alice" {
		return &smtp.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 1, 5}, Text: "Alice <alice@example.org>"}, nil
	}
	return nil, nil
}

func (h *testHandler) Reset(_ context.Context, tx *smtp.Transaction, cause error) {
	h.note("reset %s %v", tx.From, cause)
}

func (h *testHandler) Close(_ context.Context, _ *smtp.Session, cause error) {
	h.note("close %v", cause)
}

// plainAuth is an Authenticator with PLAIN and LOGIN for alice and wonderland.
type plainAuth struct{}

func (plainAuth) Mechanisms(*tls.ConnectionState) []string { return []string{"PLAIN", "TWO"} }

func (plainAuth) Start(_ context.Context, mech string, _ netip.AddrPort, _ *tls.ConnectionState, done func(string) error) (sasl.Server, error) {
	if mech == "TWO" {
		return &twoSteps{done: done}, nil
	}
	return sasl.NewPlainServer(func(identity, username, password string) error {
		if username == "down" {
			return temporary{}
		}
		if username != "alice" || password != "wonderland" {
			return errors.New("no")
		}
		return done(username)
	}), nil
}

type temporary struct{}

func (temporary) Error() string   { return "database is down" }
func (temporary) Temporary() bool { return true }

// twoSteps ends with data of the server, as SCRAM does.
type twoSteps struct {
	done func(string) error
	step int
}

func (s *twoSteps) Next(response []byte) ([]byte, bool, error) {
	s.step++
	if s.step == 1 {
		return []byte("who?"), false, nil
	}
	return []byte("proof"), true, s.done(string(response))
}

// newServer returns a server for tests, configured after the first word of a dialogue's name.
func newServer(t testing.TB, kind string, h smtp.Handler) *smtp.Server {
	s := &smtp.Server{Handler: h, Hostname: "mx.example.org", Logger: slog.New(slog.DiscardHandler)}
	if th, ok := h.(*testHandler); ok {
		s.Verbs = map[string]func(context.Context, *smtp.Session, string) (*smtp.Reply, error){
			"XLAST": func(context.Context, *smtp.Session, string) (*smtp.Reply, error) {
				th.mu.Lock()
				defer th.mu.Unlock()
				return &smtp.Reply{Code: 250, Text: strconv.Quote(th.last)}, nil
			},
			"XCALL": func(context.Context, *smtp.Session, string) (*smtp.Reply, error) {
				c := th.taken()
				return &smtp.Reply{Code: 250, Text: c[len(c)-1]}, nil
			},
		}
	}
	switch kind {
	case "mta":
		s.MaxMessageBytes = 1000
		s.MaxRecipients = 3
	case "full":
		s.Extensions = ^smtp.Extensions(0)
		s.Keywords = []string{"X-PRIVATE 1"}
		s.NoSoliciting = []string{"org.example:ADV", "net.example:ADLT"}
		s.AllowParam = func(verb, key, value string) bool { return key == "XFOO" }
		s.Expand = func(context.Context, *smtp.Session, string) (*smtp.Reply, error) {
			return &smtp.Reply{Code: 250, Enhanced: smtp.EnhancedCode{2, 1, 5}, Text: "a@example.org\nb@example.org"}, nil
		}
	case "few":
		s.MaxMessages = 2
	case "strict":
		s.StrictPipelining = true
	case "normal":
		s.Newlines = smtp.NewlinesNormalise
	case "xclient":
		s.TrustXClient = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		s.Verbs["XWHO"] = func(_ context.Context, s *smtp.Session, _ string) (*smtp.Reply, error) {
			return &smtp.Reply{Code: 250, Text: fmt.Sprintf("%v %v %q %q %v", s.Remote, s.Local.Addr(), s.Hello, s.Identity, s.Authenticated())}, nil
		}
	case "lmtp":
		s.Mode = smtp.ModeLMTP
	case "bare":
		s.Extensions = smtp.ExtPipelining
	case "auth":
		s.Authenticator = plainAuth{}
		s.InsecureAuth = true
		s.AuthFailureDelay = -1
	case "submission":
		s.Mode = smtp.ModeSubmission
		s.Authenticator = plainAuth{}
		s.AuthFailureDelay = -1
		s.TLS = serverTLS(t)
	case "tls":
		s.TLS = serverTLS(t)
		s.RequireTLS = true
		s.Extensions = smtp.DefaultExtensions | smtp.ExtRequireTLS
	default:
		t.Fatalf("no server of kind %q", kind)
	}
	return s
}

var certOnce = sync.OnceValues(func() (pair struct{ server, client *tls.Config }, err error) {
	cert, pool, err := testcert.New("mx.example.org", "127.0.0.1")
	pair.server = &tls.Config{Certificates: []tls.Certificate{cert}}
	pair.client = &tls.Config{RootCAs: pool, ServerName: "mx.example.org"}
	return pair, err
})

func serverTLS(t testing.TB) *tls.Config {
	pair, err := certOnce()
	require.NoError(t, err)
	return pair.server
}

func clientTLS(t testing.TB) *tls.Config {
	pair, err := certOnce()
	require.NoError(t, err)
	return pair.client.Clone()
}

// start serves s on loopback until the test ends, and returns the address.
func start(t testing.TB, s *smtp.Server) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-done, smtp.ErrServerClosed)
	})
	return l.Addr().String()
}

func TestDialogues(t *testing.T) {
	files, err := dialog.Files("testdata/dialog")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for name, text := range files {
		t.Run(name, func(t *testing.T) {
			kind, _, _ := strings.Cut(name, "-")
			addr := start(t, newServer(t, kind, &testHandler{}))
			conn, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			defer conn.Close()
			p := &dialog.Player{Conn: conn, TLS: clientTLS(t), Vars: map[string]string{
				"LONG": strings.Repeat("x", 20000), "MIB": strings.Repeat("x", 1<<20),
			}}
			require.NoError(t, p.Play(name+".txt", text))
		})
	}
}

// newServerWith returns a server with the defaults and no log.
func newServerWith(_ testing.TB, h smtp.Handler) *smtp.Server {
	return &smtp.Server{Handler: h, Hostname: "mx.example.org", Logger: slog.New(slog.DiscardHandler)}
}

// newLines returns a function that gives r's next line at each call.
func newLines(r io.Reader) func(t *testing.T) string {
	br := bufio.NewReader(r)
	return func(t *testing.T) string {
		line, err := br.ReadString('\n')
		require.NoError(t, err)
		return strings.TrimSuffix(line, "\n")
	}
}
