package imapclient

import (
	"fmt"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

// Criteria say which messages a search is for: all those for which everything holds that was
// added. The zero value matches all. Methods return a longer copy, so that one reads
//
//	var q imapclient.Criteria
//	q = q.NotFlag(imap.FlagSeen).From("example.org").Since(monday)
//
// Texts are looked for in UTF-8, anywhere in what they are compared with, without regard to
// case (RFC 9051, 6.4.4).
type Criteria struct{ keys []any }

// The elements of keys: keywords, texts, sets, and criteria in parentheses.
type keyword string

func (q Criteria) and(parts ...any) Criteria {
	return Criteria{append(q.keys[:len(q.keys):len(q.keys)], parts...)}
}

// Flag is for messages that have a flag.
func (q Criteria) Flag(f imap.Flag) Criteria { return q.flag("", "KEYWORD", f) }

// NotFlag is for messages that do not have a flag.
func (q Criteria) NotFlag(f imap.Flag) Criteria { return q.flag("UN", "UNKEYWORD", f) }

func (q Criteria) flag(prefix, other string, f imap.Flag) Criteria {
	if f.System() != 0 {
		return q.and(keyword(prefix + strings.ToUpper(string(f[1:]))))
	}
	if strings.EqualFold(string(f), string(imap.FlagRecent)) {
		return q.and(keyword(map[string]string{"": "RECENT", "UN": "OLD"}[prefix]))
	}
	return q.and(keyword(other), f)
}

// From is for a text in the From field.
func (q Criteria) From(s string) Criteria { return q.and(keyword("FROM"), s) }

// To is for a text in the To field.
func (q Criteria) To(s string) Criteria { return q.and(keyword("TO"), s) }

// Cc is for a text in the Cc field.
func (q Criteria) Cc(s string) Criteria { return q.and(keyword("CC"), s) }

// Bcc is for a text in the Bcc field.
func (q Criteria) Bcc(s string) Criteria { return q.and(keyword("BCC"), s) }

// Subject is for a text in the Subject field.
func (q Criteria) Subject(s string) Criteria { return q.and(keyword("SUBJECT"), s) }

// Header is for a text in a header field; empty: for messages that have the field.
func (q Criteria) Header(field, s string) Criteria { return q.and(keyword("HEADER"), field, s) }

// Body is for a text in the body.
func (q Criteria) Body(s string) Criteria { return q.and(keyword("BODY"), s) }

// Text is for a text in the header or the body.
func (q Criteria) Text(s string) Criteria { return q.and(keyword("TEXT"), s) }

func (q Criteria) day(key string, t time.Time) Criteria {
	return q.and(keyword(key + " " + t.Format("2-Jan-2006")))
}

// Before is for messages that came before the day of t.
func (q Criteria) Before(t time.Time) Criteria { return q.day("BEFORE", t) }

// On is for messages that came on the day of t.
func (q Criteria) On(t time.Time) Criteria { return q.day("ON", t) }

// Since is for messages that came on the day of t, or later.
func (q Criteria) Since(t time.Time) Criteria { return q.day("SINCE", t) }

// SentBefore is Before for the date in the header.
func (q Criteria) SentBefore(t time.Time) Criteria { return q.day("SENTBEFORE", t) }

// SentOn is On for the date in the header.
func (q Criteria) SentOn(t time.Time) Criteria { return q.day("SENTON", t) }

// SentSince is Since for the date in the header.
func (q Criteria) SentSince(t time.Time) Criteria { return q.day("SENTSINCE", t) }

// SavedBefore is Before for the day the message was put into this mailbox (RFC 8514).
func (q Criteria) SavedBefore(t time.Time) Criteria { return q.day("SAVEDBEFORE", t) }

// SavedOn is On for that day.
func (q Criteria) SavedOn(t time.Time) Criteria { return q.day("SAVEDON", t) }

// SavedSince is Since for that day.
func (q Criteria) SavedSince(t time.Time) Criteria { return q.day("SAVEDSINCE", t) }

// SaveDateSupported is for all messages, if the mailbox keeps those days.
func (q Criteria) SaveDateSupported() Criteria { return q.and(keyword("SAVEDATESUPPORTED")) }

func (q Criteria) within(key string, d time.Duration) Criteria {
	return q.and(keyword(fmt.Sprintf("%s %d", key, max(int64(d/time.Second), 1))))
}

// Younger is for messages that came within the last d, in seconds (WITHIN, RFC 5032).
func (q Criteria) Younger(d time.Duration) Criteria { return q.within("YOUNGER", d) }

// Older is for messages that came before that.
func (q Criteria) Older(d time.Duration) Criteria { return q.within("OLDER", d) }

// Larger is for messages of more than n octets.
func (q Criteria) Larger(n uint32) Criteria { return q.and(keyword(fmt.Sprintf("LARGER %d", n))) }

// Smaller is for messages of less than n octets.
func (q Criteria) Smaller(n uint32) Criteria { return q.and(keyword(fmt.Sprintf("SMALLER %d", n))) }

// In is for messages of a set.
func (q Criteria) In(set Set) Criteria {
	if set.seq {
		return q.and(set)
	}
	return q.and(keyword("UID"), set)
}

// ModSeq is for messages whose mod-sequence is m or greater (RFC 7162, 3.1.5).
func (q Criteria) ModSeq(m imap.ModSeq) Criteria { return q.and(keyword("MODSEQ " + modValue(m))) }

// EmailID is for messages with an id of the content (RFC 8474).
func (q Criteria) EmailID(id string) Criteria { return q.and(keyword("EMAILID"), atomText(id)) }

// ThreadID is for messages with an id of the conversation (RFC 8474).
func (q Criteria) ThreadID(id string) Criteria { return q.and(keyword("THREADID"), atomText(id)) }

// Filter is for messages that match a filter kept on the server (RFC 5466).
func (q Criteria) Filter(name string) Criteria { return q.and(keyword("FILTER"), atomText(name)) }

// atomText is written as it is, if it is an atom.
type atomText string

// Not is for messages that do not match all of r.
func (q Criteria) Not(r Criteria) Criteria { return q.and(keyword("NOT"), r) }

// Or is for messages that match r or s, or both.
func (q Criteria) Or(r, s Criteria) Criteria { return q.and(keyword("OR"), r, s) }

// And is for messages that match r, too.
func (q Criteria) And(r Criteria) Criteria { return q.and(r.keys...) }

// Fuzzy is for messages that match r, or nearly so (RFC 6203).
func (q Criteria) Fuzzy(r Criteria) Criteria { return q.and(keyword("FUZZY"), r) }

// check returns an error for what no command can carry, and whether there is text beyond
// ASCII.
func (q Criteria) check() (beyondASCII bool, err error) {
	for _, k := range q.keys {
		switch k := k.(type) {
		case string:
			if strings.IndexByte(k, 0) >= 0 {
				return false, errLineEnd
			}
			for i := range len(k) {
				beyondASCII = beyondASCII || k[i] >= 0x80
			}
		case imap.Flag:
			if !k.Valid() {
				return false, fmt.Errorf("%w: flag %q", ErrArgument, k)
			}
		case Set:
			if err := k.check(); err != nil {
				return false, err
			}
		case atomText:
			if err := checkAtoms(string(k)); err != nil {
				return false, err
			}
		case Criteria:
			beyond, err := k.check()
			if err != nil {
				return false, err
			}
			beyondASCII = beyondASCII || beyond
		}
	}
	return beyondASCII, nil
}

// usesSeqs reports whether messages are named by sequence number.
func (q Criteria) usesSeqs() bool {
	for _, k := range q.keys {
		switch k := k.(type) {
		case Set:
			if k.seq {
				return true
			}
		case Criteria:
			if k.usesSeqs() {
				return true
			}
		}
	}
	return false
}

func (q Criteria) write(w *writer) {
	if len(q.keys) == 0 {
		w.raw("ALL")
	}
	for i, k := range q.keys {
		if i > 0 {
			w.sp()
		}
		switch k := k.(type) {
		case keyword:
			w.raw(string(k))
		case atomText:
			w.raw(string(k))
		case imap.Flag:
			w.raw(string(k))
		case string:
			w.astring(k)
		case Set:
			w.raw(k.text)
		case Criteria:
			w.raw("(")
			k.write(w)
			w.raw(")")
		}
	}
}
