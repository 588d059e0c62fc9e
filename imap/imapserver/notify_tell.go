package imapserver

import (
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
)

// notifyStatus writes what NOTIFY SET STATUS asks for (RFC 5465, 3.1).
func (c *conn) notifyStatus(n *notified) {
	if n.told == nil {
		return
	}
	for _, name := range n.told.names {
		m := n.told.boxes[name]
		if events := n.spec.events(m); m.known && events&messageEvents != 0 && !c.isSelected(name) {
			c.notifyState(m, true, events&eventFlagChange != 0, events&eventFlagChange != 0)
		}
	}
}

func (c *conn) isSelected(name string) bool { return c.sel != nil && c.sel.name == name }

// notifyState writes a STATUS response: with the counts, when messages came or went, and
// with the mod-sequence where the client can use it.
func (c *conn) notifyState(m *boardBox, counts, unseen, modSeq bool) {
	c.enc.Raw("* STATUS ").Mailbox(m.Name).Raw(" (")
	if counts {
		c.enc.Raw("MESSAGES ").Num(uint64(m.state.Messages)).Raw(" UIDNEXT ").Num(uint64(m.state.UIDNext)).SP()
	}
	c.enc.Raw("UIDVALIDITY ").Num(uint64(m.state.UIDValidity))
	if unseen {
		c.enc.Raw(" UNSEEN ").Num(uint64(m.state.Unseen))
	}
	if modSeq || c.condstore {
		c.enc.Raw(" HIGHESTMODSEQ ").Num(uint64(m.state.HighestModSeq))
	}
	c.enc.Raw(")").CRLF()
}

// tellBoard tells how next differs from what the client knows.
func (c *conn) tellBoard(n *notified, next *board) {
	c.tellNames(n, next)
	for _, name := range next.names {
		m, old := next.boxes[name], n.told.boxes[name]
		if old == nil || !old.known || !m.known || old.ID != m.ID || c.isSelected(name) {
			continue
		}
		events := n.spec.events(m)
		messages := m.state.Messages != old.state.Messages || m.state.UIDNext != old.state.UIDNext
		if own := n.own[name].appended; messages && len(own) > 0 &&
			m.state.Messages == old.state.Messages+uint32(len(own)) && m.state.UIDNext == slices.Max(own)+1 {
			continue // all of it was our client's doing
		}
		switch {
		case messages && events&(eventMessageNew|eventMessageExpunge) != 0:
			c.notifyState(m, true, events&eventFlagChange != 0, false)
		case events&eventFlagChange == 0:
		case m.state.UIDValidity != old.state.UIDValidity || m.state.Unseen != old.state.Unseen:
			c.notifyState(m, false, true, false)
		case c.condstore && m.state.HighestModSeq != old.state.HighestModSeq:
			c.notifyState(m, false, false, true)
		}
	}
}

// tellNames tells of mailboxes that came, went, or got another name or subscription
// (RFC 5465, 5.4, 5.5).
func (c *conn) tellNames(n *notified, next *board) {
	was := make(map[string]string) // names by id
	for name, m := range n.told.boxes {
		if m.ID != "" {
			was[m.ID] = name
		}
	}
	renamed := make(map[string]string) // new names to old ones
	for name, m := range next.boxes {
		if old := was[m.ID]; m.ID != "" && old != "" && old != name {
			renamed[name] = old
		}
	}
	names := slices.Clone(next.names)
	for _, name := range n.told.names {
		if next.boxes[name] == nil {
			names = append(names, name)
		}
	}
	moved := make(map[string]bool) // the old names
	for _, old := range renamed {
		moved[old] = true
	}
	affected := make(map[string]bool)
	for _, name := range names { // parents of what came or went
		if there, before := exists(next, name), exists(n.told, name); there != before && !isRenamed(renamed, moved, name) && !n.own[name].names {
			if i := strings.LastIndexByte(name, '/'); i > 0 {
				affected[name[:i]] = true
			}
		}
	}
	for _, name := range names {
		m, old := next.boxes[name], n.told.boxes[name]
		now := m
		if now == nil {
			now = &boardBox{listed: listed{MailboxInfo: imap.MailboxInfo{Name: name, NonExistent: true, NoSelect: true, ID: old.ID}}}
		}
		events := n.spec.events(now)
		if old != nil {
			events |= n.spec.events(old) // what a subscription that went was asked for
		}
		if n.own[name].names || events&(eventMailboxName|eventSubscription) == 0 {
			continue
		}
		oldName, isNew := renamed[name]
		if isNew && renamedWithParent(renamed, name, oldName) {
			continue
		}
		created := exists(next, name) != exists(n.told, name) || isNew || old != nil && m != nil && old.ID != m.ID
		if moved[name] && !exists(next, name) {
			created = false // its new name says so
		}
		tell := events&eventMailboxName != 0 && (created || affected[name]) ||
			events&eventSubscription != 0 && (old != nil && old.Subscribed) != now.Subscribed
		if tell {
			out := now.listed
			out.oldName = oldName
			c.writeList("LIST", &out, &listQuery{extended: true, returnSubscribed: true}, false)
		}
	}
}

func exists(b *board, name string) bool {
	m := b.boxes[name]
	return m != nil && !m.NonExistent
}

func isRenamed(renamed map[string]string, moved map[string]bool, name string) bool {
	_, to := renamed[name]
	return to || moved[name]
}

// renamedWithParent reports whether a mailbox got its new name from one above it.
func renamedWithParent(renamed map[string]string, name, old string) bool {
	for {
		i, k := strings.LastIndexByte(name, '/'), strings.LastIndexByte(old, '/')
		if i < 0 || k < 0 || name[i:] != old[k:] {
			return false
		}
		name, old = name[:i], old[:k]
		if renamed[name] == old {
			return true
		}
	}
}
