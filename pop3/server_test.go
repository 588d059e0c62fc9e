package pop3_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/dialog"
	"github.com/mailblocks/mailblocks/internal/testcert"
	"github.com/mailblocks/mailblocks/pop3"
)

// accounts knows alice, whose password is "wonder land". Bob's check always fails on our side.
type accounts struct{}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }

func (accounts) Mechanisms(*tls.ConnectionState) []string { return []string{"PLAIN", "LOGIN"} }

func (accounts) Start(_ context.Context, mech string, _ netip.AddrPort, _ *tls.ConnectionState, done func(string) error) (sasl.Server, error) {
	check := func(user, password string) error {
		switch {
		case user == "bob":
			return temporary{errors.New("database gone")}
		case password != "wonder land":
			return errors.New("wrong password")
		}
		return done(user)
	}
	if mech == "LOGIN" {
		return &loginServer{check: check}, nil
	}
	return sasl.NewPlainServer(func(_, user, password string) error { return check(user, password) }), nil
}

type loginServer struct {
	check func(user, password string) error
	user  string
	step  int
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	l.step++
	if l.step == 1 && len(response) > 0 {
		l.step = 2 // the name came as initial response
	}
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(response)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(response))
}

// memory is mail in memory. Each session gets a drop on it.
type memory struct {
	mu      sync.Mutex
	texts   []string
	inUse   bool
	failing error // of Delete
}

func (m *memory) open(_ context.Context, identity string) (pop3.Maildrop, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case identity == "carol":
		return nil, fmt.Errorf("no mail: %w", pop3.ErrPermanent)
	case m.inUse:
		return nil, pop3.ErrInUse
	}
	m.inUse = true
	d := &drop{m: m}
	for i, t := range m.texts {
		d.list = append(d.list, pop3.Message{Size: int64(len(t)), UID: fmt.Sprint("uid-", i+1)})
	}
	return d, nil
}

func (m *memory) left() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.texts
}

type drop struct {
	m    *memory
	list []pop3.Message
}

func (d *drop) Messages() []pop3.Message { return d.list }
func (d *drop) Open(_ context.Context, i int) (io.ReadCloser, error) {
	switch text := d.m.texts[i]; text {
	case "unreadable":
		return nil, errors.New("disk on fire at /secret/path")
	case "breaks":
		return io.NopCloser(io.MultiReader(strings.NewReader("Subject: half\r\n"), failing{})), nil
	case "panics":
		panic("a bug")
	default:
		return io.NopCloser(strings.NewReader(text)), nil
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("read error") }

func (d *drop) Delete(_ context.Context, indexes []int) error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if d.m.failing != nil {
		return d.m.failing
	}
	var left []string
	for i, t := range d.m.texts {
		if len(indexes) > 0 && indexes[0] == i {
			indexes = indexes[1:]
			continue
		}
		left = append(left, t)
	}
	d.m.texts = left
	return nil
}

func (d *drop) Close() error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.inUse = false
	return nil
}

// harness is a server with its mail.
type harness struct {
	*testing.T
	server *pop3.Server
	mail   *memory
	addr   string
	client *tls.Config
	log    *bytes.Buffer
	served chan error
}

func start(t *testing.T, configure func(*pop3.Server), texts ...string) *harness {
	cert, pool, err := testcert.New("pop.example.org")
	require.NoError(t, err)
	h := &harness{T: t, mail: &memory{texts: texts}, client: &tls.Config{RootCAs: pool, ServerName: "pop.example.org"}, served: make(chan error, 1)}
	h.log = new(bytes.Buffer)
	h.server = &pop3.Server{
		Authenticator:     accounts{},
		Open:              h.mail.open,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}},
		AllowInsecureAuth: true,
		FailureDelay:      -1,
		Logger:            slog.New(slog.NewTextHandler(&lockedWriter{w: h.log}, nil)),
	}
	if configure != nil {
		configure(h.server)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h.addr = ln.Addr().String()
	go func() { h.served <- h.server.Serve(ln) }()
	t.Cleanup(func() { h.server.Close() })
	return h
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func (h *harness) dial() net.Conn {
	h.Helper()
	c, err := net.Dial("tcp", h.addr)
	require.NoError(h, err)
	h.Cleanup(func() { c.Close() })
	return c
}

func (h *harness) play(script string) {
	h.Helper()
	p := &dialog.Player{Conn: h.dial(), TLS: h.client}
	require.NoError(h, p.Play(h.Name(), script))
	p.Conn.Close()
}

const login = "S: +OK POP3 server ready\nC: USER alice\nS: +OK send PASS\nC: PASS wonder land\nS~ \\+OK .*\n"

func TestDialogues(t *testing.T) {
	scripts, err := dialog.Files("testdata/dialog")
	require.NoError(t, err)
	require.NotEmpty(t, scripts)
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			h := start(t, nil, strings.Split(strings.ReplaceAll(messages, "\n", "\r\n"), "=====\r\n")...)
			h.play(script)
		})
	}
}

