package imapserver

import (
	"context"
	"fmt"
	"time"

	"github.com/mailblocks/mailblocks/imap"
)

// uidRequired is the reply to sequence numbers after ENABLE UIDONLY (RFC 9586, 3).
func uidRequired() reply {
	return reply{status: "BAD", code: "UIDREQUIRED", text: "messages have no numbers after ENABLE UIDONLY"}
}

// limitMessages returns those of set that one command may work on, the ones with the highest
// UIDs, and the response code that says so when there are more (RFC 9738, 3.1).
func (c *conn) limitMessages(set imap.UIDSet) (imap.UIDSet, string) {
	limit := c.server.MaxMessagesPerCommand
	if limit <= 0 {
		return set, ""
	}
	known := c.sel.known(set)
	if known.Len() <= uint64(limit) {
		return set, ""
	}
	last := partialOf(partialRange{-1, -int64(limit)}, known)
	return last, fmt.Sprintf("MESSAGELIMIT %d %d", limit, last[0].First)
}

// Bounds on UIDBATCHES (RFC 10022): batches must be worth a command each, and a response
// is one line.
const (
	minBatch   = 500
	maxBatches = 10000
)

// cmdUIDBatches splits the mailbox into ranges of UIDs, the highest first, that have a given
// number of messages (RFC 10022). They touch: what is not there belongs to one as well.
func (c *conn) cmdUIDBatches(context.Context) reply {
	c.dec.SP()
	size := int(c.dec.Number())
	first, last := 1, 0
	if c.dec.Accept(' ') {
		first = int(c.dec.Number())
		c.dec.Expect(':')
		last = int(c.dec.Number())
		if first == 0 || last == 0 {
			c.dec.Fail("batches are counted from one")
		}
	}
	if size == 0 {
		c.dec.Fail("batches of nothing")
	}
	x := c.sel.view
	switch {
	case !c.end():
		return c.syntax()
	case last != 0 && last < first:
		return reply{status: "BAD", code: "CLIENTBUG", text: "the range is reversed"}
	case size < minBatch:
		return no("TOOFEW", fmt.Sprintf("batches have at least %d messages", minBatch))
	}
	n := (x.len() + size - 1) / size
	if last == 0 || last > n {
		last = n
	}
	if last-first >= maxBatches {
		return no("TOOMANY", fmt.Sprintf("no more than %d batches at once", maxBatches))
	}
	c.enc.Raw("* UIDBATCHES (TAG ").String(c.tag).Raw(")")
	for i := first; i <= last; i++ {
		high, low := x.lastUID(), imap.UID(1)
		if i > 1 {
			high = x.at(x.len()-(i-1)*size).uid - 1
		}
		if i < n {
			low = x.at(x.len() - i*size).uid
		}
		c.enc.Byte(" ,"[min(i-first, 1)]).Num(uint64(high)).Raw(":").Num(uint64(low))
	}
	c.enc.CRLF()
	return ok("these are the batches")
}

// progressEvery is how often a long search says how far it is.
const progressEvery = 10 * time.Second

// inProgress says how far a search is, when nothing was said for long (RFC 9585).
func (c *conn) inProgress(told *time.Time, done, all int) {
	if now := time.Now(); now.Sub(*told) >= orDefault(c.server.progress, progressEvery) {
		*told = now
		c.enc.Raw("* OK [INPROGRESS (").String(c.tag).Raw(fmt.Sprintf(" %d %d)] still searching", done, all)).CRLF()
		_ = c.enc.Flush()
	}
}
