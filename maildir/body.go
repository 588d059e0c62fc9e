package maildir

import (
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
	return &lfBody{f: f, size: size, marks: start}, nil
}

// fileBody is a file that has CRLF line ends already.
type fileBody struct {
	*os.File
	size int64
}

func (b fileBody) Size() int64 { return b.size }

var start = make([]mark, 1)

// lfBody shows a file with bare LFs as if it had CRLFs. It remembers a place in the file
// for each 64 KiB, and where it was last, so that reading on costs no more than that.
type lfBody struct {
	f    *os.File
	size int64

	mu    sync.Mutex
	marks []mark // ascending; the first is the file's start
	last  mark   // where the last read ended
}

// A mark says that octet v of the message stands at octet p of the file.
type mark struct {
	v, p int64
	cr   bool // a CR stands before it
}

const markEvery = 64 << 10

// rawBlock is how much of the file is in memory at a time.
const rawBlock = 32 << 10

var rawBlocks = sync.Pool{New: func() any { return new([rawBlock]byte) }}

func (b *lfBody) Size() int64  { return b.size }
func (b *lfBody) Close() error { return b.f.Close() }

func (b *lfBody) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("maildir: read at %d", off)
	}
	if off >= b.size {
		return 0, io.EOF
	}
	want := int(min(int64(len(p)), b.size-off))
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.last
	if i := sort.Search(len(b.marks), func(i int) bool { return b.marks[i].v > off }) - 1; at.v > off || b.marks[i].v > at.v {
		at = b.marks[i]
	}
	block := rawBlocks.Get().(*[rawBlock]byte)
	defer rawBlocks.Put(block)
	for n < want {
		raw := block[:min(rawBlock, off-at.v+int64(want-n))]
		k, err := b.f.ReadAt(raw, at.p)
		if k == 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF // the file became shorter
			}
			return n, err
		}
		for raw = raw[:k]; len(raw) > 0 && n < want; {
			if skip := off - at.v; skip > 0 { // up to what was asked for
				raw = at.take(nil, raw, int(skip))
				continue
			}
			before := at.v
			raw = at.take(p[n:want], raw, want-n)
			n += int(at.v - before)
			off = at.v
		}
		if last := b.marks[len(b.marks)-1]; at.v-last.v >= markEvery {
			b.marks = append(slices.Clip(b.marks), at)
		}
	}
	b.last = at
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// take goes over raw, which stands at the mark, until it has made most octets of it, and
// returns what is left. The octets are written to out, unless that is nil.
func (m *mark) take(out, raw []byte, most int) []byte {
	made := 0
	put := func(b []byte) {
		if out != nil {
			copy(out[made:], b)
		}
		made += len(b)
	}
	from := raw
	for len(raw) > 0 && made < most {
		line := raw[:min(len(raw), most-made)]
		i := bytes.IndexByte(line, '\n')
		if i < 0 {
			put(line)
			m.cr = line[len(line)-1] == '\r'
			raw = raw[len(line):]
			continue
		}
		put(line[:i])
		raw = raw[i:]
		if i > 0 {
			m.cr = line[i-1] == '\r'
		}
		if !m.cr {
			put(carriageReturn)
			if m.cr = true; made == most {
				break // the LF comes with what is read next
			}
		}
		put(raw[:1])
		m.cr = false
		raw = raw[1:]
	}
	m.v += int64(made)
	m.p += int64(len(from) - len(raw))
	return raw
}

var carriageReturn = []byte("\r")
