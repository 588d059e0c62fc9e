package smtptest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Script plays the server's side of conversations, for tests of clients. It listens on
// loopback, plays the text to each connection in turn, and fails the test where the
// client departs from it. It returns the address. At the test's end, it waits for the
// connection being played.
//
//	S: 220 mx.test ready     the server sends this line
//	S! 220 mx\r\n250 x       the server sends these octets: Go escapes, no line end added
//	S* 250-more              the server sends this line over and over until the client closes
//	C: EHLO client.test      the client must send exactly this line
//	C~ MAIL FROM:<.*>.*      the client must send a line that matches, whole
//	C>                       the client sends lines up to "." (a message)
//	C.                       the client closes the connection (it may say QUIT before, and is answered)
//	TLS                      both sides start TLS
//	S.                       the server closes the connection, as the text's end does
//
// Blank lines and those that begin with "#" are passed over. The configuration is for TLS and
// may be nil.
func Script(t testing.TB, cfg *tls.Config, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("smtptest: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			p := &script{conn: conn, br: bufio.NewReader(conn), cfg: cfg}
			if err := p.play(text); err != nil {
				t.Errorf("smtptest: %v", err)
			}
			p.conn.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

type script struct {
	conn net.Conn
	br   *bufio.Reader
	cfg  *tls.Config
}

func (p *script) play(text string) error {
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimLeft(line, " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		_ = p.conn.SetDeadline(time.Now().Add(20 * time.Second))
		end, err := p.step(line)
		if err != nil {
			return fmt.Errorf("script line %d, %q: %w", i+1, line, err)
		}
		if end {
			return nil
		}
	}
	return nil
}

func (p *script) step(line string) (end bool, err error) {
	if line == "TLS" {
		t := tls.Server(p.conn, p.cfg)
		p.conn, p.br = t, bufio.NewReader(t)
		return false, t.Handshake()
	}
	kind, arg := line[:min(2, len(line))], ""
	if len(line) > 2 {
		arg = strings.TrimPrefix(line[2:], " ")
	}
	switch kind {
	case "S:":
		_, err = io.WriteString(p.conn, arg+"\r\n")
	case "S!":
		var raw string
		if raw, err = strconv.Unquote(`"` + strings.ReplaceAll(arg, `"`, `\"`) + `"`); err == nil {
			_, err = io.WriteString(p.conn, raw)
		}
	case "S*":
		many := strings.Repeat(arg+"\r\n", 100)
		for err == nil {
			_, err = io.WriteString(p.conn, many)
		}
		var netErr net.Error
		if errors.As(err, &netErr) && netErr.Timeout() {
			return true, errors.New("the client neither reads nor leaves")
		}
		return true, nil
	case "S.":
		return true, nil
	case "C:", "C~":
		var got string
		if got, err = p.line(); err != nil {
			return false, err
		}
		ok := got == arg
		if kind == "C~" {
			if ok, err = regexp.MatchString("^(?:"+arg+")$", got); err != nil {
				return false, err
			}
		}
		if !ok {
			return false, fmt.Errorf("client sent %q", got)
		}
	case "C>":
		for got := ""; got != "." && err == nil; {
			got, err = p.line()
		}
	case "C.":
		got, err := p.line()
		if err == nil && got == "QUIT" {
			if _, err = io.WriteString(p.conn, "221 bye\r\n"); err == nil {
				got, err = p.line()
			}
		}
		var netErr net.Error
		if err == nil {
			return true, fmt.Errorf("client sent %q", got)
		} else if errors.As(err, &netErr) && netErr.Timeout() {
			return true, errors.New("the client stays")
		}
		return true, nil
	default:
		err = errors.New("no such line")
	}
	return false, err
}

// line reads one line, which must end in CRLF.
func (p *script) line() (string, error) {
	s, err := p.br.ReadString('\n')
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(s, "\r\n") {
		return "", fmt.Errorf("bare LF: %q", s)
	}
	return s[:len(s)-2], nil
}
