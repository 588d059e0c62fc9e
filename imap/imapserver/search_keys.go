package imapserver

import (
	"context"
	"io"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/mimetree"
)

// cost says what a criterion has to look at.
type cost uint8

const (
	costIndex cost = iota
	costHeader
	costBody
)

// A criterion is a part of a search program, ready to be asked of each message.
type criterion struct {
	cost  cost
	match func(*candidate) bool
}

// candidate is the message a search looks at.
type candidate struct {
	message
	box    *box
	num    int
	entry  *entry
	index  *index
	recent imap.UIDSet
	extra  map[imap.UID]imap.Message
	ctx    context.Context
	err    error

	score  float64 // sum of what fuzzy keys gave
	scored int     // how many did

	view           *index  // to look ahead in; nil: no farther than this message
	full           bool    // the search looks into bodies: the trees of their parts are wanted
	ahead          digests // of messages up to the one at position aheadEnd
	aheadEnd, step int
	until          int // position to look ahead to; zero: the end

	head    []byte // the header's octets, in scratch
	hasHead bool
	scratch scratch
}

func (m *candidate) reset(num int, uid imap.UID) {
	m.message = message{mb: m.mb, uid: uid}
	m.num, m.head, m.hasHead = num, nil, false
	m.score, m.scored = 0, 0
}

// maxAhead is how many messages a search learns about at once.
const maxAhead = 256

// known returns the message's digest, nil when there is none. The more messages in a row are
// asked about, the more are learned about with one of them.
func (m *candidate) known() *mimetree.Digest {
	if m.digest != nil || m.err != nil {
		return m.digest
	}
	if m.num > m.aheadEnd {
		if m.num-1-m.aheadEnd > m.step {
			m.step = 0
		}
		batch := []*entry{m.entry}
		m.step = min(2*m.step+1, maxAhead)
		if m.view != nil {
			for pos, e := range m.view.from(m.num) {
				if len(batch) >= m.step || m.until > 0 && pos >= m.until {
					break
				}
				batch = append(batch, e)
			}
		}
		m.ahead = m.box.digests(m.ctx, batch, m.full, nil)
		m.aheadEnd = m.num - 1 + len(batch)
	}
	m.digest = m.ahead[m.uid]
	return m.digest
}

// Bounds on a search program.
const (
	maxSearchDepth = 50
	maxSearchKeys  = 2000
)

// searchParser takes a search program (RFC 9051, 6.4.4).
type searchParser struct {
	c          *conn
	charset    string
	badCharset bool
	modSeq     bool // MODSEQ is among the keys
	extra      bool // a key needs what the index does not hold
	fuzzy      int  // FUZZY is around the key
	fuzzyUsed  bool
	numbers    bool // sequence numbers are among the keys
	depth      int
	count      int
	filters    []*namedFilter // to be looked up
	// binds tell keys which mailbox is searched: what they mean depends on it.
	binds []func(*selected)
}

// bound is a key for messages that depend on the mailbox that is searched.
func (p *searchParser) bound(uids func(*selected) imap.UIDSet) criterion {
	var set imap.UIDSet
	p.binds = append(p.binds, func(s *selected) { set = uids(s) })
	return onIndex(func(m *candidate) bool { return set.Contains(m.uid) })
}

// keys takes keys up to the end of the command or of a list: all of them must match.
func (p *searchParser) keys() criterion {
	all := []criterion{p.key()}
	for p.c.dec.OK() && p.c.dec.Accept(' ') {
		all = append(all, p.key())
	}
	return and(all)
}

func and(all []criterion) criterion {
	if len(all) == 1 {
		return all[0]
	}
	slices.SortStableFunc(all, func(a, b criterion) int { return int(a.cost) - int(b.cost) })
	return criterion{all[len(all)-1].cost, func(m *candidate) bool {
		for i := range all {
			if !all[i].match(m) {
				return false
			}
		}
		return true
	}}
}

// onIndex is a criterion that the index answers.
func onIndex(match func(*candidate) bool) criterion { return criterion{costIndex, match} }

func hasFlag(bit imap.SystemFlags, want bool) criterion {
	return onIndex(func(m *candidate) bool { return m.entry.system()&bit != 0 == want })
}

