package mimetree

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
)

// A Digest is what is worth keeping of a message, so that its body need not be opened for most
// of what clients ask. It is kept as octets:
//
//	digest = version(1) size body head-size head [tree]      numbers are varints
//	tree   = part as appendPart writes it
type Digest struct {
	Size int64  // of the message it was made of
	Body int64  // offset of the body
	Head []byte // the fields of the header whose names are kept, as they stand there, and a blank line

	tree []byte // empty: the body was not looked at
}

const digestVersion = 1

// keptFields are those that ENVELOPE and BODYSTRUCTURE are made of, and those that clients list
// messages with.
var keptFields = func() []string {
	list := slices.Concat(envelopeFields, mimeFields, []string{"autocrypt-draft-state", "delivered-to", "disposition-notification-to",
		"importance", "list-id", "list-post", "list-unsubscribe", "mail-followup-to", "newsgroups", "precedence", "priority",
		"return-receipt-to", "user-agent", "x-forwarded-message-id", "x-mailer", "x-priority", "x-spam-flag", "x-spam-status"})
	slices.Sort(list)
	return list
}()

// IsKept reports whether Head has all fields with that name.
func IsKept(name string) bool {
	_, ok := slices.BinarySearch(keptFields, strings.ToLower(name))
	return ok
}

// NewDigest makes the Digest of what Parse or, when header is set, ParseHeader returned for r.
func NewDigest(r io.ReaderAt, size int64, p *Part, header bool) (*Digest, error) {
	head, err := FilterHeader(r, 0, p.Body, keptFields, false)
	if err != nil {
		return nil, err
	}
	d := &Digest{Size: size, Body: p.Body, Head: head}
	if !header {
		d.tree = appendPart(nil, p, false)
	}
	return d, nil
}

// HasTree reports whether Tree can be told.
func (d *Digest) HasTree() bool { return len(d.tree) > 0 }

// Header returns what ParseHeader returned.
func (d *Digest) Header() (*Part, error) {
	p, err := ParseHeader(bytes.NewReader(d.Head), int64(len(d.Head)))
	p.Body, p.End = d.Body, d.Body
	return p, err
}

// Tree returns what Parse returned, but for the Envelope of the message itself.
func (d *Digest) Tree() (*Part, error) {
	r := digestReader{b: d.tree}
	p := r.part(0)
	if r.bad || len(r.b) > 0 {
		return nil, errDigest
	}
	return p, nil
}

var errDigest = errors.New("mimetree: malformed digest")

// Append appends the digest's octets.
func (d *Digest) Append(b []byte) []byte {
	b = append(b, digestVersion)
	b = binary.AppendUvarint(b, uint64(d.Size))
	b = binary.AppendUvarint(b, uint64(d.Body))
	b = binary.AppendUvarint(b, uint64(len(d.Head)))
	b = append(b, d.Head...)
	return append(b, d.tree...)
}

// ParseDigest takes what Append made, and keeps b.
func ParseDigest(b []byte) (*Digest, error) {
	if len(b) == 0 || b[0] != digestVersion {
		return nil, errDigest
	}
	r := digestReader{b: b[1:]}
	d := &Digest{Size: r.num(), Body: r.num()}
	d.Head = r.bytes()
	d.tree = r.b
	if r.bad || d.Body > d.Size {
		return nil, errDigest
	}
	return d, nil
}

// appendPart appends a part: three offsets, lines, strings, lists, and what is in it.
func appendPart(b []byte, p *Part, envelope bool) []byte {
	for _, n := range []int64{p.Header, p.Body - p.Header, p.End - p.Body, p.Lines} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	for _, s := range []string{p.Type, p.Subtype, p.ID, p.Description, p.Encoding, p.MD5, p.Disposition, p.Location} {
		b = appendBytes(b, s)
	}
	b = appendList(b, p.Params, func(b []byte, x Param) []byte { return appendBytes(appendBytes(b, x.Name), x.Value) })
	b = appendList(b, p.DispParams, func(b []byte, x Param) []byte { return appendBytes(appendBytes(b, x.Name), x.Value) })
	b = appendList(b, p.Language, appendBytes)
	b = appendList(b, p.Parts, func(b []byte, q *Part) []byte { return appendPart(b, q, true) })
	if p.Message != nil {
		b = appendPart(append(b, 1), p.Message, true)
	} else {
		b = append(b, 0)
	}
	if !envelope || p.Envelope == nil {
		return append(b, 0)
	}
	e := p.Envelope
	b = appendList(append(b, 1), e.Empty, appendBytes)
	for _, s := range []string{e.Date, e.Subject, e.InReplyTo, e.MessageID, e.References} {
		b = appendBytes(b, s)
	}
	for _, list := range [][]Address{e.From, e.Sender, e.ReplyTo, e.To, e.CC, e.BCC} {
		b = appendList(b, list, func(b []byte, a Address) []byte {
			return appendBytes(appendBytes(appendBytes(appendBytes(b, a.Name), a.Route), a.Mailbox), a.Host)
		})
	}
	return b
}

func appendBytes(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendList[T any](b []byte, list []T, one func([]byte, T) []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, x := range list {
		b = one(b, x)
	}
	return b
}

// digestReader takes a digest apart. It comes from a file: whatever it holds must do no harm.
type digestReader struct {
	b   []byte
	bad bool
}

func (r *digestReader) fail() {
	r.b, r.bad = nil, true
}

func (r *digestReader) num() int64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || v > 1<<62 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return int64(v)
}

func (r *digestReader) bytes() []byte {
	n := r.num()
	if n > int64(len(r.b)) {
		r.fail()
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

func (r *digestReader) string() string { return string(r.bytes()) }

func readList[T any](r *digestReader, one func() T) (list []T) {
	n := r.num()
	if n > int64(len(r.b)) { // each takes an octet at least
		r.fail()
		return nil
	}
	for range n {
		list = append(list, one())
	}
	return list
}

func (r *digestReader) param() Param { return Param{r.string(), r.string()} }

func (r *digestReader) address() Address {
	return Address{r.string(), r.string(), r.string(), r.string()}
}

func (r *digestReader) part(depth int) *Part {
	p := new(Part)
	if depth > maxDepth+2 {
		r.fail()
		return p
	}
	p.Header = r.num()
	p.Body = p.Header + r.num()
	p.End = p.Body + r.num()
	p.Lines = r.num()
	for _, s := range []*string{&p.Type, &p.Subtype, &p.ID, &p.Description, &p.Encoding, &p.MD5, &p.Disposition, &p.Location} {
		*s = r.string()
	}
	p.Params = readList(r, r.param)
	p.DispParams = readList(r, r.param)
	p.Language = readList(r, r.string)
	p.Parts = readList(r, func() *Part { return r.part(depth + 1) })
	if r.num() > 0 {
		p.Message = r.part(depth + 1)
	}
	if r.num() > 0 {
		e := &Envelope{Empty: readList(r, r.string)}
		for _, s := range []*string{&e.Date, &e.Subject, &e.InReplyTo, &e.MessageID, &e.References} {
			*s = r.string()
		}
		for _, list := range []*[]Address{&e.From, &e.Sender, &e.ReplyTo, &e.To, &e.CC, &e.BCC} {
			*list = readList(r, r.address)
		}
		p.Envelope = e
	}
	return p
}
