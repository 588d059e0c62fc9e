package relay_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/mail"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/dnsauth/dane"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/internal/testcert"
	"github.com/mailblocks/mailblocks/queue"
	"github.com/mailblocks/mailblocks/queue/dsn"
	"github.com/mailblocks/mailblocks/queue/memstore"
	"github.com/mailblocks/mailblocks/queue/relay"
	"github.com/mailblocks/mailblocks/smtp"
)

// wire is one direction of a connection in memory. Unlike net.Pipe it has a buffer, as the kernel's have.
type wire struct {
	mu       sync.Mutex
	moved    sync.Cond
	buf      []byte
	err      error // for the reader, once buf is empty
	deadline time.Time
	alarm    *time.Timer
}

func newWire() *wire {
	w := &wire{}
	w.moved.L = &w.mu
	return w
}

func (w *wire) Read(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.buf) == 0 {
		if !w.deadline.IsZero() && !time.Now().Before(w.deadline) {
			return 0, os.ErrDeadlineExceeded
		}
		if w.err != nil {
			return 0, w.err
		}
		w.moved.Wait()
	}
	n := copy(p, w.buf)
	w.buf = w.buf[n:]
	return n, nil
}

func (w *wire) write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, syscall.EPIPE
	}
	w.buf = append(w.buf, p...)
	w.moved.Broadcast()
	return len(p), nil
}

func (w *wire) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	if w.alarm != nil {
		w.alarm.Stop()
	}
	w.moved.Broadcast()
}

func (w *wire) setDeadline(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.alarm != nil {
		w.alarm.Stop()
	}
	if w.deadline = t; !t.IsZero() && w.err == nil {
		w.alarm = time.AfterFunc(time.Until(t), func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.moved.Broadcast()
		})
	}
	w.moved.Broadcast()
}

// memConn is one end of a connection in memory.
type memConn struct {
	in, out *wire
	addr    net.Addr
}

func memPipe(addr string) (client, server *memConn) {
	a, b := newWire(), newWire()
	at := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))
	return &memConn{a, b, at}, &memConn{b, a, at}
}

func (c *memConn) Read(p []byte) (int, error)        { return c.in.Read(p) }
func (c *memConn) Write(p []byte) (int, error)       { return c.out.write(p) }
func (c *memConn) LocalAddr() net.Addr               { return c.addr }
func (c *memConn) RemoteAddr() net.Addr              { return c.addr }
func (c *memConn) SetDeadline(t time.Time) error     { c.in.setDeadline(t); return nil }
func (c *memConn) SetReadDeadline(t time.Time) error { c.in.setDeadline(t); return nil }
func (c *memConn) SetWriteDeadline(time.Time) error  { return nil }
func (c *memConn) Close() error                      { c.reset(io.EOF); return nil }
func (c *memConn) reset(err error)                   { c.out.end(err); c.in.end(net.ErrClosed) }

// A host plays a mail exchanger: good, but for what it does at one step.
type host struct {
	step  string        // connect, greeting, EHLO, STARTTLS, MAIL, RCPT, DATA, body, end; "" is always good
	does  string        // "hang", "reset", or a reply
	only  string        // at RCPT: to addresses that begin with it
	until time.Duration // 0 is for ever
	cert  *tls.Certificate

	mu    sync.Mutex
	taken []string // messages
	rcpts []string
}

var errReset = errors.New("connection reset by peer")

// at does what the host does at a step. It returns the reply, "" for the usual one; false ends the connection.
func (h *host) at(ctx context.Context, c *memConn, step, argument string, age time.Duration) (reply string, ok bool) {
	if h.step != step || h.until > 0 && age >= h.until || !strings.HasPrefix(argument, h.only) {
		return "", true
	}
	switch h.does {
	case "hang":
		<-ctx.Done()
		return "", false
	case "reset":
		c.reset(errReset)
		return "", false
	}
	return h.does, true
}