// messages are what the dialogues' maildrop holds.
const messages = `Subject: one

line 1
.line 2
..
.
line 5
=====
Subject: two

=====
Subject: three
`

func TestBodies(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for name, tc := range map[string]struct{ text, want string }{
		"dots only":         {"S: x\r\n\r\n.\r\n..\r\n...\r\n", "S: x\n\n.\n..\n...\n"},
		"no final line end": {"S: x\r\n\r\nend", "S: x\n\nend\n"},
		"bare LF":           {"S: x\r\n\r\na\n.\nb\r\n", "S: x\n\na\n.\nb\n"},
		"bare CR":           {"S: x\r\n\r\na\r.\rb\r\n", "S: x\n\na\n.\nb\n"},
		"1 MiB line":        {"S: x\r\n\r\n" + long + "\r\n", "S: x\n\n" + long + "\n"},
		"empty":             {"", ""},
		"NUL and 8-bit":     {"\x00\xff\r\n", "\x00\xff\n"},
	} {
		t.Run(name, func(t *testing.T) {
			h := start(t, nil, tc.text)
			c := textproto.NewConn(h.dial())
			expect := func(cmd string) {
				if cmd != "" {
					require.NoError(t, c.PrintfLine("%s", cmd))
				}
				line, err := c.ReadLine()
				require.NoError(t, err)
				require.True(t, strings.HasPrefix(line, "+OK"), line)
			}
			expect("")
			expect("USER alice")
			expect("PASS wonder land")
			expect("RETR 1")
			got, err := io.ReadAll(c.DotReader())
			require.NoError(t, err)
			assert.Equal(t, tc.want, string(got))
			expect("TOP 1 1000000")
			got, err = io.ReadAll(c.DotReader())
			require.NoError(t, err)
			assert.Equal(t, tc.want, string(got))
		})
	}
}

func TestDeleteOnlyAtQuit(t *testing.T) {
	h := start(t, nil, "a\r\n", "b\r\n", "c\r\n")
	h.play(login + "C: DELE 1\nS~ \\+OK.*\n") // and hang up
	h.play("S~ \\+OK.*\nC: USER alice\nS~ \\+OK.*\nC: QUIT\nS: +OK goodbye\nS. closed")
	assert.Len(t, h.mail.left(), 3)
	for h.again() {
	}
	h.play(login + "C: DELE 1\nS~ \\+OK.*\nC: RSET\nS: +OK 3 messages (9 octets)\nC: DELE 2\nS~ \\+OK.*\nC: QUIT\nS: +OK goodbye\nS. closed")
	assert.Equal(t, []string{"a\r\n", "c\r\n"}, h.mail.left())
}

// again reports whether the maildrop is still in use: a session ends after its connection.
func (h *harness) again() bool {
	h.mail.mu.Lock()
	defer h.mail.mu.Unlock()
	return h.mail.inUse
}

func TestDeleteFails(t *testing.T) {
	h := start(t, nil, "a\r\n")
	h.mail.failing = errors.New("disk on fire at /secret/path")
	h.play(login + "C: DELE 1\nS~ \\+OK.*\nC: QUIT\nS: -ERR [SYS/TEMP] some deleted messages not removed\nS. closed")
	assert.Contains(t, h.logged(), "disk on fire")
}

func (h *harness) logged() string {
	h.server.Close() // all sessions have written what they have to say
	return h.log.String()
}

func TestMaildropFaults(t *testing.T) {
	h := start(t, nil, "unreadable", "breaks", "panics")
	h.play(login + "C: RETR 1\nS: -ERR [SYS/TEMP] message cannot be read now\nC: NOOP\nS: +OK\n" +
		"C: RETR 2\nS: +OK 6 octets\nS: Subject: half\nS. closed")
	for h.again() {
	}
	h.play(login + "C: RETR 3\nS: -ERR [SYS/TEMP] internal error\nS. closed")
	log := h.logged()
	assert.Contains(t, log, "a bug")
	assert.Contains(t, log, "secret/path", "the log has it, the peer does not")
}

