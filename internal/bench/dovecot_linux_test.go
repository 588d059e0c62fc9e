package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-sasl"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/imapserver"
	"github.com/mailblocks/mailblocks/internal/mailgen"
	"github.com/mailblocks/mailblocks/internal/peertest"
	"github.com/mailblocks/mailblocks/maildir"
)

var (
	messages = flag.Int("messages", 2000, "how many messages the mailbox of BenchmarkIMAPBesideDovecot has")
	crlf     = flag.Bool("crlf", false, "store them with CRLF line ends")
	lines    = flag.String("lines", "", "a regular expression: measure those lines of the table alone")
)

func init() {
	receivers["imap"] = func(ln net.Listener) {
		dir := os.Getenv("BENCH_MAILDIR")
		s := &imapserver.Server{
			Authenticator:     anyUser{},
			Login:             func(context.Context, string) (imap.Store, error) { return maildir.Open(dir, nil) },
			AllowInsecureAuth: true,
			MaxConns:          -1,
			MaxConnsPerAddr:   -1,
			Logger:            slog.New(slog.NewTextHandler(os.Stderr, nil)),
		}
		_ = s.Serve(ln)
	}
}

// anyUser lets everybody in whose password is "secret", as our Dovecot does.
type anyUser struct{}

func (anyUser) Mechanisms(*tls.ConnectionState) []string { return []string{sasl.Plain} }

func (anyUser) Start(_ context.Context, _ string, _ netip.AddrPort, _ *tls.ConnectionState, done func(string) error) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if password != "secret" {
			return errors.New("wrong password")
		}
		return done(user)
	}), nil
}

// imapSide is a server to measure.
type imapSide struct {
	b      *testing.B
	addr   string
	dir    string
	pid    int
	c      *imapConn // logged in, the mailbox selected
	random *rand.Rand
}

// imapConn is a client that does no more than it must: it finds the end of a response.
type imapConn struct {
	b    *testing.B
	conn net.Conn
	buf  []byte
	last []byte // line
}

func (s *imapSide) dial() *imapConn {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.b.Fatal(err)
	}
	c := &imapConn{b: s.b, conn: conn, buf: make([]byte, 256<<10)}
	c.until("* OK")
	return c
}

func (s *imapSide) login(more ...string) *imapConn {
	c := s.dial()
	c.do("LOGIN ann secret")
	for _, command := range more {
		c.do(command)
	}
	return c
}

const imapTag = "zq7x"

// do runs a command that must succeed and returns the last octets that came back.
func (c *imapConn) do(format string, args ...any) []byte {
	c.send(imapTag+" "+format+"\r\n", args...)
	all := c.until(imapTag)
	if !bytes.HasPrefix(c.last, []byte(imapTag+" OK")) {
		c.b.Fatalf("%.100s %v: %.200s", format, args, c.last)
	}
	return all
}

func (c *imapConn) send(format string, args ...any) {
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	if _, err := io.WriteString(c.conn, format); err != nil {
		c.b.Fatal(err)
	}
}

// until reads until the last line that came begins with prefix, and returns the end of it all.
func (c *imapConn) until(prefix string) []byte {
	n := 0
	for {
		if n == len(c.buf) {
			n = copy(c.buf, c.buf[n-4096:])
		}
		k, err := c.conn.Read(c.buf[n:])
		if err != nil {
			c.b.Fatal(err)
		}
		n += k
		if c.buf[n-1] != '\n' {
			continue
		}
		c.last = c.buf[bytes.LastIndexByte(c.buf[:n-1], '\n')+1 : n]
		if bytes.HasPrefix(c.last, []byte(prefix)) {
			return c.buf[:n]
		}
	}
}

func (c *imapConn) close() { c.conn.Close() }

// timed returns the least of n runs, in seconds.
func timed(n int, do func()) float64 {
	var times []time.Duration
	for range n {
		start := time.Now()
		do()
		times = append(times, time.Since(start))
	}
	return slices.Min(times).Seconds()
}

