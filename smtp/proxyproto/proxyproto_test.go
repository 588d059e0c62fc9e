package proxyproto_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/smtp"
	"github.com/mailblocks/mailblocks/smtp/proxyproto"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func listen(t testing.TB, opt proxyproto.Options) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	opt.Logger = slog.New(slog.DiscardHandler)
	p := proxyproto.Listen(l, opt)
	t.Cleanup(func() { p.Close() })
	return p
}

func dial(t testing.TB, l net.Listener, send string) net.Conn {
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	_, err = c.Write([]byte(send))
	require.NoError(t, err)
	return c
}

const v2 = "\r\n\r\n\x00\r\nQUIT\n"

func TestHeaders(t *testing.T) {
	const own = "own"
	cases := map[string]struct{ header, remote, local string }{
		"v1, IPv4":         {"PROXY TCP4 192.0.2.1 198.51.100.2 1234 25\r\n", "192.0.2.1:1234", "198.51.100.2:25"},
		"v1, IPv6":         {"PROXY TCP6 2001:db8::1 2001:db8::2 65535 0\r\n", "[2001:db8::1]:65535", "[2001:db8::2]:0"},
		"v1, unknown":      {"PROXY UNKNOWN\r\n", own, own},
		"v1, unknown, say": {"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", own, own},
		"v1, mapped":       {"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", "192.0.2.1:1", "192.0.2.2:2"},
		"v2, IPv4":         {v2 + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x04\xd2\x00\x19", "192.0.2.1:1234", "198.51.100.2:25"},
		"v2, IPv6": {v2 + "\x21\x21\x00\x24\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x02\x00\x01\x00\x02",
			"[2001:db8::1]:1", "[2001:db8::2]:2"},
		"v2, more data":   {v2 + "\x21\x11\x00\x0f\xc0\x00\x02\x01\xc6\x33\x64\x02\x04\xd2\x00\x19\x04\x00\x00", "192.0.2.1:1234", "198.51.100.2:25"},
		"v2, local":       {v2 + "\x20\x00\x00\x00", own, own},
		"v2, local, TCP":  {v2 + "\x20\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x04\xd2\x00\x19", own, own},
		"v2, unspecified": {v2 + "\x21\x00\x00\x02ab", own, own},
		"v2, Unix":        {v2 + "\x21\x31\x00\xd8" + strings.Repeat("\x00", 216), own, own},

		"v1, family":     {"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", "", ""},
		"v1, UDP":        {"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", "", ""},
		"v1, port":       {"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", "", ""},
		"v1, octal port": {"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", "", ""},
		"v1, zone":       {"PROXY TCP6 fe80::1%lo fe80::2 1 2\r\n", "", ""},
		"v1, fields":     {"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "", ""},
		"v1, two spaces": {"PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "", ""},
		"v1, long":       {"PROXY UNKNOWN " + strings.Repeat("x", 100) + "\r\n", "", ""},
		"v2, version":    {v2 + "\x11\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x04\xd2\x00\x19", "", ""},
		"v2, command":    {v2 + "\x22\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x02\x04\xd2\x00\x19", "", ""},
		"v2, short":      {v2 + "\x21\x11\x00\x0b\xc0\x00\x02\x01\xc6\x33\x64\x02\x04\xd2\x00", "", ""},
		"v2, huge":       {v2 + "\x21\x11\xff\xff", "", ""},
		"none":           {"EHLO client.test\r\n", "", ""},
		"TLS":            {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00", "", ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l := listen(t, proxyproto.Options{Trusted: loopback})
			client := dial(t, l, c.header+"rest")
			if c.remote == "" {
				_, err := client.Read(make([]byte, 1)) // closed, perhaps by a reset
				require.Error(t, err)
				return
			}
			conn, err := l.Accept()
			require.NoError(t, err)
			defer conn.Close()
			if c.remote == own {
				c.remote, c.local = client.LocalAddr().String(), client.RemoteAddr().String()
			} else {
				assert.Equal(t, client.LocalAddr().String(), conn.(*proxyproto.Conn).Carrier().RemoteAddr().String())
			}
			assert.Equal(t, c.remote, conn.RemoteAddr().String())
			assert.Equal(t, c.local, conn.LocalAddr().String())
			rest := make([]byte, 4)
			_, err = io.ReadFull(conn, rest)
			require.NoError(t, err)
			assert.Equal(t, "rest", string(rest))
			if half, ok := conn.(interface{ CloseWrite() error }); assert.True(t, ok) {
				require.NoError(t, half.CloseWrite())
				_, err = client.Read(make([]byte, 1))
				assert.ErrorIs(t, err, io.EOF)
			}
		})
	}
}

// A proxy that is silent, or stops within a header, keeps nobody else waiting, and is given up on.
func TestSlowHeader(t *testing.T) {
	l := listen(t, proxyproto.Options{Trusted: loopback, MaxPending: 4, Timeout: 50 * time.Millisecond})
	var slow []net.Conn
	for _, start := range []string{"", "PROXY TCP4 192", v2 + "\x21"} {
		slow = append(slow, dial(t, l, start))
	}
	dial(t, l, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
	conn, err := l.Accept()
	require.NoError(t, err)
	assert.Equal(t, "192.0.2.1:1", conn.RemoteAddr().String())
	conn.Close()
	for _, c := range slow {
		_, err := c.Read(make([]byte, 1))
		assert.Error(t, err)
	}
}

// More connections than may be pending wait for their turn.
func TestMaxPending(t *testing.T) {
	l := listen(t, proxyproto.Options{Trusted: loopback, MaxPending: 1, Timeout: time.Millisecond})
	for range 3 {
		dial(t, l, "")
	}
	dial(t, l, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
	conn, err := l.Accept()
	require.NoError(t, err)
	conn.Close()
}

func TestStrangers(t *testing.T) {
	others := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	l := listen(t, proxyproto.Options{Trusted: others})
	client := dial(t, l, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n")
	conn, err := l.Accept()
	require.NoError(t, err)
	assert.Equal(t, client.LocalAddr().String(), conn.RemoteAddr().String())
	head := make([]byte, 6)
	_, err = io.ReadFull(conn, head)
	require.NoError(t, err)
	assert.Equal(t, "PROXY ", string(head), "handed on as it is")
	conn.Close()

	l = listen(t, proxyproto.Options{Trusted: others, RefuseOthers: true})
	_, err = dial(t, l, "").Read(make([]byte, 1))
	assert.Error(t, err)
}

func TestClose(t *testing.T) {
	l := listen(t, proxyproto.Options{Trusted: loopback})
	silent := dial(t, l, "")
	ready := dial(t, l, "PROXY UNKNOWN\r\n")
	done := make(chan error)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				done <- err
				return
			}
			c.Close()
		}
	}()
	_, err := ready.Read(make([]byte, 1))
	require.Error(t, err) // so it was accepted
	require.NoError(t, l.Close())
	assert.ErrorIs(t, <-done, net.ErrClosed)
	_, err = silent.Read(make([]byte, 1))
	assert.Error(t, err)
	_, err = l.Accept()
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.NoError(t, l.Close())
}

type broken struct{ net.Listener }

func (broken) Accept() (net.Conn, error) { return nil, errors.New("out of descriptors") }

func TestAcceptErrorsPass(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := proxyproto.Listen(broken{l}, proxyproto.Options{Trusted: loopback})
	for range 2 {
		_, err = p.Accept()
		assert.ErrorContains(t, err, "descriptors")
	}
	require.NoError(t, p.Close())
}

// who is a handler that tells each client what is known about it.
type who struct{ smtp.Base }

func (who) Verify(_ context.Context, s *smtp.Session, _ string) (*smtp.Reply, error) {
	return &smtp.Reply{Code: 250, Text: fmt.Sprintf("%v %v via %v", s.Remote, s.Local, s.Conn.Remote)}, nil
}

// Behind a proxy, the server's facts and limits are about the client, and a stranger's header ends its session.
func TestServer(t *testing.T) {
	serve := func(trusted []netip.Prefix) net.Listener {
		l := listen(t, proxyproto.Options{Trusted: trusted})
		s := &smtp.Server{Handler: who{}, Hostname: "mx.test", MaxConnectionsPerAddress: 1, Logger: slog.New(slog.DiscardHandler)}
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		t.Cleanup(func() {
			s.Close()
			assert.ErrorIs(t, <-done, smtp.ErrServerClosed)
		})
		return l
	}
	line := func(br *bufio.Reader) string {
		s, err := br.ReadString('\n')
		require.NoError(t, err)
		return s
	}
	l := serve(loopback)
	c := dial(t, l, "PROXY TCP4 192.0.2.1 198.51.100.2 1234 25\r\n")
	br := bufio.NewReader(c)
	assert.Equal(t, "220 mx.test ESMTP\r\n", line(br))
	_, err := c.Write([]byte("VRFY me\r\n"))
	require.NoError(t, err)
	assert.Equal(t, "250 2.0.0 192.0.2.1:1234 198.51.100.2:25 via "+c.LocalAddr().String()+"\r\n", line(br))
	assert.Equal(t, "220 mx.test ESMTP\r\n", line(bufio.NewReader(dial(t, l, "PROXY TCP4 192.0.2.2 198.51.100.2 1 25\r\n"))))
	assert.Equal(t, "421 4.7.0 too many connections from your address\r\n", line(bufio.NewReader(dial(t, l, "PROXY TCP4 192.0.2.1 198.51.100.2 2 25\r\n"))))

	l = serve([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})
	br = bufio.NewReader(dial(t, l, "PROXY TCP4 192.0.2.1 198.51.100.2 1234 25\r\nEHLO x\r\n"))
	assert.Equal(t, "220 mx.test ESMTP\r\n", line(br))
	_, err = br.ReadString('\n')
	assert.Error(t, err)
}

func ExampleListen() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	behind := proxyproto.Listen(l, proxyproto.Options{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	defer behind.Close()
	// err = server.Serve(behind), or with implicit TLS, server.ServeTLS(behind)

	// Output:
}
