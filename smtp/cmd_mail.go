package smtp

import (
	"bytes"
	"context"
	"time"
	"unicode/utf8"
)

// maxHold is how long a message may be kept back by FUTURERELEASE, as announced (RFC 4865, 4).
const maxHold = 30 * 24 * time.Hour

// cutPath takes "FROM:<path>" apart. One space behind the colon is forgiven.
func cutPath(arg []byte, keyword string) (mailbox, params []byte, ok, syntax bool) {
	n := len(keyword)
	if len(arg) < n || !eqFold(arg[:n], keyword) {
		return nil, nil, false, false
	}
	arg = arg[n:]
	if len(arg) > 0 && arg[0] == ' ' {
		arg = arg[1:]
	}
	mailbox, params, err := parsePath(arg)
	return mailbox, params, err == nil, true
}

// intern returns b as a string; prev itself if it is the same, which costs nothing.
func intern(prev string, b []byte) string {
	if string(b) == prev {
		return prev
	}
	return string(b)
}

func (c *conn) needEnvelope() {
	if c.envelope == nil {
		c.envelope = new(envelope)
	}
}

// mail does MAIL (RFC 5321, 4.1.1.2).
func (c *conn) mail(ctx context.Context, arg []byte) *Reply {
	c.needEnvelope()
	switch {
	case c.sess.Hello == "":
		return replyHelloFirst
	case c.inTx:
		return replyNestedMail
	case c.chunkErr:
		return replyNeedReset
	case c.srv.MaxMessages > 0 && c.tx.number >= c.srv.MaxMessages:
		return replyTooManyMails
	case c.srv.RequireTLS && c.sess.TLS == nil:
		return replyNeedTLS
	case c.srv.Mode == ModeSubmission && !c.sess.authed:
		return replyNeedAuth
	}
	mailbox, rest, ok, syntax := cutPath(arg, "FROM:")
	if !syntax {
		return replyMailSyntax
	}
	if !ok || len(mailbox) > 0 && bytes.IndexByte(mailbox, '@') < 0 {
		return replyBadSender
	}
	tx := &c.tx
	params := c.conf.params
	if c.sess.TLS == nil {
		params.ext &^= ExtRequireTLS
	}
	if len(rest) > 0 {
		if !c.sess.Extended {
			return errParamUnknown // RFC 5321, 4.1.4: HELO promises no extensions
		}
		if r := params.mail(rest, &tx.Params); r != nil {
			tx.Params = MailParams{}
			return r
		}
		if tx.Params.Auth != "" && !c.sess.authed {
			tx.Params.Auth = "<>" // RFC 4954, 5: not to be trusted
		}
	}
	if r := c.checkUTF8(mailbox); r != nil {
		tx.Params = MailParams{}
		return r
	}
	if p := &tx.Params; p.HoldFor > maxHold || !p.HoldUntil.IsZero() && time.Until(p.HoldUntil) > maxHold {
		*p = MailParams{}
		return replyHoldLong
	}
	if tx.Params.Size > c.conf.maxMessage {
		tx.Params = MailParams{}
		return replyTooBig
	}
	if word := unsolicited(c.srv.NoSoliciting, tx.Params.Solicit); word != "" {
		tx.Params = MailParams{}
		c.refused = true
		return &Reply{Code: 550, Enhanced: EnhancedCode{5, 7, 1}, Text: "SOLICITATION " + word + " is not wanted here"}
	}
	tx.Session = &c.sess
	tx.From = intern(tx.From, mailbox)
	tx.number++
	c.inTx = true
	c.slot = c.slots.next(ctx)
	if err := c.srv.Handler.Mail(&c.slot.ctx, tx); err != nil {
		r := c.judge(ctx, "MAIL", err)
		if !r.OK() {
			c.endTx(ctx, r)
		}
		return r
	}
	return replySender
}

// checkUTF8 judges an address beyond ASCII in the light of the transaction's parameters.
func (c *conn) checkUTF8(mailbox []byte) *Reply {
	switch {
	case !has8bit(mailbox):
		return nil
	case !utf8.Valid(mailbox):
		return replyBadUTF8
	case !c.tx.Params.UTF8:
		return replyNeedUTF8
	}
	return nil
}

// rcpt does RCPT (RFC 5321, 4.1.1.3).
func (c *conn) rcpt(ctx context.Context, arg []byte) *Reply {
	if !c.inTx {
		return replyNeedMail
	}
	mailbox, rest, ok, syntax := cutPath(arg, "TO:")
	if !syntax {
		return replyRcptSyntax
	}
	if !ok || len(mailbox) == 0 {
		return replyBadRecipient
	}
	if r := c.checkUTF8(mailbox); r != nil {
		return r
	}
	tx := &c.tx
	if len(tx.Recipients) >= c.conf.maxRcpts {
		c.junk++
		return replyTooManyRcpts
	}
	r := c.takeRecipient(mailbox)
	if len(rest) > 0 {
		if !c.sess.Extended {
			return errParamUnknown
		}
		if reply := c.conf.params.rcpt(rest, &r.Params); reply != nil {
			return reply
		}
	}
	if err := c.srv.Handler.Rcpt(&c.slot.ctx, tx, r); err != nil {
		reply := c.judge(ctx, "RCPT", err)
		if reply.OK() {
			tx.Recipients = append(tx.Recipients, r)
		}
		return reply
	}
	tx.Recipients = append(tx.Recipients, r)
	return replyRecipient
}

// maxSpare is how many Recipients a connection keeps for later transactions.
const maxSpare = 4

// takeRecipient returns a Recipient that nobody uses, with luck one that had the same address.
func (c *conn) takeRecipient(mailbox []byte) *Recipient {
	if c.used < len(c.rcpts) {
		r := c.rcpts[c.used]
		c.used++
		*r = Recipient{Address: intern(r.Address, mailbox)}
		return r
	}
	r := &Recipient{Address: string(mailbox)}
	if len(c.rcpts) < maxSpare {
		c.rcpts = append(c.rcpts, r)
		c.used++
	}
	return r
}