// A comparison is a line of the table. Measure returns seconds or, where more is better, a rate.
type comparison struct {
	name    string
	aim     float64
	rate    bool
	unit    string
	measure func(s *imapSide) float64
}

func command(n int, text string) func(*imapSide) float64 {
	return func(s *imapSide) float64 { return timed(n, func() { s.c.do(text) }) }
}

// perSecond runs work on several connections at once, and returns how many times a second.
func perSecond(conns int, length time.Duration, work func(s *imapSide, c *imapConn, r *rand.Rand) int) func(*imapSide) float64 {
	return func(s *imapSide) float64 {
		var all []*imapConn
		for range conns {
			all = append(all, s.login("SELECT INBOX"))
		}
		var done atomic.Int64
		var wg sync.WaitGroup
		start := time.Now()
		for i, c := range all {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			wg.Go(func() {
				for time.Since(start) < length {
					done.Add(int64(work(s, c, r)))
				}
			})
		}
		wg.Wait()
		rate := float64(done.Load()) / time.Since(start).Seconds()
		for _, c := range all {
			c.close()
		}
		return rate
	}
}

var (
	numberPattern = regexp.MustCompile(`(?:UIDVALIDITY|HIGHESTMODSEQ) (\d+)`)
	mail4K        = func() string {
		return "From: a@example.org\r\nSubject: new\r\n\r\n" + strings.Repeat("a line of mail that is as long as mail\r\n", 100)
	}()
)

func appendOne(_ *imapSide, c *imapConn, _ *rand.Rand) int {
	c.do("APPEND INBOX {%d+}\r\n%s", len(mail4K), mail4K)
	return 1
}

