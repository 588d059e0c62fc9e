package sched

import (
	"slices"
	"strings"
	"time"

	"github.com/mailblocks/mailblocks/queue"
)

// Prepare returns a copy of a new message's envelope with everything filled in that Enqueue
// promises to fill in.
func Prepare(e *queue.Envelope, now time.Time) (*queue.Envelope, error) {
	if len(e.Recipients) == 0 {
		return nil, queue.ErrNoRecipients
	}
	c := Clone(e)
	if c.Arrived.IsZero() {
		c.Arrived = now
	}
	due := now
	if c.HoldUntil.After(due) {
		due = c.HoldUntil
	}
	for i := range c.Recipients {
		r := &c.Recipients[i]
		if r.Route == "" {
			r.Route = queue.RouteByDomain(r.Address)
		}
		r.Status, r.Attempts, r.Warned, r.Last = queue.StatusPending, 0, false, queue.Outcome{}
		r.Due = due
	}
	return c, nil
}

// Clone copies an envelope and its recipients.
func Clone(e *queue.Envelope) *queue.Envelope {
	c := *e
	c.Recipients = slices.Clone(e.Recipients)
	return &c
}

// Parts divides the recipients by route, in the order in which the routes first appear.
func Parts(e *queue.Envelope) []Part {
	var parts []Part
	for i := range e.Recipients {
		route := e.Recipients[i].Route
		if !slices.ContainsFunc(parts, func(p Part) bool { return p.Route == route }) {
			due, done := Summary(e, route)
			parts = append(parts, Part{Route: route, Due: due, Done: done})
		}
	}
	return parts
}

// Summary gives the earliest Due of the pending recipients on a route; done when there are none.
func Summary(e *queue.Envelope, route string) (due time.Time, done bool) {
	done = true
	for i := range e.Recipients {
		r := &e.Recipients[i]
		if r.Route != route || r.Status != queue.StatusPending {
			continue
		}
		if done || r.Due.Before(due) {
			due = r.Due
		}
		done = false
	}
	return due, done
}

// Due lists the recipients that a lease of route is about: those due by now, or all that are
// pending when the item was kicked, so that none of them is due.
func Due(e *queue.Envelope, route string, now time.Time) []int {
	var due, pending []int
	for i := range e.Recipients {
		r := &e.Recipients[i]
		if r.Route != route || r.Status != queue.StatusPending {
			continue
		}
		pending = append(pending, i)
		if !r.Due.After(now) {
			due = append(due, i)
		}
	}
	if due == nil {
		return pending
	}
	return due
}

// Settle stores the recipients of a settlement that are of route into e.
func Settle(e *queue.Envelope, route string, s *queue.Settlement) {
	for i, r := range s.Recipients {
		if i < 0 || i >= len(e.Recipients) || e.Recipients[i].Route != route {
			continue
		}
		old := &e.Recipients[i]
		old.Status, old.Attempts, old.Due, old.Warned, old.Last = r.Status, r.Attempts, r.Due, r.Warned, r.Last
	}
}

// Match reports whether the envelope fits those parts of f that the index does not know.
func Match(e *queue.Envelope, f *queue.Filter) bool {
	if !f.Before.IsZero() && !e.Arrived.Before(f.Before) || !f.After.IsZero() && e.Arrived.Before(f.After) {
		return false
	}
	if f.Sender != "" {
		if f.Sender == "<>" && e.ReversePath != "" || f.Sender != "<>" && !address(e.ReversePath, f.Sender) {
			return false
		}
	}
	return f.Recipient == "" || slices.ContainsFunc(e.Recipients, func(r queue.Recipient) bool {
		return address(r.Address, f.Recipient)
	})
}

// NeedsEnvelope reports whether Match can say no.
func NeedsEnvelope(f *queue.Filter) bool {
	return f.Sender != "" || f.Recipient != "" || !f.Before.IsZero() || !f.After.IsZero()
}

// address fits an address to "user@domain" or "@domain".
func address(a, pattern string) bool {
	if strings.HasPrefix(pattern, "@") {
		return len(a) >= len(pattern) && strings.EqualFold(a[len(a)-len(pattern):], pattern)
	}
	return strings.EqualFold(a, pattern)
}

// Entry builds what List yields.
func Entry[P any](id uint64, e *queue.Envelope, size int64, views []View[P]) *queue.Entry {
	entry := &queue.Entry{ID: FormatID(id), Envelope: *e, Size: size}
	for i := range views {
		entry.Items = append(entry.Items, views[i].Item)
	}
	return entry
}

// Kick makes the pending recipients on a route due.
func Kick(e *queue.Envelope, route string, now time.Time) {
	for i := range e.Recipients {
		r := &e.Recipients[i]
		if r.Route == route && r.Status == queue.StatusPending && r.Due.After(now) {
			r.Due = now
		}
	}
}

// Reroute moves the pending recipients of the items that f selects to another route. It returns
// the message's new parts and how many items were moved. Flags and alarms stay with the items that
// were not moved; the one moved to starts afresh unless it was there before.
func Reroute[P any](e *queue.Envelope, views []View[P], f *queue.Filter, to string) ([]Part, int) {
	moved := 0
	for i := range views {
		v := &views[i]
		if v.State == queue.ItemDone || v.Route == to || f.Route != "" && f.Route != v.Route ||
			f.State != queue.ItemAny && f.State != v.State {
			continue
		}
		moved++
		for j := range e.Recipients {
			r := &e.Recipients[j]
			if r.Route == v.Route && r.Status == queue.StatusPending {
				r.Route = to
			}
		}
	}
	return Rebuild(e, views), moved
}

// Rebuild makes the parts of a message whose items were seen as views.
func Rebuild[P any](e *queue.Envelope, views []View[P]) []Part {
	parts := Parts(e)
	for i := range parts {
		for j := range views {
			if v := &views[j]; v.Route == parts[i].Route {
				parts[i].Hold, parts[i].Expire, parts[i].Alarm = v.Hold, v.Expires, v.Alarm
			}
		}
	}
	return parts
}

// Abandon makes the pending recipients on a route failed, for an OpRemove.
func Abandon(e *queue.Envelope, route string) {
	for i := range e.Recipients {
		if r := &e.Recipients[i]; r.Route == route && r.Status == queue.StatusPending {
			r.Status = queue.StatusFailed
		}
	}
}
