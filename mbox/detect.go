package mbox

import (
	"bufio"
	"bytes"
	"io"
)

// sampleSize is how much of a file a Reader shows to Detect.
const sampleSize = 1 << 20

// A Detection is what Detect found, with its evidence.
type Detection struct {
	Dialect Dialect
	// Certain is false when the text would read differently in another dialect that the
	// evidence does not exclude: it holds ">From " lines, and nothing tells what they were.
	Certain bool

	Separators   int // valid ones, but for those inside a body with a right Content-Length
	Lengths      int // Content-Length fields that lead to a separator or the end
	WrongLengths int // those that do not
	Inside       int // separator-like lines inside bodies with a right Content-Length
	Quoted       int // lines of '>' and "From "
	Deeper       int // quoted From lines one '>' deeper than the quoted line before: mboxrd
	Level        int // quoted From lines as deep as the quoted line before: mboxo
	DovecotMarks int // X-UID, X-IMAP and X-IMAPbase fields
}

// Detect reads r to its end and tells which dialect it is written in. To decide by the
// start of a large file, give it an io.LimitedReader. Its memory is constant. Nothing it can
// read is an error but the reader's own. Text without any evidence is RD, which reads like O
// then.
func Detect(r io.Reader) (Detection, error) {
	d := detector{blank: true}
	in := bufio.NewReaderSize(r, 64<<10)
	start := true // of a line, not of a piece of one
	for {
		piece, err := in.ReadSlice('\n')
		if len(piece) > 0 {
			if start {
				d.line(piece)
			}
			d.off += int64(len(piece))
		}
		start = err == nil
		if err == io.EOF {
			break
		}
		if err != nil && err != bufio.ErrBufferFull {
			return Detection{}, err
		}
	}
	return d.result(), nil
}

type detector struct {
	found  Detection
	off    int64
	header bool
	blank  bool  // the line before was empty
	length int64 // Content-Length of the header under way; -1: none
	claim  int64 // where a Content-Length says that the body ends; 0: none
	inside int   // separator-like lines since
	before int   // depth of the quotes of the line before
}

func (d *detector) line(line []byte) {
	text := bytes.TrimRight(line, "\r\n")
	quotes := len(text) - len(bytes.TrimLeft(text, ">"))
	from := bytes.HasPrefix(text[quotes:], []byte("From "))
	sep := false
	if from && quotes == 0 {
		_, _, sep = ParseSeparator(string(text), nil)
	}
	if d.claim > 0 && d.off >= d.claim {
		// The body ends here, or one empty line ago.
		switch {
		case sep && (d.off == d.claim || d.blank && d.off <= d.claim+2):
			d.found.Lengths++
			d.found.Inside += d.inside
			d.claim = 0
		case d.off > d.claim || len(text) > 0:
			d.found.WrongLengths++
			d.claim = 0
		}
	}
	switch {
	case sep && d.claim > 0:
		d.inside++
	case sep:
		d.found.Separators++
		d.header, d.length = true, -1
	case from && quotes > 0:
		d.found.Quoted++
		switch {
		case d.before == 0:
		case quotes == d.before+1:
			d.found.Deeper++
		case quotes == d.before:
			d.found.Level++
		}
	case d.header && len(text) == 0:
		d.header = false
		if d.length >= 0 && d.length < 1<<62 {
			d.claim, d.inside = d.off+int64(len(line))+d.length, 0
		}
	case d.header:
		d.field(text)
	}
	d.before = quotes
	if from {
		d.before = 0
	}
	d.blank = len(text) == 0
}

func (d *detector) field(text []byte) {
	for _, name := range []string{"X-UID", "X-IMAP", "X-IMAPbase"} {
		if _, ok := field(text, name); ok {
			d.found.DovecotMarks++
		}
	}
	if value, ok := field(text, "Content-Length"); ok {
		if n, ok := parseLength(value); ok {
			d.length = n
		}
	}
}

func (d *detector) result() Detection {
	f := &d.found
	if d.claim > 0 && d.off >= d.claim && (d.off == d.claim || d.blank && d.off <= d.claim+2) {
		f.Lengths++
		f.Inside += d.inside
	}
	counted := f.Lengths > 0 && f.Lengths > f.WrongLengths
	f.Certain = true
	switch {
	case f.DovecotMarks > 0 && f.Deeper == 0:
		f.Dialect = Dovecot
		f.Certain = f.Quoted == 0
	case counted && f.Inside > 0:
		f.Dialect = CL2
	case counted && f.Quoted > 0:
		f.Dialect = CL
		f.Certain = false
	case counted:
		f.Dialect = CL2 // which reads like CL: there is no quote to undo
		f.Certain = true
	case f.Level > f.Deeper:
		f.Dialect = O
		f.Certain = f.Deeper == 0
	default:
		f.Dialect = RD
		f.Certain = f.Quoted == 0 || f.Deeper > 0 && f.Level == 0
	}
	return *f
}
