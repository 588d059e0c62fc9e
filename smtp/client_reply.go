package smtp

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	maxClientLine  = 4 << 10  // of a reply; RFC 5321, 4.5.3.1.5, says 512
	maxClientReply = 64 << 10 // all lines of one
)

// ErrProtocol is wrapped by errors about replies that are none.
var ErrProtocol = errors.New("smtp: server does not speak SMTP")

// read reads one reply, whatever its code, except that 421 is an error: the server is about to close.
func (c *Client) read(timeout time.Duration) (*Reply, error) {
	if err := c.bw.Flush(); err != nil {
		return nil, c.lastWords(err)
	}
	if err := c.limitRead(timeout); err != nil {
		return nil, err
	}
	r, err := readReply(c.br)
	if err != nil {
		return nil, errUnexpected(err)
	}
	if c.opt.Log != nil {
		for line := range strings.SplitSeq(strings.TrimSuffix(r.Raw, "\r\n"), "\r\n") {
			c.opt.Log(false, line)
		}
	}
	if r.Code == 421 {
		return r, &ConnError{Phase: c.phase, Host: c.host, Err: r}
	}
	return r, nil
}

// lastWords makes the best of a write that failed: a server that closes on us has often
// said why before.
func (c *Client) lastWords(err error) error {
	if c.limitRead(time.Second) != nil {
		return err
	}
	if r, readErr := readReply(c.br); readErr == nil && !r.OK() {
		return &ConnError{Phase: c.phase, Host: c.host, Err: r}
	}
	return err
}

// readReply reads one reply (RFC 5321, 4.2):
//
//	Reply-line = *( Reply-code "-" [ text ] CRLF ) Reply-code [ SP text ] CRLF
func readReply(br *bufio.Reader) (*Reply, error) {
	r := &Reply{}
	var raw, text strings.Builder
	for first := true; ; first = false {
		line, err := br.ReadSlice('\n')
		if err != nil {
			if err == bufio.ErrBufferFull {
				err = fmt.Errorf("%w: reply line too long", ErrProtocol)
			}
			return nil, err
		}
		if len(line) > maxClientLine || raw.Len()+len(line) > maxClientReply {
			return nil, fmt.Errorf("%w: reply too long", ErrProtocol)
		}
		line = line[:len(line)-1]
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		raw.Write(line)
		raw.WriteString("\r\n")
		if len(line) < 3 || line[0] < '2' || line[0] > '5' || !isDigit(line[1]) || !isDigit(line[2]) ||
			len(line) > 3 && line[3] != ' ' && line[3] != '-' {
			return nil, fmt.Errorf("%w: reply %q", ErrProtocol, line[:min(len(line), 80)])
		}
		code := int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
		if first {
			r.Code = code
		} else if code != r.Code {
			return nil, fmt.Errorf("%w: codes %d and %d in one reply", ErrProtocol, r.Code, code)
		} else {
			text.WriteByte('\n')
		}
		more := len(line) > 3 && line[3] == '-'
		if len(line) > 3 {
			line = line[4:]
		} else {
			line = line[:0]
		}
		if enh, n := parseEnhanced(line); n > 0 && enh[0] == code/100 && (first || enh == r.Enhanced) {
			r.Enhanced = enh
			line = line[n:]
		}
		text.Write(line)
		if !more {
			r.Raw, r.Text = raw.String(), text.String()
			return r, nil
		}
	}
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// parseEnhanced reads "class.subject.detail " at the start of b and returns its length, the
// space included, or 0.
func parseEnhanced(b []byte) (e EnhancedCode, n int) {
	for i := range e {
		start := n
		for n < len(b) && isDigit(b[n]) && n-start < 3 {
			e[i] = e[i]*10 + int(b[n]-'0')
			n++
		}
		if n == start {
			return EnhancedCode{}, 0
		}
		if i < 2 {
			if n == len(b) || b[n] != '.' {
				return EnhancedCode{}, 0
			}
			n++
		}
	}
	if e[0] != 2 && e[0] != 4 && e[0] != 5 {
		return EnhancedCode{}, 0
	}
	if n == len(b) {
		return e, n
	}
	if b[n] != ' ' {
		return EnhancedCode{}, 0
	}
	return e, n + 1
}
