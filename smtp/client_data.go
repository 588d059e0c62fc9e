package smtp

import (
	"fmt"
	"io"

	"github.com/mailblocks/mailblocks/internal/dotio"
)

// chunkSize is how much of a message one BDAT carries.
const chunkSize = 128 << 10

// sending is one message on its way.
type sending struct {
	c                  *Client
	env                *Envelope
	res                *Result
	lines              []string // RCPT commands
	chunked, pipelined bool
	accepted           []int // indexes of recipients accepted so far
}

// bodyError is trouble with the caller's message.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "smtp: reading the message: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

func (s *sending) run(mail string, body io.Reader) error {
	c := s.c
	if c.inTx { // left over from Mail and Rcpt by hand, or from a refusal
		r, err := c.cmd(c.opt.CommandTimeout, "RSET")
		if err := unexpected(r, err); err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
	}
	if err := c.begin(); err != nil {
		return err
	}
	if !s.pipelined {
		return s.lockstep(mail, body)
	}
	if err := c.put(mail); err != nil {
		return err
	}
	var first *chunk
	for done := 0; done < len(s.lines); {
		end := min(done+rcptBatch, len(s.lines))
		for _, line := range s.lines[done:end] {
			if err := c.put(line); err != nil {
				return err
			}
		}
		if end == len(s.lines) {
			// The message may go along with it; see RFC 2920, 3.1, for DATA, and RFC 3030, 4.2.
			if s.chunked {
				first = newChunk(body, s.env.Params.Body == BodyBinary)
				if err := first.read(); err != nil {
					return err
				}
				if err := first.put(c); err != nil {
					return err
				}
			} else if err := c.put("DATA"); err != nil {
				return err
			}
		}
		if done == 0 {
			r, err := c.read(c.opt.CommandTimeout)
			if err != nil {
				return err
			}
			s.res.Mail = r
			if r.Code < 400 && !r.OK() {
				return unexpected(r, nil)
			}
		}
		for i := done; i < end; i++ {
			r, err := c.read(c.opt.CommandTimeout)
			if err != nil {
				return err
			}
			if err := s.rcptReply(i, r); err != nil {
				return err
			}
		}
		done = end
	}
	if s.chunked {
		return s.chunks(first)
	}
	r, err := c.read(c.opt.DataTimeout)
	if err != nil {
		return err
	}
	return s.data(r, body)
}

// lockstep is run without pipelining.
func (s *sending) lockstep(mail string, body io.Reader) error {
	c := s.c
	r, err := c.cmd(c.opt.CommandTimeout, mail)
	if r == nil || isReply(err) == nil && err != nil {
		return err
	}
	s.res.Mail = r
	if !r.OK() {
		if r.Code < 400 {
			return unexpected(r, nil)
		}
		fillReplies(s.res.Recipients, r)
		return nil
	}
	for i, line := range s.lines {
		r, err := c.cmd(c.opt.CommandTimeout, line)
		if r == nil || isReply(err) == nil && err != nil {
			return err
		}
		if err := s.rcptReply(i, r); err != nil {
			return err
		}
	}
	if len(s.accepted) == 0 {
		return nil
	}
	if s.chunked {
		first := newChunk(body, s.env.Params.Body == BodyBinary)
		if err := first.read(); err != nil {
			return err
		}
		if err := first.put(c); err != nil {
			return err
		}
		return s.chunks(first)
	}
	r, err = c.cmd(c.opt.DataTimeout, "DATA")
	if r == nil || isReply(err) == nil && err != nil {
		return err
	}
	return s.data(r, body)
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
func (s *sending) data(r *Reply, body io.Reader) error {
	c := s.c
	if r.Code != 354 {
		if r.Code < 400 {
			return fmt.Errorf("%w: %w", ErrProtocol, r)
		}
		s.settleAll(r)
		return nil
	}
	if len(s.accepted) == 0 {
		// It waits for a message although it took no recipient: an empty one ends that.
		if _, err := c.bw.WriteString(".\r\n"); err != nil {
			return c.lastWords(err)
		}
		_, err := c.read(c.opt.DataDoneTimeout)
		return err
	}
	if err := c.writeDot(body); err != nil {
		return err
	}
	return s.final()
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
	buf    []byte // to be sent next
	raw    []byte
	cr     bool // a CR was read whose LF is still to come
	eof    bool
}

func newChunk(src io.Reader, binary bool) *chunk {
	return &chunk{src: src, binary: binary, raw: make([]byte, 32<<10)}
}

// read fills buf for the next BDAT; eof says that it is the last.
func (k *chunk) read() error {
	k.buf = k.buf[:0]
	for !k.eof && len(k.buf) < chunkSize {
		n, err := k.src.Read(k.raw)
		if k.binary {
			k.buf = append(k.buf, k.raw[:n]...)
		} else {
			k.mend(k.raw[:n])
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
	if _, err := c.bw.Write(k.buf); err != nil {
		return c.lastWords(err)
	}
	return nil
}

// chunks goes on behind the first BDAT, which was sent.
func (s *sending) chunks(k *chunk) error {
	c := s.c
	for !k.eof {
		r, err := c.read(c.opt.DataDoneTimeout)
		if err != nil {
			return err
		}
		if !r.OK() || len(s.accepted) == 0 {
			// Refused: the transaction is over for the server (RFC 3030, 2), or there is nobody to send to.
			if r.Code == 354 {
				return fmt.Errorf("%w: %w", ErrProtocol, r)
			}
			if !r.OK() {
				s.settleAll(r)
			}
			return nil
		}
		if err := k.read(); err != nil {
			return err
		}
		if err := k.put(c); err != nil {
			return err
		}
	}
	if len(s.accepted) == 0 {
		_, err := c.read(c.opt.DataDoneTimeout)
		return err
	}
	return s.final()
}
