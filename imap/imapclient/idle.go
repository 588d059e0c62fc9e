package imapclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Idle has the server tell Handler what happens to the mailbox, as it happens (RFC 2177),
// until ctx ends, when it returns nil. It begins anew from time to time, since servers end
// sessions that say nothing. Other commands wait until it has ended.
func (c *Client) Idle(ctx context.Context) error {
	if err := c.need(ctx, "IDLE"); err != nil {
		return err
	}
	for {
		again, err := c.idle(ctx)
		switch {
		case ctx.Err() != nil && !errors.Is(err, ErrClosed):
			return nil
		case err != nil:
			return err
		case !again:
			return fmt.Errorf("%w: IDLE ended by the server", ErrProtocol)
		}
	}
}

// idle is one IDLE command. Its exchange goes on after ctx ends, since DONE must not be sent
// before the server is ready for it; nobody waits for that.
func (c *Client) idle(ctx context.Context) (again bool, err error) {
	cmd := &command{name: "IDLE", alone: true, uncut: true}
	leave := make(chan struct{})
	written := make(chan error, 1)
	go func() {
		written <- c.start(ctx, cmd, func(w *writer) {
			w.raw("\r\n")
			if _, ok := w.challenge(); !ok {
				return
			}
			c.setPatient(cmd, true)
			select {
			case <-leave:
			case <-cmd.done:
			}
			c.setPatient(cmd, false)
			w.raw("DONE\r\n").flush()
			w.over = true
		})
	}()
	timer := time.NewTimer(orDefault(c.opt.IdleRestart, 28*time.Minute))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		close(leave)
		return false, c.broken()
	case <-timer.C:
		close(leave)
		if err := <-written; err != nil {
			return false, err
		}
		return true, c.wait(ctx, cmd)
	case err := <-written:
		if err == nil {
			err = c.wait(ctx, cmd)
		}
		return false, err
	}
}

func (c *Client) setPatient(cmd *command, on bool) {
	c.mu.Lock()
	cmd.patient = on
	c.setReadDeadline()
	c.mu.Unlock()
}

// Event is what NOTIFY can tell of (RFC 5465, 5).
type Event string

// The events.
const (
	EventMessageNew            Event = "MessageNew"
	EventMessageExpunge        Event = "MessageExpunge"
	EventFlagChange            Event = "FlagChange"
	EventAnnotationChange      Event = "AnnotationChange"
	EventMailboxName           Event = "MailboxName"
	EventSubscriptionChange    Event = "SubscriptionChange"
	EventMailboxMetadataChange Event = "MailboxMetadataChange"
	EventServerMetadataChange  Event = "ServerMetadataChange"
)

// NotifyGroup asks for events of some mailboxes. Of no events means none.
type NotifyGroup struct {
	Of     Source
	Events []Event
	// New is what to fetch of a message that comes into the mailbox selected: EXISTS is then
	// followed by a FETCH for Handler.Fetch, which has no bodies. Nil: nothing.
	New *FetchItems
}

// NotifyOptions are the optional parts of Notify.
type NotifyOptions struct {
	// Status asks for the state of all mailboxes named, once, at the beginning.
	Status bool
}

// Notify has the server tell Handler what happens to mailboxes (RFC 5465), from now on and
// without Idle: those selected as EXISTS, EXPUNGE and FETCH do, others by Handler.Mailbox and
// Handler.List. No groups end that. A server that could not keep up says so by a Status with
// the code NOTIFICATIONOVERFLOW, and tells no more.
func (c *Client) Notify(ctx context.Context, opts *NotifyOptions, groups ...NotifyGroup) error {
	if err := c.need(ctx, "NOTIFY"); err != nil {
		return err
	}
	for i := range groups {
		g := &groups[i]
		if err := g.Of.check(); err != nil {
			return err
		}
		for _, e := range g.Events {
			if err := checkAtoms(string(e)); err != nil {
				return err
			}
		}
		if g.New != nil && (len(g.New.Sections) > 0 || g.New.ChangedSince > 0 || g.New.Partial != Partial{}) {
			return fmt.Errorf("%w: bodies or modifiers in NotifyGroup.New", ErrArgument)
		}
	}
	_, err := c.run(ctx, &command{name: "NOTIFY"}, func(w *writer) {
		if len(groups) == 0 {
			w.raw(" NONE")
			return
		}
		w.raw(" SET")
		if opts != nil && opts.Status {
			w.raw(" STATUS")
		}
		for i := range groups {
			g := &groups[i]
			w.raw(" (")
			g.Of.write(w)
			if len(g.Events) == 0 {
				w.raw(" NONE)")
				continue
			}
			w.raw(" (")
			for j, e := range g.Events {
				if j > 0 {
					w.sp()
				}
				if w.raw(string(e)); e == EventMessageNew && g.New != nil {
					g.New.writeNew(w)
				}
			}
			w.raw("))")
		}
	})
	return err
}

// writeNew writes the items to fetch of a new message.
func (what *FetchItems) writeNew(w *writer) {
	words := []string{"UID"}
	for _, item := range what.words() {
		if item.on {
			words = append(words, item.word)
		}
	}
	w.raw(" (" + strings.Join(words, " ") + ")")
}
