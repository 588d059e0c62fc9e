package imapclient

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// Message is what FETCH tells of a message: what was not asked for is zero.
type Message struct {
	Seq          imap.SeqNum // zero with UIDONLY (RFC 9586)
	UID          imap.UID    // zero in an update that does not tell it
	Flags        imap.Flags
	Recent       bool // \Recent is no flag of the message (RFC 3501, 2.3.2)
	InternalDate time.Time
	SaveDate     time.Time // zero: the server does not know it
	Size         int64
	ModSeq       imap.ModSeq
	Envelope     *Envelope
	Structure    *Structure
	Preview      string
	EmailID      string
	ThreadID     string
	BinarySizes  map[string]uint64 // by part, as "1.2"

	// Err says that the server's answer for this message could not be understood in full.
	// What came before is here; the connection goes on.
	Err error

	has    items
	bodies []*Body
	at     int // of bodies, the next to give out

	f         *fetching // nil: all is here
	published bool      // the loop has it before its response is at its end
	held      int       // octets of bodies in memory
	queued    int       // of these, when it was put into the queue

	// Of a message that was published, guarded by fetching's lock, as bodies are.
	whole   bool  // the response is at its end
	failed  error // as Err, known too late for it
	dropped bool  // the loop has gone on
}

// items are the data items that a response has.
type items uint32

const (
	hasUID items = 1 << iota
	hasFlags
	hasDate
	hasSize
	hasEnvelope
	hasStructure
	hasModSeq
	hasSaveDate
	hasEmailID
	hasThreadID
	hasPreview
	hasBinarySize
	hasBody

	// updates are those that a server tells unasked.
	updates = hasUID | hasFlags | hasModSeq
)

// HasFlags reports whether Flags were told.
func (m *Message) HasFlags() bool { return m.has&hasFlags != 0 }

// A Section is a part of a message, for FETCH (RFC 9051, 6.4.5). The zero value is all of it.
type Section struct {
	Part   []int       // 1.2 is {1, 2}; empty: the message
	Kind   SectionKind // of the message, or of the message in Part
	Fields []string    // for HeaderFields and HeaderFieldsNot

	// Offset and Length ask for some octets only. Length zero: all.
	Offset, Length int64

	// Binary asks for a part without its transfer encoding (RFC 3516).
	Binary bool

	// MarkSeen sets \Seen, as BODY does; without it the command says BODY.PEEK.
	MarkSeen bool
}

// SectionKind is what of a part a Section is.
type SectionKind string

// The kinds.
const (
	Whole           SectionKind = ""
	Header          SectionKind = "HEADER"
	HeaderFields    SectionKind = "HEADER.FIELDS"
	HeaderFieldsNot SectionKind = "HEADER.FIELDS.NOT"
	Text            SectionKind = "TEXT"
	MIME            SectionKind = "MIME"
)

