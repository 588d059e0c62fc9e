package spam

import (
	"errors"
	"io"
	"sync"
)

// Limits bound what [Parse] takes from a message. A zero field means its default, so that
// the zero Limits work; a negative one means none.
type Limits struct {
	Bytes  int64 // of the message that are looked at; the rest is read and only counted (1 MiB)
	Text   int   // bytes of decoded text that are kept, of all parts together (256 KiB)
	Parts  int   // MIME parts (100)
	Depth  int   // levels of multiparts and attached messages (10)
	Fields int   // header fields of one part (300)
	Tokens int   // words that are judged (6,000)
	Links  int   // links that are kept (500)
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		switch {
		case *v == 0:
			*v = d
		case *v < 0:
			*v = int(^uint(0) >> 1)
		}
	}
	switch {
	case l.Bytes == 0:
		l.Bytes = 1 << 20
	case l.Bytes < 0:
		l.Bytes = 1<<63 - 1
	}
	def(&l.Text, 256<<10)
	def(&l.Parts, 100)
	def(&l.Depth, 10)
	def(&l.Fields, 300)
	def(&l.Tokens, 6000)
	def(&l.Links, 500)
	return l
}

// A Message is what checks look at: a message read once by [Parse]. It is safe for
// concurrent use as long as nobody changes it.
type Message struct {
	Size      int64 // octets read, also beyond the limits
	Truncated bool  // some limit cut the message

	// Source is the message as it came, Size octets. Who calls [Parse] sets it if a check hands
	// the message to another program.
	Source io.ReaderAt

	Fields  []Field // of the message's own header, in order
	Subject string  // decoded
	From    Address
	ReplyTo Address
	Parts   []Part // in order, without multiparts

	Text   string // what a reader sees: plain text and the text of HTML, as UTF-8
	Hidden string // text of HTML that a reader does not see
	Links  []Link // of HTML, and URLs in plain text

	// Defects names what is malformed, in order of appearance and each once: "no-from",
	// "base64", "charset" and so on. They are evidence, not errors.
	Defects []string

	markup []string // tags and telling attributes of HTML, in order
	raw    []byte   // the start of the message as it came
	body   int      // where in raw the header ends
	limits Limits

	once     sync.Once
	features *features
}

// A Field is one field of a header.
type Field struct {
	Name  string // lower-case
	Value string // unfolded and decoded (RFC 2047), valid UTF-8
}

// An Address is a mailbox in a header: what readers see, and what it is.
type Address struct {
	Name string // the display name, decoded
	Addr string // lower-case; may be anything
}

// Domain returns what follows the last @ of the address, or "".
func (a Address) Domain() string {
	for i := len(a.Addr) - 1; i >= 0; i-- {
		if a.Addr[i] == '@' {
			return a.Addr[i+1:]
		}
	}
	return ""
}

// A Part is a leaf of the message's MIME structure.
type Part struct {
	Type       string // "text/html", lower-case
	Charset    string // as declared, lower-case
	Encoding   string // the transfer encoding as declared, lower-case
	Name       string // file name, decoded
	Attachment bool   // Content-Disposition says so
	Size       int    // octets before decoding
}

// A Link is a URL in the message and the text under it.
type Link struct {
	URL    string
	Text   string // visible text; the URL itself in plain text
	Tag    string // "a", "img", "form" and so on; "" for a URL in plain text
	Hidden bool   // the text under it can not be seen
}

// ErrNoSource is the trouble of a check that needs [Message.Source] and has none.
var ErrNoSource = errors.New("spam: the message itself was not kept for this check")

// Open returns the message as it came.
func (m *Message) Open() (io.ReadSeeker, error) {
	if m == nil || m.Source == nil {
		return nil, ErrNoSource
	}
	return io.NewSectionReader(m.Source, 0, m.Size), nil
}

// Get returns the value of the first field of this lower-case name, or "".
func (m *Message) Get(name string) string {
	for i := range m.Fields {
		if m.Fields[i].Name == name {
			return m.Fields[i].Value
		}
	}
	return ""
}

func (m *Message) defect(name string) {
	for _, d := range m.Defects {
		if d == name {
			return
		}
	}
	m.Defects = append(m.Defects, name)
}
