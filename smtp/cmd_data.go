package smtp

import (
	"bytes"
	"context"
	"io"
	"log/slog"
)

// data does DATA (RFC 5321, 4.1.1.4).
func (c *conn) data(ctx context.Context, arg []byte) (*Reply, error) {
	switch {
	case len(arg) > 0:
		return replyNoArg, nil
	case !c.inTx:
		return replyNeedMail, nil
	case len(c.tx.Recipients) == 0:
		return c.needRcpt(), nil
	case c.tx.Params.Body == BodyBinary:
		return replyBinaryData, nil
	}
	if err := c.reply(replyData, false); err != nil {
		return nil, err
	}
	c.body = body{c: c, bol: true}
	return c.deliver(ctx)
}

// needRcpt is RFC 5321, 3.3, and RFC 2033, 4.2, which wants 503.
func (c *conn) needRcpt() *Reply {
	if c.srv.Mode == ModeLMTP {
		return replyNeedRcptLMTP
	}
	return replyNeedRcpt
}

// bdat does the first BDAT of a message (RFC 3030, 2); the body reads the others.
func (c *conn) bdat(ctx context.Context, arg []byte) (*Reply, error) {
	if c.conf.ext&ExtChunking == 0 {
		// Its octets would be read as commands.
		r := *replyNotHere
		r.Close = true
		return &r, nil
	}
	size, last, ok := parseBdat(arg)
	if !ok {
		return replyBdatSyntax, nil
	}
	c.needEnvelope()
	c.body = body{c: c, chunk: true, left: size, last: last, bare: c.tx.Params.Body == BodyBinary}
	var refusal *Reply
	switch {
	case !c.inTx:
		refusal = replyNeedMail
	case len(c.tx.Recipients) == 0:
		refusal = c.needRcpt()
	case size > c.conf.maxMessage:
		refusal = replyTooBig
	default:
		return c.deliver(ctx)
	}
	// Refused, but its octets are on their way.
	if err := c.body.drain(); err == errDrainSize {
		r := *refusal
		r.Close = true
		refusal = &r
	} else if err != nil {
		return nil, err
	}
	return c.settle(ctx, refusal, refusal)
}

// parseBdat reads "size [LAST]".
func parseBdat(arg []byte) (size int64, last, ok bool) {
	num, word, more := bytes.Cut(arg, []byte{' '})
	if more && !eqFold(bytes.TrimLeft(word, " "), "LAST") {
		return 0, false, false
	}
	n, ok := parseDigits(num, 18)
	return int64(n), more, ok
}

// between ends a chunk that was not the last: it answers it, and reads commands up to the next.
func (b *body) between() {
	c := b.c
	answer := replyChunk
	for {
		if err := c.reply(answer, false); err != nil {
			b.err = err
			return
		}
		line, err := c.nextLine()
		if err != nil && (err != errBareLF || b.newlines() == NewlinesReject) {
			b.err = errUnexpected(err)
			return
		}
		verb, arg := splitVerb(line)
		if c.pipelinedPast(verb) {
			b.last, b.err = true, replyPipelined
			return
		}
		switch verb {
		case "BDAT":
			var ok bool
			b.left, b.last, ok = parseBdat(arg)
			switch {
			case !ok:
				b.last, b.err = true, replyBdatSyntax
			case b.left > c.conf.maxMessage-b.total && !b.drop:
				b.err = replyTooBig
			}
			return
		case "RSET", "QUIT", "EHLO", "HELO", "LHLO":
			c.pending = bytes.Clone(line)
			b.err = errGivenUp
			return
		case "NOOP":
			c.junk++
			answer = replyOK
		default:
			if notVerb(verb) {
				b.last, b.err = true, replyNotVerb
				return
			}
			c.errors++
			answer = replySequence // RFC 3030, 2: no DATA, and nothing else, before BDAT LAST
		}
		if c.errors >= c.conf.maxErrors || c.junk > maxJunk {
			b.err = replyTooManyErrors
			return
		}
	}
}

