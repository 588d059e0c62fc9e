package milter_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	gomilter "github.com/emersion/go-milter"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/shared"
	"github.com/mailblocks/mailblocks/spam"
	"github.com/mailblocks/mailblocks/spam/internal/daemontest"
	"github.com/mailblocks/mailblocks/spam/milter"
)

const text = "From: a@example.org\r\nSubject: one\r\n two\r\nX-Odd :value\r\nno field\r\nReceived: x\r\n\r\nbody\r\n.\r\n"

func message(text string) *spam.Message {
	return &spam.Message{Source: strings.NewReader(text), Size: int64(len(text))}
}

// filter writes down what it sees and says what it was told to say.
type filter struct {
	gomilter.NoOpMilter
	mu      *sync.Mutex
	seen    *[]string
	at      string // the step at which to say it
	say     gomilter.Response
	changes func(m *gomilter.Modifier) error
}

func (f *filter) step(name string, args ...any) (gomilter.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*f.seen = append(*f.seen, strings.TrimSpace(fmt.Sprintln(append([]any{name}, args...)...)))
	if name == f.at {
		return f.say, nil
	}
	return gomilter.RespContinue, nil
}

func (f *filter) Connect(host, family string, _ uint16, addr net.IP, _ *gomilter.Modifier) (gomilter.Response, error) {
	return f.step("connect", host, family, addr)
}
func (f *filter) Helo(name string, _ *gomilter.Modifier) (gomilter.Response, error) {
	return f.step("helo", name)
}
func (f *filter) MailFrom(from string, m *gomilter.Modifier) (gomilter.Response, error) {
	return f.step("mail", from, m.Macros["{auth_authen}"])
}
func (f *filter) RcptTo(to string, _ *gomilter.Modifier) (gomilter.Response, error) {
	return f.step("rcpt", to)
}
func (f *filter) Header(name, value string, _ *gomilter.Modifier) (gomilter.Response, error) {
	return f.step("header", fmt.Sprintf("%q %q", name, value))
}
func (f *filter) Headers(textproto.MIMEHeader, *gomilter.Modifier) (gomilter.Response, error) {
	return f.step("headers")
}
func (f *filter) BodyChunk(chunk []byte, _ *gomilter.Modifier) (gomilter.Response, error) {
	return f.step("body", len(chunk))
}
func (f *filter) Body(m *gomilter.Modifier) (gomilter.Response, error) {
	if f.changes != nil {
		if err := f.changes(m); err != nil {
			return nil, err
		}
	}
	return f.step("end")
}

