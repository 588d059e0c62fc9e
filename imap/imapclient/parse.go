package imapclient

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

var noDeadline time.Time

// parsers take the untagged responses that begin with a word, behind it.
var parsers = map[string]func(*Client, *wire.Decoder) any{
	"CAPABILITY": func(c *Client, d *wire.Decoder) any {
		words := takeWords(d)
		if d.OK() {
			c.setCaps(words)
		}
		return nil
	},
	"ENABLED":  func(_ *Client, d *wire.Decoder) any { return enabledList(takeWords(d)) },
	"FLAGS":    func(_ *Client, d *wire.Decoder) any { d.SP(); return flagList(takeFlags(d)) },
	"LIST":     func(c *Client, d *wire.Decoder) any { return takeListing(c, d) },
	"LSUB":     func(c *Client, d *wire.Decoder) any { return (*lsub)(takeListing(c, d)) },
	"STATUS":   func(c *Client, d *wire.Decoder) any { return takeMailboxStatus(c, d) },
	"SEARCH":   takeSearch,
	"SORT":     takeSort,
	"ESEARCH":  func(c *Client, d *wire.Decoder) any { return takeESearch(c, d) },
	"THREAD":   func(_ *Client, d *wire.Decoder) any { return takeThreads(d) },
	"VANISHED": func(_ *Client, d *wire.Decoder) any { return takeVanished(d) },
	"ID":       func(_ *Client, d *wire.Decoder) any { d.SP(); return idResponse(takeParams(d)) },
	"NAMESPACE": func(c *Client, d *wire.Decoder) any {
		n := new(Namespaces)
		for _, list := range []*[]Namespace{&n.Personal, &n.Others, &n.Shared} {
			d.SP()
			*list = takeNamespaces(c, d)
		}
		return n
	},
	"LANGUAGE":   func(_ *Client, d *wire.Decoder) any { d.SP(); return languages(takeStrings(d)) },
	"COMPARATOR": takeComparator,
	"QUOTA":      func(_ *Client, d *wire.Decoder) any { return takeQuota(d) },
	"QUOTAROOT":  func(c *Client, d *wire.Decoder) any { return takeQuotaRoots(c, d) },
	"ACL":        func(c *Client, d *wire.Decoder) any { return takeACL(c, d) },
	"LISTRIGHTS": func(c *Client, d *wire.Decoder) any { return takeListRights(c, d) },
	"MYRIGHTS":   func(c *Client, d *wire.Decoder) any { return takeMyRights(c, d) },
	"METADATA":   func(c *Client, d *wire.Decoder) any { return takeMetadata(c, d) },
	"GENURLAUTH": func(_ *Client, d *wire.Decoder) any { return genURLs(takeTexts(d)) },
	"UIDBATCHES": takeUIDBatches,
	"URLFETCH":   func(_ *Client, d *wire.Decoder) any { return takeURLFetch(d) },
}

type (
	enabledList []string
	flagList    []imap.Flag
	lsub        Listing
	idResponse  map[string]string
	languages   []string
	genURLs     []string
	vanished    struct {
		uids    imap.UIDSet
		earlier bool
	}
)

func notSpace(b byte) bool { return b != ' ' }

// takeWords takes words to the end of the line, each behind a space. A space at the end
// is forgiven.
func takeWords(d *wire.Decoder) (words []string) {
	for d.Accept(' ') {
		if w := d.While(notSpace); w != "" {
			words = append(words, w)
		}
	}
	return words
}

// takeTexts takes astrings to the end of the line, each behind a space.
func takeTexts(d *wire.Decoder) (texts []string) {
	for d.Accept(' ') {
		texts = append(texts, d.AString())
	}
	return texts
}

// takeStrings takes a list of strings, or a single one.
func takeStrings(d *wire.Decoder) (texts []string) {
	if d.Peek() != '(' {
		return []string{d.AString()}
	}
	d.List(func() { texts = append(texts, d.AString()) })
	return texts
}

// takeFlags takes a list of flags, whatever characters they have.
func takeFlags(d *wire.Decoder) (flags []imap.Flag) {
	d.Expect('(')
	for d.OK() && !d.Accept(')') {
		if d.Accept(' ') {
			continue
		}
		f := d.While(func(b byte) bool { return b > ' ' && b != '(' && b != ')' && b != '"' })
		if f == "" {
			d.Fail("expected a flag")
		}
		flags = append(flags, imap.Flag(f))
	}
	return flags
}

// takeName takes the name of a mailbox.
func takeName(c *Client, d *wire.Decoder) string { return c.decodeName(d.AString()) }

// decodeName makes UTF-8 of a mailbox name on the wire. INBOX has one spelling.
func (c *Client) decodeName(name string) string {
	if strings.EqualFold(name, imap.Inbox) {
		return imap.Inbox
	}
	if c.utf8() {
		return name
	}
	if s, err := wire.DecodeUTF7(name); err == nil {
		return s
	}
	return name // what is no modified UTF-7 still names a mailbox
}

// encodeName is the other way. A name that came undecoded goes back as it came.
func (c *Client) encodeName(name string) string {
	if c.utf8() {
		return name
	}
	return wire.EncodeUTF7(name)
}

// takeTime takes a quoted date-time, or NIL.
func takeTime(d *wire.Decoder) time.Time {
	s, ok := d.NString()
	if !ok {
		return time.Time{}
	}
	t, err := time.Parse("_2-Jan-2006 15:04:05 -0700", s)
	if err != nil {
		d.Fail("malformed date-time")
	}
	return t
}

// numbers makes a set of a sequence-set that a server sends, where "*" means nothing.
func numbers[T ~uint32](d *wire.Decoder) imap.NumSet[T] {
	spec := d.Set()
	for _, r := range spec {
		if r.First == 0 || r.Last == 0 {
			d.Fail("a set of a server with *")
			return nil
		}
	}
	return imap.Resolve[T](spec, math.MaxUint32)
}

func takeVanished(d *wire.Decoder) *vanished {
	v := new(vanished)
	d.SP()
	if d.Peek() == '(' {
		d.Expect('(')
		if d.Word() != "EARLIER" {
			d.Fail("expected EARLIER")
		}
		d.Expect(')')
		d.SP()
		v.earlier = true
	}
	v.uids = numbers[imap.UID](d)
	return v
}

// maxResults bounds the numbers of one result that has an order, maxChanges those of one
// update: numbers in a plain set cost nothing.
const (
	maxResults = 1 << 24
	maxChanges = 1 << 20
)

// expand appends the numbers of an ordered set to list, which gets no longer than limit.
func expand[T ~uint32](list []T, spec imap.SetSpec, limit int) ([]T, error) {
	for _, r := range spec {
		step := T(1)
		if r.First > r.Last {
			step = ^T(0) // minus one
		}
		n := uint64(max(r.First, r.Last)-min(r.First, r.Last)) + 1
		if r.First == 0 || r.Last == 0 || n > uint64(limit-len(list)) {
			return list, fmt.Errorf("%w: more than %d numbers", ErrTooMuch, limit)
		}
		for v := T(r.First); n > 0; n-- {
			list = append(list, v)
			v += step
		}
	}
	return list, nil
}

// parseMod takes a mod-sequence from a response code.
func parseMod(s string) imap.ModSeq {
	n, _ := strconv.ParseUint(s, 10, 63)
	return imap.ModSeq(n)
}
