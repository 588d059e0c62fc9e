package smtp

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// hello does EHLO, HELO and LHLO (RFC 5321, 4.1.1.1; RFC 2033, 4.1).
func (c *conn) hello(ctx context.Context, verb string, arg []byte) *Reply {
	if (verb == "LHLO") != (c.srv.Mode == ModeLMTP) {
		return replyUnknown
	}
	if len(arg) == 0 || len(arg) > maxDomain {
		return replyHelloArg
	}
	for _, ch := range arg {
		if ch <= ' ' || ch >= 0x7f {
			return replyHelloArg
		}
	}
	c.junk++
	c.chunkErr = false
	c.endTx(ctx, ErrReset)
	name := string(arg)
	c.sess.Hello, c.sess.Extended = name, verb != "HELO"
	text := c.conf.hostname
	if err := c.srv.Handler.Hello(ctx, &c.sess, name); err != nil {
		r := c.judge(ctx, verb, err)
		if !r.OK() {
			c.sess.Hello = ""
			return r
		}
		text += " " + r.Text
	}
	if !c.sess.Extended {
		return &Reply{Code: 250, Text: text}
	}
	return &Reply{Code: 250, Text: c.keywords(text)}
}

// keywords appends the lines of the EHLO reply to its first one.
func (c *conn) keywords(first string) string {
	var b strings.Builder
	b.WriteString(first)
	add := func(on Extensions, words ...string) {
		if c.conf.ext&on == on {
			b.WriteByte('\n')
			for _, w := range words {
				b.WriteString(w)
			}
		}
	}
	add(ExtPipelining, "PIPELINING")
	if c.conf.maxMessage == 1<<63-1 {
		add(ExtSize, "SIZE")
	} else {
		add(ExtSize, "SIZE ", strconv.FormatInt(c.conf.maxMessage, 10))
	}
	add(Ext8BitMIME, "8BITMIME")
	add(ExtSMTPUTF8, "SMTPUTF8")
	add(ExtEnhancedCodes, "ENHANCEDSTATUSCODES")
	add(ExtChunking, "CHUNKING")
	add(ExtBinaryMIME, "BINARYMIME")
	add(ExtDSN, "DSN")
	add(ExtDeliverBy, "DELIVERBY")
	if c.conf.ext&ExtFutureRelease != 0 {
		add(0, "FUTURERELEASE ", strconv.Itoa(int(maxHold/time.Second)), " ", time.Now().UTC().Add(maxHold).Format(time.RFC3339))
	}
	add(ExtPriority, "MT-PRIORITY")
	add(ExtValidSince, "RRVS")
	if len(c.srv.NoSoliciting) > 0 {
		add(ExtNoSoliciting, "NO-SOLICITING ", strings.Join(c.srv.NoSoliciting, ","))
	} else {
		add(ExtNoSoliciting, "NO-SOLICITING")
	}
	limits := ""
	if c.srv.MaxMessages > 0 {
		limits += " MAILMAX=" + strconv.Itoa(c.srv.MaxMessages)
	}
	if c.conf.maxRcpts < 1e6 {
		limits += " RCPTMAX=" + strconv.Itoa(c.conf.maxRcpts)
	}
	if limits != "" {
		add(ExtLimits, "LIMITS", limits)
	}
	if c.sess.TLS != nil {
		add(ExtRequireTLS, "REQUIRETLS")
	} else if c.srv.TLS != nil {
		add(0, "STARTTLS")
	}
	if m := c.mechanisms(); len(m) > 0 {
		add(0, "AUTH ", strings.Join(m, " "))
	}
	if c.trusted() {
		add(0, "XCLIENT ", xclientAttributes)
	}
	for _, k := range c.srv.Keywords {
		add(0, k)
	}
	return b.String()
}

// startTLS does STARTTLS (RFC 3207).
func (c *conn) startTLS(ctx context.Context, arg []byte) (*Reply, error) {
	switch {
	case c.srv.TLS == nil:
		return replyNotHere, nil
	case len(arg) > 0:
		return replyNoArg, nil
	case c.sess.TLS != nil:
		return replySequence, nil
	case len(c.buffered()) > 0:
		// Commands that came in the clear must not be taken for some of the TLS session.
		c.dropIn()
		return replyInjected, nil
	}
	c.endTx(ctx, ErrReset)
	if err := c.reply(replyTLS, false); err != nil {
		return nil, err
	}
	if err := c.flush(); err != nil {
		return nil, err
	}
	c.dropIn()
	// RFC 3207, 4.2: both sides forget what they learned in the clear.
	c.sess.Hello, c.sess.Extended = "", false
	c.sess.Identity, c.sess.Mechanism, c.sess.authed = "", "", false
	return nil, c.handshake(ctx, tls.Server(c.conn, c.srv.TLS))
}

// handshake begins to use t.
func (c *conn) handshake(ctx context.Context, t *tls.Conn) error {
	now := time.Now()
	if err := t.SetDeadline(now.Add(c.conf.handshake)); err != nil {
		return err
	}
	if err := t.HandshakeContext(ctx); err != nil {
		c.log(ctx, slog.LevelInfo, "TLS handshake failed", slog.Any("err", err))
		return fmt.Errorf("%w: %w", errHandshake, err)
	}
	if err := t.SetDeadline(time.Time{}); err != nil {
		return err
	}
	c.setConn(t)
	state := t.ConnectionState()
	c.sess.TLS = &state
	return nil
}

// verify does VRFY and EXPN.
func (c *conn) verify(ctx context.Context, verb string, arg []byte) *Reply {
	if verb == "EXPN" && c.srv.Expand == nil {
		return replyNotHere
	}
	if c.srv.Mode == ModeSubmission && !c.sess.authed {
		return replyNeedAuth
	}
	if len(bytes.TrimSpace(arg)) == 0 {
		return &Reply{Code: 501, Enhanced: EnhancedCode{5, 5, 4}, Text: "syntax: " + verb + " name"}
	}
	ask := c.srv.Handler.Verify
	if verb == "EXPN" {
		ask = c.srv.Expand
	}
	r, err := ask(ctx, &c.sess, string(arg))
	switch {
	case err != nil:
		return c.judge(ctx, verb, err)
	case r == nil:
		return replyVerify
	}
	return r
}
