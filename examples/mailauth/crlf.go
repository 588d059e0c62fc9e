package main

import (
	"bufio"
	"bytes"
	"io"
)

// copyMessage copies a message to w. If its first line ends in LF alone, each
// line end becomes CRLF.
func copyMessage(w io.Writer, r io.Reader) error {
	br := bufio.NewReaderSize(r, 64<<10)
	first, err := br.Peek(br.Size())
	if err != nil && err != io.EOF {
		return err
	}
	if i := bytes.IndexByte(first, '\n'); i == 0 || i > 0 && first[i-1] != '\r' {
		w = &crlfWriter{w: w}
	}
	_, err = io.Copy(w, br)
	return err
}

// crlfWriter puts a CR before each LF that has none.
type crlfWriter struct {
	w  io.Writer
	cr bool // the last octet was one
}

func (c *crlfWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			c.cr = p[len(p)-1] == '\r'
			_, err := c.w.Write(p)
			return n, err
		}
		had := c.cr
		if i > 0 {
			had = p[i-1] == '\r'
			if _, err := c.w.Write(p[:i]); err != nil {
				return 0, err
			}
		}
		end := "\r\n"
		if had {
			end = "\n"
		}
		if _, err := io.WriteString(c.w, end); err != nil {
			return 0, err
		}
		c.cr = false
		p = p[i+1:]
	}
	return n, nil
}
