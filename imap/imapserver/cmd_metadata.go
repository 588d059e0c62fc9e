package imapserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
)

// The commands of RFC 5464. The empty mailbox name means the server: its entries are kept in
// the user's own Store, where /private and /shared are both the user's, but for those that
// Server.Annotations sets, which are everybody's to read.

// hiddenEntries are kept for the server itself.
const hiddenEntries = "/private/vendor/mailblocks/"

// maxEntries bounds the entries of one command.
const maxEntries = 500

// entryName takes the name of an entry, or the part of one above others.
func (c *conn) entryName(above bool) string {
	raw := c.dec.AString()
	name := strings.ToLower(raw)
	if !imap.ValidEntry(name) && !(above && imap.ValidEntry(name+"/x")) {
		c.dec.Fail("no such entry")
	}
	return raw
}

// annotated returns the Annotations of a mailbox, its name there, and whether it is another's.
func (c *conn) annotated(ctx context.Context, mailbox string) (a imap.Annotations, p place, err error) {
	if mailbox == "" {
		p = place{c.account.store, c.identity, ""}
	} else if p, err = c.account.place(ctx, mailbox); err != nil {
		return nil, p, err
	}
	a, ok := imap.UpgradeStore[imap.Annotations](p.store)
	if !ok {
		return nil, p, imap.ErrNoPermission
	}
	if mailbox == "" {
		return a, p, nil
	}
	// RFC 5464, 3.3
	has, err := p.rights(ctx, c.identity)
	const some = imap.RightRead | imap.RightSeen | imap.RightWrite | imap.RightInsert | imap.RightPost
	if err == nil && (has&imap.RightLookup == 0 || has&some == 0) {
		err = denied(has)
	}
	return a, p, err
}

// readAnnotations returns the entries that the user may see.
func (c *conn) readAnnotations(ctx context.Context, mailbox string) (map[string]string, error) {
	a, p, err := c.annotated(ctx, mailbox)
	if err != nil {
		return nil, err
	}
	entries, err := a.Annotations(ctx, p.name)
	if err != nil {
		return nil, err
	}
	if mailbox == "" && len(c.server.Annotations) > 0 {
		all := maps.Clone(c.server.Annotations)
		for entry, value := range entries {
			if _, fixed := all[entry]; !fixed {
				all[entry] = value
			}
		}
		entries = all
	}
	maps.DeleteFunc(entries, func(entry, _ string) bool {
		return strings.HasPrefix(entry, hiddenEntries) || p.owner != c.identity && strings.HasPrefix(entry, "/private/")
	})
	return entries, nil
}

// metadataQuery is what GETMETADATA asks for.
type metadataQuery struct {
	entries []string
	maxSize int64 // negative: none
	depth   int
}

const depthInfinity = 1 << 20

// metadataOption takes an option (RFC 5464, 4.2).
func (c *conn) metadataOption(q *metadataQuery) {
	switch c.dec.Word() {
	case "MAXSIZE":
		c.dec.SP()
		q.maxSize = int64(c.dec.Number64())
	case "DEPTH":
		c.dec.SP()
		switch c.dec.Word() {
		case "0":
			q.depth = 0
		case "1":
			q.depth = 1
		case "INFINITY":
			q.depth = depthInfinity
		default:
			c.dec.Fail("no such depth")
		}
	default:
		c.dec.Fail("no such option")
	}
}

// metadataEntries takes an entry or several in parentheses. Clients also write several
// without them, as an example of RFC 5464, 4.4.1 does; and options stand before the mailbox by
// its grammar, and behind it by its examples.
func (c *conn) metadataEntries(q *metadataQuery) {
	add := func() {
		if q.entries = append(q.entries, c.entryName(true)); len(q.entries) > maxEntries {
			c.dec.Fail("too many entries")
		}
	}
	if c.dec.Peek() == '(' {
		options := false
		c.dec.List(func() {
			if next := c.dec.Peek(); next == '/' || next == '"' || next == '{' {
				add()
			} else {
				options = true
				c.metadataOption(q)
			}
		})
		switch {
		case options && len(q.entries) == 0:
			c.dec.SP()
			c.metadataEntries(q)
		case options || len(q.entries) == 0:
			c.dec.Fail("expected an entry")
		}
		return
	}
	add()
	for c.dec.OK() && c.dec.Accept(' ') {
		add()
	}
}

func (c *conn) cmdGetMetadata(ctx context.Context) reply {
	q := metadataQuery{maxSize: -1}
	c.dec.SP()
	if c.dec.Peek() == '(' {
		c.dec.List(func() { c.metadataOption(&q) })
		c.dec.SP()
	}
	mailbox := c.metadataMailbox()
	c.dec.SP()
	c.metadataEntries(&q)
	if !c.end() {
		return c.syntax()
	}
	if mailbox != "" {
		if r, is := noSuchName(mailbox); is {
			return r
		}
	}
	entries, err := c.readAnnotations(ctx, mailbox)
	if err != nil {
		return c.failed(err)
	}
	longest := c.writeMetadata(mailbox, entries, &q)
	r := ok("these are they")
	if longest > 0 {
		r.code = fmt.Sprintf("METADATA LONGENTRIES %d", longest)
	}
	return r
}

