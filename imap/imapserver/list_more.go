package imapserver

import (
	"context"
	"log/slog"
)

// What LIST returns of each mailbox beside its name: rights (RFC 8440), annotations (RFC 9590).

// listMetadataNames takes the entries of RETURN (METADATA (...)).
func (c *conn) listMetadataNames() (names []string) {
	add := func() {
		if names = append(names, c.entryName(false)); len(names) > maxEntries {
			c.dec.Fail("too many entries")
		}
	}
	if c.dec.Peek() == '(' {
		c.dec.List(add)
	} else {
		add()
	}
	return names
}

// listMore writes what was asked for. What cannot be had is left out; the mailbox is listed.
func (c *conn) listMore(ctx context.Context, name string, q *listQuery) {
	if q.myRights {
		c.logListed(ctx, name, c.writeMyRights(ctx, name))
	}
	if len(q.metadata) > 0 {
		entries, err := c.readAnnotations(ctx, name)
		if err == nil {
			c.writeMetadata(name, entries, &metadataQuery{entries: q.metadata, maxSize: -1})
		}
		c.logListed(ctx, name, err)
	}
}

func (c *conn) logListed(ctx context.Context, name string, err error) {
	if err != nil {
		c.log.LogAttrs(ctx, slog.LevelDebug, "listed mailbox not looked into", slog.String("mailbox", name), slog.Any("err", err))
	}
}