var flagKeys = map[string]criterion{
	"ANSWERED": hasFlag(imap.Answered, true), "UNANSWERED": hasFlag(imap.Answered, false),
	"DELETED": hasFlag(imap.Deleted, true), "UNDELETED": hasFlag(imap.Deleted, false),
	"DRAFT": hasFlag(imap.Draft, true), "UNDRAFT": hasFlag(imap.Draft, false),
	"FLAGGED": hasFlag(imap.Flagged, true), "UNFLAGGED": hasFlag(imap.Flagged, false),
	"SEEN": hasFlag(imap.Seen, true), "UNSEEN": hasFlag(imap.Seen, false),
	"ALL":    onIndex(func(*candidate) bool { return true }),
	"RECENT": onIndex(func(m *candidate) bool { return m.recent.Contains(m.uid) }),
	"OLD":    onIndex(func(m *candidate) bool { return !m.recent.Contains(m.uid) }),
	"NEW": onIndex(func(m *candidate) bool {
		return m.recent.Contains(m.uid) && m.entry.system()&imap.Seen == 0
	}),
}

var never = onIndex(func(*candidate) bool { return false })

func (p *searchParser) key() criterion {
	dec := &p.c.dec
	p.depth++
	defer func() { p.depth-- }()
	if p.count++; p.depth > maxSearchDepth || p.count > maxSearchKeys {
		dec.Fail("search program too complex")
		return never
	}
	switch {
	case dec.Accept('('):
		k := p.keys()
		dec.Expect(')')
		return k
	case dec.Accept('$'):
		return p.bound(func(s *selected) imap.UIDSet { return s.saved })
	case dec.IsSet():
		p.numbers = true
		// As UIDs: numbers mean what they mean now, also when results are updated later.
		spec := dec.Set()
		return p.bound(func(s *selected) imap.UIDSet {
			n := imap.SeqNum(s.view.len())
			if n == 0 {
				return nil
			}
			return s.view.uids(imap.Resolve(spec, n).Intersect(imap.SeqSet{{First: 1, Last: n}}))
		})
	}
	name := dec.Word()
	if k, is := flagKeys[name]; is {
		return k
	}
	switch name {
	case "NOT":
		dec.SP()
		k := p.key()
		return criterion{k.cost, func(m *candidate) bool { return !k.match(m) }}
	case "OR":
		dec.SP()
		a := p.key()
		dec.SP()
		b := p.key()
		if a.cost > b.cost {
			a, b = b, a
		}
		return criterion{b.cost, func(m *candidate) bool { return a.match(m) || b.match(m) }}
	case "UID":
		dec.SP()
		if dec.Accept('$') {
			return p.bound(func(s *selected) imap.UIDSet { return s.saved })
		}
		spec := dec.Set()
		return p.bound(func(s *selected) imap.UIDSet { return imap.Resolve(spec, s.view.lastUID()) })
	case "UIDAFTER", "UIDBEFORE": // RFC 9738, 3.2
		dec.SP()
		uid := imap.UID(dec.Number())
		after := name == "UIDAFTER"
		return onIndex(func(m *candidate) bool { return after && m.uid > uid || !after && m.uid < uid })
	case "KEYWORD", "UNKEYWORD":
		dec.SP()
		flag := imap.Flag(dec.Atom())
		want := name == "KEYWORD"
		return onIndex(func(m *candidate) bool { return m.index.flags(m.entry).Has(flag) == want })
	case "LARGER", "SMALLER":
		dec.SP()
		n := dec.Number64()
		larger := name == "LARGER"
		return onIndex(func(m *candidate) bool {
			size := uint64(m.entry.size)
			if larger {
				return size > n || size == math.MaxUint32 && n >= math.MaxUint32
			}
			return size < n
		})
	case "MODSEQ":
		return p.modSeqKey()
	case "OLDER", "YOUNGER":
		dec.SP()
		limit := time.Now().Add(-time.Duration(dec.Number()) * time.Second)
		older := name == "OLDER"
		return onIndex(func(m *candidate) bool { return m.entry.internalDate().After(limit) != older })
	case "BEFORE", "ON", "SINCE":
		return p.dateKey(name, costIndex, func(m *candidate) time.Time { return m.entry.internalDate() })
	case "SENTBEFORE", "SENTON", "SENTSINCE":
		return p.dateKey(name[4:], costHeader, func(m *candidate) time.Time {
			for value := range m.fields("Date") {
				if t, ok := parseDate(string(value)); ok {
					return t
				}
			}
			return time.Time{}
		})
	case "SAVEDBEFORE", "SAVEDON", "SAVEDSINCE":
		p.extra = true
		return p.dateKey(name[5:], costIndex, func(m *candidate) time.Time {
			if date := m.extra[m.uid].SaveDate; !date.IsZero() {
				return date
			}
			return m.entry.internalDate() // RFC 8514, 4.3
		})
	case "SAVEDATESUPPORTED":
		p.extra = true
		return onIndex(func(m *candidate) bool { return !m.extra[m.uid].SaveDate.IsZero() })
	case "FILTER":
		return p.filterKey()
	case "EMAILID":
		dec.SP()
		id := dec.AString()
		p.extra = true
		return onIndex(func(m *candidate) bool { return m.extra[m.uid].ID == id })
	case "THREADID":
		dec.SP()
		id := dec.AString()
		p.extra = true
		return onIndex(func(m *candidate) bool { return id != "" && m.extra[m.uid].ThreadID == id })
	case "BCC", "CC", "FROM", "SUBJECT", "TO":
		dec.SP()
		return p.stringKey(func(n needle) criterion { return headerKey(name, n) })
	case "HEADER":
		dec.SP()
		field := dec.AString()
		dec.SP()
		return p.stringKey(func(n needle) criterion { return headerKey(field, n) })
	case "BODY", "TEXT":
		dec.SP()
		header := name == "TEXT"
		return p.stringKey(func(n needle) criterion {
			return criterion{costBody, func(m *candidate) bool { return m.contains(n, header) }}
		})
	case "FUZZY":
		dec.SP()
		p.fuzzy, p.fuzzyUsed = p.fuzzy+1, true
		k := p.key()
		p.fuzzy--
		return k
	}
	dec.Fail("no such search key")
	return never
}

