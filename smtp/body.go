package smtp

import (
	"bytes"
	"io"
	"time"
)

// body is the message as it comes in by DATA or BDAT: a pulling reader on the connection's
// goroutine. What it hands out are spans of the connection's input buffer, as long as can be.
//
// DATA (RFC 5321, 4.5.2): the message ends with a line of "." alone, and of a line that
// begins with "." the first "." is dropped, where a line begins behind CRLF and
// nothing else. An octet is held back in the input as long as it could be part of
// CRLF or of the end.
//
// BDAT (RFC 3030): the message is the chunks' octets. Between two chunks the reader
// itself answers the first and reads the next command.
type body struct {
	c     *conn
	chunk bool // BDAT
	bare  bool // bare newlines are allowed: BINARYMIME

	span []byte // read and judged, not yet handed out
	err  error  // what comes behind span; io.EOF at the end
	bol  bool   // DATA: the next octet begins a line
	cr   bool   // BDAT: a CR was taken that needs its LF
	drop bool   // the message is only read to its end: no limit, no judgement

	left    int64         // BDAT: octets of this chunk not yet read
	last    bool          // BDAT: this chunk is the last
	total   int64         // octets of the message so far, after un-stuffing
	dropped int64         // octets read and dropped
	waited  time.Duration // for input
}

var crlf = []byte("\r\n")

// errGivenUp is b.err when RSET or QUIT came in place of the next BDAT.
var errGivenUp = ErrReset

// bodyHandle is the Body that a handler gets. It dies with its Data, while the body behind it serves
// the next message.
type bodyHandle struct{ b *body }

// Read implements io.Reader.
func (h *bodyHandle) Read(p []byte) (int, error) {
	b := h.b
	switch {
	case b == nil:
		return 0, ErrBodyClosed
	case len(p) == 0:
		return 0, nil
	case !b.ready():
		return 0, b.err
	}
	n := copy(p, b.span)
	b.span = b.span[n:]
	return n, nil
}

// WriteTo implements io.WriterTo: the input buffer is written without a copy.
func (h *bodyHandle) WriteTo(w io.Writer) (n int64, err error) {
	b := h.b
	if b == nil {
		return 0, ErrBodyClosed
	}
	for b.ready() {
		k, err := w.Write(b.span)
		n += int64(k)
		b.span = b.span[k:]
		if err != nil {
			return n, err
		}
		if len(b.span) > 0 {
			return n, io.ErrShortWrite
		}
	}
	if b.err == io.EOF {
		return n, nil
	}
	return n, b.err
}

// ready sees to it that there is something in span, or else in err.
func (b *body) ready() bool {
	if len(b.span) == 0 {
		b.next()
	}
	return len(b.span) > 0
}

// next sets span to the next octets of the message, or err.
func (b *body) next() {
	for b.err == nil && len(b.span) == 0 {
		if b.chunk {
			b.nextChunk()
		} else {
			b.nextDot()
		}
	}
	if b.drop {
		return
	}
	if b.total += int64(len(b.span)); b.total > b.c.conf.maxMessage {
		b.span, b.err = nil, replyTooBig
	}
}

// more reads more input.
func (b *body) more() {
	c := b.c
	now := time.Now()
	if err := c.arm(now, c.conf.data); err != nil {
		b.err = err
		return
	}
	err := c.fill(false)
	b.waited += time.Since(now)
	switch {
	case err == nil:
	case isTimeout(err):
		b.err = errTimeout
		return
	default:
		b.err = errUnexpected(err)
		return
	}
	if b.waited > c.conf.message ||
		b.waited > 30*time.Second && float64(b.total+b.dropped) < float64(c.conf.minRate)*b.waited.Seconds() {
		b.err = errTooSlow
	}
}

// nextDot looks at the input of DATA.
func (b *body) nextDot() {
	in := b.c.buffered()
	if b.bol {
		// What may come: ".CRLF", "." and more, something else.
		switch {
		case len(in) == 0:
			b.more()
			return
		case in[0] != '.':
		case len(in) == 1 || in[1] == '\r' && len(in) == 2:
			b.more()
			return
		case in[1] == '\r' && in[2] == '\n':
			b.c.r += 3
			b.err = io.EOF
			return
		default:
			b.c.r++
			in = in[1:]
		}
		b.bol = false
	}
	// A run of octets up to a line that begins with ".", or to the end of the input.
	in = b.window(in)
	n, lines := 0, 0
	for {
		i := bytes.IndexByte(in[n:], '\n')
		if i < 0 {
			n = len(in)
			if n > 0 && in[n-1] == '\r' {
				n--
			}
			break
		}
		lf := n + i
		if lf == 0 || in[lf-1] != '\r' {
			n = lf // judged below, together with CRs before it
			b.cut(in, n, lines, true)
			return
		}
		lines++
		if n = lf + 1; n == len(in) || in[n] == '.' {
			b.bol = true
			break
		}
	}
	b.cut(in, n, lines, false)
}

