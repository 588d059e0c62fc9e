package imapserver

import (
	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/mimetree"
)

// verdict is what a search found out about one message.
type verdict struct {
	hit    bool
	score  float64
	scored int
}

// How many messages are looked through at once.
const (
	headerChunk = 2048
	bodyChunk   = 128
)

// readingSearch asks a program that looks into headers or bodies of several messages at a time.
type readingSearch struct {
	query    criterion
	cur      *index
	start    int // position of the first verdict
	verdicts []verdict
	searches []*candidate // one for each that works at a time
}

// verdict returns what is found out about the message at pos; the positions rise.
func (b *readingSearch) verdict(m *candidate, s *selected, pos int) verdict {
	if pos >= b.start+len(b.verdicts) {
		b.look(m, s, pos)
		if m.err != nil {
			return verdict{}
		}
	}
	return b.verdicts[pos-b.start]
}

// look looks through the messages from pos on. Those in a row are one worker's: it learns about
// them together.
func (b *readingSearch) look(m *candidate, s *selected, pos int) {
	chunk := headerChunk
	if b.query.cost == costBody {
		chunk = bodyChunk
	}
	n := min(chunk, m.view.len()-pos)
	b.start, b.verdicts = pos, make([]verdict, n)
	run := chunk / maxParallel
	runs := (n + run - 1) / run
	for len(b.searches) < runs {
		w := &candidate{message: message{mb: m.mb}, box: m.box, view: m.view, full: m.full, ctx: m.ctx, recent: m.recent, extra: m.extra}
		b.searches = append(b.searches, w)
	}
	inParallel(runs, 1, func(k int) {
		w := b.searches[k]
		from := pos + k*run
		w.until = min(from+run, pos+n)
		if w.aheadEnd = from; b.query.cost == costBody {
			w.step = run // all are read
		}
		for i, e := range m.view.from(from) {
			if i >= w.until || w.err != nil {
				return
			}
			w.reset(i+1, e.uid)
			w.entry, w.index = s.current(b.cur, e)
			b.verdicts[i-pos] = verdict{b.query.match(w), w.score, w.scored}
			w.close()
		}
	})
	for _, w := range b.searches {
		if w.err != nil {
			m.err = w.err
		}
	}
}

// maxPrefix bounds what of a message is read at once to be searched.
const maxPrefix = 256 << 10

// prefix is a body of which the first octets are in memory.
type prefix struct {
	imap.Body
	b []byte
}

func (p prefix) ReadAt(b []byte, off int64) (int, error) {
	if off >= 0 && off+int64(len(b)) <= int64(len(p.b)) {
		return copy(b, p.b[off:]), nil
	}
	return p.Body.ReadAt(b, off)
}

// readAhead reads a message up to the end of its last text, when that is not far: attachments
// follow.
func (m *candidate) readAhead() {
	end := textEnd(m.tree)
	if end > maxPrefix {
		return
	}
	if int64(cap(m.scratch.whole)) < end {
		m.scratch.whole = make([]byte, end, end+end/2)
	}
	b := m.scratch.whole[:end]
	if n, _ := m.body.ReadAt(b, 0); int64(n) == end {
		m.body = prefix{m.body, b}
	}
}

// textEnd returns where the last part ends that a search looks into.
func textEnd(p *mimetree.Part) int64 {
	switch {
	case p.IsMultipart():
		end := p.Body
		for _, part := range p.Parts {
			end = max(end, textEnd(part))
		}
		return end
	case p.Message != nil:
		return textEnd(p.Message)
	case equalFold(p.Type, "text"):
		return p.End
	default:
		return p.Body // its header is looked into
	}
}
