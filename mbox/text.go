package mbox

import (
	"bufio"
	"bytes"
	"io"

	"github.com/mailblocks/mailblocks/internal/bodybuf"
)

// writeMessage writes the message at p as a client sees it: with CRLF line ends, without our
// fields and without quotes.
func writeMessage(w io.Writer, f io.ReaderAt, p *place, d Dialect) error {
	if !p.bodyOnly {
		if err := writeHeader(w, io.NewSectionReader(f, p.headerAt(), int64(p.header))); err != nil {
			return err
		}
	}
	return writeBody(w, io.NewSectionReader(f, p.bodyAt(), p.bodyLen), d)
}

// writeHeader writes a header without our fields. One that does not end in an empty line gets one.
func writeHeader(w io.Writer, r io.Reader) error {
	in := bufio.NewReaderSize(r, 4096)
	out := &crlfWriter{w: w}
	for own, start, ended := false, true, false; ; {
		piece, err := in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return err
		}
		end := err == io.EOF
		ended = ended || start && err == nil && len(bytes.TrimRight(piece, "\r\n")) == 0
		if start && len(piece) > 0 && piece[0] != ' ' && piece[0] != '\t' {
			f, _ := ownLine(piece)
			own = f != notOwn
			piece = piece[unkept(piece):]
		}
		if !own {
			if _, err := out.Write(piece); err != nil {
				return err
			}
		}
		if end && ended {
			return nil
		}
		if end {
			text := "\n"
			if !own && len(piece) > 0 || !own && !start {
				text = "\n\n"
			}
			_, err := io.WriteString(out, text)
			return err
		}
		start = err == nil
	}
}

func writeBody(w io.Writer, r io.Reader, d Dialect) error {
	out := &crlfWriter{w: w}
	buf := make([]byte, 32<<10)
	if !d.unquotes(1) {
		_, err := io.CopyBuffer(struct{ io.Writer }{out}, struct{ io.Reader }{r}, buf)
		return err
	}
	in := bufio.NewReaderSize(r, 32<<10)
	for start := true; ; {
		piece, err := in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return err
		}
		if start {
			depth := len(piece) - len(bytes.TrimLeft(piece, ">"))
			if depth > 0 && bytes.HasPrefix(piece[depth:], []byte(fromSpace)) && d.unquotes(min(depth, 2)) {
				piece = piece[1:]
			}
		}
		if _, err := out.Write(piece); err != nil {
			return err
		}
		if err == io.EOF {
			return nil
		}
		start = err == nil
	}
}

// A crlfWriter puts a CR before each LF that has none.
type crlfWriter struct {
	w  io.Writer
	cr bool
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
		if i > 0 {
			c.cr = p[i-1] == '\r'
		}
		if c.cr {
			i++
		}
		if _, err := c.w.Write(p[:i]); err != nil {
			return 0, err
		}
		p = p[i:]
		if !c.cr {
			if _, err := io.WriteString(c.w, "\r\n"); err != nil {
				return 0, err
			}
			p = p[1:]
		}
		c.cr = false
	}
	return n, nil
}

// An incoming is a message on its way into a file.
type incoming struct {
	header []byte // as it will stand there, without our fields and the empty line
	body   bool   // it is all body
	text   bodybuf.Buffer
	keep   bool  // line ends stay as they are
	size   int64 // as it will be shown
	length int64 // of the body in the file
}

// maxHeader is how long a header may be to be written as one: a longer one goes with the body.
const maxHeader = 1 << 20

// receive reads a message to its end.
func receive(r io.Reader, d Dialect) (_ *incoming, err error) {
	m := &incoming{}
	defer func() {
		if err != nil {
			m.text.Close()
		}
	}()
	var head bytes.Buffer
	in := bufio.NewReaderSize(r, 64<<10)
	start, ended := true, false
	for head.Len() < maxHeader && !ended {
		piece, err := in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return nil, err
		}
		head.Write(piece)
		if err == io.EOF {
			break
		}
		ended = start && string(piece) == "\r\n"
		start = err == nil
	}
	if ended {
		m.header, m.body = fileHeader(head.Bytes())
	} else {
		m.body = true
	}
	if m.body {
		if _, err := m.text.Write(head.Bytes()); err != nil {
			return nil, err
		}
	} else {
		m.size = int64(head.Len())
	}
	if _, err := io.Copy(struct{ io.Writer }{&m.text}, struct{ io.Reader }{in}); err != nil {
		return nil, err
	}
	if m.keep, err = doubleCR(m.text.Reader()); err != nil {
		return nil, err
	}
	var shown countWriter
	if err := writeBody(&shown, m.text.Reader(), CL2); err != nil {
		return nil, err
	}
	m.size += int64(shown)
	var length countWriter
	if err := m.writeBody(&length, d); err != nil {
		return nil, err
	}
	m.length = int64(length)
	return m, nil
}

// fileHeader returns a header as it stands in the file. It is none when it is not made of fields.
func fileHeader(head []byte) (out []byte, none bool) {
	first := true
	for line := range bytes.Lines(head) {
		text, ok := bytes.CutSuffix(line, []byte("\r\n"))
		if !ok || bytes.IndexByte(text, '\r') >= 0 {
			return nil, true
		}
		if len(text) == 0 {
			break
		}
		if text[0] == ' ' || text[0] == '\t' {
			if first || len(bytes.TrimSpace(text)) == 0 {
				return nil, true
			}
		} else if colon := bytes.IndexByte(text, ':'); colon <= 0 || bytes.ContainsAny(bytes.TrimRight(text[:colon], " \t"), " \t") {
			return nil, true
		}
		if mustKeep(text) {
			out = append(out, keptPrefix...)
		}
		out = append(append(out, text...), '\n')
		first = false
	}
	return out, false
}

// doubleCR tells whether r has a CR before a CRLF: as LF alone that would come back as one.
func doubleCR(r io.Reader) (bool, error) {
	in := bufio.NewReaderSize(r, 32<<10)
	for cr := false; ; {
		piece, err := in.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull && err != io.EOF {
			return false, err
		}
		if bytes.HasSuffix(piece, []byte("\r\r\n")) || cr && string(piece) == "\r\n" {
			return true, nil
		}
		if err == io.EOF {
			return false, nil
		}
		cr = len(piece) > 0 && piece[len(piece)-1] == '\r'
	}
}

// writeBody writes the body as it stands in the file.
func (m *incoming) writeBody(w io.Writer, d Dialect) error {
	var r io.Reader = m.text.Reader()
	if !m.keep {
		r = &lfReader{r: r}
	}
	out := bufio.NewWriterSize(w, 64<<10)
	if err := quote(out, r, d); err != nil {
		return err
	}
	return out.Flush()
}

// sender returns the address of the message's Return-Path, for the separator.
func (m *incoming) sender() string {
	for line := range bytes.Lines(m.header) {
		if value, ok := field(line, "Return-Path"); ok {
			return string(bytes.Trim(bytes.TrimSpace(value), "<>"))
		}
	}
	return ""
}
