package mimetree

import (
	"io"
	"strings"
)

// Bounds on what one message can make of us. Parts beyond them are leaves that are not
// looked into.
const (
	maxDepth    = 50
	maxParts    = 5000
	maxBoundary = 512     // octets of a boundary; RFC 2046 allows 70
	maxKept     = 1 << 20 // octets kept of the header fields of all parts
	maxParams   = 200     // parameters of one field
)

// A Part is a message, or a part of one.
type Part struct {
	// Header, Body and End are offsets in the message: the header, its blank line
	// included, is [Header,Body), the body is [Body,End).
	Header, Body, End int64
	// Lines counts the line ends in the body.
	Lines int64

	Type, Subtype string // as written; text and plain where nothing usable is
	Params        []Param
	ID            string
	Description   string
	Encoding      string // as written; empty: 7bit
	MD5           string
	Disposition   string
	DispParams    []Param
	Language      []string
	Location      string

	Envelope *Envelope // of a message: the whole one, or one in a message/rfc822
	Parts    []*Part   // of a multipart: at least one
	Message  *Part     // of a message/rfc822: the message in it
}

// A Param is a parameter of a field, its value without quotes.
type Param struct{ Name, Value string }

// Size returns the octets of the body.
func (p *Part) Size() int64 { return p.End - p.Body }

// IsMultipart reports whether p has parts.
func (p *Part) IsMultipart() bool { return len(p.Parts) > 0 }

// IsMessage reports whether p is of a type that has a message in it.
func (p *Part) IsMessage() bool {
	return strings.EqualFold(p.Type, "message") && (strings.EqualFold(p.Subtype, "rfc822") || strings.EqualFold(p.Subtype, "global"))
}

// Param returns the value of a parameter.
func (p *Part) Param(name string) string {
	for _, x := range p.Params {
		if strings.EqualFold(x.Name, name) {
			return x.Value
		}
	}
	return ""
}

// Parse reads the message in r, which has size octets. The error is the reader's: the tree
// is then that of the octets before.
func Parse(r io.ReaderAt, size int64) (*Part, error) {
	t := newTree(r, size)
	defer t.free()
	root, _ := t.part(nil, 0, true, false)
	return root, t.err
}

// ParseHeader reads the message's header alone: Envelope and the fields that describe the
// message are there, its parts are not, and its body is taken to be empty.
func ParseHeader(r io.ReaderAt, size int64) (*Part, error) {
	t := newTree(r, size)
	defer t.free()
	t.piece = 4 << 10 // most headers are not longer
	root := new(Part)
	end := t.header(root, nil, true)
	root.Body, root.End = end.off, end.off
	return root, t.err
}

type tree struct {
	scanner
	parts int // found so far
	kept  int // octets of header fields
}

func newTree(r io.ReaderAt, size int64) *tree {
	return &tree{scanner: scanner{r: r, size: size, buf: windows.Get().(*[window]byte)}}
}

func (t *tree) free() { windows.Put(t.buf) }

// part parses a part, up to a delimiter of bounds.
func (t *tree) part(bounds [][]byte, depth int, isMessage, inDigest bool) (p *Part, end stop) {
	t.parts++
	p = &Part{Header: t.offset()}
	end = t.header(p, bounds, isMessage)
	body := end.place
	p.Body = body.off
	switch {
	case p.Type != "":
	case inDigest:
		p.Type, p.Subtype = "message", "rfc822"
	default:
		p.Type, p.Subtype = "text", "plain"
	}
	if depth >= maxDepth || t.parts >= maxParts {
		p.close()
	}
	switch {
	case end.which >= 0: // the header ran into a delimiter: there is no body
	case p.isMultipartType():
		if b := p.Param("boundary"); b != "" && len(b) <= maxBoundary {
			end = t.multipart(p, append(bounds[:len(bounds):len(bounds)], []byte(b)), depth)
		} else {
			end = t.body(bounds)
		}
	case p.IsMessage():
		p.Message, end = t.part(bounds, depth+1, true, false)
	default:
		end = t.body(bounds)
	}
	if end.off < body.off {
		end.place = body // what a delimiter takes for its line break was the header's last
	}
	p.End, p.Lines = end.off, end.lf-body.lf
	p.complete()
	return p, end
}

// multipart parses the parts of p; its own boundary is the last of bounds.
func (t *tree) multipart(p *Part, bounds [][]byte, depth int) stop {
	own := len(bounds) - 1
	digest := strings.EqualFold(p.Subtype, "digest")
	end := t.body(bounds) // the preamble
	for end.which == own && !end.last {
		if t.parts >= maxParts || len(p.Parts) > 0 && t.offset() >= t.size {
			break // a message cut off behind a delimiter has no part more
		}
		var part *Part
		part, end = t.part(bounds, depth+1, false, digest)
		p.Parts = append(p.Parts, part)
	}
	if end.which == own { // the epilogue
		end = t.body(bounds[:own])
	}
	return end
}

func (p *Part) isMultipartType() bool { return strings.EqualFold(p.Type, "multipart") }

// close makes p a leaf that nobody looks into.
func (p *Part) close() {
	if p.isMultipartType() || p.IsMessage() {
		p.Type, p.Subtype, p.Params = "application", "octet-stream", nil
	}
}

// complete makes sure that p has what its type says, whatever the message holds: IMAP knows
// no multipart without parts (RFC 9051, 9: body-type-mpart).
func (p *Part) complete() {
	switch {
	case p.isMultipartType() && len(p.Parts) == 0:
		p.Parts = []*Part{{Header: p.End, Body: p.End, End: p.End, Type: "text", Subtype: "plain"}}
	case p.IsMessage() && p.Message == nil:
		p.Message = &Part{Header: p.End, Body: p.End, End: p.End, Type: "text", Subtype: "plain", Envelope: new(Envelope)}
	}
}
