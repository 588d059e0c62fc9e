package imapclient

import (
	"io"
	"iter"
	"mime"
	"net/mail"
	"strings"
	"time"

	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/transform"

	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// Envelope is what the header says of a message (RFC 9051, 7.5.2). Texts are as the server
// sends them: DecodeHeader makes words of encoded words.
type Envelope struct {
	DateText         string // as the header has it: see Date
	Subject          string
	From, Sender     []Address
	ReplyTo, To      []Address
	Cc, Bcc          []Address
	InReplyTo, MsgID string
}

// Date returns the date in the header, zero when there is none, or none that can be read.
func (e *Envelope) Date() time.Time {
	t, err := mail.ParseDate(e.DateText)
	if err != nil {
		return time.Time{}
	}
	return t
}

// Address is an address of an envelope. One without a Host begins a group that has the name
// Mailbox; one without both ends it.
type Address struct{ Name, Mailbox, Host string }

// String returns the address without the name: mailbox@host.
func (a Address) String() string {
	if a.Host == "" {
		return a.Mailbox
	}
	return a.Mailbox + "@" + a.Host
}

// Structure is a body part, and what is in it (RFC 9051, 7.5.2: BODYSTRUCTURE).
type Structure struct {
	Type, Subtype string            // in lower case: "text", "plain"
	Params        map[string]string // names in lower case
	ID            string
	Description   string
	Encoding      string // in lower case
	Size          uint64 // octets, encoded
	Lines         uint64 // of text and message/rfc822

	// Parts are those of a multipart; of a message/rfc822 or /global the one body in it,
	// and Envelope is its envelope.
	Parts    []*Structure
	Envelope *Envelope

	Disposition       string // in lower case: "attachment"
	DispositionParams map[string]string
	Language          []string
	Location, MD5     string
}

// All yields the parts in s, s first, each with its number for a Section (RFC 9051, 6.4.5).
func (s *Structure) All() iter.Seq2[[]int, *Structure] {
	return func(yield func([]int, *Structure) bool) {
		if s.Type == "multipart" {
			s.walk(nil, yield)
		} else {
			s.walk([]int{1}, yield)
		}
	}
}

func (s *Structure) walk(path []int, yield func([]int, *Structure) bool) bool {
	if !yield(path, s) {
		return false
	}
	parts := s.Parts
	if s.Type == "message" && len(parts) == 1 {
		// The parts of a multipart in a message are numbered as the message's own.
		if parts[0].Type == "multipart" {
			return parts[0].walk(path, yield)
		}
	}
	for i, p := range parts {
		if !p.walk(append(path[:len(path):len(path)], i+1), yield) {
			return false
		}
	}
	return true
}

// Filename returns the name that a part is to be saved under, empty when it has none.
func (s *Structure) Filename() string {
	name := s.DispositionParams["filename"]
	if name == "" {
		name = s.Params["name"]
	}
	return DecodeHeader(name)
}

var words = mime.WordDecoder{CharsetReader: func(charset string, r io.Reader) (io.Reader, error) {
	enc, err := htmlindex.Get(charset)
	if err != nil {
		return nil, err
	}
	return transform.NewReader(r, enc.NewDecoder()), nil
}}

// DecodeHeader decodes the encoded words (RFC 2047) in a header's text, and leaves alone what
// can not be decoded.
func DecodeHeader(s string) string {
	if t, err := words.DecodeHeader(s); err == nil {
		return t
	}
	return s
}

// maxDepth bounds nested parts and addresses. A message nested deeper is malformed.
const maxDepth = 100

func takeEnvelope(d *wire.Decoder) *Envelope {
	e := new(Envelope)
	d.Expect('(')
	e.DateText = nstring(d)
	d.SP()
	e.Subject = nstring(d)
	for _, list := range []*[]Address{&e.From, &e.Sender, &e.ReplyTo, &e.To, &e.Cc, &e.Bcc} {
		d.SP()
		*list = takeAddresses(d)
	}
	d.SP()
	e.InReplyTo = nstring(d)
	d.SP()
	e.MsgID = nstring(d)
	d.Expect(')')
	return e
}

func nstring(d *wire.Decoder) string {
	s, _ := d.NString()
	return s
}

func takeAddresses(d *wire.Decoder) (list []Address) {
	if d.AcceptWord("NIL") {
		return nil
	}
	d.Expect('(')
	for d.OK() && !d.Accept(')') {
		d.Accept(' ') // some servers put one between
		var a Address
		d.Expect('(')
		a.Name = nstring(d)
		d.SP()
		nstring(d) // the route, which nobody uses any more
		d.SP()
		a.Mailbox = nstring(d)
		d.SP()
		a.Host = nstring(d)
		d.Expect(')')
		list = append(list, a)
	}
	return list
}

func takeStructure(d *wire.Decoder, depth int) *Structure {
	s := new(Structure)
	if depth > maxDepth {
		d.Fail("body parts nested too deep")
		return s
	}
	d.Expect('(')
	if d.Peek() == '(' {
		s.Type = "multipart"
		for d.OK() && d.Peek() == '(' {
			s.Parts = append(s.Parts, takeStructure(d, depth+1))
		}
		d.SP()
		s.Subtype = strings.ToLower(d.String())
		if d.Accept(' ') {
			s.Params = takeParams(d)
			takeExtension(d, s)
		}
		d.Expect(')')
		return s
	}
	s.Type = strings.ToLower(d.String())
	d.SP()
	s.Subtype = strings.ToLower(d.String())
	d.SP()
	s.Params = takeParams(d)
	d.SP()
	s.ID = nstring(d)
	d.SP()
	s.Description = nstring(d)
	d.SP()
	s.Encoding = strings.ToLower(nstring(d))
	d.SP()
	s.Size = d.Number64()
	switch {
	case s.Type == "message" && (s.Subtype == "rfc822" || s.Subtype == "global") && d.Accept(' '):
		if b := d.Peek(); b != '(' {
			// An extension's field: a server that does not look into messages.
			takeExtensionFrom(d, s)
			break
		}
		s.Envelope = takeEnvelope(d)
		d.SP()
		s.Parts = []*Structure{takeStructure(d, depth+1)}
		d.SP()
		s.Lines = d.Number64()
		if d.Accept(' ') {
			takeExtensionFrom(d, s)
		}
	case s.Type == "text":
		d.SP()
		s.Lines = d.Number64()
		if d.Accept(' ') {
			takeExtensionFrom(d, s)
		}
	case d.Accept(' '):
		takeExtensionFrom(d, s)
	}
	d.Expect(')')
	return s
}

// takeExtensionFrom takes body-ext-1part from its first field on.
func takeExtensionFrom(d *wire.Decoder, s *Structure) {
	s.MD5 = nstring(d)
	takeExtension(d, s)
}

// takeExtension takes what body-ext-1part and body-ext-mpart have in common, each field only
// if there is one.
func takeExtension(d *wire.Decoder, s *Structure) {
	if !d.Accept(' ') {
		return
	}
	if !d.AcceptWord("NIL") {
		d.Expect('(')
		s.Disposition = strings.ToLower(d.String())
		d.SP()
		s.DispositionParams = takeParams(d)
		d.Expect(')')
	}
	if !d.Accept(' ') {
		return
	}
	if d.Peek() == '(' {
		d.List(func() { s.Language = append(s.Language, d.String()) })
	} else if l, ok := d.NString(); ok {
		s.Language = []string{l}
	}
	if !d.Accept(' ') {
		return
	}
	s.Location = nstring(d)
	for d.OK() && d.Accept(' ') {
		skipValue(d)
	}
}

func takeParams(d *wire.Decoder) map[string]string {
	if d.AcceptWord("NIL") {
		return nil
	}
	params := make(map[string]string)
	d.List(func() {
		name := strings.ToLower(d.String())
		d.SP()
		params[name] = nstring(d)
	})
	return params
}

// skipValue passes over one value of any kind: an atom, a string, or a list of values nested
// however deep.
func skipValue(d *wire.Decoder) {
	for depth := 0; d.OK(); {
		switch d.Peek() {
		case '(':
			d.Accept('(')
			depth++
			continue
		case ')':
			if depth == 0 {
				d.Fail("expected a value")
				return
			}
			d.Accept(')')
			depth--
		case '"':
			_ = d.String()
		case '{', '~':
			d.SkipLiteral()
		case ' ':
			if depth == 0 {
				d.Fail("expected a value")
				return
			}
			d.Accept(' ')
			continue
		default:
			if d.While(func(b byte) bool { return b != ' ' && b != '(' && b != ')' && b != '"' }) == "" {
				d.Fail("expected a value")
				return
			}
		}
		if depth == 0 {
			return
		}
	}
}
