package imapserver

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
)

// listQuery is a LIST command (RFC 5258; RFC 9051, 6.3.9).
type listQuery struct {
	reference string
	patterns  []string
	extended  bool // options or several patterns were given

	subscribed, special, recursive bool // selection options

	returnSubscribed, returnSpecial, returnChildren bool
	status                                          statusItems
	myRights                                        bool // RFC 8440
	metadata                                        []string
}

// maxPatterns bounds the patterns of one LIST, and maxPattern each of them.
const (
	maxPatterns = 100
	maxPattern  = imap.MaxName
)

func (c *conn) listQuery() (q listQuery) {
	c.dec.SP()
	if c.dec.Peek() == '(' {
		q.extended = true
		c.dec.List(func() {
			switch c.dec.Word() {
			case "SUBSCRIBED":
				q.subscribed, q.returnSubscribed = true, true
			case "SPECIAL-USE":
				q.special, q.returnSpecial = true, true
			case "RECURSIVEMATCH":
				q.recursive = true
			case "REMOTE": // there are none
			default:
				c.dec.Fail("no such selection option")
			}
		})
		c.dec.SP()
	}
	q.reference = c.decodePattern(c.dec.AString())
	c.dec.SP()
	pattern := func() {
		p := c.decodePattern(c.dec.Pattern())
		if len(q.patterns) >= maxPatterns || len(q.reference)+len(p) > maxPattern {
			c.dec.Fail("pattern too long")
		}
		q.patterns = append(q.patterns, p)
	}
	if c.dec.Peek() == '(' {
		q.extended = true
		c.dec.List(pattern)
	} else {
		pattern()
	}
	if c.dec.Accept(' ') {
		q.extended = true
		if !c.dec.AcceptWord("RETURN") {
			c.dec.Fail("expected RETURN")
		}
		c.dec.SP()
		c.dec.List(func() {
			switch c.dec.Word() {
			case "SUBSCRIBED":
				q.returnSubscribed = true
			case "CHILDREN":
				q.returnChildren = true
			case "SPECIAL-USE":
				q.returnSpecial = true
			case "STATUS":
				c.dec.SP()
				q.status = c.statusItems()
			case "MYRIGHTS":
				q.myRights = true
			case "METADATA":
				c.dec.SP()
				q.metadata = c.listMetadataNames()
			default:
				c.dec.Fail("no such return option")
			}
		})
	}
	if q.recursive && !q.subscribed {
		c.dec.Fail("RECURSIVEMATCH needs another selection option")
	}
	return q
}

// decodePattern turns a pattern into UTF-8. What cannot be a name matches nothing.
func (c *conn) decodePattern(raw string) string {
	if raw == "" {
		return ""
	}
	if name := c.decodeName(raw); name != "" {
		return name
	}
	return "\x00"
}

// listed is a mailbox as LIST sees it.
type listed struct {
	imap.MailboxInfo
	children           bool // there are mailboxes below it
	subscribedChildren bool
	oldName            string // before it was renamed (RFC 5465, 5.4)
}

// tree returns all mailboxes by name, with what they have below them. Levels above
// subscribed names that do not exist are there too.
func (c *conn) tree(ctx context.Context) (map[string]*listed, []string, error) {
	return c.account.tree(ctx)
}

func (a *account) tree(ctx context.Context) (map[string]*listed, []string, error) {
	tree := make(map[string]*listed)
	for info, err := range a.store.Mailboxes(ctx) {
		if err != nil {
			if info.Name == "" {
				return nil, nil, err
			}
			a.server.logger().LogAttrs(ctx, slog.LevelWarn, "mailbox cannot be read", slog.String("identity", a.identity), slog.String("mailbox", info.Name), slog.Any("err", err))
		}
		tree[info.Name] = &listed{MailboxInfo: info}
	}
	for name, m := range tree {
		for i := strings.LastIndexByte(name, '/'); i >= 0; i = strings.LastIndexByte(name[:i], '/') {
			above := tree[name[:i]]
			if above == nil {
				above = &listed{MailboxInfo: imap.MailboxInfo{Name: name[:i], NonExistent: true, NoSelect: true}}
				tree[name[:i]] = above
			}
			above.children = above.children || !m.NonExistent
			above.subscribedChildren = above.subscribedChildren || m.Subscribed
		}
	}
	names := make([]string, 0, len(tree))
	for name := range tree {
		names = append(names, name)
	}
	// By level, so that children follow their parent whatever octets names have.
	slices.SortFunc(names, func(a, b string) int {
		if (a == imap.Inbox) != (b == imap.Inbox) {
			if a == imap.Inbox {
				return -1
			}
			return 1
		}
		return strings.Compare(strings.ReplaceAll(a, "/", "\x00"), strings.ReplaceAll(b, "/", "\x00"))
	})
	return tree, names, nil
}

