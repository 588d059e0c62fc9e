// Package maildrop makes a POP3 maildrop of any IMAP mailbox.
//
//	RFC   subject                          here
//	1939  sizes, UIDL, deletion at QUIT    yes
//	1939  exclusive access                 yes, within the process (Locks)
package maildrop

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/pop3"
)

// UIDLer is implemented by mailboxes in which some messages have a POP3 name of their own,
// given by an earlier server. It returns those; all others are named by Open.
type UIDLer interface {
	UIDLs(ctx context.Context) (map[imap.UID]string, error)
}

// Open returns the messages that mb holds now as a maildrop. It takes over mb, also when it
// fails. Messages are named (UIDL) as the mailbox's UIDLer says, else by eight hex digits of
// the UID and eight of the UIDVALIDITY, as Dovecot does by default: a reader that changes
// servers downloads nothing twice. Another program may remove a message meanwhile: opening
// it then fails.
func Open(ctx context.Context, mb imap.Mailbox) (pop3.Maildrop, error) {
	d := &drop{mb: mb}
	if err := d.load(ctx); err != nil {
		mb.Close()
		return nil, fmt.Errorf("maildrop: %w", err)
	}
	return d, nil
}

type drop struct {
	mb       imap.Mailbox
	messages []pop3.Message
	uids     []imap.UID
}

func (d *drop) load(ctx context.Context) error {
	all, err := d.mb.Changes(ctx, 0)
	if err != nil {
		return err
	}
	var names map[imap.UID]string
	if u, ok := imap.Upgrade[UIDLer](d.mb); ok {
		if names, err = u.UIDLs(ctx); err != nil {
			return err
		}
	}
	d.messages = make([]pop3.Message, 0, all.State.Messages)
	d.uids = make([]imap.UID, 0, all.State.Messages)
	for m, err := range all.Messages {
		if err != nil {
			return err
		}
		name := names[m.UID]
		if !validName(name) {
			name = fmt.Sprintf("%08X%08X", uint32(m.UID), all.State.UIDValidity)
		}
		d.messages = append(d.messages, pop3.Message{Size: m.Size, UID: name})
		d.uids = append(d.uids, m.UID)
	}
	return nil
}

// validName reports whether a name can go over the wire (RFC 1939, 7, UIDL).
func validName(name string) bool {
	for i := range len(name) {
		if name[i] < '!' || name[i] > '~' {
			return false
		}
	}
	return 0 < len(name) && len(name) <= 70
}

func (d *drop) Messages() []pop3.Message { return d.messages }

func (d *drop) Open(ctx context.Context, i int) (io.ReadCloser, error) {
	body, err := d.mb.Body(ctx, d.uids[i])
	if err != nil {
		return nil, fmt.Errorf("maildrop: %w", err)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(body, 0, body.Size()), body}, nil
}

func (d *drop) Delete(ctx context.Context, indexes []int) error {
	var set imap.UIDSet
	for _, i := range indexes {
		set.Add(d.uids[i])
	}
	if err := d.mb.Expunge(ctx, set, false); err != nil {
		return fmt.Errorf("maildrop: %w", err)
	}
	return nil
}

func (d *drop) Close() error { return d.mb.Close() }

// Locks gives each mailbox to one session at a time (RFC 1939, 3), within the process. The
// zero value is ready. Safe for concurrent use.
type Locks struct {
	mu   sync.Mutex
	held map[string]struct{}
}

// Open opens mb as the function Open does, for this session alone: pop3.ErrInUse while
// another maildrop on the mailbox of this key is open.
func (l *Locks) Open(ctx context.Context, key string, mb imap.Mailbox) (pop3.Maildrop, error) {
	if !l.take(key) {
		mb.Close()
		return nil, fmt.Errorf("maildrop: %w", pop3.ErrInUse)
	}
	d, err := Open(ctx, mb)
	if err != nil {
		l.release(key)
		return nil, err
	}
	return &locked{Maildrop: d, release: sync.OnceFunc(func() { l.release(key) })}, nil
}

func (l *Locks) take(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, taken := l.held[key]; taken {
		return false
	}
	if l.held == nil {
		l.held = make(map[string]struct{})
	}
	l.held[key] = struct{}{}
	return true
}

func (l *Locks) release(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, key)
}

type locked struct {
	pop3.Maildrop
	release func()
}

func (d *locked) Close() error {
	defer d.release()
	return d.Maildrop.Close()
}
