package smtp

import (
	"context"
	"io"
	"iter"
)

// Message is what SendAll sends.
type Message struct {
	Envelope *Envelope
	Body     io.Reader
}

// SendAll sends messages one behind the other. Where the server offers PIPELINING, the envelope of
// each, and with BDAT its beginning, leaves behind the body of the one before, without a wait for the reply
// to that (RFC 2920, 3.1), so that a message costs one round trip instead of two.
//
// done is called for each message sent, in order, with what Send would have returned; it must not use
// the Client. messages is asked for the next one before the last is done, and not
// any more once the connection is of no use: then SendAll returns the *ConnError.
func (c *Client) SendAll(ctx context.Context, messages iter.Seq[Message], done func(*Result, error)) error {
	return c.run(ctx, func() error {
		m := many{c: c, ctx: ctx, done: done}
		for msg := range messages {
			if err := m.send(msg); err != nil {
				return err
			}
		}
		return m.finish()
	})
}

// many is a SendAll under way.
type many struct {
	c    *Client
	ctx  context.Context // of the one call to SendAll
	done func(*Result, error)
	last *sending // its body was sent, and the reply to that is still to come; or nil
}

// send sends a message up to its body's end. An error ends it all.
func (m *many) send(msg Message) error {
	c := m.c
	res := &Result{Recipients: make([]*Reply, len(msg.Envelope.To))}
	s, err := c.prepare(msg.Envelope, msg.Body, res)
	if err != nil || s == nil {
		if broken := m.finish(); broken != nil {
			return broken
		}
		m.done(res, err)
		return nil
	}
	// What waits to be answered first: a refusal that RSET must clear away, the last message of a server's limit.
	if m.last != nil && (!s.pipelined || c.MessagesLeft() == 0) {
		if err := m.finish(); err != nil {
			return err
		}
	}
	if m.last == nil {
		err = s.begin()
	} else {
		err = c.begin()
	}
	step := s.lockstep
	if s.pipelined && err == nil {
		step = s.rest
		err = s.head()
	}
	if err != nil {
		return m.fail(s, err)
	}
	if m.last != nil {
		if err := m.last.final(); err != nil {
			return m.fail(s, err)
		}
		m.done(m.last.res, nil)
		m.last, c.inTx = nil, true
	}
	waits, err := step()
	switch {
	case err != nil:
		return m.fail(s, err)
	case waits:
		m.last = s
	default:
		m.done(res, nil)
	}
	return nil
}

// finish reads the reply to the last message.
func (m *many) finish() error {
	if m.last == nil {
		return nil
	}
	s := m.last
	m.last = nil
	if err := s.final(); err != nil {
		return m.fail(s, err)
	}
	m.done(s.res, nil)
	return nil
}

// fail tells what became of the messages on their way when the connection broke.
func (m *many) fail(s *sending, err error) error {
	if m.c.cut.Load() {
		err = context.Cause(m.ctx)
	}
	err = m.c.fail(err)
	if m.last != nil {
		m.done(m.last.res, err)
		m.last = nil
	}
	m.done(s.res, err)
	return err
}
