package mbox

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
)

// A Store keeps what belongs to a message and not to its text in header fields, as Dovecot and
// others do, and shows none of them:
//
//	Status: [R][O]                         R seen, O not recent
//	X-Status: [A][D][F][T]                 answered, deleted, flagged, draft
//	X-Keywords: *( keyword SP )            of those that X-IMAPbase names
//	X-UID: uid
//	Content-Length: octets                 of the body, without the LF of the separator
//	X-IMAPbase: validity last *( SP keyword )   first message only; last: the last UID, 10 digits
//	X-IMAP: the same                       first message only, which is no message then
//	X-Mailblocks-Kept: body                the message is the body alone: its own header was none
//
// We write them at the end of the header, X-UID last, with blanks behind it that a longer
// value uses up. A field of a message that has one of these names is written with "X-Kept-"
// before its name, and shown without.
type ownField uint8

const (
	notOwn ownField = iota
	ownStatus
	ownXStatus
	ownKeywords
	ownUID
	ownLength
	ownBase
	ownIMAP
	ownKept
	ownDelivery
)

var ownNames = [...]string{
	ownStatus: "Status", ownXStatus: "X-Status", ownKeywords: "X-Keywords", ownUID: "X-UID", ownLength: "Content-Length",
	ownBase: "X-IMAPbase", ownIMAP: "X-IMAP", ownKept: "X-Mailblocks-Kept", ownDelivery: "X-Delivery-ID",
}

const keptPrefix = "X-Kept-"

// ownLine tells which of our fields a header line begins, and its value.
func ownLine(line []byte) (f ownField, value []byte) {
	if len(line) == 0 {
		return notOwn, nil
	}
	switch line[0] {
	case 'S', 's', 'X', 'x', 'C', 'c':
	default:
		return notOwn, nil
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return notOwn, nil
	}
	name := bytes.TrimRight(line[:colon], " \t")
	for i := ownStatus; i <= ownDelivery; i++ {
		if len(name) == len(ownNames[i]) && strings.EqualFold(string(name), ownNames[i]) {
			return i, bytes.TrimSpace(line[colon+1:])
		}
	}
	return notOwn, nil
}

// unkept returns how many octets of a header line are not shown: of a prefix of ours.
func unkept(line []byte) int {
	rest := line
	for len(rest) > len(keptPrefix) && bytes.EqualFold(rest[:len(keptPrefix)], []byte(keptPrefix)) {
		rest = rest[len(keptPrefix):]
	}
	if len(rest) < len(line) {
		if f, _ := ownLine(rest); f != notOwn {
			return len(keptPrefix)
		}
	}
	return 0
}

// mustKeep tells whether a message's own header line needs a prefix.
func mustKeep(line []byte) bool {
	f, _ := ownLine(line)
	return f != notOwn || unkept(line) > 0
}

// A status is what our fields say of one message.
type status struct {
	flags    imap.SystemFlags
	old      bool // not recent
	keywords []string
	uid      imap.UID // zero: none
	length   int64    // Content-Length; -1: none
	body     bool     // X-Mailblocks-Kept
	base     *base
}

// A base is what X-IMAPbase or X-IMAP says.
type base struct {
	validity uint32
	last     imap.UID
	keywords []string
	pseudo   bool // X-IMAP
}

var statusLetters = []struct {
	field  ownField
	letter byte
	flag   imap.SystemFlags
}{
	{ownStatus, 'R', imap.Seen},
	{ownXStatus, 'A', imap.Answered}, {ownXStatus, 'D', imap.Deleted}, {ownXStatus, 'F', imap.Flagged}, {ownXStatus, 'T', imap.Draft},
}

