package mbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mailblocks/mailblocks/internal/bodybuf"
)

// WriterOptions are the optional parts of NewWriter. A nil *WriterOptions means defaults.
type WriterOptions struct {
	// Dialect to write. Auto: RD.
	Dialect Dialect
	// LF turns each CRLF of the messages into LF, which is how these files are kept. Without
	// it they are written as they come, and come back so.
	LF bool
	// Location is where the dates of separators are written. Nil: UTC, as RFC 4155 wants it.
	// Dovecot writes local time.
	Location *time.Location
}

// A Writer writes messages to the end of a file. It is not safe for concurrent use. Its
// memory does not grow with the messages; for the dialects with Content-Length a large one
// takes a temporary file.
type Writer struct {
	w    *bufio.Writer
	opts WriterOptions
	err  error
}

// NewWriter returns a Writer to w, which is a new file or one that ends with a message and
// its LF.
func NewWriter(w io.Writer, opts *WriterOptions) *Writer {
	m := &Writer{w: bufio.NewWriterSize(w, 64<<10)}
	if opts != nil {
		m.opts = *opts
	}
	if m.opts.Dialect == Auto {
		m.opts.Dialect = RD
	}
	return m
}

// Write writes one message, header and all, read from body until io.EOF. An empty sender is
// written as MAILER-DAEMON. A sender that would not come back (blanks outside quotes, line
// ends) is refused before anything is written. When it fails after that, the file ends
// in a part of a message: see Append.
//
// RD keeps any octets, message or not. CL, CL2 and Dovecot put a Content-Length in place of
// the ones there are, and quote a header line that begins with "From "; a message without
// an empty line after its header gets one.
func (w *Writer) Write(sender string, date time.Time, body io.Reader) error {
	if w.err != nil {
		return w.err
	}
	line, err := formatSeparator(sender, date, w.opts.Location, w.opts.Dialect)
	if err != nil {
		return fmt.Errorf("mbox: write message of %q: %w", sender, err)
	}
	if w.opts.LF {
		body = &lfReader{r: body}
	}
	if _, w.err = w.w.WriteString(line); w.err == nil {
		if w.opts.Dialect.counted() {
			w.err = w.counted(body)
		} else {
			w.err = quote(w.w, body, w.opts.Dialect)
		}
	}
	if w.err == nil {
		w.err = w.w.WriteByte('\n')
	}
	if w.err == nil {
		w.err = w.w.Flush()
	}
	if w.err != nil {
		w.err = fmt.Errorf("mbox: write: %w", w.err)
	}
	return w.err
}

// quote copies r to w. A line begins at the start and after each LF.
func quote(w *bufio.Writer, r io.Reader, d Dialect) error {
	q := quoter{w: w, d: d, start: true}
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if werr := q.write(buf[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			return q.flush()
		}
		if err != nil {
			return err
		}
	}
}

// A quoter holds back the start of a line for as long as it may become '>' and "From ". It
// needs to know the number of '>', not to keep them.
type quoter struct {
	w     *bufio.Writer
	d     Dialect
	start bool // in what may become a From line
	depth int  // '>' seen of it, and written
	from  int  // octets of "From " seen of it, and not written
}

const fromSpace = "From "

func (q *quoter) write(p []byte) error {
	for len(p) > 0 {
		if !q.start {
			i := bytes.IndexByte(p, '\n')
			if i < 0 {
				_, err := q.w.Write(p)
				return err
			}
			if _, err := q.w.Write(p[:i+1]); err != nil {
				return err
			}
			p = p[i+1:]
			q.start, q.depth, q.from = true, 0, 0
			continue
		}
		c := p[0]
		switch {
		case c == '>' && q.from == 0:
			q.depth++
			if err := q.w.WriteByte(c); err != nil {
				return err
			}
			p = p[1:]
		case c == fromSpace[q.from]:
			q.from++
			p = p[1:]
			if q.from == len(fromSpace) {
				if q.d.quotes(q.depth) {
					if err := q.w.WriteByte('>'); err != nil {
						return err
					}
				}
				if err := q.flush(); err != nil {
					return err
				}
			}
		default:
			if err := q.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes what is held back: it is decided.
func (q *quoter) flush() error {
	_, err := q.w.WriteString(fromSpace[:q.from])
	q.start, q.from = false, 0
	return err
}

// counted writes a message with the length of its body in the header.
func (w *Writer) counted(r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	if err := w.header(in); err != nil {
		return err
	}
	var body bodybuf.Buffer
	defer body.Close()
	out := bufio.NewWriterSize(&body, 64<<10)
	if err := quote(out, in, w.opts.Dialect); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w.w, "Content-Length: %d\n\n", body.Size()); err != nil {
		return err
	}
	_, err := io.Copy(w.w, body.Reader())
	return err
}

// header copies the header without its empty line and without Content-Length fields.
func (w *Writer) header(in *bufio.Reader) error {
	start, drop := true, false
	for {
		piece, err := in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return err
		}
		if start {
			if len(bytes.TrimRight(piece, "\r\n")) == 0 && err == nil {
				return nil
			}
			// A folded line belongs to the field before.
			if folded := len(piece) > 0 && (piece[0] == ' ' || piece[0] == '\t'); !folded {
				_, drop = field(piece, "Content-Length")
			}
			if bytes.HasPrefix(piece, []byte(fromSpace)) {
				if err := w.w.WriteByte('>'); err != nil {
					return err
				}
			}
		}
		if !drop {
			if _, err := w.w.Write(piece); err != nil {
				return err
			}
		}
		if err == io.EOF {
			if len(piece) > 0 && !drop {
				return w.w.WriteByte('\n')
			}
			return nil
		}
		start = err == nil
	}
}

// lfReader turns CRLF into LF.
type lfReader struct {
	r   io.Reader
	cr  bool // a CR is held back
	err error
}

func (l *lfReader) Read(p []byte) (int, error) {
	if len(p) < 2 {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, errors.New("mbox: read buffer of one octet")
	}
	for {
		if l.err != nil {
			if l.cr {
				l.cr = false
				p[0] = '\r'
				return 1, nil
			}
			return 0, l.err
		}
		// A held back CR may need a place before what is read.
		n, err := l.r.Read(p[1:])
		l.err = err
		in, out := p[1:1+n], 0
		for _, c := range in {
			if l.cr && c != '\n' {
				p[out] = '\r'
				out++
			}
			l.cr = c == '\r'
			if !l.cr {
				p[out] = c
				out++
			}
		}
		if out > 0 {
			return out, nil
		}
	}
}
