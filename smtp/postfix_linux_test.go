//go:build linux

package smtp_test

import (
	"bufio"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mailblocks/mailblocks/smtp"
)

// What both servers are told: each octet of a script picks one. Addresses and parameters are such as
// both know (Postfix remembers a SIZE refused up to RSET), so that what differs is a matter of sequence, of line ends, or of size. The limit of both is 20,000 octets.
var scriptWords = []string{
	"MAIL FROM:<a@example.org>\r\n", "RCPT TO:<b@example.org>\r\n", "DATA\r\n", "\r\n.\r\n", "x", "\r\n", ".", "\r", "\n", "\x00",
	"BDAT 3\r\n", "BDAT 3 LAST\r\n", "BDAT 0 LAST\r\n", "abc", "RSET\r\n", "NOOP\r\n", "EHLO c.test\r\n", "HELO c.test\r\n",
	"MAIL FROM:<> SIZE=20000\r\n", "MAIL FROM:<a@example.org> SIZE=20001\r\nRSET\r\n", "MAIL FROM:<a@example.org> BODY=8BITMIME\r\n",
	"RCPT TO:<>\r\n", "RCPT TO:<c@example.org>\r\n", "VRFY b@example.org\r\n", "DATA x\r\n", "RSET x\r\n", "BDAT x\r\n", "BDAT\r\n", "BDAT 20001 LAST\r\n",
	"MAIL FROM:<a@example.org>\n", "MAIL FROM:<a@example.org>\r", "DATA\n", "Subject: y\r\n\r\n", "\r\n.\n", "\n.\r\n", "\n.\n", "\r.\r", "\r\n.\r",
	"\r\n..\r\n", "\r\n\x00.\r\n", "\r\n.\x00\r\n", "STARTTLS x\r\n", "AUTH\r\n", "QUIT\r\n", "MAIL\r\n", "RCPT\r\n",
	"MAIL FROM:<a@example.org> SIZE=99999999999999999999\r\nRSET\r\n", "MAIL FROM:<a@example.org> SIZE=-1\r\n", "MAIL FROM:<a@example.org> BODY=BINARYMIME\r\n",
	strings.Repeat("0123456789\r\n", 1666) + "12345678\r\n", strings.Repeat("0123456789\r\n", 1667),
}

func script(words []byte) string {
	var b strings.Builder
	for _, w := range words {
		b.WriteString(scriptWords[int(w)%len(scriptWords)])
	}
	return b.String()
}

// converse plays a script in one go behind EHLO and returns the replies: codes, and how many messages
// were accepted.
func converse(t *testing.T, addr, text, accepted string) (codes []int, messages int) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	br := bufio.NewReader(conn)
	reply := func() (code int, last string, err error) {
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return 0, "", err
			}
			if len(line) > 3 && line[3] == ' ' {
				code, err = strconv.Atoi(line[:3])
				return code, line, err
			}
		}
	}
	for _, say := range []string{"", "EHLO c.test\r\n"} {
		if _, err := io.WriteString(conn, say); err != nil {
			t.Fatal(err)
		}
		if code, _, err := reply(); err != nil || code >= 400 {
			t.Fatalf("%d %v", code, err)
		}
	}
	go func() {
		_, _ = io.WriteString(conn, text) // it may be hung up on
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	for {
		code, line, err := reply()
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Fatalf("%s hangs after %v", addr, codes)
		}
		if err != nil {
			return codes, messages
		}
		codes = append(codes, code)
		if code == 250 && strings.Contains(line, accepted) {
			messages++
		}
	}
}

// compare plays a script to both servers. No state of ours may accept what Postfix refuses.
func compare(t *testing.T, ours, postfix, text string) {
	want, theirs := converse(t, postfix, text, "queued as")
	got, mine := converse(t, ours, text, "message accepted")
	if mine > theirs {
		t.Fatalf("%d messages accepted, by Postfix %d\n%q\nours    %v\nPostfix %v", mine, theirs, text, got, want)
	}
	for i := range min(len(got), len(want)) {
		switch {
		case got[i] < 400 && want[i] >= 400:
			t.Fatalf("reply %d: accepted what Postfix refuses\n%q\nours    %v\nPostfix %v", i, text, got, want)
		case got[i]/100 != want[i]/100:
			return // ours is stricter, and they are of two minds from here on
		}
	}
}

func startBoth(t testing.TB, strict bool) (ours, postfix string) {
	postfix = startMTA(t, "postfix", map[bool]string{false: "1 no", true: "1 yes"}[strict])
	s := newServerWith(t, smtp.HandlerFunc(discard))
	s.MaxMessageBytes, s.MaxErrors, s.MaxConnectionsPerAddress = 20000, -1, -1
	s.StrictPipelining = strict
	return start(t, s), postfix
}

// scripts makes each word come once at each place of a message's dialogue, and behind each end of a message
// that is none; and others at random, most of them of commands in a sensible order.
func scripts(random int) (all [][]byte) {
	const mail, rcpt, data, end, x, chunk, last, abc = 0, 1, 2, 3, 4, 10, 11, 13
	for i := range scriptWords {
		w := byte(i)
		all = append(all, []byte{w, mail, rcpt, data, x, end}, []byte{mail, w, rcpt, data, x, end}, []byte{mail, rcpt, w, data, x, end},
			[]byte{mail, rcpt, data, w, x, end, mail, rcpt, data, x, end}, []byte{mail, rcpt, chunk, abc, w, last, abc})
		for j, e := range scriptWords {
			if strings.Contains(e, ".") && strings.Trim(e, "\r\n.\x00") == "" {
				all = append(all, []byte{mail, rcpt, data, x, byte(j), w, rcpt, data, x, end})
			}
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range random {
		var words []byte
		for range 1 + r.IntN(4) {
			for _, w := range []byte{mail, rcpt, data, x, end} {
				if r.IntN(8) > 0 {
					words = append(words, w)
				}
				if r.IntN(6) == 0 {
					words = append(words, byte(r.IntN(len(scriptWords))))
				}
			}
		}
		all = append(all, words)
	}
	return all
}

func TestAgainstPostfix(t *testing.T) {
	for name, strict := range map[string]bool{"as it comes": false, "strict pipelining": true} {
		t.Run(name, func(t *testing.T) {
			ours, postfix := startBoth(t, strict)
			for i, words := range scripts(500) {
				if strict && i%16 != 0 {
					continue // Postfix takes its time to hang up
				}
				compare(t, ours, postfix, script(words))
			}
		})
	}
}
