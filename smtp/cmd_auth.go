package smtp

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"time"

	"github.com/emersion/go-sasl"
)

// mechanisms lists what AUTH may use now.
func (c *conn) mechanisms() []string {
	a := c.srv.Authenticator
	if a == nil || c.sess.TLS == nil && !c.srv.InsecureAuth {
		return nil
	}
	return a.Mechanisms(c.sess.TLS)
}

// authenticate does AUTH (RFC 4954, 4).
func (c *conn) authenticate(ctx context.Context, arg []byte) (*Reply, error) {
	a := c.srv.Authenticator
	switch {
	case a == nil:
		return replyNotHere, nil
	case c.sess.Hello == "" || !c.sess.Extended:
		return replyHelloFirst, nil
	case c.sess.authed, c.inTx:
		return replySequence, nil
	case c.sess.TLS == nil && (!c.srv.InsecureAuth || c.srv.RequireTLS):
		return replyAuthTLS, nil
	case c.srv.failures.Blocked(c.sess.Remote.Addr(), c.srv.maxFailures, time.Now()):
		c.log(ctx, slog.LevelInfo, "authentication refused: too many failures from this address")
		return replyAuthBlocked, nil
	}
	name, initial, hasInitial := bytes.Cut(arg, []byte{' '})
	mech := string(bytes.ToUpper(name))
	known := false
	for _, m := range a.Mechanisms(c.sess.TLS) {
		known = known || m == mech
	}
	if !known {
		return replyNoMechanism, nil
	}
	var response []byte
	if hasInitial {
		var err error
		if response, err = decodeSASL(bytes.TrimLeft(initial, " ")); err != nil {
			return replyAuthBase64, nil
		}
	}
	before := c.sess.Identity
	server, err := c.srv.Handler.Auth(ctx, &c.sess, mech)
	if err == nil {
		var reply *Reply
		if reply, err = c.exchange(server, response); reply != nil {
			c.sess.Identity = before
			return reply, nil
		}
		var broken *wireError
		if errors.As(err, &broken) {
			c.sess.Identity = before
			return nil, broken.err
		}
	}
	if f := c.conf.trace.AuthDone; f != nil {
		f(ctx, &c.sess, mech, err)
	}
	if err != nil {
		c.sess.Identity = before
		return c.authFailed(ctx, mech, err), nil
	}
	c.sess.Mechanism, c.sess.authed = mech, true
	return replyAuthed, nil
}

// authFailed counts a failure and makes the reply.
func (c *conn) authFailed(ctx context.Context, mech string, err error) *Reply {
	c.log(ctx, slog.LevelInfo, "authentication failed", slog.String("mechanism", mech), slog.Any("err", err))
	var r *Reply
	var temp interface{ Temporary() bool }
	switch {
	case errors.As(err, &r) && r.Code >= 400 && r.Code <= 599:
	case errors.As(err, &temp) && temp.Temporary():
		r = replyAuthTrouble
	default:
		r = replyAuthFailed
	}
	if r.Temporary() {
		return r // our trouble, not theirs
	}
	c.refused = true
	c.srv.failures.Add(c.sess.Remote.Addr(), time.Now())
	c.authFail++
	c.holdBack(ctx)
	if c.authFail >= c.conf.maxAuth {
		if c.reply(r, false) == nil {
			return replyAuthLimit
		}
	}
	return r
}

// holdBack makes a client that fails to authenticate wait, longer each time: guessing becomes slow.
func (c *conn) holdBack(ctx context.Context) {
	if c.conf.authDelay <= 0 || c.flush() != nil {
		return
	}
	left := min(c.conf.authDelay<<min(c.authFail-1, 16), 30*time.Second)
	for left > 0 && ctx.Err() == nil && !c.lim.Draining() { // Shutdown does not wait for it
		step := min(left, 250*time.Millisecond)
		left -= step
		wait := time.NewTimer(step)
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
		}
	}
}

// wireError marks an error of the connection, not of the exchange.
type wireError struct{ err error }

func (e *wireError) Error() string { return e.err.Error() }

// exchange runs the SASL exchange. A reply ends it for reasons of syntax.
func (c *conn) exchange(server sasl.Server, response []byte) (*Reply, error) {
	for {
		challenge, done, err := server.Next(response)
		if err != nil {
			return nil, err
		}
		if done && len(challenge) == 0 {
			return nil, nil
		}
		line := append([]byte("334 "), base64.StdEncoding.EncodeToString(challenge)...)
		if err := c.write(append(line, '\r', '\n')); err != nil {
			return nil, &wireError{err}
		}
		answer, err := c.nextLine()
		switch {
		case err == errLineTooLong:
			if err := c.skipLine(64 << 10); err != nil {
				return nil, &wireError{err}
			}
			return replyAuthLong, nil
		case err == errBareLF && c.srv.Newlines == NewlinesNormalise:
		case err == errBareLF, err == errBareCR:
			return replyBareCommand, nil
		case err != nil:
			return nil, &wireError{err}
		}
		if string(answer) == "*" {
			return replyAuthCancel, nil
		}
		// Behind the last challenge of the server (SCRAM) comes an empty answer; SMTP
		// has no room for data in its 235 (RFC 4954, 4).
		if response, err = decodeSASL(answer); err != nil || done && len(response) > 0 {
			return replyAuthBase64, nil
		}
		if done {
			return nil, nil
		}
	}
}

// decodeSASL decodes a response; "=" is the empty one. The result is not nil.
func decodeSASL(b []byte) ([]byte, error) {
	if len(b) == 0 || string(b) == "=" {
		return []byte{}, nil
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Strict().Decode(out, b)
	for _, ch := range b {
		if ch == '\r' || ch == '\n' {
			return nil, errors.New("smtp: line end in base64")
		}
	}
	return out[:n], err
}
