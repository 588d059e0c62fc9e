// Package dialog plays conversations with a line protocol that are written as text:
//
//	# a comment
//	S: 220 mx.example.org ready       the server sends exactly this line
//	C: EHLO client.example.com        the client sends this line
//	S~ 250[- ].*                      the server sends a line that matches, whole
//	S* 250[- ].*                      the server sends any number of such lines
//	C! raw\x00bytes\n                 the client sends these bytes: Go escapes, no line end added
//	S. closed                         the server closes the connection
//	TLS                               both sides start TLS
//
// Lines end in CRLF on the wire. Blank lines are passed over. Several C lines in a row are
// sent in one write, as a pipelining client would.
package dialog

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A Player is the client's side of a conversation.
type Player struct {
	Conn net.Conn
	// TLS is used by a TLS line.
	TLS *tls.Config
	// Vars are put in place of ${NAME} in the text before it is played.
	Vars map[string]string
	// Timeout bounds the wait for one line. Zero means 10 s.
	Timeout time.Duration

	r *bufio.Reader
}

// Play plays the script in text. The error names the line of the script that went wrong,
// with what was expected and what came.
func (p *Player) Play(name, text string) error {
	if p.r == nil {
		p.r = bufio.NewReader(p.Conn)
	}
	// Only ${NAME} is a variable: IMAP has keywords such as $Junk.
	text = variable.ReplaceAllStringFunc(text, func(ref string) string {
		if v, ok := p.Vars[ref[2:len(ref)-1]]; ok {
			return v
		}
		return ref
	})
	var out strings.Builder
	flush := func() error {
		if out.Len() == 0 {
			return nil
		}
		p.deadline()
		_, err := io.WriteString(p.Conn, out.String())
		out.Reset()
		return err
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("%s:%d: %s", name, i+1, fmt.Sprintf(format, args...))
		}
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") {
			continue
		}
		kind, arg := line, ""
		if len(line) >= 2 && line != "TLS" {
			kind, arg = line[:2], strings.TrimPrefix(line[2:], " ")
		}
		switch kind {
		case "C:":
			out.WriteString(arg + "\r\n")
			continue
		case "C!":
			raw, err := strconv.Unquote(`"` + strings.ReplaceAll(arg, `"`, `\"`) + `"`)
			if err != nil {
				return fail("bad escape in %q", arg)
			}
			out.WriteString(raw)
			continue
		}
		if err := flush(); err != nil {
			return fail("writing: %v", err)
		}
		switch kind {
		case "S:":
			got, err := p.line()
			if err != nil {
				return fail("want %q, got %v", arg, err)
			}
			if got != arg {
				return fail("want %q\n got %q", arg, got)
			}
		case "S~":
			got, err := p.line()
			if err != nil {
				return fail("want a match of %q, got %v", arg, err)
			}
			if !match(arg, got) {
				return fail("want a match of %q\n got %q", arg, got)
			}
		case "S*":
			if err := p.skip(arg); err != nil {
				return fail("%v", err)
			}
		case "S.":
			if got, err := p.line(); err == nil {
				return fail("want the connection closed, got %q", got)
			} else if errors.Is(err, os.ErrDeadlineExceeded) {
				return fail("want the connection closed, it stays open")
			}
		case "TLS":
			c := tls.Client(p.Conn, p.TLS)
			p.deadline()
			if err := c.Handshake(); err != nil {
				return fail("%v", err)
			}
			p.Conn, p.r = c, bufio.NewReader(c)
		default:
			return fail("no such line: %q", line)
		}
	}
	return flush()
}

// skip reads lines as long as they match. It looks one line ahead without taking it.
func (p *Player) skip(pattern string) error {
	for {
		p.deadline()
		for n := 1; ; n++ {
			b, err := p.r.Peek(n)
			if err != nil {
				return err
			}
			if b[n-1] == '\n' {
				if !match(pattern, strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")) {
					return nil
				}
				_, _ = p.r.Discard(n)
				break
			}
		}
		// More lines of this kind come in the same reply; nothing waiting ends it.
		if p.r.Buffered() == 0 {
			return nil
		}
	}
}

func (p *Player) line() (string, error) {
	p.deadline()
	s, err := p.r.ReadString('\n')
	if err != nil {
		if s != "" {
			return "", fmt.Errorf("%w after %q", err, s)
		}
		return "", err
	}
	if !strings.HasSuffix(s, "\r\n") {
		return "", fmt.Errorf("a line that does not end in CRLF: %q", s)
	}
	return strings.TrimSuffix(s, "\r\n"), nil
}

func (p *Player) deadline() {
	d := p.Timeout
	if d == 0 {
		d = 10 * time.Second
	}
	_ = p.Conn.SetDeadline(time.Now().Add(d))
}

var variable = regexp.MustCompile(`\$\{\w+\}`)

func match(pattern, line string) bool {
	ok, err := regexp.MatchString("^(?:"+pattern+")$", line)
	return err == nil && ok
}

// Files returns the scripts of a folder by name without extension.
func Files(dir string) (map[string]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	files := make(map[string]string, len(paths))
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files[strings.TrimSuffix(filepath.Base(path), ".txt")] = strings.ReplaceAll(string(b), "\r\n", "\n")
	}
	return files, nil
}
