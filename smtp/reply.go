package smtp

import (
	"errors"
	"strconv"
	"strings"
)

// EnhancedCode is an enhanced status code, class.subject.detail (RFC 3463). The zero
// value means that there is none.
type EnhancedCode [3]int

// String formats the code as it stands in a reply, "5.1.1". The zero value is "".
func (c EnhancedCode) String() string {
	if c == (EnhancedCode{}) {
		return ""
	}
	return string(c.append(nil))
}

func (c EnhancedCode) append(b []byte) []byte {
	b = strconv.AppendInt(b, int64(c[0]), 10)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(c[1]), 10)
	b = append(b, '.')
	return strconv.AppendInt(b, int64(c[2]), 10)
}

// Reply is an SMTP reply (RFC 5321, 4.2). A Handler returns it as an error, or as the
// success of Data; a Client returns the server's. Server and client leave the
// replies they are given unchanged, so one value may serve many sessions.
type Reply struct {
	// Code is the three digit code, 200 to 599.
	Code int

	// Enhanced is the enhanced status code. A server sends it on every line of the
	// reply (RFC 2034); if it is zero, one that fits the class of Code is sent.
	Enhanced EnhancedCode

	// Text is what people read: several lines are separated by "\n". It holds neither
	// codes nor line ends. Control characters are not sent.
	Text string

	// Close has the server close the connection behind the reply. A 421 always does.
	Close bool

	// Cause is logged and never sent. Unwrap returns it.
	Cause error

	// Raw is the whole reply as a Client received it, with codes and CRLFs. Servers ignore it.
	Raw string
}

// Error formats the reply on one line, without its Cause.
func (r *Reply) Error() string {
	b := strconv.AppendInt(make([]byte, 0, 32+len(r.Text)), int64(r.Code), 10)
	if r.Enhanced != (EnhancedCode{}) {
		b = r.Enhanced.append(append(b, ' '))
	}
	if r.Text != "" {
		b = append(append(b, ' '), strings.ReplaceAll(r.Text, "\n", " / ")...)
	}
	return string(b)
}

// Unwrap returns r.Cause.
func (r *Reply) Unwrap() error { return r.Cause }

// OK reports whether the reply is a success (2xx).
func (r *Reply) OK() bool { return r.Code/100 == 2 }

// Temporary reports whether the same command may succeed later (4xx).
func (r *Reply) Temporary() bool { return r.Code/100 == 4 }

// Permanent reports whether the same command will fail again (5xx).
func (r *Reply) Permanent() bool { return r.Code/100 == 5 }

var (
	// ErrBodyClosed is what a Body's Read returns once Data has returned.
	ErrBodyClosed = errors.New("smtp: body read after Data returned")

	// ErrReset is the cause of Handler.Reset when the client gave the transaction up
	// (RSET, EHLO, STARTTLS or QUIT), and the Read error of a Body given up between
	// two BDAT chunks.
	ErrReset = errors.New("smtp: transaction given up by the client")

	// ErrServerClosed is returned by Serve after Shutdown or Close.
	ErrServerClosed = errors.New("smtp: server closed")
)
