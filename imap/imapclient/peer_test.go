package imapclient

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
	"time"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/imapserver"
	"github.com/mailblocks/mailblocks/imap/memstore"
	"github.com/mailblocks/mailblocks/internal/testcert"
)

// A peer plays a server by a script:
//
//	S: text      sends a line
//	S! text      sends text in Go's escapes, without a line end
//	C: text      wants that line
//	C! 5         wants so many octets, whatever they are
//	mark         waits for the test to take from marks
//	TLS          begins TLS
//	close        closes the connection
//
// A tag of "T" in the script stands for the tag of the last command that was wanted so.
type peer struct {
	conn net.Conn
	done chan error
}

var marks = make(chan struct{})

var testCert, testPool, testCertErr = testcert.New("peer.test")

// scripted returns a client's end of a connection on which script is played.
func scripted(t testing.TB, script string) net.Conn {
	t.Helper()
	require.NoError(t, testCertErr)
	near, far := net.Pipe()
	p := &peer{conn: far, done: make(chan error, 1)}
	go func() {
		err := p.play(script)
		if err != nil {
			p.conn.Close()
		}
		p.done <- err
	}()
	t.Cleanup(func() {
		near.Close()
		assert.NoError(t, <-p.done)
		far.Close()
	})
	return near
}

func (p *peer) play(script string) error {
	_ = p.conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(p.conn)
	tag := ""
	lines := strings.Split(script, "\n")
	for i, line := range lines {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("script:%d: %s", i+1, fmt.Sprintf(format, args...))
		}
		line = strings.TrimLeft(line, "\t ")
		kind, text, _ := strings.Cut(line, " ")
		switch kind {
		case "", "#":
		case "S:", "S!":
			if strings.HasPrefix(text, "T ") {
				text = tag + text[1:]
			}
			if kind == "S!" {
				raw, err := strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
				if err != nil {
					return fail("%v", err)
				}
				text = raw
			} else {
				text += "\r\n"
			}
			if _, err := io.WriteString(p.conn, text); err != nil {
				return fail("sending %q: %v", text, err)
			}
		case "C:":
			got, err := r.ReadString('\n')
			if err != nil {
				return fail("want %q: %v", text, err)
			}
			got = strings.TrimSuffix(got, "\r\n")
			if strings.HasPrefix(text, "T ") {
				tag, _, _ = strings.Cut(got, " ")
				text = tag + text[1:]
			}
			if got != text {
				return fail("want %q\n got %q", text, got)
			}
		case "C!":
			n, err := strconv.Atoi(text)
			if err != nil {
				return fail("%v", err)
			}
			if _, err := io.CopyN(io.Discard, r, int64(n)); err != nil {
				return fail("%v", err)
			}
		case "mark":
			marks <- struct{}{}
		case "TLS":
			c := tls.Server(p.conn, &tls.Config{Certificates: []tls.Certificate{testCert}})
			if err := c.Handshake(); err != nil {
				return fail("%v", err)
			}
			p.conn, r = c, bufio.NewReader(c)
		case "close":
			p.conn.Close()
		default:
			return fail("what is %q?", line)
		}
	}
	return nil
}

// play begins a session with a scripted server that has greeted with these capabilities, the
// client having logged in.
func play(t testing.TB, caps string, opt *ClientOptions, script string) *Client {
	t.Helper()
	return greeted(t, "S: * PREAUTH [CAPABILITY IMAP4rev1 "+caps+"] hello\n"+script, opt)
}

func greeted(t testing.TB, script string, opt *ClientOptions) *Client {
	t.Helper()
	o := ClientOptions{}
	if opt != nil {
		o = *opt
	}
	o.TLSPolicy, o.InsecureAuth = TLSNever, true
	c, err := NewClient(t.Context(), scripted(t, script), "peer.test", &o)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(); <-c.ended })
	return c
}

// users is an Authenticator for any user whose password is "secret", and keeps their mail.
type users struct {
	mu   sync.Mutex
	mail map[string]*memstore.Storage
}

func (u *users) Mechanisms(*tls.ConnectionState) []string { return []string{"PLAIN"} }

func (u *users) Start(_ context.Context, _ string, _ netip.AddrPort, _ *tls.ConnectionState, done func(string) error) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "secret" {
			return errors.New("wrong password")
		}
		return done(user)
	}), nil
}

func (u *users) login(_ context.Context, user string) (imap.Store, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.mail == nil {
		u.mail = make(map[string]*memstore.Storage)
	}
	if u.mail[user] == nil {
		u.mail[user] = memstore.New()
	}
	return u.mail[user].Open(), nil
}

// server starts our server on loopback and returns its address and options for clients.
func server(t testing.TB, change func(*imapserver.Server)) (addr string, opt ClientOptions) {
	t.Helper()
	cert, pool, err := testcert.New("127.0.0.1")
	require.NoError(t, err)
	u := new(users)
	s := &imapserver.Server{
		Authenticator: u, Login: u.login, Logger: slog.New(slog.DiscardHandler),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
	}
	if change != nil {
		change(s)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-done, imapserver.ErrServerClosed)
	})
	return ln.Addr().String(), ClientOptions{TLS: &tls.Config{RootCAs: pool}}
}

// connect logs in as ann.
func connect(t testing.TB, addr string, opt ClientOptions) *Client {
	t.Helper()
	c, err := Dial(t.Context(), addr, &opt)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close(); <-c.ended })
	require.NoError(t, c.Login(t.Context(), "ann", "secret"))
	return c
}

func mailText(n int) string {
	return fmt.Sprintf("From: Bob <bob@example.org>\r\nTo: ann@example.org\r\nSubject: message %d\r\nMessage-ID: <%d@example.org>\r\nDate: Sun, 22 Nov 2026 06:00:%02d +0000\r\n\r\nText of message %d.\r\n", n, n, n%60, n)
}

// fill appends n messages and selects the INBOX.
func fillInbox(t testing.TB, c *Client, n int) *Selected {
	t.Helper()
	var msgs []AppendMessage
	for i := range n {
		msgs = append(msgs, AppendMessage{Body: strings.NewReader(mailText(i + 1))})
	}
	r, err := c.Append(t.Context(), "INBOX", msgs...)
	require.NoError(t, err)
	require.Len(t, r.UIDs, n)
	s, err := c.Select(t.Context(), "INBOX", nil)
	require.NoError(t, err)
	return s
}
