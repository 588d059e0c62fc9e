package smtp

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mailblocks/mailblocks/internal/netserve"
)

// pieces is a connection whose client has sent all it will: each read gives the next piece.
type pieces struct {
	in  [][]byte
	out bytes.Buffer
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.in[0])
	if p.in[0] = p.in[0][n:]; len(p.in[0]) == 0 {
		p.in = p.in[1:]
	}
	return n, nil
}

func (p *pieces) Write(b []byte) (int, error)      { return p.out.Write(b) }
func (p *pieces) Close() error                     { return nil }
func (p *pieces) LocalAddr() net.Addr              { return &net.UnixAddr{Net: "unix", Name: "local"} }
func (p *pieces) RemoteAddr() net.Addr             { return &net.UnixAddr{Net: "unix", Name: "remote"} }
func (p *pieces) SetDeadline(time.Time) error      { return nil }
func (p *pieces) SetReadDeadline(time.Time) error  { return nil }
func (p *pieces) SetWriteDeadline(time.Time) error { return nil }

// split cuts b into pieces of 1 to 16 octets, after the digits of seed; 0 leaves it whole.
func split(b []byte, seed uint64) (out [][]byte) {
	for x := seed; len(b) > 0; x = x>>4 | x<<60 {
		n := len(b)
		if seed != 0 {
			n = min(n, int(x&15)+1)
		}
		out = append(out, b[:n:n])
		b = b[n:]
	}
	return out
}

// taken is what a handler got.
type taken struct {
	Base
	messages []string
	errs     []error
	resets   int
}

func (h *taken) Data(_ context.Context, tx *Transaction, body Body) (*Reply, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		h.errs = append(h.errs, err)
		return nil, err
	}
	h.messages = append(h.messages, string(b))
	return nil, nil
}

func (h *taken) Reset(context.Context, *Transaction, error) { h.resets++ }

// session plays input to a server and returns what came of it.
func session(s *Server, input []byte, seed uint64) (h *taken, out string) {
	h = &taken{}
	s.Handler, s.Hostname, s.Logger = h, "mx.test", slog.New(slog.DiscardHandler)
	s.setup()
	p := &pieces{in: split(input, seed)}
	s.handle(context.Background(), &netserve.Conn{Conn: p})
	return h, p.out.String()
}

const prelude = "EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n"

// dotReference is RFC 5321, 4.5.2, octet by octet: the message in wire, and whether it ended; bare says
// that a bare CR or LF comes first.
func dotReference(wire string, normalise bool) (message string, rest string, ended, bare bool) {
	var m strings.Builder
	bol := true
	for i := 0; i < len(wire); {
		if bol && strings.HasPrefix(wire[i:], ".\r\n") {
			return m.String(), wire[i+3:], true, false
		}
		if bol && wire[i] == '.' {
			bol = false
			i++
			continue
		}
		bol = false
		switch {
		case strings.HasPrefix(wire[i:], "\r\n"):
			m.WriteString("\r\n")
			i += 2
			bol = true
		case wire[i] == '\r' && i+1 == len(wire):
			return m.String(), "", false, false // undecided
		case wire[i] == '\r' || wire[i] == '\n':
			if !normalise {
				return m.String(), "", false, true
			}
			m.WriteString("\r\n")
			i++
		default:
			m.WriteByte(wire[i])
			i++
		}
	}
	return m.String(), "", false, false
}

func FuzzData(f *testing.F) {
	for _, s := range []string{
		"hello\r\n.\r\n", ".\r\n", "..\r\n.\r\n", ".a\r\n..\r\n...\r\n.\r\n", "a\n.\nb\r\n.\r\n", "a\n.\r\nb\r\n.\r\n",
		"a\r.\rb\r\n.\r\n", "a\r\n.\nb\r\n.\r\n", "a\r\n.\rb\r\n.\r\n", "\r\r\n.\r\n", "a\r\n\x00.\r\n.\r\n", "\n", "\r", "..", ".\r", "\r\n.\r",
	} {
		for _, seed := range []uint64{0, 0x1111111111111111, 0x123456789abcdef0} {
			f.Add([]byte(s), seed, false)
			f.Add([]byte(s), seed, true)
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte, seed uint64, normalise bool) {
		s := &Server{}
		if normalise {
			s.Newlines = NewlinesNormalise
		}
		want, _, ended, bare := dotReference(string(wire), normalise)
		h, out := session(s, append([]byte(prelude+"DATA\r\n"), wire...), seed)
		switch {
		case ended && (len(h.messages) == 0 || h.messages[0] != want):
			t.Fatalf("got %q, want %q first", h.messages, want)
		case !ended && len(h.messages) > 0:
			t.Fatalf("got %q of a message without end", h.messages)
		case bare && !strings.HasSuffix(out, "554 5.6.0 bare CR or LF in the message (RFC 5321, 2.3.8)\r\n"):
			t.Fatalf("bare newline was answered by %q", out)
		}
	})
}