// metadataMailbox takes a mailbox name that may be empty.
func (c *conn) metadataMailbox() string {
	raw := c.dec.AString()
	if raw == "" {
		return ""
	}
	name := c.decodeName(raw)
	if name == "" {
		c.dec.Fail("no such name")
	}
	return name
}

// writeMetadata writes the values that q asks for. It returns the size of the longest one that
// was left out, or zero. An entry that was asked for by its name and is not there is NIL.
func (c *conn) writeMetadata(mailbox string, entries map[string]string, q *metadataQuery) (longest int) {
	first := true
	show := func(name string) {
		value, there := entries[strings.ToLower(name)]
		if q.maxSize >= 0 && int64(len(value)) > q.maxSize {
			longest = max(longest, len(value))
			return
		}
		if first {
			c.enc.Raw("* METADATA ").Mailbox(mailbox).Raw(" (")
		} else {
			c.enc.SP()
		}
		first = false
		c.enc.AString(name).SP()
		switch {
		case !there:
			c.enc.Raw("NIL")
		case strings.ContainsRune(value, 0):
			c.enc.Literal(strings.NewReader(value), int64(len(value)), true)
		default:
			c.enc.String(value)
		}
	}
	shown := make(map[string]bool)
	for _, name := range q.entries {
		key := strings.ToLower(name)
		if _, there := entries[key]; (there || q.depth == 0) && !shown[key] {
			shown[key] = true
			show(name)
		}
		if q.depth == 0 {
			continue
		}
		for _, below := range slices.Sorted(maps.Keys(entries)) {
			rest, is := strings.CutPrefix(below, key+"/")
			if is && strings.Count(rest, "/") < q.depth && !shown[below] {
				shown[below] = true
				show(below)
			}
		}
	}
	if !first {
		c.enc.Raw(")").CRLF()
	}
	return longest
}

func (c *conn) cmdSetMetadata(ctx context.Context) reply {
	c.dec.SP()
	mailbox := c.metadataMailbox()
	c.dec.SP()
	var changes []imap.Annotation
	c.dec.List(func() {
		change := imap.Annotation{Entry: strings.ToLower(c.entryName(false))}
		c.dec.SP()
		change.Value, change.Remove = c.metadataValue()
		if changes = append(changes, change); len(changes) > maxEntries {
			c.dec.Fail("too many entries")
		}
	})
	if c.dec.OK() && len(changes) == 0 {
		c.dec.Fail("expected entries")
	}
	if !c.end() {
		return c.syntax()
	}
	if mailbox != "" {
		if r, is := noSuchName(mailbox); is {
			return r
		}
	}
	a, p, err := c.annotated(ctx, mailbox)
	if err != nil {
		return c.failed(err)
	}
	for _, change := range changes {
		private := strings.HasPrefix(change.Entry, "/private/")
		_, fixed := c.server.Annotations[change.Entry]
		switch {
		case strings.HasPrefix(change.Entry, hiddenEntries), mailbox == "" && (fixed || change.Entry == "/shared/admin"):
			return no("NOPERM", "the entry is read-only")
		case private && p.owner != c.identity:
			return no("METADATA NOPRIVATE", "no private entries on another's mailbox")
		case !private && p.owner != c.identity:
			has, err := p.rights(ctx, c.identity)
			if err == nil && has&imap.RightWrite == 0 {
				err = denied(has)
			}
			if err != nil {
				return c.failed(err)
			}
		}
	}
	switch err := a.Annotate(ctx, p.name, changes); {
	case errors.Is(err, imap.ErrTooBig):
		return no(fmt.Sprintf("METADATA MAXSIZE %d", imap.MaxAnnotation), "value too large")
	case errors.Is(err, imap.ErrLimit):
		return no("METADATA TOOMANY", "too many entries")
	case err != nil:
		return c.failed(err)
	}
	c.account.hub.metadataChanged(c, mailbox, changes)
	return ok("set")
}

// metadataValue takes a string, a literal8 or NIL.
func (c *conn) metadataValue() (value string, remove bool) {
	if c.dec.Peek() == '~' {
		if size, _ := c.dec.Literal(); size > maxCommand {
			c.dec.Fail("literal too big")
		}
		b, _ := io.ReadAll(c.dec.LiteralReader())
		c.dec.LiteralDone()
		return string(b), false
	}
	value, there := c.dec.NString()
	return value, !there
}
