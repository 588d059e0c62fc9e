package middleware

import (
	"bytes"
	"context"
	"io"
	"time"

	"github.com/mailblocks/mailblocks/smtp"
)

// maxHeader bounds what is read ahead to see a header whole.
const maxHeader = 256 << 10

// peekHeader reads the header of a message: up to the empty line, which is not part of it, or
// to the limit. The message is then read from rest, the header included.
func peekHeader(body io.Reader) (header []byte, rest io.Reader, err error) {
	var b []byte
	buf := make([]byte, 4096)
	for {
		n, err := body.Read(buf)
		b = append(b, buf[:n]...)
		end := -1
		if bytes.HasPrefix(b, []byte("\r\n")) {
			end = 0
		} else if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
			end = i + 2
		}
		switch {
		case end >= 0:
			return b[:end], resume(b, body, err), nil
		case err == io.EOF, len(b) > maxHeader:
			return b, resume(b, body, err), nil
		case err != nil:
			return nil, nil, err
		}
	}
}

// resume reads b, and what comes behind it unless that ended.
func resume(b []byte, body io.Reader, err error) io.Reader {
	switch err {
	case nil:
		return io.MultiReader(bytes.NewReader(b), body)
	case io.EOF:
		return bytes.NewReader(b)
	}
	return io.MultiReader(bytes.NewReader(b), failing{err})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// fields calls f with the name of each field of a header, in order, until it returns false.
func fields(header []byte, f func(name []byte) bool) {
	for len(header) > 0 {
		line, rest, _ := bytes.Cut(header, []byte("\r\n"))
		header = rest
		if len(line) == 0 || line[0] == ' ' || line[0] == '\t' {
			continue
		}
		name, _, ok := bytes.Cut(line, []byte(":"))
		if ok && !f(bytes.TrimRight(name, " \t")) {
			return
		}
	}
}

// Received puts the trace field on top of each message (RFC 5321, 4.4). Of all that add to the header it
// should be innermost: what is added last stands first.
func Received() smtp.Middleware {
	return func(next smtp.Handler) smtp.Handler { return received{smtp.Pass{Handler: next}} }
}

type received struct{ smtp.Pass }

func (h received) Data(ctx context.Context, tx *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	field := tx.Received(time.Now(), "")
	return h.Pass.Data(ctx, tx, io.MultiReader(bytes.NewReader([]byte(field)), body))
}

// MaxHops refuses messages with more than n Received fields (RFC 5321, 6.3, says at least 100):
// 554 5.4.6. Zero means 100.
func MaxHops(n int) smtp.Middleware {
	if n <= 0 {
		n = 100
	}
	return func(next smtp.Handler) smtp.Handler { return maxHops{smtp.Pass{Handler: next}, n} }
}

type maxHops struct {
	smtp.Pass
	n int
}

func (h maxHops) Data(ctx context.Context, tx *smtp.Transaction, body smtp.Body) (*smtp.Reply, error) {
	header, rest, err := peekHeader(body)
	if err != nil {
		return nil, err
	}
	hops := 0
	fields(header, func(name []byte) bool {
		if bytes.EqualFold(name, []byte("Received")) {
			hops++
		}
		return hops <= h.n
	})
	if hops > h.n {
		return nil, &smtp.Reply{Code: 554, Enhanced: smtp.EnhancedCode{5, 4, 6}, Text: "too many hops, this message is looping"}
	}
	return h.Pass.Data(ctx, tx, rest)
}