func (c *conn) cmdList(ctx context.Context) reply {
	q := c.listQuery()
	if !c.end() {
		return c.syntax()
	}
	if !q.extended && q.patterns[0] == "" {
		// A question for the delimiter and the root (RFC 9051, 6.3.9).
		c.enc.Raw(`* LIST (\Noselect) "/" ""`).CRLF()
		return ok("that is the root")
	}
	tree, names, err := c.tree(ctx)
	if err != nil {
		return c.failed(err)
	}
	for _, name := range names {
		m := tree[name]
		if !matchAny(q.reference, q.patterns, name) {
			continue
		}
		selects := (!q.subscribed || m.Subscribed) && (!q.special || m.SpecialUse != "")
		childInfo := q.recursive && m.subscribedChildren
		if !selects && !childInfo || !q.subscribed && m.NonExistent {
			continue
		}
		c.writeList("LIST", m, &q, childInfo)
		if selects && !m.NonExistent {
			c.listMore(ctx, name, &q)
		}
		if len(q.status) > 0 && selects && !m.NoSelect {
			if err := c.writeStatus(ctx, name, q.status); err != nil {
				// RFC 5819, 2: the mailbox is listed, its status is not.
				c.log.LogAttrs(ctx, slog.LevelInfo, "status of a mailbox failed", slog.String("mailbox", name), slog.Any("err", err))
			}
		}
	}
	return ok("that is all")
}

func (c *conn) writeList(response string, m *listed, q *listQuery, childInfo bool) {
	c.enc.Raw("* ").Raw(response).Raw(" (")
	n := 0
	attr := func(on bool, name string) {
		if on {
			if n++; n > 1 {
				c.enc.SP()
			}
			c.enc.Raw(name)
		}
	}
	attr(m.NonExistent && q.extended, `\NonExistent`)
	attr(m.NoSelect && !(m.NonExistent && q.extended), `\Noselect`)
	attr(m.NoInferiors, `\Noinferiors`)
	attr(m.children, `\HasChildren`)
	attr(!m.children && !m.NoInferiors, `\HasNoChildren`)
	attr(m.Subscribed && q.returnSubscribed, `\Subscribed`)
	attr(m.SpecialUse != "" && (!q.extended || q.returnSpecial || q.special), string(m.SpecialUse))
	c.enc.Raw(`) "/" `).Mailbox(m.Name)
	if childInfo {
		c.enc.Raw(` ("CHILDINFO" ("SUBSCRIBED"))`)
	}
	if m.oldName != "" {
		c.enc.Raw(` ("OLDNAME" (`).Mailbox(m.oldName).Raw("))")
	}
	c.enc.CRLF()
}

func (c *conn) cmdLsub(ctx context.Context) reply {
	c.dec.SP()
	reference := c.decodePattern(c.dec.AString())
	c.dec.SP()
	pattern := c.decodePattern(c.dec.Pattern())
	if len(reference)+len(pattern) > maxPattern {
		c.dec.Fail("pattern too long")
	}
	if !c.end() {
		return c.syntax()
	}
	tree, names, err := c.tree(ctx)
	if err != nil {
		return c.failed(err)
	}
	for _, name := range names {
		m := tree[name]
		if !matchAny(reference, []string{pattern}, name) {
			continue
		}
		switch {
		case m.Subscribed:
			m.NoSelect = m.NoSelect && !m.NonExistent // RFC 3501, 6.3.9: it means something else here
			c.writeList("LSUB", m, &listQuery{}, false)
		case m.subscribedChildren && strings.HasSuffix(pattern, "%"):
			m.NoSelect = true
			c.writeList("LSUB", m, &listQuery{}, false)
		}
	}
	return ok("that is all")
}

func matchAny(reference string, patterns []string, name string) bool {
	for _, p := range patterns {
		p = reference + p
		if n := len(imap.Inbox); len(p) > n && equalFold(p[:n], imap.Inbox) && strings.IndexByte("/*%", p[n]) >= 0 {
			p = imap.Inbox + p[n:]
		}
		if matchPattern(p, name) || name == imap.Inbox && matchPattern(strings.ToUpper(p), name) {
			return true
		}
	}
	return false
}

// matchPattern matches a name with a pattern, where "*" stands for anything and "%" for
// anything within a level. Its cost is the product of both lengths at worst.
func matchPattern(pattern, name string) bool {
	// Where to go on when what follows the last "*", or the last "%", does not match.
	star, starName, percent, percentName := -1, 0, -1, 0
	p, n := 0, 0
	for n < len(name) || p < len(pattern) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, starName, percent = p, n, -1
			p++
			continue
		case p < len(pattern) && pattern[p] == '%':
			percent, percentName = p, n
			p++
			continue
		case p < len(pattern) && n < len(name) && pattern[p] == name[n]:
			p, n = p+1, n+1
			continue
		}
		switch {
		case percent >= 0 && percentName < len(name) && name[percentName] != '/':
			percentName++
			p, n = percent+1, percentName
		case star >= 0 && starName < len(name):
			starName++
			p, n, percent = star+1, starName, -1
		default:
			return false
		}
	}
	return true
}