func (h *host) serve(ctx context.Context, c *memConn, age time.Duration) {
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	var conn net.Conn = c
	r := bufio.NewReader(conn)
	// say answers; a 5yz or 4yz greeting, and any 421, ends the session.
	say := func(step, argument, usual string) bool {
		reply, ok := h.at(ctx, c, step, argument, age)
		if !ok {
			return false
		}
		if reply == "" {
			reply = usual
		}
		_, err := io.WriteString(conn, reply+"\r\n")
		return err == nil && !strings.HasPrefix(reply, "421") && (step != "greeting" || reply[0] == '2')
	}
	if !say("greeting", "", "220 mx ESMTP") {
		return
	}
	var to []string
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSpace(line)
		verb, argument, _ := strings.Cut(line, " ")
		ok := true
		switch verb {
		case "EHLO":
			usual := "250-mx\r\n250 ENHANCEDSTATUSCODES"
			if h.cert != nil && conn == net.Conn(c) {
				usual = "250-mx\r\n250-STARTTLS\r\n250 ENHANCEDSTATUSCODES"
			}
			ok = say("EHLO", "", usual)
		case "STARTTLS":
			if ok = say("STARTTLS", "", "220 go"); ok {
				secure := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*h.cert}})
				conn, r = secure, bufio.NewReader(secure)
			}
		case "MAIL":
			to = nil
			ok = say("MAIL", "", "250 2.1.0 ok")
		case "RCPT":
			address, _, _ := strings.Cut(strings.TrimPrefix(argument, "TO:<"), ">")
			reply, good := h.at(ctx, c, "RCPT", address, age)
			if reply == "" {
				to, reply = append(to, address), "250 2.1.5 ok"
			}
			ok = good && say("", "", reply)
		case "DATA":
			if len(to) == 0 {
				ok = say("", "", "503 5.5.1 no recipients")
				break
			}
			if reply, good := h.at(ctx, c, "DATA", "", age); !good || reply != "" {
				ok = good && say("DATA", "", "")
				break
			}
			if ok = say("", "", "354 go"); !ok {
				break
			}
			if _, good := h.at(ctx, c, "body", "", age); !good {
				return
			}
			var text strings.Builder
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				text.WriteString(strings.TrimPrefix(line, "."))
			}
			reply, good := h.at(ctx, c, "end", "", age)
			if good && reply == "" {
				h.mu.Lock()
				h.taken, h.rcpts = append(h.taken, text.String()), append(h.rcpts, to...)
				h.mu.Unlock()
			}
			ok = good && say("end", "", "250 2.0.0 taken")
		case "QUIT":
			say("", "", "221 bye")
			return
		default:
			ok = say("", "", "250 2.0.0 ok")
		}
		if !ok {
			return
		}
	}
}

