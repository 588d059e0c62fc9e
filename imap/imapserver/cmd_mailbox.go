package imapserver

import (
	"context"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
)

func (c *conn) cmdCreate(ctx context.Context) reply {
	c.dec.SP()
	// A trailing delimiter says that children will follow; ours can always have some.
	name := strings.TrimSuffix(c.mailbox(), "/")
	var opts imap.CreateOptions
	if c.dec.Accept(' ') { // RFC 6154, 5.2
		c.dec.Expect('(')
		if !c.dec.AcceptWord("USE") {
			c.dec.Fail("no such parameter")
		}
		c.dec.SP()
		c.dec.List(func() {
			use := specialUse(string(c.dec.Flag()))
			if use == "" || opts.SpecialUse != "" {
				c.dec.Fail("no such special use")
			}
			opts.SpecialUse = use
		})
		c.dec.Expect(')')
	}
	if !c.end() {
		return c.syntax()
	}
	if r, is := noSuchName(name); is {
		return r
	}
	if err := c.account.store.Create(ctx, name, &opts); err != nil {
		return c.failed(err)
	}
	c.didNames(name)
	r := ok("created")
	if mb, err := c.account.store.Open(ctx, name); err == nil {
		if st, err := mb.State(ctx); err == nil && isObjectID(st.ID) {
			r.code = "MAILBOXID (" + st.ID + ")" // RFC 8474, 4.1
		}
		_ = mb.Close()
	}
	return r
}

func specialUse(s string) imap.SpecialUse {
	for _, use := range []imap.SpecialUse{imap.UseAll, imap.UseArchive, imap.UseDrafts, imap.UseFlagged, imap.UseJunk, imap.UseSent, imap.UseTrash, imap.UseImportant} {
		if strings.EqualFold(s, string(use)) {
			return use
		}
	}
	return ""
}

func (c *conn) cmdDelete(ctx context.Context) reply {
	c.dec.SP()
	name := c.mailbox()
	if !c.end() {
		return c.syntax()
	}
	if r, is := noSuchName(name); is {
		return r
	}
	if name == imap.Inbox {
		return no("CANNOT", "the Inbox stays")
	}
	if c.sel != nil && c.sel.name == name {
		c.deselect()
		c.enc.Raw("* OK [CLOSED] the selected mailbox is deleted").CRLF()
	}
	if err := c.account.store.Delete(ctx, name); err != nil {
		return c.failed(err)
	}
	c.didNames(name)
	return ok("deleted")
}

func (c *conn) cmdRename(ctx context.Context) reply {
	c.dec.SP()
	from := c.mailbox()
	c.dec.SP()
	to := strings.TrimSuffix(c.mailbox(), "/")
	if !c.end() {
		return c.syntax()
	}
	for _, name := range []string{from, to} {
		if r, is := noSuchName(name); is {
			return r
		}
	}
	if err := c.account.store.Rename(ctx, from, to); err != nil {
		return c.failed(err)
	}
	c.didNames(from, to)
	return ok("renamed")
}

func (c *conn) cmdSubscribe(ctx context.Context) reply   { return c.subscribe(ctx, true) }
func (c *conn) cmdUnsubscribe(ctx context.Context) reply { return c.subscribe(ctx, false) }

func (c *conn) subscribe(ctx context.Context, on bool) reply {
	c.dec.SP()
	name := strings.TrimSuffix(c.mailbox(), "/")
	if !c.end() {
		return c.syntax()
	}
	if r, is := noSuchName(name); is {
		return r
	}
	if err := c.account.store.Subscribe(ctx, name, on); err != nil {
		return c.failed(err)
	}
	c.didNames(name)
	if on {
		return ok("subscribed")
	}
	return ok("unsubscribed")
}

// statusItems are the items of STATUS that were asked for.
type statusItems []string

// statusItems takes a list of items (RFC 9051, 6.3.11; RFC 3501; RFC 7162; RFC 8474).
func (c *conn) statusItems() (items statusItems) {
	highest := false
	c.dec.List(func() {
		switch item := c.dec.Word(); item {
		case "MESSAGES", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "DELETED", "SIZE", "RECENT", "HIGHESTMODSEQ", "MAILBOXID", "APPENDLIMIT", "DELETED-STORAGE":
			if item == "HIGHESTMODSEQ" {
				highest = true
			}
			if !slices.Contains(items, item) {
				items = append(items, item)
			}
		default:
			c.dec.Fail("no such status item")
		}
	})
	if c.dec.OK() && len(items) == 0 {
		c.dec.Fail("expected status items")
	}
	c.enableCondstore(highest && c.dec.OK())
	return items
}

func (c *conn) cmdStatus(ctx context.Context) reply {
	c.dec.SP()
	name := c.mailbox()
	c.dec.SP()
	items := c.statusItems()
	if !c.end() {
		return c.syntax()
	}
	if r, is := noSuchName(name); is {
		return r
	}
	if err := c.writeStatus(ctx, name, items); err != nil {
		return c.failed(err)
	}
	return ok("that is its status")
}

// writeStatus writes a STATUS response.
func (c *conn) writeStatus(ctx context.Context, name string, items statusItems) error {
	mb, err := c.account.store.Open(ctx, name)
	if err != nil {
		return err
	}
	defer mb.Close()
	st, err := mb.State(ctx)
	if err != nil {
		return err
	}
	limit, err := imap.AppendLimit(ctx, mb, c.maxMessage())
	if err != nil {
		return err
	}
	var recent imap.UIDSet
	var deleted int64
	for _, item := range items {
		if item == "DELETED-STORAGE" {
			if deleted, err = deletedStorage(ctx, mb, st); err != nil {
				return err
			}
		}
		if item == "RECENT" {
			if c.isSelected(name) {
				recent = c.sel.known(c.sel.recent)
				continue
			}
			if recent, err = imap.Recent(ctx, mb, false); err != nil {
				return err
			}
		}
	}
	c.enc.Raw("* STATUS ").Mailbox(name).Raw(" (")
	first := true
	for _, item := range items {
		var n uint64
		switch item {
		case "MESSAGES":
			n = uint64(st.Messages)
		case "UIDNEXT":
			n = uint64(st.UIDNext)
		case "UIDVALIDITY":
			n = uint64(st.UIDValidity)
		case "UNSEEN":
			n = uint64(st.Unseen)
		case "DELETED":
			n = uint64(st.Deleted)
		case "DELETED-STORAGE":
			n = uint64(deleted)
		case "SIZE":
			n = uint64(st.Size)
		case "RECENT":
			n = recent.Len()
		case "HIGHESTMODSEQ":
			n = uint64(st.HighestModSeq)
		}
		if item == "MAILBOXID" && !isObjectID(st.ID) {
			continue
		}
		if !first {
			c.enc.SP()
		}
		first = false
		c.enc.Raw(item).SP()
		switch {
		case item == "MAILBOXID":
			c.enc.Raw("(").Raw(st.ID).Raw(")")
		case item == "APPENDLIMIT" && limit <= 0:
			c.enc.Raw("NIL")
		case item == "APPENDLIMIT":
			c.enc.Num(uint64(limit))
		default:
			c.enc.Num(n)
		}
	}
	c.enc.Raw(")").CRLF()
	return nil
}

// isObjectID reports whether an id that a store gave can be shown (RFC 8474, 7: objectid).
func isObjectID(id string) bool {
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' && c != '-' {
			return false
		}
	}
	return id != "" && len(id) <= 255
}