func TestLogin(t *testing.T) {
	h := start(t, nil, "a\r\n")
	h.play(`S~ \+OK.*
C: PASS x
S: -ERR send USER first
C: USER alice
S: +OK send PASS
C: PASS wrong
S: -ERR [AUTH] wrong user or password
C: PASS wonder land
S: -ERR send USER first
C: USER bob
S: +OK send PASS
C: PASS x
S: -ERR [SYS/TEMP] cannot check credentials now
C: USER carol
S: +OK send PASS
C: PASS wonder land
S: -ERR [SYS/PERM] maildrop cannot be opened
C: AUTH KERBEROS
S: -ERR [AUTH] no such mechanism
C: AUTH PLAIN !!
S: -ERR not base64
C: AUTH PLAIN
S: +` + " " + `
C: *
S: -ERR exchange cancelled by the client
C: AUTH LOGIN
S: + VXNlcm5hbWU6
C: !!
S: -ERR response is not base64
C: auth login
S: + VXNlcm5hbWU6
C: YWxpY2U=
S: + UGFzc3dvcmQ6
C: d29uZGVyIGxhbmQ=
S: +OK 1 messages (3 octets)
C: USER alice
S: -ERR already logged in
C: QUIT
S: +OK goodbye
`)
	h.play("S~ \\+OK.*\nC: AUTH PLAIN AGFsaWNlAHdvbmRlciBsYW5k\nS: +OK 1 messages (3 octets)\nC: QUIT\nS: +OK goodbye")
	h.play("S~ \\+OK.*\n" +
		strings.Repeat("C: USER x\nS~ \\+OK.*\nC: PASS x\nS~ -ERR \\[AUTH\\].*\n", 3) + "S. closed")
	log := h.logged()
	assert.NotContains(t, log, "wonder land")
	assert.Contains(t, log, "login refused")
}

func TestGuessingOverManyConnections(t *testing.T) {
	h := start(t, func(s *pop3.Server) { s.MaxAuthFailuresPerAddress = 4 }, "a\r\n")
	try := "S~ \\+OK.*\nC: USER alice\nS~ \\+OK.*\nC: PASS x\n"
	for range 4 {
		h.play(try + "S: -ERR [AUTH] wrong user or password")
	}
	h.play(try + "S: -ERR [SYS/TEMP] too many failed logins, try later\nS. closed")
	h.play("S~ \\+OK.*\nC: USER alice\nS~ \\+OK.*\nC: PASS wonder land\nS: -ERR [SYS/TEMP] too many failed logins, try later\nS. closed")
	assert.Contains(t, h.logged(), "too many failed logins from this address")
}

func TestInUse(t *testing.T) {
	h := start(t, nil, "a\r\n")
	p := &dialog.Player{Conn: h.dial()}
	require.NoError(t, p.Play("first", login))
	h.play("S~ \\+OK.*\nC: USER alice\nS~ \\+OK.*\nC: PASS wonder land\nS: -ERR [IN-USE] another session has this maildrop\nC: QUIT\nS: +OK goodbye")
}

func TestTLS(t *testing.T) {
	h := start(t, func(s *pop3.Server) { s.AllowInsecureAuth = false }, "a\r\n")
	h.play(`S~ \+OK.*
C: CAPA
S~ \+OK.*
S: TOP
S: UIDL
S: RESP-CODES
S: AUTH-RESP-CODE
S: PIPELINING
S: UTF8 USER
S: LANG
S: EXPIRE NEVER
S: STLS
S: IMPLEMENTATION mailblocks
S: .
C: USER alice
S: -ERR [AUTH] start TLS first
C: AUTH PLAIN AGFsaWNlAHdvbmRlciBsYW5k
S: -ERR [AUTH] start TLS first
C: STLS
S: +OK begin TLS
TLS
C: STLS
S: -ERR TLS is active already
C: CAPA
S~ \+OK.*
S: TOP
S: UIDL
S: RESP-CODES
S: AUTH-RESP-CODE
S: PIPELINING
S: UTF8 USER
S: LANG
S: EXPIRE NEVER
S: USER
S: SASL PLAIN LOGIN
S: IMPLEMENTATION mailblocks
S: .
C: USER alice
S: +OK send PASS
C: PASS wonder land
S: +OK 1 messages (3 octets)
C: QUIT
S: +OK goodbye
`)
	// What was sent in the clear along with STLS is somebody else's.
	h.play("S~ \\+OK.*\nC: STLS\nC: USER mallory\nS: -ERR commands after STLS\nS. closed")

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- h.server.ServeTLS(ln) }()
	c, err := tls.Dial("tcp", ln.Addr().String(), h.client)
	require.NoError(t, err)
	p := &dialog.Player{Conn: c}
	require.NoError(t, p.Play("implicit", login+"C: QUIT\nS: +OK goodbye"))
	c.Close()
	// A client that speaks no TLS there gets nothing, and harms nobody.
	plain, err := net.Dial("tcp", ln.Addr().String())
	require.NoError(t, err)
	_, err = io.WriteString(plain, "USER alice\r\n")
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, plain)
	plain.Close()
	h.server.Close()
	assert.ErrorIs(t, <-done, pop3.ErrServerClosed)
}

