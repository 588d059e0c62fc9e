package imapserver

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/mailblocks/mailblocks/imap"
)

// notifyEvent is a kind of event (RFC 5465, 5), as a bit.
type notifyEvent uint16

const (
	eventMessageNew notifyEvent = 1 << iota
	eventMessageExpunge
	eventFlagChange
	eventMailboxName
	eventSubscription
	eventMailboxMetadata
	eventServerMetadata

	messageEvents = eventMessageNew | eventMessageExpunge | eventFlagChange
)

var notifyEvents = []struct {
	name  string
	event notifyEvent
}{
	{"MessageNew", eventMessageNew}, {"MessageExpunge", eventMessageExpunge}, {"FlagChange", eventFlagChange},
	{"MailboxName", eventMailboxName}, {"SubscriptionChange", eventSubscription},
	{"MailboxMetadataChange", eventMailboxMetadata}, {"ServerMetadataChange", eventServerMetadata},
}

// notifySpec is what a NOTIFY SET asks for.
type notifySpec struct {
	selected notifyEvent // of the selected mailbox
	delayed  bool        // its EXPUNGEs wait for a command that allows them
	items    []fetchItem // of new messages in it
	groups   []notifyGroup
}

// notifyGroup is an event-group for mailboxes that are not selected.
type notifyGroup struct {
	mailboxFilter
	events notifyEvent
}

// events returns what is asked for of a mailbox that is not selected.
func (s *notifySpec) events(m *boardBox) (events notifyEvent) {
	for i := range s.groups {
		if g := &s.groups[i]; g.has(&m.listed) {
			events |= g.events
		}
	}
	return events
}

// notified is a session's NOTIFY.
type notified struct {
	spec *notifySpec
	told *board // what the client knows; nil: it asked for the selected mailbox alone
	// own is what the session did itself since, by name: it is not told of (RFC 5465, 5).
	own map[string]ownChange
}

// ownChange is what a session did to a mailbox.
type ownChange struct {
	names    bool // created, deleted, renamed, subscribed
	appended []imap.UID
}

// Bounds on one NOTIFY.
const (
	maxNotifyGroups = 50
	maxNotifyNames  = 1000
)

func (c *conn) cmdNotify(ctx context.Context) reply {
	c.dec.SP()
	switch c.dec.Word() {
	case "NONE":
		if !c.end() {
			return c.syntax()
		}
		c.endNotify()
		c.notify = &notified{spec: new(notifySpec)}
		c.listenSelected()
		return ok("nothing will be told")
	case "SET":
	default:
		c.dec.Fail("expected SET or NONE")
	}
	spec, status, unsupported := c.notifySpec()
	if !c.end() {
		return c.syntax()
	}
	if unsupported {
		names := make([]string, len(notifyEvents))
		for i, e := range notifyEvents {
			names[i] = e.name
		}
		return no("BADEVENT ("+strings.Join(names, " ")+")", "such events are not known here")
	}
	old := c.notify
	next := &notified{spec: spec}
	if len(spec.groups) > 0 {
		b, err := c.account.hub.join(ctx, c, spec)
		if err != nil {
			c.endNotify()
			return c.failed(err)
		}
		watched := 0
		for _, m := range b.boxes {
			if !m.NoSelect && spec.events(m)&messageEvents != 0 {
				watched++
			}
		}
		if watched > maxNotified {
			c.endNotify()
			return no("NOTIFICATIONOVERFLOW", "that is too much to watch")
		}
		next.told = b
	} else if old != nil && old.told != nil {
		c.account.hub.leave(c)
	}
	c.notify = next
	c.listenSelected()
	if status {
		c.notifyStatus(next)
	}
	return ok("will be told")
}

// notifySpec takes the event groups, and STATUS before them.
func (c *conn) notifySpec() (spec *notifySpec, status, unsupported bool) {
	spec = new(notifySpec)
	c.dec.SP()
	if c.dec.AcceptWord("STATUS") {
		status = true
		c.dec.SP()
	}
	names, selected := 0, false
	for n := 0; c.dec.OK(); n++ {
		if n > 0 && !c.dec.Accept(' ') {
			break
		}
		if n >= maxNotifyGroups {
			c.dec.Fail("too many event groups")
		}
		c.dec.Expect('(')
		g := notifyGroup{mailboxFilter: c.mailboxFilter(c.dec.Word(), &names)}
		own := g.which == "SELECTED" || g.which == "SELECTED-DELAYED"
		switch {
		case own && selected:
			c.dec.Fail("the selected mailbox is named twice")
		case g.which == "SUBTREE-ONE":
			c.dec.Fail("no such mailboxes")
		}
		selected = selected || own
		c.dec.SP()
		var bad bool
		var items []fetchItem
		g.events, items, bad = c.notifyEvents(own)
		unsupported = unsupported || bad
		c.dec.Expect(')')
		if own {
			spec.selected, spec.items, spec.delayed = g.events, items, g.which == "SELECTED-DELAYED"
		} else {
			spec.groups = append(spec.groups, g)
		}
	}
	return spec, status, unsupported
}