// modSeqKey takes what follows MODSEQ (RFC 7162, 3.1.5). The metadata item that it may
// name is that of all flags: we keep one mod-sequence for a message.
func (p *searchParser) modSeqKey() criterion {
	dec := &p.c.dec
	dec.SP()
	if dec.Peek() == '"' {
		dec.AString()
		dec.SP()
		switch dec.Word() {
		case "PRIV", "SHARED", "ALL":
		default:
			dec.Fail("malformed MODSEQ")
		}
		dec.SP()
	}
	n := imap.ModSeq(dec.Number64())
	p.modSeq = true
	return onIndex(func(m *candidate) bool { return m.entry.modSeq >= n })
}

// dateKey compares days, whatever the time and the zone (RFC 9051, 6.4.4).
func (p *searchParser) dateKey(name string, c cost, date func(*candidate) time.Time) criterion {
	p.c.dec.SP()
	want := p.c.dec.Date()
	return criterion{c, func(m *candidate) bool {
		t := date(m)
		if t.IsZero() {
			return false
		}
		y, month, d := t.Date()
		day := time.Date(y, month, d, 0, 0, 0, 0, time.UTC)
		switch name {
		case "BEFORE":
			return day.Before(want)
		case "ON":
			return day.Equal(want)
		default:
			return !day.Before(want)
		}
	}}
}

// checkCharset finds out whether the program's charset is known, also when no key needs it.
func (p *searchParser) checkCharset() {
	switch strings.ToLower(p.charset) {
	case "", "us-ascii", "utf-8", "utf8":
	default:
		_, err := charset.Reader(p.charset, strings.NewReader(""))
		p.badCharset = err != nil
	}
}

// text takes a string to look for, from the charset of the program.
func (p *searchParser) text() string {
	s := p.c.dec.AString()
	switch strings.ToLower(p.charset) {
	case "", "us-ascii", "utf-8", "utf8":
	default:
		r, err := charset.Reader(p.charset, strings.NewReader(s))
		if err != nil {
			p.badCharset = true
			return ""
		}
		b, err := io.ReadAll(r)
		if err != nil {
			p.badCharset = true
			return ""
		}
		s = string(b)
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}