// path returns the part's number: "1.2".
func path(part []int) string {
	b := make([]byte, 0, 16)
	for i, n := range part {
		if i > 0 {
			b = append(b, '.')
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return string(b)
}

func (s *Section) write(w *writer) {
	switch {
	case s.Binary:
		w.raw("BINARY")
	default:
		w.raw("BODY")
	}
	if !s.MarkSeen {
		w.raw(".PEEK")
	}
	w.raw("[" + path(s.Part))
	if s.Kind != Whole {
		if len(s.Part) > 0 {
			w.raw(".")
		}
		w.raw(string(s.Kind))
	}
	if s.Kind == HeaderFields || s.Kind == HeaderFieldsNot {
		w.sp().astrings(s.Fields)
	}
	w.raw("]")
	if s.Length > 0 {
		w.raw("<").num(uint64(s.Offset)).raw(".").num(uint64(s.Length)).raw(">")
	}
}

// check returns an error for a section that can not be written.
func (s *Section) check() error {
	ok := s.Offset >= 0 && s.Length >= 0 && (s.Length > 0 || s.Offset == 0)
	switch s.Kind {
	case Whole, Header, Text:
	case MIME:
		ok = ok && len(s.Part) > 0
	case HeaderFields, HeaderFieldsNot:
		ok = ok && len(s.Fields) > 0
	default:
		ok = false
	}
	for _, n := range s.Part {
		ok = ok && n > 0
	}
	if !ok || s.Binary && s.Kind != Whole {
		return fmt.Errorf("%w: section %+v", ErrArgument, *s)
	}
	return clean(s.Fields...)
}

// Body is a section of a message as it comes: an io.Reader that is valid until the next body
// or message is asked for.
type Body struct {
	Section
	Size int64 // octets; -1: there is no such part (NIL)

	f *fetching
	// Of these, fetching's lock guards all but data.
	data       []byte // all of it, when small
	buf        []byte // of a stream, what is between r and w
	r, w       int
	from, to   int64 // in file, what was put aside and is not read yet
	eof, stale bool
	broken     error
}

// Next returns the next body of the message, in the order of the server's answer, and io.EOF
// when there are no more.
func (m *Message) Next() (*Body, error) {
	if m.f == nil {
		return nil, io.EOF
	}
	return m.f.nextBody(m)
}

// Bodies yields what Next returns. An error ends it.
func (m *Message) Bodies() iter.Seq2[*Body, error] {
	return func(yield func(*Body, error) bool) {
		for {
			b, err := m.Next()
			if err == io.EOF {
				return
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

// fetchResponse takes a FETCH response behind its name.
func (c *Client) fetchResponse(seq imap.SeqNum, byUID bool) error {
	d := c.dec
	m := &Message{Seq: seq}
	if byUID {
		m.Seq, m.UID, m.has = 0, imap.UID(seq), hasUID
	}
	c.takeItems(m)
	err := d.Err()
	var syntax *wire.SyntaxError
	switch {
	case err == nil:
	case errors.As(err, &syntax):
		err = fmt.Errorf("%w: message %d: %w", ErrProtocol, seq, err)
		if ferr := d.Finish(math.MaxInt64); ferr != nil {
			return ferr
		}
	default:
		return err
	}
	if m.published {
		m.f.ended(m, err)
		return nil
	}
	m.whole, m.failed, m.Err, m.queued = true, err, err, m.held
	if !c.dispatch(m) && m.has&^(hasBody|hasBinarySize) != 0 {
		if h := c.opt.Handler.Fetch; h != nil {
			m.bodies = nil
			h(m)
		}
	}
	return nil
}

// takeItems takes the items of a message. Once the loop has it nothing but its bodies changes.
func (c *Client) takeItems(m *Message) {
	d := c.dec
	to := m
	d.SP()
	d.Expect('(')
	for n := 0; d.OK() && !d.Accept(')'); n++ {
		if n > 0 {
			d.SP()
			d.Accept(' ')
		}
		if m.published && to == m {
			to = new(Message)
		}
		c.takeItem(m, to, d.Letters())
	}
	d.End()
}

// takeItem takes an item of m into to.
func (c *Client) takeItem(m, to *Message, name string) {
	d := c.dec
	value := func(item items) {
		d.SP()
		to.has |= item
	}
	switch name {
	case "UID":
		value(hasUID)
		to.UID = imap.UID(d.Number())
	case "FLAGS":
		value(hasFlags)
		flags := takeFlags(d)
		to.Recent = slices.ContainsFunc(flags, func(f imap.Flag) bool { return strings.EqualFold(string(f), string(imap.FlagRecent)) })
		to.Flags = imap.NewFlags(flags...)
	case "INTERNALDATE":
		value(hasDate)
		to.InternalDate = takeTime(d)
	case "SAVEDATE":
		value(hasSaveDate)
		to.SaveDate = takeTime(d)
	case "RFC822.SIZE":
		value(hasSize)
		to.Size = int64(d.Number64())
	case "MODSEQ":
		value(hasModSeq)
		d.List(func() { to.ModSeq = imap.ModSeq(d.Number64()) })
	case "ENVELOPE":
		value(hasEnvelope)
		to.Envelope = takeEnvelope(d)
	case "BODYSTRUCTURE":
		value(hasStructure)
		to.Structure = takeStructure(d, 0)
	case "EMAILID":
		value(hasEmailID)
		to.EmailID = takeID(d)
	case "THREADID":
		value(hasThreadID)
		to.ThreadID = takeID(d)
	case "PREVIEW":
		value(hasPreview)
		to.Preview = nstring(d)
	case "BINARY.SIZE":
		d.Expect('[')
		part := d.While(func(b byte) bool { return b != ']' })
		d.Expect(']')
		value(hasBinarySize)
		if to.BinarySizes == nil {
			to.BinarySizes = make(map[string]uint64)
		}
		to.BinarySizes[part] = d.Number64()
	case "BODY", "BINARY":
		if d.Peek() != '[' {
			value(hasStructure) // BODY is BODYSTRUCTURE without extensions
			to.Structure = takeStructure(d, 0)
			return
		}
		s := takeSection(d)
		s.Binary = name == "BINARY"
		value(hasBody)
		c.takeBody(m, s)
	case "RFC822", "RFC822.HEADER", "RFC822.TEXT":
		value(hasBody)
		c.takeBody(m, Section{Kind: SectionKind(strings.TrimPrefix(strings.TrimPrefix(name, "RFC822"), "."))})
	case "":
		d.Fail("expected an item of FETCH")
	default:
		if d.Peek() == '[' {
			takeSection(d)
		}
		d.SP()
		skipValue(d)
	}
}

// takeID takes an object id in parentheses, or NIL.
func takeID(d *wire.Decoder) (id string) {
	if !d.AcceptWord("NIL") {
		d.List(func() { id = d.AString() })
	}
	return id
}

// takeSection takes what stands in brackets, and the origin octet behind.
func takeSection(d *wire.Decoder) (s Section) {
	d.Expect('[')
	for b := d.Peek(); b >= '0' && b <= '9'; b = d.Peek() {
		s.Part = append(s.Part, int(d.Number()))
		if len(s.Part) > 2*maxDepth {
			d.Fail("a section nested too deep")
		}
		if !d.Accept('.') {
			break
		}
	}
	s.Kind = SectionKind(d.Letters())
	if d.Accept(' ') {
		d.List(func() { s.Fields = append(s.Fields, d.AString()) })
	}
	d.Expect(']')
	if d.Accept('<') {
		s.Offset = int64(d.Number64())
		d.Expect('>')
	}
	return s
}

const (
	smallBody   = 32 << 10  // held in memory
	queueOctets = 256 << 10 // of the messages that wait for the loop
)

// takeBody takes the value of a section. Where it goes depends on who asked for it: nobody,
// a loop that is ready for it, or one that must have the rest of the message before.
func (c *Client) takeBody(m *Message, s Section) {
	d := c.dec
	b := &Body{Section: s, Size: -1, eof: true}
	switch d.Peek() {
	case 'N', 'n':
		if !d.AcceptWord("NIL") {
			d.Fail("expected a string or NIL")
		}
	case '"':
		text := d.String()
		b.data, b.Size = []byte(text), int64(len(text))
		m.held += len(text)
	default:
		n, _ := d.Literal()
		r := d.LiteralReader()
		defer d.LiteralDone()
		if !d.OK() {
			return
		}
		b.Size = n
		if m.f == nil {
			m.f = c.fetchOf(m)
		}
		if m.f == nil {
			_, _ = io.Copy(io.Discard, r)
			return
		}
		if m.f.receive(m, b, r) {
			return
		}
	}
	if !d.OK() {
		return
	}
	if m.published {
		m.f.add(m, b)
	} else {
		m.bodies = append(m.bodies, b)
	}
}

// fetchOf returns the first command on its way that wants bodies of m.
func (c *Client) fetchOf(m *Message) *fetching {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cmd := range c.pending {
		if f := cmd.fetch; f != nil && f.asked&hasBody != 0 && f.set.covers(m) {
			return f
		}
	}
	return nil
}