// take takes in one field. First: it stands in the file's first message.
func (s *status) take(f ownField, value []byte, first bool) {
	switch f {
	case ownStatus, ownXStatus:
		for _, l := range statusLetters {
			if l.field == f && bytes.IndexByte(value, l.letter) >= 0 {
				s.flags |= l.flag
			}
		}
		s.old = s.old || f == ownStatus && bytes.IndexByte(value, 'O') >= 0
	case ownKeywords:
		for w := range bytes.FieldsSeq(value) {
			s.keywords = append(s.keywords, string(w))
		}
	case ownUID:
		if n, err := strconv.ParseUint(string(value), 10, 32); err == nil && s.uid == 0 {
			s.uid = imap.UID(n)
		}
	case ownLength:
		s.length = -1
		if n, ok := parseLength(value); ok {
			s.length = n
		}
	case ownKept:
		s.body = string(value) == "body"
	case ownBase, ownIMAP:
		if b := parseBase(string(value)); first && b != nil && s.base == nil {
			b.pseudo = f == ownIMAP
			s.base = b
		}
	}
}

func parseBase(value string) *base {
	words := strings.Fields(value)
	if len(words) < 2 {
		return nil
	}
	validity, err := strconv.ParseUint(words[0], 10, 32)
	if err != nil || validity == 0 {
		return nil
	}
	last, err := strconv.ParseUint(words[1], 10, 32)
	if err != nil {
		return nil
	}
	b := &base{validity: uint32(validity), last: imap.UID(last)}
	for _, w := range words[2:] {
		if f := imap.Flag(w); f.Valid() && f.System() == 0 && !b.has(w) {
			b.keywords = append(b.keywords, w)
		}
	}
	return b
}

func (b *base) has(word string) bool {
	return slices.ContainsFunc(b.keywords, func(k string) bool { return strings.EqualFold(k, word) })
}

func (b *base) String() string {
	text := fmt.Sprintf("%d %010d", b.validity, b.last)
	for _, k := range b.keywords {
		text += " " + k
	}
	return text
}

// padding is how many blanks a header gets that is written anew.
const padding = 50

// block returns our fields, and the empty line. Length below zero: no Content-Length.
func (s *status) block(pad int) []byte {
	var b []byte
	add := func(f ownField, value string) {
		b = append(append(append(append(b, ownNames[f]...), ": "...), value...), '\n')
	}
	if s.base != nil {
		f := ownBase
		if s.base.pseudo {
			f = ownIMAP
		}
		add(f, s.base.String())
	}
	var text [2]string
	for _, l := range statusLetters {
		if s.flags&l.flag != 0 {
			text[l.field-ownStatus] += string(l.letter)
		}
	}
	if s.old {
		text[0] += "O"
	}
	for i, t := range text {
		if t != "" {
			add(ownStatus+ownField(i), t)
		}
	}
	if len(s.keywords) > 0 {
		add(ownKeywords, strings.Join(s.keywords, " "))
	}
	if s.body {
		add(ownKept, "body")
	}
	if s.length >= 0 {
		add(ownLength, strconv.FormatInt(s.length, 10))
	}
	if s.uid != 0 {
		add(ownUID, strconv.FormatUint(uint64(s.uid), 10))
	}
	b = append(b[:len(b)-1], bytes.Repeat([]byte{' '}, pad)...)
	return append(b, "\n\n"...)
}

// rewriteHeader returns a header with what s says in place of all our fields, as long as it was
// where that is possible. CRLFs in it stay where they are. Header ends with its empty line.
func rewriteHeader(header []byte, s *status) []byte {
	out := make([]byte, 0, len(header)+padding+256)
	own := false
	for line := range bytes.Lines(header) {
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			break
		}
		if line[0] != ' ' && line[0] != '\t' {
			f, _ := ownLine(line)
			own = f != notOwn
		}
		if !own {
			out = append(out, line...)
		}
	}
	if n := len(out); n > 0 && out[n-1] != '\n' {
		out = append(out, '\n')
	}
	bare := s.block(0)
	if pad := len(header) - len(out) - len(bare); pad > 0 {
		return append(out, s.block(pad)...)
	} else if pad == 0 {
		return append(out, bare...)
	}
	return append(out, s.block(padding)...)
}
