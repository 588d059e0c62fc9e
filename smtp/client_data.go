package smtp

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/mailblocks/mailblocks/internal/dotio"
)

// chunkSize is how much of a message one BDAT carries.
const chunkSize = 128 << 10

// sending is one message on its way.
type sending struct {
	c                  *Client
	env                *Envelope
	res                *Result
	mail               string   // MAIL command
	lines              []string // RCPT commands
	body               io.Reader
	chunked, pipelined bool
	first              *chunk // with BDAT, what went along with the commands
	accepted           []int  // indexes of recipients accepted so far
}

// bodyError is trouble with the caller's message.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "smtp: reading the message: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// run sends the message and reads its replies.
func (s *sending) run() error {
	if err := s.begin(); err != nil {
		return err
	}
	step := s.lockstep
	if s.pipelined {
		if err := s.head(); err != nil {
			return err
		}
		step = s.rest
	}
	if waits, err := step(); err != nil || !waits {
		return err
	}
	return s.final()
}

// begin makes room for the transaction.
func (s *sending) begin() error {
	c := s.c
	if c.inTx { // left over from Mail and Rcpt by hand, or from a refusal
		r, err := c.cmd(c.opt.CommandTimeout, "RSET")
		if err := unexpected(r, err); err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
	}
	return c.begin()
}

// head puts MAIL, the first batch of RCPTs, and what goes along with the last, see batch.
func (s *sending) head() error {
	if err := s.c.put(s.mail); err != nil {
		return err
	}
	return s.batch(0)
}

// batch puts the batch of RCPTs that begins with number done. Behind the last comes DATA, or the first
// chunk (RFC 2920, 3.1; RFC 3030, 4.2).
func (s *sending) batch(done int) error {
	c := s.c
	end := min(done+rcptBatch, len(s.lines))
	for _, line := range s.lines[done:end] {
		if err := c.put(line); err != nil {
			return err
		}
	}
	switch {
	case end < len(s.lines):
		return nil
	case !s.chunked:
		return c.put("DATA")
	}
	s.first = newChunk(s.body, s.env.Params.Body == BodyBinary)
	if err := s.first.read(); err != nil {
		return err
	}
	return s.first.put(c)
}

// rest goes on behind head up to the end of the body; waits says that the reply to that is still to come.
func (s *sending) rest() (waits bool, err error) {
	c := s.c
	for done := 0; done < len(s.lines); {
		end := min(done+rcptBatch, len(s.lines))
		if done == 0 {
			r, err := c.read(c.opt.CommandTimeout)
			if err != nil {
				return false, err
			}
			s.res.Mail = r
			if r.Code < 400 && !r.OK() {
				return false, unexpected(r, nil)
			}
		} else if err := s.batch(done); err != nil {
			return false, err
		}
		for i := done; i < end; i++ {
			r, err := c.read(c.opt.CommandTimeout)
			if err != nil {
				return false, err
			}
			if err := s.rcptReply(i, r); err != nil {
				return false, err
			}
		}
		done = end
	}
	if s.chunked {
		return s.chunks()
	}
	r, err := c.read(c.opt.DataTimeout)
	if err != nil {
		return false, err
	}
	return s.data(r)
}

// lockstep is head and rest without pipelining.
func (s *sending) lockstep() (waits bool, err error) {
	c := s.c
	r, err := c.cmd(c.opt.CommandTimeout, s.mail)
	if r == nil || isReply(err) == nil && err != nil {
		return false, err
	}
	s.res.Mail = r
	if !r.OK() {
		if r.Code < 400 {
			return false, unexpected(r, nil)
		}
		fillReplies(s.res.Recipients, r)
		return false, nil
	}
	for i, line := range s.lines {
		r, err := c.cmd(c.opt.CommandTimeout, line)
		if r == nil || isReply(err) == nil && err != nil {
			return false, err
		}
		if err := s.rcptReply(i, r); err != nil {
			return false, err
		}
	}
	if len(s.accepted) == 0 {
		return false, nil
	}
	if s.chunked {
		s.first = newChunk(s.body, s.env.Params.Body == BodyBinary)
		if err := s.first.read(); err != nil {
			return false, err
		}
		if err := s.first.put(c); err != nil {
			return false, err
		}
		return s.chunks()
	}
	r, err = c.cmd(c.opt.DataTimeout, "DATA")
	if r == nil || isReply(err) == nil && err != nil {
		return false, err
	}
	return s.data(r)
}