func imapComparisons(n int) []comparison {
	return []comparison{
		{"first SELECT", 0, false, "s", func(s *imapSide) float64 {
			s.c = s.login()
			return timed(1, func() { s.c.do("SELECT INBOX") })
		}},
		{"first ENVELOPE and BODYSTRUCTURE", 0.4, false, "s", command(1, "FETCH 1:* (ENVELOPE BODYSTRUCTURE)")},
		{"FETCH 1:* (UID FLAGS)", 0.2, false, "s", command(5, "FETCH 1:* (UID FLAGS)")},
		{"ENVELOPE", 0.2, false, "s", command(3, "FETCH 1:* (ENVELOPE)")},
		{"BODYSTRUCTURE", 0.5, false, "s", command(3, "FETCH 1:* (BODYSTRUCTURE)")},
		{"first HEADER.FIELDS", 0, false, "s", command(1, "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (From To Subject Date Message-ID)])")},
		{"HEADER.FIELDS", 0.35, false, "s", command(3, "FETCH 1:* (BODY.PEEK[HEADER.FIELDS (From To Subject Date Message-ID)])")},
		{"BODY.PEEK[]", 1, false, "s", command(2, "FETCH 1:* (BODY.PEEK[])")},
		{"SELECT", 0.7, false, "s", func(s *imapSide) float64 {
			return timed(20, func() { s.c.do("SELECT INBOX") })
		}},
		{"SELECT, new session", 0, false, "s", func(s *imapSide) float64 {
			least := 1e9
			for range 10 {
				c := s.login()
				least = min(least, timed(1, func() { c.do("SELECT INBOX") }))
				c.do("LOGOUT")
				c.close()
			}
			return least
		}},
		{"SELECT (QRESYNC)", 0.1, false, "s", func(s *imapSide) float64 {
			c := s.login("ENABLE QRESYNC")
			defer c.close()
			nums := numberPattern.FindAllStringSubmatch(string(c.do("SELECT INBOX")), -1)
			if len(nums) != 2 {
				s.b.Fatal("no UIDVALIDITY or no HIGHESTMODSEQ")
			}
			return timed(20, func() { c.do("SELECT INBOX (QRESYNC (%s %s))", nums[0][1], nums[1][1]) })
		}},
		{"first SEARCH SUBJECT", 0, false, "s", command(1, "SEARCH SUBJECT garden")},
		{"SEARCH SUBJECT", 0.5, false, "s", command(3, "SEARCH SUBJECT garden")},
		{"SEARCH FROM", 0, false, "s", command(3, "SEARCH FROM olga")},
		{"SEARCH TEXT", 0.3, false, "s", command(2, "SEARCH TEXT nothing-like-it")},
		{"SEARCH BODY", 0, false, "s", command(2, "SEARCH BODY \"garden sells\"")},
		{"SORT (SUBJECT)", 0.6, false, "s", command(3, "SORT (SUBJECT) UTF-8 ALL")},
		{"SORT (REVERSE DATE)", 0.6, false, "s", command(3, "SORT (REVERSE DATE) UTF-8 ALL")},
		{"SORT (FROM)", 0.6, false, "s", command(3, "SORT (FROM DATE) UTF-8 ALL")},
		{"THREAD REFERENCES", 0.6, false, "s", command(3, "THREAD REFERENCES UTF-8 ALL")},
		{"STORE on all", 0.9, false, "s", func(s *imapSide) float64 {
			least := timed(1, func() { s.c.do(`STORE 1:* +FLAGS (\Answered)`) })
			return min(least, timed(1, func() { s.c.do(`STORE 1:* -FLAGS (\Answered)`) }))
		}},
		{"EXPUNGE of half", 0.25, false, "s", func(s *imapSide) float64 {
			s.c.do(`STORE 1:%d +FLAGS.SILENT (\Deleted)`, n/2)
			return timed(1, func() { s.c.do("EXPUNGE") })
		}},
		{"APPEND one by one", 2.5, true, "/s", perSecond(1, 2*time.Second, appendOne)},
		{"APPEND on 8 connections", 8, true, "/s", perSecond(8, 2*time.Second, appendOne)},
		{"MULTIAPPEND of 50", 2, true, "/s", perSecond(1, 2*time.Second, func(_ *imapSide, c *imapConn, _ *rand.Rand) int {
			var one strings.Builder
			for range 50 {
				fmt.Fprintf(&one, " {%d+}\r\n%s", len(mail4K), mail4K)
			}
			c.do("APPEND INBOX" + one.String())
			return 50
		})},
		{"mixed load, 32 connections", 2, true, "/s", perSecond(32, 5*time.Second, func(s *imapSide, c *imapConn, r *rand.Rand) int {
			k := 1 + r.IntN(n/4)
			switch r.IntN(10) {
			case 0:
				return appendOne(s, c, r)
			case 1:
				c.do(`STORE %d FLAGS (%s)`, k, []string{`\Seen`, `\Flagged`, ``}[r.IntN(3)])
			case 2:
				c.do("NOOP")
			case 3:
				c.do("SEARCH UNSEEN")
			case 4:
				c.do("FETCH %d:%d (UID FLAGS ENVELOPE)", k, k+20)
			case 5:
				c.do("STATUS INBOX (MESSAGES UNSEEN)")
			default:
				c.do("FETCH %d (BODY.PEEK[])", k)
			}
			return 1
		})},
		{"login and logout", 10, true, "/s", func(s *imapSide) float64 {
			const n = 100
			return n / timed(1, func() {
				for range n {
					c := s.login()
					c.do("LOGOUT")
					c.close()
				}
			})
		}},
		{"IDLE sees APPEND, p50", 0, false, "s", func(s *imapSide) float64 {
			c := s.login("SELECT INBOX")
			defer c.close()
			return s.idleSees(func() { appendOne(s, c, nil) })
		}},
		{"IDLE sees a delivery, p50", 0, false, "s", func(s *imapSide) float64 {
			i := 0
			return s.idleSees(func() {
				i++
				name := fmt.Sprintf("%d.M%dP9.other", time.Now().Unix(), i)
				tmp := filepath.Join(s.dir, "tmp", name)
				if err := os.WriteFile(tmp, []byte(mail4K), 0o666); err != nil {
					s.b.Fatal(err)
				}
				if err := os.Rename(tmp, filepath.Join(s.dir, "new", name)); err != nil {
					s.b.Fatal(err)
				}
			})
		}},
	}
}

