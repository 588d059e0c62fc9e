package imapserver

import (
	"maps"
	"slices"

	"github.com/mailblocks/mailblocks/imap"
)

// Changes of annotations by other sessions of the same user (RFC 5465, 5.5 and 5.6; RFC 5464,
// 4.4.2). The store keeps no record of them: what another process changes is not told.

// metadataNews has the entries that changed, by mailbox, of which a session was not told.
type metadataNews map[string]map[string]bool

// maxMetadataNews bounds what waits for one session. More is not told.
const maxMetadataNews = 500

// metadataChanged tells all sessions that sent NOTIFY, but the one that made the changes.
func (h *hub) metadataChanged(by *conn, mailbox string, changes []imap.Annotation) {
	h.wakeMu.Lock()
	defer h.wakeMu.Unlock()
	for c := range h.sessions {
		if c == by {
			continue
		}
		if h.news == nil {
			h.news = make(map[*conn]metadataNews)
		}
		if h.news[c] == nil {
			h.news[c] = make(metadataNews)
		}
		entries := h.news[c][mailbox]
		if entries == nil {
			if len(h.news[c]) >= maxMetadataNews {
				continue
			}
			entries = make(map[string]bool)
			h.news[c][mailbox] = entries
		}
		for _, change := range changes {
			if len(entries) < maxMetadataNews {
				entries[change.Entry] = true
			}
		}
		c.wake()
	}
}

// tellMetadata writes what waits for the session, as far as it asked for it.
func (c *conn) tellMetadata(n *notified) {
	h := &c.account.hub
	h.wakeMu.Lock()
	news := h.news[c]
	delete(h.news, c)
	h.wakeMu.Unlock()
	for _, mailbox := range slices.Sorted(maps.Keys(news)) {
		if !n.wantsMetadata(mailbox) {
			continue
		}
		c.enc.Raw("* METADATA ").Mailbox(mailbox)
		for _, entry := range slices.Sorted(maps.Keys(news[mailbox])) {
			c.enc.SP().AString(entry)
		}
		c.enc.CRLF()
	}
}

func (n *notified) wantsMetadata(mailbox string) bool {
	if mailbox == "" {
		return slices.ContainsFunc(n.spec.groups, func(g notifyGroup) bool { return g.events&eventServerMetadata != 0 })
	}
	b := n.told.boxes[mailbox]
	return b != nil && n.spec.events(b)&eventMailboxMetadata != 0
}
