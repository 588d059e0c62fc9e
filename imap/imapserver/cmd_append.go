package imapserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mailblocks/mailblocks/imap"
)

// maxMessage returns the limit for appended messages, zero for none.
func (c *conn) maxMessage() int64 { return max(orDefault(c.server.MaxMessageBytes, 64<<20), 0) }

// maxAppended bounds the messages of one APPEND (RFC 3502).
const maxAppended = 1000

// cmdAppend reads the messages to the end, to memory or to temporary files, before the
// store hears of them: a client that goes away in the middle leaves nothing behind, and one
// that is slow holds nobody up.
func (c *conn) cmdAppend(ctx context.Context) reply {
	c.dec.SP()
	name := c.mailbox()
	var msgs []imap.NewMessage
	var spools []*spool
	defer func() {
		for _, s := range spools {
			s.close()
		}
	}()
	var refused *reply
	for len(msgs) == 0 || c.dec.OK() && !c.dec.AtEnd() {
		msg, s, r := c.appendMessage(ctx)
		if s != nil {
			spools = append(spools, s)
		}
		if r != nil {
			refused = r
			break
		}
		if !c.dec.OK() {
			return c.syntax()
		}
		if limit := c.server.MaxMessagesPerCommand; limit > 0 && len(msgs) >= limit {
			return no(fmt.Sprintf("MESSAGELIMIT %d", limit), "too many messages for one command")
		}
		if msgs = append(msgs, *msg); len(msgs) > maxAppended {
			return no("LIMIT", "too many messages at once")
		}
	}
	if refused != nil {
		return *refused
	}
	if !c.end() {
		return c.syntax()
	}
	if r, is := noSuchName(name); is {
		return r
	}
	mb, err := c.account.store.Open(ctx, name)
	if err == nil {
		defer mb.Close()
		var done imap.AppendResult
		if done, err = mb.Append(ctx, msgs); err == nil {
			c.didAppend(name, done.UIDs)
			r := ok("appended")
			r.code = appendUID(done)
			return r
		}
	}
	return c.appendFailed(err)
}

// appendUID is the response code of RFC 4315, 3.
func appendUID(done imap.AppendResult) string {
	return string(appendUIDs(fmt.Appendf(nil, "APPENDUID %d ", done.UIDValidity), done.UIDs))
}

func (c *conn) appendFailed(err error) reply {
	r := c.failed(err)
	if r.code == "NONEXISTENT" {
		r.code = "TRYCREATE"
	}
	return r
}

// appendMessage takes one message of an APPEND. A reply says why it is refused; other
// errors are the decoder's.
func (c *conn) appendMessage(ctx context.Context) (*imap.NewMessage, *spool, *reply) {
	c.dec.SP()
	msg := new(imap.NewMessage)
	if c.dec.Peek() == '(' {
		msg.Flags = imap.NewFlags(c.validFlags(c.dec.FlagList())...)
		c.dec.SP()
	}
	if c.dec.Peek() == '"' {
		msg.InternalDate = c.dec.DateTime()
		c.dec.SP()
	}
	s := &spool{memory: orDefault(c.server.SpoolBytes, 256<<10), dir: c.server.SpoolDir}
	var refused *reply
	if c.dec.AcceptWord("CATENATE") {
		refused = c.catenate(ctx, s)
	} else if c.dec.AcceptWord("UTF8") {
		refused = c.spoolUTF8(s)
	} else {
		refused = c.spoolLiteral(s)
	}
	if refused == nil && c.dec.OK() && s.size == 0 {
		r := no("", "an empty message is no message")
		refused = &r
	}
	msg.Body, msg.Size = s.reader(), s.size
	return msg, s, refused
}

// spoolLiteral takes a literal and adds its octets to s.
func (c *conn) spoolLiteral(s *spool) *reply {
	size, _ := c.dec.Literal()
	if !c.dec.OK() {
		return nil
	}
	if r := c.tooBig(s, size); r != nil {
		return r
	}
	if err := s.fill(c.dec.LiteralReader()); err != nil {
		if !c.dec.OK() { // the connection failed, not the disk
			return nil
		}
		return noRoom(err)
	}
	c.dec.LiteralDone()
	return nil
}