func serve(t *testing.T, at string, say gomilter.Response, changes func(m *gomilter.Modifier) error) (c *milter.Client, seen func() []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	var all []string
	s := gomilter.Server{
		NewMilter: func() gomilter.Milter { return &filter{mu: &mu, seen: &all, at: at, say: say, changes: changes} },
		Actions:   gomilter.OptAddHeader | gomilter.OptQuarantine,
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return &milter.Client{Addr: l.Addr().String()}, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

func TestShown(t *testing.T) {
	c, seen := serve(t, "", nil, nil)
	assert.Equal(t, "milter", c.Name())
	assert.Equal(t, spam.Data, c.Stage())
	e := &spam.Envelope{Remote: netip.MustParseAddr("192.0.2.1"), RemoteName: "mx.example.org", Hello: "h.test", Sender: "a@example.org", Recipients: []string{"b@x.test", "c@x.test"}, Identity: "alice"}
	v, err := c.Check(t.Context(), e, message(text+strings.Repeat("x", 100000)))
	require.NoError(t, err)
	assert.Equal(t, spam.Accept, v.Action)
	assert.True(t, v.Unsure)
	assert.Equal(t, []string{"connect mx.example.org tcp4 192.0.2.1", "helo h.test", "mail a@example.org alice", "rcpt b@x.test", "rcpt c@x.test",
		`header "From" "a@example.org"`, `header "Subject" "one\n two"`, `header "X-Odd" "value"`, `header "Received" "x"`, "headers",
		"body 65535", "body 34474", "end"}, seen())
	_, err = c.Check(t.Context(), &spam.Envelope{Remote: netip.MustParseAddr("2001:db8::1")}, message(""))
	require.NoError(t, err)
	assert.Contains(t, seen(), "connect [2001:db8::1] tcp6 2001:db8::1")
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		say    gomilter.Response
		action spam.Action
		reply  string
	}{
		{gomilter.RespReject, spam.Reject, ""},
		{gomilter.RespTempFail, spam.Defer, ""},
		{gomilter.RespDiscard, spam.Junk, ""},
		{gomilter.RespAccept, spam.Accept, ""},
		{gomilter.NewResponseStr('y', "550 5.7.1 no thank you"), spam.Reject, "5.7.1 no thank you"},
		{gomilter.NewResponseStr('y', "451 4.7.1 lat\xc3\xa9r"), spam.Defer, "4.7.1 lat?r"},
	} {
		for _, at := range []string{"connect", "helo", "mail", "rcpt", "header", "headers", "body", "end"} {
			f, _ := serve(t, at, c.say, nil)
			v, err := f.Check(t.Context(), &spam.Envelope{Recipients: []string{"b@x.test"}}, message(text))
			require.NoError(t, err, at)
			assert.Equal(t, c.action, v.Action, at)
			assert.Equal(t, c.reply, v.Reply, at)
			assert.Zero(t, v.Score)
		}
	}
}

func TestChanges(t *testing.T) {
	c, _ := serve(t, "", nil, func(m *gomilter.Modifier) error { return m.AddHeader("X-Seen", "yes") })
	var got []gomilter.ModifyAction
	c.Changes = func(_ context.Context, _ *spam.Envelope, changes []gomilter.ModifyAction) { got = changes }
	v, err := c.Check(t.Context(), nil, message(text))
	require.NoError(t, err)
	assert.Equal(t, spam.Accept, v.Action)
	require.Len(t, got, 1)
	assert.Equal(t, "X-Seen", got[0].HeaderName)

	c, _ = serve(t, "", nil, func(m *gomilter.Modifier) error { return m.Quarantine("odd") })
	v, err = c.Check(t.Context(), nil, message(text))
	require.NoError(t, err)
	assert.Equal(t, spam.Junk, v.Action)
	assert.Equal(t, "odd", v.Reasons[0].Text)
}

func TestTrouble(t *testing.T) {
	hello := "\x00\x00\x00\x0dO\x00\x00\x00\x06\x00\x00\x00\x3f\x00\x00\x00\x00"
	for name, do := range map[string]func(net.Conn){
		"hangs up at once": func(net.Conn) {},
		"nonsense":         func(c net.Conn) { _, _ = io.WriteString(c, "220 mx.test ESMTP\r\n") },
		"a huge packet":    func(c net.Conn) { _, _ = io.WriteString(c, "\xff\xff\xff\xffO") },
		"hangs up later":   func(c net.Conn) { _, _ = io.WriteString(c, hello); _, _ = io.ReadFull(c, make([]byte, 20)) },
		"a flood":          func(c net.Conn) { _, _ = io.WriteString(c, hello); _, _ = io.Copy(c, forever("\x00\x00\x00\x01p")) },
		"changes for ever": func(c net.Conn) {
			_, _ = io.WriteString(c, hello)
			_, _ = io.Copy(c, forever("\x00\x00\x00\x05hA\x00B\x00"))
		},
		"unknown actions": func(c net.Conn) { _, _ = io.WriteString(c, hello+"\x00\x00\x00\x01?") },
	} {
		_, err := (&milter.Client{Addr: daemontest.Fake(t, do)}).Check(t.Context(), nil, message(text))
		assert.Error(t, err, name)
	}
	_, err := (&milter.Client{Addr: "127.0.0.1:1"}).Check(t.Context(), nil, message(text))
	assert.Error(t, err)
	_, err = new(milter.Client).Check(t.Context(), nil, new(spam.Message))
	assert.ErrorIs(t, err, spam.ErrNoSource)
	c, _ := serve(t, "", nil, nil)
	_, err = c.Check(t.Context(), nil, message("X: "+strings.Repeat("x", 1<<20)))
	assert.ErrorIs(t, err, milter.ErrHeader)
	_, err = c.Check(t.Context(), nil, &spam.Message{Source: broken{}, Size: 10})
	assert.ErrorIs(t, err, errBroken)
}

// forever repeats a string.
func forever(s string) io.Reader { return &repeat{s: s} }

type repeat struct {
	s string
	r bytes.Reader
}

func (f *repeat) Read(p []byte) (int, error) {
	if f.r.Len() == 0 {
		f.r.Reset([]byte(strings.Repeat(f.s, 1000)))
	}
	return f.r.Read(p)
}

var errBroken = errors.New("disk broken")

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errBroken }

func TestStall(t *testing.T) {
	met, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-met; cancel() }()
	_, err := (&milter.Client{Addr: daemontest.Fake(t, func(net.Conn) { met <- struct{}{}; <-end })}).Check(ctx, nil, message(text))
	assert.ErrorIs(t, err, context.Canceled)
}

// TestInterop has opendkim, over libmilter, look at a message and tell what it would add.
func TestInterop(t *testing.T) {
	path, err := exec.LookPath("opendkim")
	if err != nil {
		shared.Missing(t, "opendkim")
	}
	dir := t.TempDir()
	addr := daemontest.FreeAddr(t)
	_, port, _ := strings.Cut(addr, ":")
	conf := filepath.Join(dir, "conf")
	require.NoError(t, os.WriteFile(conf, []byte("Mode v\nAlwaysAddARHeader yes\nAuthservID mx.test\nBackground no\nSyslog no\nTestDNSData file:"+conf+"\nSocket inet:"+port+"@127.0.0.1\n"), 0o600))
	c := &milter.Client{Filter: "opendkim", Addr: addr}
	var got []gomilter.ModifyAction
	c.Changes = func(_ context.Context, _ *spam.Envelope, changes []gomilter.ModifyAction) { got = changes }
	daemontest.Run(t, exec.Command(path, "-f", "-x", conf), func() error {
		_, err := c.Check(t.Context(), &spam.Envelope{Remote: netip.MustParseAddr("192.0.2.1"), Sender: "a@example.org", Recipients: []string{"b@x.test"}}, message(text))
		return err
	})
	require.NotEmpty(t, got)
	assert.Equal(t, "Authentication-Results", got[0].HeaderName)
	assert.Contains(t, got[0].HeaderValue, "mx.test")
}
