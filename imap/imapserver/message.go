package imapserver

import (
	"bytes"
	"context"
	"io"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/mimetree"
)

// message reads one message's body, as far as it is asked to: not at all, its header, or
// all of it. Close it when done.
type message struct {
	mb  imap.Mailbox
	uid imap.UID

	digest *mimetree.Digest // spares opening the body; nil: there is none
	body   imap.Body
	header *mimetree.Part // of the header alone
	tree   *mimetree.Part
}

func (m *message) open(ctx context.Context) error {
	if m.body != nil {
		return nil
	}
	body, err := m.mb.Body(ctx, m.uid)
	if err != nil {
		return err
	}
	m.body = body
	return nil
}

func (m *message) close() {
	if m.body != nil {
		_ = m.body.Close()
		m.body = nil
	}
}

// parseHeader makes header.
func (m *message) parseHeader(ctx context.Context) (err error) {
	if m.header != nil {
		return nil
	}
	if m.tree != nil && m.tree.Envelope != nil {
		m.header = m.tree
		return nil
	}
	if m.digest != nil {
		m.header, err = m.digest.Header()
		return err
	}
	if err = m.open(ctx); err == nil {
		m.header, err = mimetree.ParseHeader(m.body, m.body.Size())
	}
	return err
}

// parse makes tree.
func (m *message) parse(ctx context.Context) (err error) {
	if m.tree != nil {
		return nil
	}
	if m.digest != nil && m.digest.HasTree() {
		if m.tree, err = m.digest.Tree(); err == nil {
			return nil
		}
	}
	if err = m.open(ctx); err == nil {
		m.tree, err = mimetree.Parse(m.body, m.body.Size())
	}
	return err
}

// reader returns the octets of the body from start to end.
func (m *message) reader(start, end int64) *io.SectionReader {
	return io.NewSectionReader(m.body, start, end-start)
}

// section returns the offsets of what it shows. Of the message's own texts only the
// header's end must be known.
func (m *message) section(ctx context.Context, it *fetchItem) (start, end int64, ok bool, err error) {
	if len(it.number) > 0 {
		if err := m.parse(ctx); err != nil {
			return 0, 0, false, err
		}
		start, end, ok = m.tree.Section(it.number, it.text)
		return start, end, ok, m.open(ctx)
	}
	if err := m.open(ctx); err != nil {
		return 0, 0, false, err
	}
	size := m.body.Size()
	if it.text == mimetree.Whole {
		return 0, size, true, nil
	}
	if err := m.parseHeader(ctx); err != nil {
		return 0, 0, false, err
	}
	if it.text == mimetree.Header {
		return 0, m.header.Body, true, nil
	}
	return m.header.Body, size, true, nil
}

// headerFields returns HEADER.FIELDS, nil when there is no such header.
func (m *message) headerFields(ctx context.Context, it *fetchItem) ([]byte, error) {
	if m.digest != nil && it.kept {
		b, err := mimetree.FilterHeader(bytes.NewReader(m.digest.Head), 0, int64(len(m.digest.Head)), it.fields, false)
		return it.partOf(b), err
	}
	if err := m.open(ctx); err != nil {
		return nil, err
	}
	start, end := int64(0), m.body.Size() // the message's own header ends with a blank line
	if len(it.number) > 0 {
		var ok bool
		var err error
		if start, end, ok, err = m.section(ctx, it); err != nil || !ok {
			return nil, err
		}
	}
	b, err := mimetree.FilterHeader(m.body, start, end, it.fields, it.not)
	return it.partOf(b), err
}

// partOf returns what a partial item shows of b.
func (it *fetchItem) partOf(b []byte) []byte {
	if !it.partial {
		return b
	}
	n := int64(len(b))
	from := min(it.offset, n)
	return b[from : from+min(it.count, n-from)]
}