// spoolUTF8 takes what follows UTF8 (RFC 6855, 4). Messages have been what they are before
// there was a word for it: headers with UTF-8 are taken without it as well.
func (c *conn) spoolUTF8(s *spool) *reply {
	c.dec.SP()
	c.dec.Expect('(')
	if c.dec.OK() && c.dec.Peek() != '~' {
		c.dec.Fail("expected a literal8")
	}
	if refused := c.spoolLiteral(s); refused != nil {
		return refused
	}
	c.dec.Expect(')')
	return nil
}

// tooBig refuses a message that has more than it may with size octets more.
func (c *conn) tooBig(s *spool, size int64) *reply {
	if limit := c.maxMessage(); limit > 0 && size > limit-s.size {
		r := no("TOOBIG", "message too large")
		r.cause = fmt.Errorf("a message of %d octets was announced", s.size+size)
		return &r
	}
	return nil
}

func noRoom(err error) *reply {
	return &reply{status: "NO", code: "UNAVAILABLE", text: "no room for the message", cause: err}
}

// validFlags leaves out \Recent, which clients may send but nobody can set, and makes
// anything else that is no flag a syntax error.
func (c *conn) validFlags(flags []imap.Flag) []imap.Flag {
	out := flags[:0]
	for _, f := range flags {
		switch {
		case equalFold(string(f), string(imap.FlagRecent)):
		case !f.Valid():
			c.dec.Fail("no such flag")
		default:
			out = append(out, f)
		}
	}
	return out
}

// spool holds a message on its way to the store, with CRLF at the end of each line.
type spool struct {
	memory int64 // octets held in memory
	dir    string

	buf  bytes.Buffer
	file *os.File
	size int64
	last byte
}

// fill reads r to its end.
func (s *spool) fill(r io.Reader) error {
	block := make([]byte, 32<<10)
	var fixed []byte
	for {
		n, err := r.Read(block)
		if n > 0 {
			b := block[:n]
			if bareLF(s.last, b) {
				fixed = appendCRLF(fixed[:0], s.last, b)
				s.last = b[n-1]
				b = fixed
			} else {
				s.last = b[n-1]
			}
			if err := s.write(b); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (s *spool) write(b []byte) (err error) {
	if s.file == nil && int64(s.buf.Len()+len(b)) > s.memory {
		if s.file, err = os.CreateTemp(s.dir, "imap-append-*"); err != nil {
			return err
		}
		// Nobody needs its name, and nobody has to remove it.
		if err = os.Remove(s.file.Name()); err != nil {
			return err
		}
		if _, err = s.file.Write(s.buf.Bytes()); err != nil {
			return err
		}
		s.buf = bytes.Buffer{}
	}
	s.size += int64(len(b))
	if s.file != nil {
		_, err = s.file.Write(b)
		return err
	}
	s.buf.Write(b)
	return nil
}

func (s *spool) reader() io.Reader {
	if s.file != nil {
		return io.NewSectionReader(s.file, 0, s.size)
	}
	return bytes.NewReader(s.buf.Bytes())
}

func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}

// bareLF reports whether b, which follows the octet last, has an LF without a CR.
func bareLF(last byte, b []byte) bool {
	for i := 0; ; i++ {
		k := bytes.IndexByte(b[i:], '\n')
		if k < 0 {
			return false
		}
		if i += k; i > 0 {
			last = b[i-1]
		}
		if last != '\r' {
			return true
		}
	}
}

func appendCRLF(out []byte, last byte, b []byte) []byte {
	for _, c := range b {
		if c == '\n' && last != '\r' {
			out = append(out, '\r')
		}
		out = append(out, c)
		last = c
	}
	return out
}

// appendUIDs appends UIDs in their order, runs of them as ranges: the order tells which is
// which (RFC 4315, 3).
func appendUIDs(b []byte, uids []imap.UID) []byte {
	for i := 0; i < len(uids); {
		j := i
		for j+1 < len(uids) && uids[j+1] == uids[j]+1 {
			j++
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = imap.UIDSet{{First: uids[i], Last: uids[j]}}.AppendText(b)
		i = j + 1
	}
	return b
}