func TestHostileInput(t *testing.T) {
	h := start(t, nil)
	h.play("S~ \\+OK.*\nC: " + strings.Repeat("x", 300) + "\nS: -ERR line too long\nC: NOOP\nS: -ERR log in first\nC: QUIT\nS: +OK goodbye\nS. closed")
	h.play("S~ \\+OK.*\n" + strings.Repeat("C: BOGUS\nS~ -ERR.*\n", 10) + "S. closed")

	c := h.dial()
	go func() { _, _ = io.Copy(c, io.LimitReader(zeros{}, 1<<20)) }()
	got, _ := io.ReadAll(c)
	assert.Contains(t, string(got), "-ERR line too long")
	assert.Contains(t, h.logged(), "command line too long")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestPipelining(t *testing.T) {
	h := start(t, nil, "a\r\n", "b\r\n")
	c := h.dial()
	_, err := io.WriteString(c, "USER alice\r\nPASS wonder land\r\nSTAT\r\nRETR 1\r\nRETR 2\r\nDELE 1\r\nQUIT\r\n")
	require.NoError(t, err)
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.Equal(t, "+OK POP3 server ready\r\n+OK send PASS\r\n+OK 2 messages (6 octets)\r\n+OK 2 6\r\n+OK 3 octets\r\na\r\n.\r\n+OK 3 octets\r\nb\r\n.\r\n+OK message 1 deleted\r\n+OK goodbye\r\n", string(got))
	assert.Equal(t, []string{"b\r\n"}, h.mail.left())
}

func TestShutdown(t *testing.T) {
	h := start(t, nil, "a\r\n")
	p := &dialog.Player{Conn: h.dial()}
	require.NoError(t, p.Play("login", login+"C: DELE 1\nS~ \\+OK.*\n"))
	require.NoError(t, h.server.Shutdown(t.Context()))
	require.NoError(t, p.Play("after", "S: -ERR [SYS/TEMP] server is shutting down\nS. closed"))
	assert.ErrorIs(t, <-h.served, pop3.ErrServerClosed)
	assert.Len(t, h.mail.left(), 1, "no QUIT, no deletion")
	assert.False(t, h.again(), "the maildrop is closed")
}

func TestIdleTimeout(t *testing.T) {
	h := start(t, func(s *pop3.Server) { s.IdleTimeout = time.Millisecond }, "a\r\n")
	h.play("S~ \\+OK.*\nS. closed")
	assert.Contains(t, h.logged(), "idle for too long")
}

func TestConnectionLimit(t *testing.T) {
	h := start(t, func(s *pop3.Server) { s.MaxConnsPerAddr = 1 })
	p := &dialog.Player{Conn: h.dial()}
	require.NoError(t, p.Play("first", "S~ \\+OK.*\n"))
	h.play("S: -ERR [SYS/TEMP] too many connections\nS. closed")
}

// The digest is that of RFC 1939, 7, over our timestamp.
func TestAPOP(t *testing.T) {
	h := start(t, func(s *pop3.Server) {
		s.Secret = func(_ context.Context, user string) (string, string, error) {
			switch user {
			case "mrose":
				return "tanstaaf", "mrose", nil
			case "bob":
				return "", "", errors.New("database gone")
			}
			return "", "", pop3.ErrNoUser
		}
	}, "a\r\n")
	apop := func(user, secret string) string {
		c := textproto.NewConn(h.dial())
		greeting, err := c.ReadLine()
		require.NoError(t, err)
		stamp := greeting[strings.IndexByte(greeting, '<'):]
		require.NoError(t, c.PrintfLine("APOP %s %x", user, md5.Sum([]byte(stamp+secret))))
		line, err := c.ReadLine()
		require.NoError(t, err)
		c.Close()
		return line
	}
	assert.Equal(t, "+OK 1 messages (3 octets)", apop("mrose", "tanstaaf"))
	assert.Equal(t, "-ERR [AUTH] wrong user or password", apop("mrose", "x"))
	assert.Equal(t, "-ERR [AUTH] wrong user or password", apop("nobody", ""))
	assert.Equal(t, "-ERR [SYS/TEMP] cannot check credentials now", apop("bob", "x"))
	h2 := start(t, nil)
	h2.play("S: +OK POP3 server ready\nC: APOP mrose c4c9334bac560ecc979e58001b3e22fb\nS: -ERR APOP is not available")
}

func TestUTF8AndLang(t *testing.T) {
	h := start(t, nil, "Subject: Grüße\r\n\r\n")
	h.play(`S~ \+OK.*
C: LANG
S: +OK language listing follows
S: en English
S: .
C: LANG *
S: +OK en now English
C: LANG uga
S: -ERR no such language here
C! USER \xff\r\n
S: -ERR [AUTH] not UTF-8
C: UTF8
S: +OK UTF-8 mode
C: STLS
S: -ERR STLS comes before UTF8
C: USER alice
S: +OK send PASS
C: PASS wonder land
S~ \+OK.*
C: UTF8
S: -ERR already logged in
C: RETR 1
S: +OK 20 octets
S: Subject: Grüße
S:
S: .
C: QUIT
S: +OK goodbye
`)
}

func TestLoginDelayAndExpire(t *testing.T) {
	day := 36 * time.Hour
	h := start(t, func(s *pop3.Server) { s.LoginDelay, s.Expire = time.Hour, &day }, "a\r\n")
	h.play(login + "C: QUIT\nS: +OK goodbye\nS. closed")
	h.play("S~ \\+OK.*\nC: CAPA\nS: +OK capability list follows\nS: TOP\nS: UIDL\nS: RESP-CODES\nS: AUTH-RESP-CODE\nS: PIPELINING\nS: UTF8 USER\nS: LANG\n" +
		"S: EXPIRE 1\nS: LOGIN-DELAY 3600\nS* [SU].*\nS: IMPLEMENTATION mailblocks\nS: .\n" +
		"C: USER alice\nS: +OK send PASS\nC: PASS wonder land\nS: -ERR [LOGIN-DELAY] too soon after your last login")
}

func TestTrace(t *testing.T) {
	var verbs []string
	h := start(t, func(s *pop3.Server) {
		s.Trace = &pop3.Trace{CommandDone: func(_ context.Context, verb string, ok bool, _ time.Duration) {
			verbs = append(verbs, fmt.Sprint(verb, " ", ok))
		}}
	}, "a\r\n")
	h.play(login + "C: WHAT\nS~ -ERR.*\nC: RETR 9\nS~ -ERR.*\nC: QUIT\nS~ \\+OK.*\nS. closed")
	h.server.Close()
	assert.Equal(t, []string{"USER true", "PASS true", " false", "RETR false", "QUIT true"}, verbs)
}

// FuzzSession feeds a logged-in session any octets: it answers or hangs up, and never panics.
func FuzzSession(f *testing.F) {
	f.Add("STAT\r\nLIST\r\nTOP 1 0\r\nQUIT\r\n")
	f.Add("RETR 18446744073709551616\r\nUIDL -1\r\nTOP 1 99999999999\r\n")
	f.Add("AUTH PLAIN\r\n*\r\n")
	f.Fuzz(func(t *testing.T, input string) {
		var logged bytes.Buffer
		mail := &memory{texts: []string{"Subject: x\r\n\r\nbody\r\n"}}
		server := &pop3.Server{Authenticator: accounts{}, Open: mail.open, AllowInsecureAuth: true, FailureDelay: -1,
			Logger: slog.New(slog.NewTextHandler(&lockedWriter{w: &logged}, nil))}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		go server.Serve(ln) //nolint:errcheck // it ends with Close
		c, err := net.Dial("tcp", ln.Addr().String())
		require.NoError(t, err)
		go func() {
			_, _ = io.WriteString(c, "USER alice\r\nPASS wonder land\r\n"+input)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		_, _ = bufio.NewReader(c).WriteTo(io.Discard)
		c.Close()
		server.Close()
		require.NotContains(t, logged.String(), "msg=panic")
	})
}

func mustTLS(t *testing.T, cert, key string) *tls.Config {
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	return &tls.Config{Certificates: []tls.Certificate{pair}}
}