// rcptReply keeps the reply to RCPT number i.
func (s *sending) rcptReply(i int, r *Reply) error {
	switch {
	case r.Code < 400 && !r.OK():
		return fmt.Errorf("%w: %w", ErrProtocol, r)
	case s.res.Mail != nil && !s.res.Mail.OK():
		s.res.Recipients[i] = s.res.Mail // whatever RCPT says without it
	case r.OK():
		s.accepted = append(s.accepted, i)
	default:
		s.res.Recipients[i] = r
	}
	return nil
}

// data goes on from the reply to DATA.
func (s *sending) data(r *Reply) (waits bool, err error) {
	c := s.c
	if r.Code != 354 {
		if r.Code < 400 {
			return false, fmt.Errorf("%w: %w", ErrProtocol, r)
		}
		s.settleAll(r)
		return false, nil
	}
	if len(s.accepted) == 0 {
		// It waits for a message although it took no recipient: an empty one ends that.
		if _, err := c.bw.WriteString(".\r\n"); err != nil {
			return false, c.lastWords(err)
		}
		_, err := c.read(c.opt.DataDoneTimeout)
		return false, err
	}
	if err := c.writeDot(s.body); err != nil {
		return false, err
	}
	return true, nil
}

// settleAll gives r to every recipient that was accepted.
func (s *sending) settleAll(r *Reply) {
	if len(s.accepted) == 0 {
		return // a command that MAIL's or RCPT's failure took with it
	}
	s.res.Data = r
	for _, i := range s.accepted {
		s.res.Recipients[i] = r
	}
}

// final reads the reply, or with LMTP the replies, to the whole message.
func (s *sending) final() error {
	c := s.c
	if !c.opt.LMTP {
		r, err := c.read(c.opt.DataDoneTimeout)
		if err != nil {
			return err
		}
		return s.finished(r)
	}
	for _, i := range s.accepted {
		r, err := c.read(c.opt.DataDoneTimeout)
		if err != nil {
			return err
		}
		if r.Code == 354 || r.Code < 200 {
			return fmt.Errorf("%w: %w", ErrProtocol, r)
		}
		s.res.Recipients[i] = r
	}
	c.inTx = false
	return nil
}

func (s *sending) finished(r *Reply) error {
	if r.Code < 400 && !r.OK() {
		return fmt.Errorf("%w: %w", ErrProtocol, r)
	}
	s.settleAll(r)
	s.c.inTx = false
	return nil
}

// writeDot sends a message in the form of DATA.
func (c *Client) writeDot(body io.Reader) error {
	w := dotio.NewWriter(c.bw)
	if err := copyBody(w, body); err != nil {
		return c.bodyTrouble(err)
	}
	if err := w.Close(); err != nil {
		return c.lastWords(err)
	}
	return nil
}

func (c *Client) bodyTrouble(err error) error {
	if _, ok := err.(*bodyError); ok {
		return err
	}
	return c.lastWords(err)
}

// copyBody is io.Copy with the two sides' errors told apart.
func copyBody(w io.Writer, body io.Reader) error {
	buf := readBuffers.Get().(*[readBufferSize]byte)
	defer readBuffers.Put(buf)
	_, err := io.CopyBuffer(w, markReader{body}, buf[:])
	return err
}

// markReader makes a bodyError of each read error.
type markReader struct{ r io.Reader }