// idleSees returns the median of the times between a change and its notice. For our own APPEND
// that is until the notice or the end of the APPEND, whichever is later.
func (s *imapSide) idleSees(change func()) float64 {
	c := s.login("SELECT INBOX")
	defer c.close()
	c.send("i IDLE\r\n")
	c.until("+")
	var times []time.Duration
	for range 15 {
		time.Sleep(time.Duration(20+s.random.IntN(100)) * time.Millisecond) // let it go to sleep
		seen := make(chan time.Time)
		go func() {
			for {
				c.until("* ")
				if bytes.Contains(c.last, []byte("EXISTS")) || bytes.Contains(c.last, []byte("RECENT")) {
					seen <- time.Now()
					return
				}
			}
		}()
		change()
		changed := time.Now()
		times = append(times, max(0, (<-seen).Sub(changed)))
	}
	slices.Sort(times)
	return times[len(times)/2].Seconds()
}

// memory returns the proportional share of memory of a process and of those it started.
func memory(pid int) (pss int64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); f[0] == "Pss:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			pss = n << 10
		}
	}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	for _, child := range strings.Fields(string(children)) {
		n, _ := strconv.Atoi(child)
		pss += memory(n)
	}
	return pss
}

// BenchmarkIMAPBesideDovecot runs the same commands against our server, in a process of its
// own, and against Debian's Dovecot, each on a copy of the same Maildir, and prints a table:
//
//	go test -run '^$' -bench IMAPBesideDovecot -benchtime 1x -timeout 1h . -messages 20000
func BenchmarkIMAPBesideDovecot(b *testing.B) {
	fill := func(dir string) error { return mailgen.Maildir(dir, *messages, *crlf) }
	peer := peertest.DovecotMaildir(b, "imap", fill)
	random := rand.New(rand.NewPCG(1, 1))
	theirs := &imapSide{b: b, addr: peer.Addr, dir: peer.Maildir, pid: peer.PID, random: random}
	dir := b.TempDir()
	if err := fill(dir); err != nil {
		b.Fatal(err)
	}
	b.Setenv("BENCH_MAILDIR", dir)
	pid, addr, _ := startAsked(b, "imap")
	ours := &imapSide{b: b, addr: addr, dir: dir, pid: pid, random: random}
	only := regexp.MustCompile(*lines)
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintf(out, "\n| %d messages | mailblocks | Dovecot | ratio | aim |\n|---|---|---|---|---|\n", *messages)
	for i, c := range imapComparisons(*messages) {
		if i > 0 && !only.MatchString(c.name) {
			continue
		}
		them, us := c.measure(theirs), c.measure(ours)
		aim, verdict := "", ""
		if c.aim > 0 {
			aim = fmt.Sprintf("≤ %g", c.aim)
			missed := us/them > c.aim
			if c.rate {
				aim, missed = fmt.Sprintf("≥ %g", c.aim), us/them < c.aim
			}
			if missed {
				verdict = " missed"
			}
		}
		fmt.Fprintf(out, "| %s | %s | %s | %.2f | %s%s |\n", c.name, figure(us, c.unit), figure(them, c.unit), us/them, aim, verdict)
		out.Flush()
	}
	const sessions = 50
	for _, s := range []*imapSide{theirs, ours} {
		idle := func() {
			c := s.login("SELECT INBOX")
			c.send("i IDLE\r\n")
			c.until("+")
			c.buf = nil
		}
		idle()
		before := memory(s.pid)
		for range sessions {
			idle()
		}
		fmt.Fprintf(out, "idle session of process %d: %d KiB; before: %d MiB\n", s.pid, (memory(s.pid)-before)/sessions>>10, before>>20)
	}
	out.Flush()
}

func figure(v float64, unit string) string {
	switch {
	case unit == "s" && v < 0.001:
		return fmt.Sprintf("%.0f µs", v*1e6)
	case unit == "s":
		return fmt.Sprintf("%.3g ms", v*1e3)
	default:
		return fmt.Sprintf("%.0f%s", v, unit)
	}
}