// notifyEvents takes the events of a group.
func (c *conn) notifyEvents(selected bool) (events notifyEvent, items []fetchItem, unsupported bool) {
	if c.dec.AcceptWord("NONE") {
		return 0, nil, false
	}
	c.dec.Expect('(')
	for n := 0; c.dec.OK() && (n == 0 || !c.dec.Accept(')')); n++ {
		if n > 0 {
			c.dec.SP()
		}
		name := c.dec.Atom()
		i := slices.IndexFunc(notifyEvents, func(e struct {
			name  string
			event notifyEvent
		}) bool {
			return equalFold(e.name, name)
		})
		if i < 0 {
			unsupported = true
			continue
		}
		event := notifyEvents[i].event
		if selected && event&messageEvents == 0 {
			c.dec.Fail("the selected mailbox has events of messages alone")
		}
		events |= event
		if event == eventMessageNew && c.dec.AcceptWord(" (") {
			if !selected {
				c.dec.Fail("items belong to the selected mailbox")
			}
			items = c.watchItems()
		}
	}
	// RFC 5465, 5
	if both := eventMessageNew | eventMessageExpunge; events&messageEvents != 0 && events&both != both && !unsupported {
		c.dec.Fail("MessageNew and MessageExpunge belong together, and to FlagChange")
	}
	return events, items, unsupported
}

// watchItems takes what to fetch of new messages, up to the parenthesis. Nothing of it makes
// a message \Seen: nobody has read it.
func (c *conn) watchItems() (items []fetchItem) {
	for n := 0; c.dec.OK() && (n == 0 || !c.dec.Accept(')')); n++ {
		if n > 0 {
			c.dec.SP()
		}
		it := c.fetchItem(c.dec.Letters())
		it.seen = false
		if items = append(items, it); len(items) > maxItems {
			c.dec.Fail("too many items")
		}
	}
	return items
}

// endNotify forgets NOTIFY.
func (c *conn) endNotify() {
	if c.notify == nil {
		return
	}
	if c.notify.told != nil {
		c.account.hub.leave(c)
	}
	if c.sel != nil {
		c.sel.box.listen(c, false)
	}
	c.notify = nil
}

// listenSelected makes changes of the selected mailbox wake the session between commands, if
// its client wants to hear of them.
func (c *conn) listenSelected() {
	if c.sel != nil {
		c.sel.box.listen(c, c.notify != nil && c.notify.spec.selected != 0)
	}
}

// selectedEvents returns what may be told of the selected mailbox.
func (c *conn) selectedEvents() notifyEvent {
	if c.notify == nil || c.tellAll {
		return messageEvents
	}
	return c.notify.spec.selected
}

// didNames notes that the session itself changed what LIST shows of names, and didAppend
// that it put messages into a mailbox.
func (c *conn) didNames(names ...string) {
	if c.notify != nil && c.notify.told != nil {
		for _, name := range names {
			own := c.notify.own[name]
			own.names = true
			c.own(name, own)
		}
	}
	c.account.hub.namesChanged()
}

func (c *conn) didAppend(name string, uids []imap.UID) {
	if c.sel != nil && c.sel.name == name && c.notify != nil && len(c.notify.spec.items) > 0 {
		for _, uid := range uids {
			c.sel.own.Add(uid)
		}
	}
	if c.notify == nil || c.notify.told == nil {
		return
	}
	c.account.hub.touch(name)
	own := c.notify.own[name]
	own.appended = append(own.appended, uids...)
	c.own(name, own)
}

func (c *conn) own(name string, o ownChange) {
	if c.notify.own == nil {
		c.notify.own = make(map[string]ownChange)
	}
	c.notify.own[name] = o
}

// announce tells what happened since, between commands and at their end. Between commands
// it tells of the selected mailbox as well.
func (c *conn) announce(ctx context.Context, between bool) error {
	n := c.notify
	if n == nil {
		return nil
	}
	if between && c.sel != nil && n.spec.selected != 0 {
		mode := syncAll
		if n.spec.delayed {
			mode = syncNoExpunge
		}
		if err := c.sync(ctx, mode); errors.Is(err, errLost) || c.enc.Err() != nil {
			return err
		} else if err != nil { // the client hears of it later
			c.log.LogAttrs(ctx, slog.LevelWarn, "looking for changes failed", slog.Any("err", err))
		}
	}
	if n.told == nil {
		return nil
	}
	c.tellMetadata(n)
	b, err := c.account.hub.newest(ctx)
	if err != nil {
		c.log.LogAttrs(ctx, slog.LevelWarn, "looking at mailboxes failed", slog.Any("err", err))
		return nil
	}
	if b != n.told {
		c.tellBoard(n, b)
		n.told = b
	}
	n.own = nil
	return nil
}