func (m markReader) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if err != nil && err != io.EOF {
		err = &bodyError{err}
	}
	return n, err
}

// chunk cuts a message into BDAT commands, with its newlines mended unless it is binary.
type chunk struct {
	src    io.Reader
	binary bool
	buf    []byte  // to be sent next; its memory is
	own    *[]byte // borrowed from chunkBuffers up to the last BDAT
	cr     bool    // a CR was read whose LF is still to come
	eof    bool
}

var chunkBuffers = sync.Pool{New: func() any { return new([]byte) }}

func newChunk(src io.Reader, binary bool) *chunk {
	own := chunkBuffers.Get().(*[]byte)
	return &chunk{src: src, binary: binary, own: own, buf: *own}
}

// read fills buf for the next BDAT; eof says that it is the last.
func (k *chunk) read() error {
	k.buf = k.buf[:0]
	raw := readBuffers.Get().(*[readBufferSize]byte)
	defer readBuffers.Put(raw)
	for !k.eof && len(k.buf) < chunkSize {
		n, err := k.src.Read(raw[:])
		if k.binary {
			k.buf = append(k.buf, raw[:n]...)
		} else {
			k.mend(raw[:n])
		}
		if err == io.EOF {
			k.eof = true
			if k.cr {
				k.buf = append(k.buf, '\r', '\n')
			} else if b := k.buf; !k.binary && len(b) > 0 && b[len(b)-1] != '\n' {
				k.buf = append(k.buf, '\r', '\n')
			}
		} else if err != nil {
			return &bodyError{err}
		}
	}
	return nil
}

// mend appends p to buf with every CR, LF and CRLF as CRLF.
func (k *chunk) mend(p []byte) {
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i > 0 && !k.cr && bytes.IndexByte(p[:i], '\r') == i-1 {
			k.buf = append(k.buf, p[:i+1]...) // a line as it should be
			p = p[i+1:]
			continue
		}
		if i < 0 {
			i = len(p) - 1
		}
		k.mendLine(p[:i+1])
		p = p[i+1:]
	}
}

func (k *chunk) mendLine(p []byte) {
	for _, ch := range p {
		switch {
		case ch == '\n':
			k.buf = append(k.buf, '\r', '\n')
			k.cr = false
			continue
		case k.cr:
			k.buf = append(k.buf, '\r', '\n')
			k.cr = false
		}
		if ch == '\r' {
			k.cr = true
			continue
		}
		k.buf = append(k.buf, ch)
	}
}

// put buffers the BDAT command and its octets.
func (k *chunk) put(c *Client) error {
	line := fmt.Sprintf("BDAT %d", len(k.buf))
	if k.eof {
		line += " LAST"
	}
	if err := c.put(line); err != nil {
		return err
	}
	_, err := c.bw.Write(k.buf)
	if k.eof && k.own != nil {
		*k.own = k.buf[:0]
		chunkBuffers.Put(k.own)
		k.own, k.buf = nil, nil
	}
	if err != nil {
		return c.lastWords(err)
	}
	return nil
}

// chunks goes on behind the first BDAT, which was sent.
func (s *sending) chunks() (waits bool, err error) {
	c, k := s.c, s.first
	for !k.eof {
		r, err := c.read(c.opt.DataDoneTimeout)
		if err != nil {
			return false, err
		}
		if !r.OK() || len(s.accepted) == 0 {
			// Refused: the transaction is over for the server (RFC 3030, 2), or there is nobody to send to.
			if r.Code == 354 {
				return false, fmt.Errorf("%w: %w", ErrProtocol, r)
			}
			if !r.OK() {
				s.settleAll(r)
			}
			return false, nil
		}
		if err := k.read(); err != nil {
			return false, err
		}
		if err := k.put(c); err != nil {
			return false, err
		}
	}
	if len(s.accepted) == 0 {
		_, err := c.read(c.opt.DataDoneTimeout)
		return false, err
	}
	return true, nil
}
