package pop3

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
)

// Retrieve begins to read a message: its octets as the server has them, dots un-stuffed,
// lines ending in CRLF. The reader must be read to its end or closed, which reads the rest,
// before the next call; it ends with ctx.
func (c *Client) Retrieve(ctx context.Context, n int) (io.ReadCloser, error) {
	return c.open(ctx, "RETR", strconv.Itoa(n))
}

// Top is Retrieve for the header, the blank line and the first lines of the body.
func (c *Client) Top(ctx context.Context, n, lines int) (io.ReadCloser, error) {
	return c.open(ctx, "TOP", strconv.Itoa(n), strconv.Itoa(lines))
}

func (c *Client) open(ctx context.Context, words ...string) (io.ReadCloser, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	stop := c.watch(ctx)
	if _, err := c.command(words...); err != nil {
		stop()
		return nil, err
	}
	c.body = &bodyReader{c: c, stop: stop}
	return c.body, nil
}

// pipelineDepth is how many RETRs may be on their way: enough to hide the time to the server
// and back, too few for their commands to fill anybody's buffer.
const pipelineDepth = 32

// Fetch retrieves the messages numbered and gives each to take, in order. Where the server
// has PIPELINING (RFC 2449, 6.6) it is asked for the next ones meanwhile; what take does not
// read yet waits in the network, not in memory. A message that the server refuses is given
// as err, an *Error; take's own error ends Fetch after the messages under way were read.
func (c *Client) Fetch(ctx context.Context, numbers []int, take func(n int, r io.Reader, err error) error) error {
	caps, err := c.Capabilities(ctx)
	if err != nil {
		return err
	}
	if err := c.ready(); err != nil {
		return err
	}
	depth := 1
	if _, ok := caps["PIPELINING"]; ok {
		depth = pipelineDepth
	}
	defer c.watch(ctx)()
	asked := 0
	var failed error
	for i, n := range numbers {
		// Ask again when half of the questions are answered: few writes.
		if failed == nil && asked-i <= depth/2 {
			for ; asked < len(numbers) && asked-i < depth; asked++ {
				if err := c.write("RETR", strconv.Itoa(numbers[asked])); err != nil {
					return err
				}
			}
			if err := c.w.Flush(); err != nil {
				return c.fail(err)
			}
		}
		if i >= asked {
			break
		}
		_, err := c.reply("RETR")
		if c.broken != nil {
			return err
		}
		if err != nil {
			if failed == nil {
				failed = take(n, nil, err)
			}
			continue
		}
		body := &bodyReader{c: c, stop: func() {}}
		if failed == nil {
			failed = take(n, body, nil)
		}
		if err := body.Close(); err != nil {
			return err
		}
	}
	return failed
}

// A bodyReader un-stuffs a multi-line reply (RFC 1939, 3) of any line length.
type bodyReader struct {
	c    *Client
	stop func()
	rest []byte // of a line, in the Client's buffer
	mid  bool   // what comes next is not the start of a line
	cr   bool   // what came last ended in CR
	err  error
}

func (b *bodyReader) Read(p []byte) (n int, err error) {
	for n == 0 {
		if len(b.rest) == 0 {
			if b.err != nil {
				return 0, b.err
			}
			b.next()
			continue
		}
		n = copy(p, b.rest)
		b.rest = b.rest[n:]
		if len(p) == 0 {
			return 0, nil
		}
	}
	return n, nil
}

// WriteTo writes what is left to w, line by line out of the buffer.
func (b *bodyReader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		if len(b.rest) > 0 {
			n, err := w.Write(b.rest)
			total += int64(n)
			b.rest = b.rest[n:]
			if err != nil {
				return total, err
			}
		}
		if b.err == io.EOF {
			return total, nil
		}
		if b.err != nil {
			return total, b.err
		}
		b.next()
	}
}

// next takes the next line, or part of one, from the connection. Only CRLF ends a line: a
// server that knows bare LFs for line ends sends CRLF in their place, and to one that does
// not they are nothing that a dot must be stuffed after.
func (b *bodyReader) next() {
	c := b.c
	if c.r.Buffered() == 0 {
		c.extend() // a wait begins, with a time of its own
	}
	part, err := c.r.ReadSlice('\n')
	if err != nil && err != bufio.ErrBufferFull {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		b.end(c.fail(fmt.Errorf("pop3: inside a message: %w", err)))
		return
	}
	start := !b.mid
	crlf := bytes.HasSuffix(part, []byte("\r\n")) || b.cr && len(part) == 1
	b.mid, b.cr = !crlf || err != nil, part[len(part)-1] == '\r'
	if start && part[0] == '.' {
		if len(part) == 3 && crlf {
			b.end(io.EOF)
			return
		}
		part = part[1:]
	}
	b.rest = part
}

func (b *bodyReader) end(err error) {
	if b.err == nil {
		b.err = err
		b.stop()
		if b.c.body == b {
			b.c.body = nil
		}
	}
}

// Close reads the message to its end. It returns the error of the connection, if any.
func (b *bodyReader) Close() error {
	for b.err == nil {
		b.rest = nil
		b.next()
	}
	b.rest = nil
	if b.err == io.EOF {
		return nil
	}
	return b.err
}
