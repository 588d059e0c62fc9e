package maildir

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"sync"

	"github.com/mailblocks/mailblocks/imap"
)

// crlfCounter counts the line feeds that have no carriage return before them.
type crlfCounter struct {
	bare int64
	cr   bool // the octet before was a CR
}

func (c *crlfCounter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			c.cr = p[len(p)-1] == '\r'
			break
		}
		if i > 0 {
			c.cr = p[i-1] == '\r'
		}
		if !c.cr {
			c.bare++
		}
		c.cr = false
		p = p[i+1:]
	}
	return n, nil
}

// crlfSize reads f to its end and returns its size with CRLF line ends.
func crlfSize(f io.Reader) (int64, error) {
	var count crlfCounter
	n, err := io.CopyBuffer(&count, struct{ io.Reader }{f}, make([]byte, 64<<10))
	return n + count.bare, err
}

// openBody returns the file's message with CRLF line ends. Size is that form's size.
func openBody(f *os.File, size int64) (imap.Body, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() == size {
		return fileBody{f, size}, nil
	}
	return &lfBody{f: f, size: size, marks: []mark{{}}}, nil
}

// fileBody is a file that has CRLF line ends already.
type fileBody struct {
	*os.File
	size int64
}

func (b fileBody) Size() int64 { return b.size }

// lfBody shows a file with bare LFs as if it had CRLFs. It remembers a place in the file
// for each 64 KiB, so that reading anywhere costs no more than reading those.
type lfBody struct {
	f    *os.File
	size int64

	mu    sync.Mutex
	marks []mark // ascending; the first is the file's start
}

// A mark says that octet v of the message stands at octet p of the file.
type mark struct {
	v, p int64
	cr   bool // a CR stands before it
}

const markEvery = 64 << 10

func (b *lfBody) Size() int64  { return b.size }
func (b *lfBody) Close() error { return b.f.Close() }

func (b *lfBody) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("maildir: read at %d", off)
	}
	if off >= b.size {
		return 0, io.EOF
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := sort.Search(len(b.marks), func(i int) bool { return b.marks[i].v > off }) - 1
	at := b.marks[i]
	r := bufio.NewReaderSize(io.NewSectionReader(b.f, at.p, 1<<62), 16<<10)
	for n < len(p) && at.v < b.size {
		c, err := r.ReadByte()
		if err == io.EOF {
			return n, io.ErrUnexpectedEOF // the file became shorter
		}
		if err != nil {
			return n, err
		}
		if c == '\n' && !at.cr {
			if at.v >= off {
				p[n] = '\r'
				n++
			}
			at.v++
			if n == len(p) {
				break // the LF comes with the next read
			}
		}
		if at.v >= off {
			p[n] = c
			n++
		}
		at.v, at.p, at.cr = at.v+1, at.p+1, c == '\r'
		if last := b.marks[len(b.marks)-1]; at.v-last.v >= markEvery {
			b.marks = append(slices.Clip(b.marks), at)
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