// deliver gives the message to the handler, brings the connection behind its end, and
// settles what each recipient is told.
func (c *conn) deliver(ctx context.Context) (*Reply, error) {
	b, tx := &c.body, &c.tx
	c.slot.body.b = b
	reply, err := c.srv.Handler.Data(&c.slot.ctx, tx, &c.slot.body)
	c.slot.body.b = nil
	seen := b.err // what the handler was told about the body
	stuck := b.drain()
	if seen == errGivenUp {
		c.endTx(ctx, ErrReset)
		return nil, nil
	}
	if stuck != nil && stuck != errDrainSize {
		c.endTx(ctx, stuck)
		return c.dataStuck(stuck)
	}
	refusal, _ := seen.(*Reply)
	switch {
	case refusal != nil:
		// Whatever the handler made of it: the message did not come whole.
	case err != nil:
		if r := c.judge(ctx, "DATA", err); r.OK() {
			reply = r
		} else {
			refusal = r
		}
	case reply != nil && !reply.OK():
		refusal = c.judge(ctx, "DATA", reply)
	}
	if reply == nil {
		reply = replyAccepted
	}
	if refusal == nil && c.srv.Mode != ModeLMTP {
		refusal = c.commonVerdict(ctx)
	}
	if refusal == nil && b.chunk && !b.last {
		if err := b.dropRest(); err != nil {
			c.endTx(ctx, nil)
			if err == errGivenUp {
				return nil, nil
			}
			return c.dataStuck(err)
		}
	}
	final := reply
	if refusal != nil {
		final = refusal
	} else {
		c.errors, c.junk = 0, 0
	}
	if (stuck != nil || b.err == replyBareBody) && !final.Close {
		r := *final
		r.Close = true
		final = &r
	}
	return c.settle(ctx, final, refusal)
}

// dataStuck ends a session that can not find the end of the message.
func (c *conn) dataStuck(err error) (*Reply, error) {
	switch err {
	case errLineTooLong:
		return replyLineTooLong, err
	case errBareLF, errBareCR:
		return replyBareCommand, err
	}
	r, _ := err.(*Reply)
	return r, err
}

// dropRest answers and drops the chunks that come behind one the handler was content with.
func (b *body) dropRest() error {
	for !b.last {
		b.err = nil
		b.between()
		if b.err != nil {
			return b.err
		}
		if err := b.drain(); err != nil {
			return err
		}
	}
	return nil
}

// commonVerdict is the failure of all recipients, if they all have one: a temporary one if
// there is any, since all will be tried again.
func (c *conn) commonVerdict(ctx context.Context) *Reply {
	var common *Reply
	for _, r := range c.tx.Recipients {
		v := c.verdict(ctx, r)
		if v == nil || v.OK() {
			return nil
		}
		if common == nil || v.Temporary() && !common.Temporary() {
			common = v
		}
	}
	return common
}

// verdict is r's own reply, or nil.
func (c *conn) verdict(ctx context.Context, r *Recipient) *Reply {
	if r.Verdict == nil {
		return nil
	}
	return c.judge(ctx, "DATA", r.Verdict)
}

// settle ends the transaction and returns the last reply. LMTP has one for each recipient, in
// the order they were accepted in (RFC 2033, 4.2); a chunk that is not the last has one.
func (c *conn) settle(ctx context.Context, final, refusal *Reply) (*Reply, error) {
	if c.srv.logger().Enabled(ctx, slog.LevelDebug) {
		c.log(ctx, slog.LevelDebug, "message done", slog.String("from", c.tx.From),
			slog.Int("recipients", len(c.tx.Recipients)), slog.Int64("size", c.body.total), slog.String("reply", final.Error()))
	}
	if c.srv.Mode == ModeLMTP && (!c.body.chunk || c.body.last) {
		n := len(c.tx.Recipients)
		for i, r := range c.tx.Recipients {
			v := c.verdict(ctx, r)
			if v == nil || refusal != nil {
				v = final
			}
			if i == n-1 {
				final = v
				break
			}
			if err := c.reply(v, false); err != nil {
				c.endTx(ctx, err)
				return nil, err
			}
		}
	}
	if f := c.conf.trace.MessageDone; f != nil && c.inTx {
		f(&c.slot.ctx, &c.tx, final.Code, c.body.total)
	}
	var cause error
	if refusal != nil {
		cause = refusal
	}
	c.chunkErr = refusal != nil && c.body.chunk && !c.body.last
	c.endTx(ctx, cause)
	return final, nil
}

var _ io.WriterTo = (*bodyHandle)(nil)
