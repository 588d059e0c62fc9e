package imapserver

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
)

// maxSearched bounds the mailboxes that one ESEARCH looks at.
const maxSearched = 2000

// sources are the mailboxes that an ESEARCH is to look at (RFC 7377, 2.2).
type sources struct {
	given    bool
	selected bool
	filters  []mailboxFilter
}

// sources takes IN and what follows it, if it is there.
func (c *conn) sources() (src sources) {
	if !c.dec.AcceptWord(" IN") {
		return sources{selected: true}
	}
	src.given = true
	c.dec.SP()
	c.dec.Expect('(')
	names := 0
	for n := 0; c.dec.OK() && (n == 0 || !c.dec.Accept(')')); n++ {
		if n > 0 {
			c.dec.SP()
		}
		if c.dec.Peek() == '(' {
			c.dec.Fail("no such scope option")
		}
		switch f := c.mailboxFilter(c.dec.Word(), &names); {
		case n >= maxNotifyGroups:
			c.dec.Fail("too many sources")
		case f.which == "SELECTED":
			src.selected = true
		case f.which == "SELECTED-DELAYED":
			c.dec.Fail("no such mailboxes")
		default:
			src.filters = append(src.filters, f)
		}
	}
	return src
}

// cmdESearch searches any mailboxes (RFC 7377).
func (c *conn) cmdESearch(ctx context.Context) reply {
	src := c.sources()
	ret := c.searchReturn()
	ret.given, ret.multi = true, true
	charset := c.searchCharset()
	if !ret.min && !ret.max && !ret.count && !ret.save && !ret.partial.given() {
		ret.all = true
	}
	if c.dec.OK() {
		switch only := src.selected && len(src.filters) == 0; {
		case src.selected && c.sel == nil:
			c.dec.Fail("no mailbox is selected")
		case ret.save && !only:
			c.dec.Fail("SAVE is for the selected mailbox alone")
		case ret.update && c.sel == nil:
			c.dec.Fail("UPDATE is for the selected mailbox alone")
		}
	}
	query, p, refused := c.searchProgram(charset, ret)
	if refused != nil {
		return *refused
	}
	if src.selected {
		if r := c.searchSelected(ctx, query, p, ret, true); r.status != "OK" {
			return r
		}
	}
	if len(src.filters) > 0 {
		if ret.update { // its context goes on in the selected mailbox
			defer func() {
				for _, bind := range p.binds {
					bind(c.sel)
				}
			}()
			ret.update = false
		}
		tree, names, err := c.tree(ctx)
		if err != nil {
			return c.failed(err)
		}
		searched := 0
		for _, name := range names {
			m := tree[name]
			if m.NoSelect || src.selected && c.isSelected(name) ||
				!slices.ContainsFunc(src.filters, func(f mailboxFilter) bool { return f.has(m) }) {
				continue
			}
			if searched++; searched > maxSearched {
				return reply{status: "OK", code: "LIMIT", text: "there are more mailboxes than can be searched at once"}
			}
			if r := c.searchOther(ctx, name, query, p, ret); r.status != "OK" {
				return r
			}
		}
	}
	return ok("searched")
}

// searchOther searches a mailbox that is not selected. One that is gone or cannot be read
// is passed over.
func (c *conn) searchOther(ctx context.Context, name string, query criterion, p *searchParser, ret searchReturn) reply {
	b, x, err := c.account.open(ctx, name)
	switch {
	case errors.Is(err, imap.ErrNoMailbox) || errors.Is(err, imap.ErrNotSelectable) || notAllowed(err):
		return ok("")
	case err != nil:
		return c.failed(err)
	}
	defer c.account.release(b)
	session := c.sel
	c.sel = &selected{box: b, name: name, view: x, readOnly: true}
	defer func() { c.sel = session }()
	r := c.searchSelected(ctx, query, p, ret, true)
	if r.fatal && errors.Is(r.cause, errLost) { // that mailbox, not the selected one
		return ok("")
	}
	return r
}

// beginESearch begins an ESEARCH response.
func (c *conn) beginESearch(ret *searchReturn, uid bool) {
	c.enc.Raw("* ESEARCH (TAG ").String(c.tag)
	if ret.multi {
		c.enc.Raw(" MAILBOX ").Mailbox(c.sel.name).Raw(" UIDVALIDITY ").Num(uint64(c.sel.view.state.UIDValidity))
	}
	c.enc.Raw(")")
	if uid {
		c.enc.Raw(" UID")
	}
}

// mailboxFilter says which mailboxes are meant (RFC 5465, 6; RFC 7377, 2.2).
type mailboxFilter struct {
	which string // SELECTED, SELECTED-DELAYED, PERSONAL, INBOXES, SUBSCRIBED, SUBTREE, SUBTREE-ONE, MAILBOXES
	names []string
}

// mailboxFilter takes a filter whose first word was taken. Names counts those of a command.
func (c *conn) mailboxFilter(which string, names *int) mailboxFilter {
	f := mailboxFilter{which: which}
	switch which {
	case "SELECTED", "SELECTED-DELAYED", "PERSONAL", "INBOXES", "SUBSCRIBED":
	case "SUBTREE", "SUBTREE-ONE", "MAILBOXES":
		c.dec.SP()
		one := func() {
			if *names++; *names > maxNotifyNames {
				c.dec.Fail("too many names")
			}
			f.names = append(f.names, c.mailbox())
		}
		if c.dec.Peek() == '(' {
			c.dec.List(one)
		} else {
			one()
		}
	default:
		c.dec.Fail("no such mailboxes")
	}
	return f
}

func (f *mailboxFilter) has(m *listed) bool {
	switch f.which {
	case "PERSONAL", "INBOXES": // mail may be delivered anywhere (RFC 5465, 6.3)
		return true
	case "SUBSCRIBED":
		return m.Subscribed
	}
	return slices.ContainsFunc(f.names, func(name string) bool {
		below, is := strings.CutPrefix(m.Name, name+"/")
		return m.Name == name || is && (f.which == "SUBTREE" || f.which == "SUBTREE-ONE" && !strings.Contains(below, "/"))
	})
}