// window bounds how much is looked at in one go where many bare newlines may have to be
// mended: each looks at all of it.
func (b *body) window(in []byte) []byte {
	if b.newlines() == NewlinesNormalise {
		return in[:min(len(in), 512)]
	}
	return in
}

// cut takes in[:n], which holds so many lines ending in CRLF and no other LF, as the next
// span; bareLF says that in[n] is one. If there are more CRs than lines, one of them is
// bare, and the run is only taken that far.
func (b *body) cut(in []byte, n, lines int, bareLF bool) {
	if bytes.Count(in[:n], crlf[:1]) != lines {
		n = bareCR(in[:min(n+1, len(in))])
		b.bol = false
	} else if !bareLF {
		if n == 0 && !b.bol {
			b.more() // nothing, or a CR whose LF is still to come
			return
		}
		b.take(n)
		return
	}
	b.bareAt(n)
}

// bareCR returns where the first CR without LF is.
func bareCR(in []byte) int {
	for i, ch := range in {
		if ch == '\r' && (i+1 == len(in) || in[i+1] != '\n') {
			return i
		}
	}
	return len(in) - 1
}

// take hands out n octets of the input.
func (b *body) take(n int) {
	c := b.c
	if b.drop {
		b.dropped += int64(n)
		c.r += n
		if b.dropped > c.conf.maxDrain {
			b.err = errDrainSize
		}
		return
	}
	b.span = c.inBuf[c.r : c.r+n]
	c.r += n
}

// bareAt judges the bare CR or LF that comes behind n octets of the input.
func (b *body) bareAt(n int) {
	if n > 0 {
		b.take(n)
		return // and come again
	}
	if b.newlines() == NewlinesNormalise {
		b.c.r++
		if !b.drop {
			b.span = crlf
		}
		return
	}
	if b.chunk {
		b.err = replyBareChunk
	} else {
		b.err = replyBareBody
	}
}

// nextChunk looks at the input of BDAT.
func (b *body) nextChunk() {
	if b.left == 0 {
		switch {
		case !b.last:
			b.between()
		case b.cr && b.newlines() == NewlinesReject:
			b.err = replyBareChunk
		case b.cr:
			b.cr, b.span = false, crlf
		default:
			b.err = io.EOF
		}
		return
	}
	in := b.c.buffered()
	if len(in) == 0 {
		b.more()
		return
	}
	if int64(len(in)) > b.left {
		in = in[:b.left]
	}
	if b.bare || b.drop {
		b.left -= int64(len(in))
		b.take(len(in))
		return
	}
	if b.cr {
		b.cr = false
		switch {
		case in[0] == '\n':
			b.left--
			b.c.r++
			b.span = crlf
		case b.newlines() == NewlinesReject:
			b.err = replyBareChunk
		default:
			b.span = crlf
		}
		return
	}
	b.text(in)
}

func (b *body) newlines() Newlines { return b.c.srv.Newlines }

// text takes a run of lines off a chunk. A CR at its end is kept in b.cr: its LF may be in
// the next chunk.
func (b *body) text(in []byte) {
	in = b.window(in)
	n, lines := 0, 0
	bareLF := false
	for {
		i := bytes.IndexByte(in[n:], '\n')
		if i < 0 {
			n = len(in)
			break
		}
		if lf := n + i; lf == 0 || in[lf-1] != '\r' {
			n, bareLF = lf, true
			break
		}
		lines++
		n += i + 1
	}
	tail := 0
	if !bareLF && in[n-1] == '\r' {
		n--
		tail = 1
	}
	bare := bareLF
	if bytes.Count(in[:n], crlf[:1]) != lines {
		n, bare, tail = bareCR(in[:min(n+1, len(in))]), true, 0
	}
	switch {
	case n > 0:
		b.left -= int64(n)
		b.take(n)
		if !bare && tail == 1 {
			b.cr = true
			b.left--
			b.c.r++
		}
	case bare && b.newlines() == NewlinesReject:
		b.err = replyBareChunk
	case bare:
		b.left--
		b.c.r++
		b.span = crlf
	default: // a CR alone
		b.cr = true
		b.left--
		b.c.r++
	}
}

// drain reads what is left of the message, or of the chunk, and drops it. The error
// says that the connection can not go on; errDrainSize, that it is too much.
func (b *body) drain() error {
	b.span = nil
	switch {
	case b.err == nil, isRefusal(b.err) && b.err != replyBareBody:
	case b.err == io.EOF, b.err == replyBareBody, b.err == errGivenUp:
		return nil
	default:
		return b.err
	}
	b.err, b.drop = nil, true
	if b.left > b.c.conf.maxDrain {
		return errDrainSize
	}
	for b.err == nil && (!b.chunk || b.left > 0) {
		if b.chunk {
			b.nextChunk()
		} else {
			b.nextDot()
		}
	}
	switch b.err {
	case nil, io.EOF, replyBareBody: // the latter has the connection closed
		return nil
	}
	return b.err
}

// isRefusal reports whether err is a judgement on the message, and so the reply to it.
func isRefusal(err error) bool {
	_, ok := err.(*Reply)
	return ok
}
