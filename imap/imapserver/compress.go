package imapserver

import (
	"bufio"
	"compress/flate"
	"context"
	"errors"
	"io"
	"sync"
)

// deflated is the compression of a session (RFC 4978), between the session and TLS. It
// holds one block of what the client sent; how much that may become in the end is bounded
// as it is without compression, line by line and literal by literal.
type deflated struct {
	raw  *bufio.Reader // what came, compressed
	in   io.ReadCloser
	buf  []byte // room for what in gives at once
	left []byte // of buf, not yet read

	out io.Writer
	w   *flate.Writer // nil while nothing is written
}

// inflateAtOnce is more than the decompressor ever gives at once: when it gave less than
// asked for, it has nothing more without new input.
const inflateAtOnce = 32<<10 + 1

// deflaters are kept apart from sessions: each holds most of a mebibyte. One can go on
// where another one flushed, as it then refers to nothing before.
var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

func newDeflated(in io.Reader, out io.Writer) *deflated {
	raw := bufio.NewReaderSize(in, 4<<10)
	return &deflated{raw: raw, in: flate.NewReader(raw), buf: make([]byte, inflateAtOnce), out: out}
}

// pending reports whether there is input that came but was not read.
func (d *deflated) pending() bool { return len(d.left) > 0 || d.raw.Buffered() > 0 }

func (d *deflated) Read(p []byte) (int, error) {
	if len(d.left) == 0 {
		n, err := d.in.Read(d.buf)
		if d.left = d.buf[:n]; n == 0 {
			return 0, err
		}
	}
	n := copy(p, d.left)
	d.left = d.left[n:]
	return n, nil
}

// Write writes p so that the client can read all of it.
func (d *deflated) Write(p []byte) (int, error) {
	if d.w == nil {
		d.w = deflaters.Get().(*flate.Writer)
		d.w.Reset(d.out)
	}
	n, err := d.w.Write(p)
	if err == nil {
		err = d.w.Flush()
	}
	return n, err
}

// release gives up what writing needs, for a connection that goes idle.
func (d *deflated) release() {
	if d.w != nil {
		d.w.Reset(nil)
		deflaters.Put(d.w)
		d.w = nil
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
		return reply{status: "BAD", code: "COMPRESSIONACTIVE", text: "DEFLATE is active already"}
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
		c.deflated = newDeflated(&c.in, output{c})
		c.enc.Reset(c.deflated)
		c.br.Reset(c.deflated)
		return nil
	}}
}
