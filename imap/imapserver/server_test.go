package imapserver

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/memstore"
	"github.com/mailblocks/mailblocks/internal/dialog"
	"github.com/mailblocks/mailblocks/internal/testcert"
)

// accounts is an Authenticator for users whose password is "secret", and keeps their mail.
type accounts struct {
	mu    sync.Mutex
	mail  map[string]*memstore.Storage
	opens int
}

func (a *accounts) Mechanisms(*tls.ConnectionState) []string { return []string{"PLAIN", "LOGIN"} }

func (a *accounts) Start(_ context.Context, mech string, _ netip.AddrPort, _ *tls.ConnectionState, done func(string) error) (sasl.Server, error) {
	check := func(user, password string) error {
		if user == "trouble" {
			return ourTrouble{errors.New("database gone")}
		}
		if password != "secret" {
			return errors.New("wrong password")
		}
		return done(user)
	}
	if mech == "LOGIN" {
		return &loginMechanism{check: check}, nil
	}
	return sasl.NewPlainServer(func(identity, user, password string) error { return check(user, password) }), nil
}

type ourTrouble struct{ error }

func (ourTrouble) Temporary() bool { return true }

type loginMechanism struct {
	check func(user, password string) error
	user  string
	step  int
}

func (l *loginMechanism) Next(response []byte) ([]byte, bool, error) {
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(response))
}

func (a *accounts) storage(user string) *memstore.Storage {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mail == nil {
		a.mail = make(map[string]*memstore.Storage)
	}
	if a.mail[user] == nil {
		a.mail[user] = memstore.New()
	}
	return a.mail[user]
}

func (a *accounts) login(_ context.Context, identity string) (imap.Store, error) {
	if identity == "nobody" {
		return nil, errors.New("the mail is on fire")
	}
	a.mu.Lock()
	a.opens++
	a.mu.Unlock()
	return a.storage(identity).Open(), nil
}

// testServer is a server on loopback with its accounts.
type testServer struct {
	*Server
	t        testing.TB
	accounts *accounts
	addr     string
	tls      *tls.Config // for clients
}

// newServer starts a server; change may alter it before.
func newServer(t testing.TB, change func(*Server)) *testServer {
	t.Helper()
	acc := new(accounts)
	cert, pool, err := testcert.New("localhost", "127.0.0.1")
	require.NoError(t, err)
	s := &Server{
		Authenticator:     acc,
		Login:             acc.login,
		AllowInsecureAuth: true,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}},
		Logger:            slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(s)
	}
	ts := &testServer{Server: s, t: t, accounts: acc, tls: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
	ts.addr = ts.listen(s.Serve)
	return ts
}

func (ts *testServer) listen(serve func(net.Listener) error) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(ts.t, err)
	done := make(chan error, 1)
	go func() { done <- serve(ln) }()
	ts.t.Cleanup(func() {
		require.NoError(ts.t, ts.Close())
		require.ErrorIs(ts.t, <-done, ErrServerClosed)
	})
	return ln.Addr().String()
}

func (ts *testServer) dial() net.Conn {
	ts.t.Helper()
	conn, err := net.Dial("tcp", ts.addr)
	require.NoError(ts.t, err)
	ts.t.Cleanup(func() { conn.Close() })
	return conn
}

// player connects a dialogue's client.
func (ts *testServer) player() *dialog.Player {
	return &dialog.Player{Conn: ts.dial(), TLS: ts.tls}
}

// session connects and logs in.
func (ts *testServer) session(user string) *dialog.Player {
	ts.t.Helper()
	p := ts.player()
	play(ts.t, p, "S~ \\* OK .*\nC: l LOGIN "+user+" secret\nS~ l OK .*")
	return p
}

func play(t testing.TB, p *dialog.Player, text string) {
	t.Helper()
	require.NoError(t, p.Play("dialogue", text))
}

// fill appends messages to a user's mailbox behind the server's back.
func (ts *testServer) fill(user, mailbox string, msgs ...imap.NewMessage) []imap.UID {
	ts.t.Helper()
	store := ts.accounts.storage(user).Open()
	mb, err := store.Open(ts.t.Context(), mailbox)
	if errors.Is(err, imap.ErrNoMailbox) {
		require.NoError(ts.t, store.Create(ts.t.Context(), mailbox, nil))
		mb, err = store.Open(ts.t.Context(), mailbox)
	}
	require.NoError(ts.t, err)
	done, err := mb.Append(ts.t.Context(), msgs)
	require.NoError(ts.t, err)
	require.NoError(ts.t, mb.Close())
	return done.UIDs
}

func text(s string) imap.NewMessage {
	return imap.NewMessage{Body: strings.NewReader(strings.ReplaceAll(s, "\n", "\r\n"))}
}

func TestSmoke(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", text("Subject: one\n\nbody one\n"), text("Subject: two\n\nbody two\n"))
	p := ts.session("ann")
	play(t, p, `
C: a SELECT INBOX
S: * 2 EXISTS
S: * 2 RECENT
S: * OK [UNSEEN 1] the first unseen message
S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft)
S: * OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft \*)] these are kept
S~ \* OK \[UIDVALIDITY \d+\] .*
S: * OK [UIDNEXT 3] the next UID, at least
S~ \* OK \[HIGHESTMODSEQ \d+\] .*
S~ \* OK \[MAILBOXID .*
S: a OK [READ-WRITE] selected
C: b FETCH 1:* (FLAGS BODY[TEXT])
S: * 1 FETCH (FLAGS (\Seen \Recent) BODY[TEXT] {10}
S: body one
S: )
S: * 2 FETCH (FLAGS (\Seen \Recent) BODY[TEXT] {10}
S: body two
S: )
S: b OK fetched
C: c STORE 1 +FLAGS (\Deleted $Junk)
S: * FLAGS (\Answered \Flagged \Deleted \Seen \Draft $Junk)
S: * OK [PERMANENTFLAGS (\Answered \Flagged \Deleted \Seen \Draft $Junk \*)] these are kept
S: * 1 FETCH (FLAGS (\Deleted \Seen $Junk \Recent))
S: c OK stored
C: d SEARCH SUBJECT two
S: * SEARCH 2
S: d OK searched
C: e EXPUNGE
S: * 1 EXPUNGE
S: * 1 RECENT
S: e OK expunged
C: f APPEND INBOX (\Seen) {15+}
C: Subject: thre
C:
S: * 2 EXISTS
S~ \* 2 RECENT
S~ f OK \[APPENDUID \d+ 3\] appended
C: g LOGOUT
S~ \* BYE .*
S~ g OK .*
S. closed
`)
}

func TestGuessingOverManyConnections(t *testing.T) {
	ts := newServer(t, func(s *Server) { s.MaxAuthFailuresPerAddress = 2 })
	play := func(script string) {
		t.Helper()
		p := ts.player()
		require.NoError(t, p.Play(t.Name(), "S~ \\* OK .*\n"+script))
		p.Conn.Close()
	}
	play("C: a LOGIN trouble x\nS: a NO [UNAVAILABLE] credentials cannot be checked now\n")
	for range 2 {
		play("C: a LOGIN ann x\nS: a NO [AUTHENTICATIONFAILED] authentication failed\n")
	}
	play("C: a LOGIN ann secret\nS: a NO [UNAVAILABLE] too many failed logins, try later\n")
}