// chunkReference is RFC 3030's framing of what stands behind prelude: the message, if whole.
func chunkReference(wire string) (message string, ended bool) {
	var m strings.Builder
	for {
		line, rest, ok := strings.Cut(wire, "\r\n")
		verb, arg := splitVerb([]byte(line))
		size, last, valid := parseBdat(arg)
		if !ok || verb != "BDAT" || !valid || strings.ContainsAny(line, "\r\n") || size > int64(len(rest)) || m.Len() > 1<<20 {
			return "", false
		}
		m.WriteString(rest[:size])
		wire = rest[size:]
		if last {
			return m.String(), true
		}
	}
}

func FuzzBDAT(f *testing.F) {
	for _, s := range []string{
		"BDAT 3 LAST\r\na\r\n", "BDAT 2\r\na\rBDAT 1 LAST\r\n\n", "BDAT 0\r\nBDAT 0 LAST\r\n", "BDAT 2\r\na\rBDAT 1 LAST\r\nb",
		"BDAT 5 LAST\r\na\nb\rc", "BDAT 1\r\nxRSET\r\n", "BDAT 1 LAST\r\n\r", "BDAT 9999999999999999999 LAST\r\n", "BDAT 1\r\nxNOOP\r\nBDAT 1 LAST\r\ny",
	} {
		for _, seed := range []uint64{0, 0x1111111111111111, 0x123456789abcdef0} {
			f.Add([]byte(s), seed, false)
			f.Add([]byte(s), seed, true)
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte, seed uint64, binary bool) {
		start := prelude
		if binary {
			start = strings.Replace(prelude, "test>", "test> BODY=BINARYMIME", 1)
		}
		want, ended := chunkReference(string(wire))
		h, _ := session(&Server{Extensions: ^Extensions(0)}, append([]byte(start), wire...), seed)
		if !ended {
			return
		}
		pure := strings.NewReplacer("\r\n", "").Replace(want)
		bare := strings.ContainsAny(pure, "\r\n") // CR LF in a row after removal are rare, and judged below
		switch {
		case binary && (len(h.messages) == 0 || h.messages[0] != want):
			t.Fatalf("got %q, want %q", h.messages, want)
		case !binary && !bare && (len(h.messages) == 0 || h.messages[0] != want):
			t.Fatalf("got %q, want %q", h.messages, want)
		case !binary && bare && len(h.messages) > 0 && h.messages[0] == want:
			t.Fatalf("took %q", want)
		}
	})
}

// FuzzSession sends anything at all. Whatever comes, replies are lines of a code and text, every
// transaction is reset once, and cutting the input elsewhere changes nothing.
func FuzzSession(f *testing.F) {
	f.Add([]byte(prelude+"DATA\r\nx\r\n.\r\nQUIT\r\n"), uint64(0x3141592653589793))
	f.Add([]byte(prelude+"BDAT 1\r\nxBDAT 0 LAST\r\nRSET\r\nVRFY x\r\nHELP\r\nNOOP\r\n"), uint64(1))
	f.Add([]byte("HELO x\r\nMAIL FROM:<> SIZE=1 BODY=8BITMIME\r\nRCPT TO:<postmaster> NOTIFY=NEVER\r\n"), uint64(2))
	f.Add([]byte("AUTH PLAIN AAAA\r\nSTARTTLS\r\nEXPN x\r\n\r\n\n\r"), uint64(3))
	f.Fuzz(func(t *testing.T, input []byte, seed uint64) {
		for _, mode := range []Mode{ModeSMTP, ModeLMTP} {
			srv := func() *Server { return &Server{Mode: mode, Extensions: ^ExtFutureRelease, MaxMessageBytes: 1000} }
			h, out := session(srv(), input, seed)
			for line := range strings.SplitSeq(strings.TrimSuffix(out, "\r\n"), "\r\n") {
				if out == "" {
					break
				}
				if len(line) < 4 || line[0] < '2' || line[0] > '5' || line[3] != ' ' && line[3] != '-' || len(line) > maxReplyLine ||
					strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) {
					t.Fatalf("reply %q", line)
				}
			}
			whole, wholeOut := session(srv(), input, 0)
			// A peer of another protocol is recognised by what came first, however little that was.
			if len(input) > 16 && seed != 0 && foreign(input) == "" && (out != wholeOut || !reflect.DeepEqual(h.messages, whole.messages)) {
				if !strings.Contains(out+wholeOut, "bare CR") && !strings.Contains(out+wholeOut, "STARTTLS") {
					t.Fatalf("cut up: %q, whole: %q", out, wholeOut)
				}
			}
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{
		"<>", "<a@b.test>", "<@a.test,@b.test:c@d.test>", "<\"a b\\\"c\"@d.test>", "<a@[192.0.2.1]>", "<a@[IPv6:2001:db8::1]>",
		"<postmaster>", "<a.b@c>", "<jürgen@exämple.test> X", "<a@b", "<a..b@c>", "<\"\"@c>", "<a@-b>", "<@a:>", "<a@b_c.test>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		mailbox, rest, err := parsePath(b)
		if err != nil {
			return
		}
		again, rest2, err := parsePath([]byte("<" + string(mailbox) + ">"))
		if err != nil || string(again) != string(mailbox) || len(rest2) != 0 || len(rest) >= len(b) {
			t.Fatalf("%q gave %q, which gives %q, %v", b, mailbox, again, err)
		}
		if bytes.ContainsAny(mailbox, "\r\n\x00") {
			t.Fatalf("%q gave %q", b, mailbox)
		}
		addr := string(mailbox)
		if local, domain := SplitAddress(addr); domain != "" {
			l2, d2 := SplitAddress(JoinAddress(local, domain))
			if l2 != local || d2 != domain {
				t.Fatalf("%q: %q at %q became %q at %q", addr, local, domain, l2, d2)
			}
		}
	})
}

func FuzzMailParams(f *testing.F) {
	for _, s := range []string{
		" SIZE=12 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=a+2Bb AUTH=<> REQUIRETLS SOLICIT=a:B,c-d_e.f", " HOLDFOR=60 BY=-1;NT MT-PRIORITY=-9 X=1",
		" HOLDUNTIL=2030-01-01T00:00:00Z AUTH=e+3Dmc2@example.com", " SIZE=99999999999999999999",
	} {
		f.Add([]byte(s))
	}
	r := paramReader{ext: ^Extensions(0), other: func(string, string, string) bool { return true }}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p, q MailParams
		if r.mail(b, &p) != nil {
			return
		}
		line := p.appendTo(nil)
		if reply := r.mail(line, &q); reply != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("%q: %+v formats as %q: %+v, %v", b, p, line, q, reply)
		}
	})
}