// TestWorld lets a queue deal with a world of exchangers, each bad in its own way, for six days of a virtual clock, and looks at what was
// delivered and at each report the sender got: when, what about, and with which status.
func TestWorld(t *testing.T) {
	good, roots, err := testcert.New("mx.good-tls.test", "mx.sts.test", "mx.tlsa.test")
	require.NoError(t, err)
	other, _, err := testcert.New("elsewhere.test")
	require.NoError(t, err)
	const delayed, failed = "delayed %s 4h", "failed %s 120h"
	lost := func(status string) []string {
		return []string{fmt.Sprintf(delayed, status), fmt.Sprintf(failed, status)}
	}
	refusedSoon := func(status string) []string { return []string{"failed " + status + " 0h"} }
	type place struct {
		domain  string
		hosts   []*host  // the first is preferred
		records string   // DNS, in place of MX and A of the hosts
		to      []string // local parts; nil means "user"
		notify  queue.Notify
		taken   []string // recipients whose message arrived
		reports []string // "action status age", by age
	}
	user := []string{"user"}
	places := []*place{
		{domain: "good.test", hosts: []*host{{}}, taken: user},
		{domain: "told.test", hosts: []*host{{}}, notify: queue.NotifySuccess, taken: user, reports: []string{"relayed 2.0.0 0h"}},
		{domain: "second.test", hosts: []*host{{step: "connect", does: "refuse"}, {}}, taken: user},
		{domain: "grey.test", hosts: []*host{{step: "RCPT", does: "451 4.7.1 Greylisted", until: 10 * time.Minute}}, taken: user},
		{domain: "backin2d.test", hosts: []*host{{step: "connect", does: "refuse", until: 48 * time.Hour}}, taken: user, reports: []string{"delayed 4.4.1 4h"}},
		{domain: "backin1h.test", hosts: []*host{{step: "greeting", does: "421 4.3.2 busy", until: time.Hour}}, taken: user},
		{domain: "never.test", hosts: []*host{{step: "RCPT", does: "550 5.1.1 no such user"}}, notify: queue.NotifyNever},
		{domain: "onlyfailure.test", hosts: []*host{{step: "RCPT", does: "451 4.2.1 not now"}}, notify: queue.NotifyFailure, reports: []string{"failed 4.2.1 120h"}},
		{domain: "onefull.test", hosts: []*host{{step: "RCPT", does: "452 4.2.2 mailbox full", only: "full"}}, to: []string{"user", "full"}, taken: user, reports: lost("4.2.2")},
		{domain: "onewrong.test", hosts: []*host{{step: "RCPT", does: "550 5.1.1 no such user", only: "wrong"}}, to: []string{"wrong", "user"}, taken: user, reports: refusedSoon("5.1.1")},
		{domain: "mail5.test", hosts: []*host{{step: "MAIL", does: "553 5.1.8 bad sender"}}, reports: refusedSoon("5.1.8")},
		{domain: "data5.test", hosts: []*host{{step: "DATA", does: "554 5.3.0 no"}}, reports: refusedSoon("5.3.0")},
		{domain: "end5.test", hosts: []*host{{step: "end", does: "554 5.7.1 spam"}}, reports: refusedSoon("5.7.1")},
		{domain: "end4.test", hosts: []*host{{step: "end", does: "452 4.3.1 disk full"}}, reports: lost("4.3.1")},
		{domain: "greet5.test", hosts: []*host{{step: "greeting", does: "554 5.3.2 no mail here"}}, reports: []string{"delayed 4.3.2 4h", "failed 5.3.2 120h"}},
		{domain: "greet4.test", hosts: []*host{{step: "greeting", does: "421 4.3.2 busy"}}, reports: lost("4.3.2")},
		{domain: "refuse.test", hosts: []*host{{step: "connect", does: "refuse"}}, reports: lost("4.4.1")},
		{domain: "hangs-connect.test", hosts: []*host{{step: "connect", does: "hang"}}, reports: lost("4.4.1")},
		{domain: "hangs-connect2.test", hosts: []*host{{step: "connect", does: "hang"}, {}}, taken: user},
		{domain: "nulldomain.test", records: "MX 0 .", reports: refusedSoon("5.1.10")},
		{domain: "localhost.test", records: "MX 0 localhost.", reports: refusedSoon("5.4.6")},
		{domain: "ours.test", records: "MX 0 relay.test.", reports: refusedSoon("5.4.6")},
		{domain: "noaddress.test", records: `MX 0 text.test.`, reports: refusedSoon("5.4.4")},
		{domain: "nowhere.invalid", reports: refusedSoon("5.1.2")},
		{domain: "servfail.test", records: "TXT x", reports: lost("4.4.3")},
		{domain: "good-tls.test", hosts: []*host{{cert: &good}}, taken: user},
		{domain: "bad-tls.test", hosts: []*host{{cert: &tls.Certificate{}}}, taken: user},
		{domain: "wrong-tls.test", hosts: []*host{{cert: &other}}, taken: user},
		{domain: "sts.test", hosts: []*host{{cert: &good}}, taken: user},
		{domain: "sts-wrong.test", hosts: []*host{{cert: &other}}, reports: lost("4.7.5")},
		{domain: "sts-none.test", hosts: []*host{{}}, reports: lost("4.7.5")},
		{domain: "sts-mx.test", hosts: []*host{{cert: &good}}, reports: lost("4.7.5")},
		{domain: "tlsa.test", hosts: []*host{{cert: &good}}, taken: user},
		{domain: "tlsa-wrong.test", hosts: []*host{{cert: &other}}, reports: lost("4.7.5")},
		{domain: "tlsa-none.test", hosts: []*host{{}}, reports: lost("4.7.5")},
	}
	for _, step := range []string{"greeting", "EHLO", "MAIL", "RCPT", "DATA"} {
		for _, does := range []string{"hang", "reset"} {
			name := strings.ToLower(does + "s-" + step)
			status := "4.4.2"
			if step == "greeting" || step == "EHLO" {
				status = "4.4.1"
			}
			places = append(places,
				&place{domain: name + ".test", hosts: []*host{{step: step, does: does}}, reports: lost(status)},
				&place{domain: name + "-2.test", hosts: []*host{{step: step, does: does}, {}}, taken: user})
		}
	}
	for _, step := range []string{"body", "end"} { // all of it was sent, and may have been taken: no other host is asked
		places = append(places,
			&place{domain: "resets-" + step + ".test", hosts: []*host{{step: step, does: "reset"}, {}}, reports: lost("4.4.2")},
			// The client waits ten minutes each time (RFC 5321, 4.5.3.2.6), so the attempts come later.
			&place{domain: "hangs-" + step + ".test", hosts: []*host{{step: step, does: "hang"}, {}}, reports: []string{"delayed 4.4.2 5h", "failed 4.4.2 120h"}})
	}
	now := time.Now() // when the certificates are valid
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		zones := resolver.MustParseZones("example.org. MX 0 mx.example.org.\nmx.example.org. A 198.51.100.1\nlocalhost. A 127.0.0.1\nrelay.test. A 198.51.100.2\ntext.test. TXT x")
		home := &host{}
		hosts := map[string]*host{"198.51.100.1:25": home}
		for i, p := range places {
			if p.records != "" {
				require.NoError(t, zones.AddText(p.domain+". "+p.records))
			}
			for n, h := range p.hosts {
				name := fmt.Sprintf("mx%d.%s", n, p.domain)
				if n == 0 {
					name = "mx." + p.domain
				}
				addr := fmt.Sprintf("203.0.%d.%d", i, n+1)
				require.NoError(t, zones.AddText(fmt.Sprintf("%s. MX %d %s.\n%s. A %s", p.domain, n, name, name, addr)))
				hosts[addr+":25"] = h
				if strings.HasPrefix(p.domain, "tlsa") {
					leaf, err := x509.ParseCertificate(good.Certificate[0])
					require.NoError(t, err)
					require.NoError(t, zones.AddText(fmt.Sprintf("_25._tcp.%s. TLSA 3 1 1 %x", name, sha256.Sum256(leaf.RawSubjectPublicKeyInfo))))
					zones.SetSecure(p.domain, name, "_25._tcp."+name)
				}
			}
		}
		zones.Fail("servfail.test", 0, resolver.ErrServFail)

		world, end := context.WithCancel(t.Context())
		tr := &relay.Transport{
			Resolver: zones, Hostname: "relay.test", Addresses: []netip.Addr{},
			Client: smtp.ClientOptions{Dial: func(ctx context.Context, _, addr string) (net.Conn, error) {
				h, age := hosts[addr], time.Since(began)
				if h == nil {
					return nil, syscall.EHOSTUNREACH
				}
				if h.step == "connect" && (h.until == 0 || age < h.until) {
					if h.does == "hang" {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					return nil, syscall.ECONNREFUSED
				}
				here, there := memPipe(addr)
				go h.serve(world, there, age)
				return here, nil
			}},
			Security: func(ctx context.Context, domain string, mx resolver.MX, secure bool) (relay.Security, error) {
				if secure {
					set, err := dane.Lookup(ctx, zones, mx.Host, 25, domain)
					if err != nil {
						return relay.Security{Level: relay.Refused}, nil
					}
					if set.Status != dane.Absent {
						return relay.Security{Level: relay.Encrypted, Config: set.Config(nil)}, nil
					}
				}
				switch {
				case domain == "sts-mx.test":
					return relay.Security{Level: relay.Refused}, nil
				case strings.HasPrefix(domain, "sts"):
					return relay.Security{Level: relay.Verified, Config: &tls.Config{RootCAs: roots, Time: func() time.Time { return now }}}, nil
				}
				return relay.Security{}, nil
			},
		}
		store := memstore.New()
		runner := queue.Runner{
			Store: store, Transport: tr, Report: (&dsn.Writer{Hostname: "relay.test"}).Report, Retry: queue.Backoff{Jitter: -1},
			Logger: slog.New(slog.DiscardHandler),
		}
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- runner.Run(ctx) }()
		for _, p := range places {
			e := queue.Envelope{ReversePath: "sender@example.org", EnvID: p.domain, Return: queue.ReturnHeaders}
			if p.to == nil {
				p.to = user
			}
			for _, local := range p.to {
				e.Recipients = append(e.Recipients, queue.Recipient{Address: local + "@" + p.domain, Notify: p.notify})
			}
			_, err := store.Enqueue(ctx, queue.Message{Envelope: e, Body: strings.NewReader(message)})
			require.NoError(t, err)
		}
		<-time.After(6 * 24 * time.Hour)
		cancel()
		require.NoError(t, <-stopped)
		require.NoError(t, tr.Close())
		end()
		synctest.Wait()

		assert.Empty(t, queued(t, store), "nothing is left")
		require.NoError(t, store.Close())
		reports := map[string][]string{}
		for _, text := range home.taken {
			rep, err := dsn.Parse(strings.NewReader(text))
			require.NoError(t, err)
			require.Len(t, rep.Recipients, 1)
			m, err := mail.ReadMessage(strings.NewReader(text))
			require.NoError(t, err)
			date, err := m.Header.Date()
			require.NoError(t, err)
			r := rep.Recipients[0]
			age := date.Sub(began).Truncate(time.Hour)
			reports[rep.EnvelopeID] = append(reports[rep.EnvelopeID], fmt.Sprintf("%s %s %dh", r.Action, r.Status, age/time.Hour))
		}
		for _, p := range places {
			var taken []string
			for _, h := range p.hosts {
				for _, address := range h.rcpts {
					local, _, _ := strings.Cut(address, "@")
					taken = append(taken, local)
				}
			}
			slices.Sort(taken)
			want := slices.Sorted(slices.Values(p.taken))
			assert.Equal(t, want, taken, "%s: delivered, once", p.domain)
			assert.Equal(t, p.reports, reports[p.domain], "%s: reports", p.domain)
		}
	})
}
