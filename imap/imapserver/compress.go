package imapserver

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/mailblocks/mailblocks/imap/internal/inflate"
)

// deflated is the compression of a session (RFC 4978), between the session and TLS. What
// the client sent is inflated no further than it is read, so that it is bounded as it is
// without compression: line by line and literal by literal.
type deflated struct {
	in  *inflate.Reader
	out io.Writer
	d   *deflater // nil while nothing is written
}

// deflater compresses into a buffer. It is kept apart from sessions, as it holds most of a
// mebibyte: one can go on where another one flushed, as it then refers to nothing before.
type deflater struct {
	w   *flate.Writer
	buf bytes.Buffer
}

var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	var err error
	if d.w, err = flate.NewWriter(&d.buf, flate.BestSpeed); err != nil {
		panic(err) // the level is a constant
	}
	return d
}}

// Write writes p so that the client can read all of it.
func (z *deflated) Write(p []byte) (int, error) {
	if z.d == nil {
		z.d = deflaters.Get().(*deflater)
		z.d.w.Reset(&z.d.buf)
	}
	_, _ = z.d.w.Write(p) // to memory
	_ = z.d.w.Flush()
	return len(p), z.send()
}

func (z *deflated) send() error {
	_, err := z.out.Write(z.d.buf.Bytes())
	z.d.buf.Reset()
	return err
}

// packAfter is how long a session waits before the history of its client's stream is made
// small, which costs some work.
const packAfter = 5 * time.Second

// rest gives up what is not needed until the client sends more.
func (z *deflated) rest() {
	z.in.Rest()
	if z.d != nil {
		deflaters.Put(z.d)
		z.d = nil
	}
}

func (c *conn) cmdCompress(context.Context) reply {
	c.dec.SP()
	algorithm := c.dec.Word()
	if !c.end() {
		return c.syntax()
	}
	switch {
	case algorithm != "DEFLATE":
		return bad("no such compression")
	case c.deflated != nil:
		return no("COMPRESSIONACTIVE", "DEFLATE is active already")
	case c.br.Buffered() > 0:
		// The client must wait for the result: what came may be of either kind.
		r := bad("nothing may follow COMPRESS before its result")
		r.fatal, r.cause = true, errors.New("commands were pipelined behind COMPRESS")
		return r
	}
	return reply{status: "OK", text: "DEFLATE is active from here on", after: func(context.Context) error {
		if err := c.enc.Flush(); err != nil {
			return err
		}
		c.deflated = &deflated{in: inflate.NewReader(&c.in), out: output{c}}
		c.enc.Reset(c.deflated)
		c.br.Reset(c.reader())
		return nil
	}}
}

// endCompression ends both streams, as UNAUTHENTICATE has it (RFC 8437, 2): ours now, and
// the client's where it said so, behind its command.
func (c *conn) endCompression() error {
	if err := c.enc.Flush(); err != nil {
		return err
	}
	z := c.deflated
	_, _ = z.Write(nil) // for a deflater
	_ = z.d.w.Close()
	if err := z.send(); err != nil {
		return err
	}
	var one [1]byte
	if n, err := c.br.Read(one[:]); n > 0 || !errors.Is(err, io.EOF) {
		return errors.Join(errors.New("the compressed stream goes on behind UNAUTHENTICATE"), err)
	}
	rest, ended := z.in.Ended()
	if !ended {
		return io.EOF
	}
	z.rest()
	c.deflated = nil
	c.in.rest = append(rest, c.in.rest...)
	c.enc.Reset(output{c})
	c.br.Reset(c.reader())
	return nil
}