func FuzzRcptParams(f *testing.F) {
	for _, s := range []string{
		" NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+20b@c", " NOTIFY=NEVER ORCPT=utf-8;\\x{FC}@x", " RRVS=2030-01-01T00:00:00Z;C", " ORCPT=utf-8;ü@x X",
	} {
		f.Add([]byte(s))
	}
	r := paramReader{ext: ^Extensions(0), other: func(string, string, string) bool { return true }}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p, q RcptParams
		if r.rcpt(b, &p) != nil {
			return
		}
		line := p.appendTo(nil)
		if len(line) > maxOrcpt {
			return // encoded at more length than it came with
		}
		if reply := r.rcpt(line, &q); reply != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("%q: %+v formats as %q: %+v, %v", b, p, line, q, reply)
		}
	})
}

func FuzzXtext(f *testing.F) {
	f.Add([]byte("a+2Bb"))
	f.Add([]byte("+0A"))
	f.Add([]byte("\\x{1F600}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeXtext(b, true); err == nil {
			again, err := decodeXtext(appendXtext(nil, s), true)
			if err != nil || again != s || strings.ContainsAny(s, "\r\n\x00") {
				t.Fatalf("%q, %q, %q, %v", b, s, again, err)
			}
		}
		if s, err := decodeUTF8Xtext(b); err == nil {
			again, err := decodeUTF8Xtext(appendUTF8Xtext(nil, s))
			if err != nil || again != s || strings.ContainsAny(s, "\r\n\x00") {
				t.Fatalf("%q, %q, %q, %v", b, s, again, err)
			}
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 b\r\n", "550 5.1.1 no\r\n", "550-5.1.1 no\r\n550 5.1.1\r\n", "250\n", "250-a\r\n251 b\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readReply(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		again, err := readReply(bufio.NewReader(strings.NewReader(r.Raw)))
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%q: %+v and %+v, %v", b, r, again, err)
		}
	})
}

// Each command cut at each place, with each variant of an end of data.
func TestEveryCut(t *testing.T) {
	for _, eod := range []string{"\r\n.\r\n", "\n.\n", "\n.\r\n", "\r.\r", "\r\n.\n", "\r\n.\r", "\r.\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "\r\r\n.\r\n"} {
		wire := "x" + eod + "evil\r\n.\r\n"
		want, _, ended, _ := dotReference(wire, false)
		for cut := range len(wire) + 1 {
			input := prelude + "DATA\r\n"
			s := &Server{Logger: slog.New(slog.DiscardHandler), Hostname: "mx.test"}
			h := &taken{}
			s.Handler = h
			s.setup()
			p := &pieces{in: [][]byte{[]byte(input + wire[:cut]), []byte(wire[cut:])}}
			if cut == len(wire) {
				p.in = p.in[:1]
			}
			s.handle(context.Background(), &netserve.Conn{Conn: p})
			got := fmt.Sprint(h.messages)
			if ended && got != fmt.Sprint([]string{want}) || !ended && len(h.messages) > 0 {
				t.Errorf("%q cut at %d: %q, want %q %v", eod, cut, h.messages, want, ended)
			}
		}
	}
}
