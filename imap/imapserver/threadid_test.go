package imapserver

import (
	"context"
	"fmt"
	"testing"

	"github.com/mailblocks/mailblocks/imap"
)

// threadStore is a Store that knows of threads: messages 1 and 2 are one.
type threadStore struct{ imap.Store }

func (s threadStore) Open(ctx context.Context, name string) (imap.Mailbox, error) {
	mb, err := s.Store.Open(ctx, name)
	return threadMailbox{mb}, err
}

type threadMailbox struct{ imap.Mailbox }

func (m threadMailbox) Changes(ctx context.Context, since imap.ModSeq) (imap.Delta, error) {
	d, err := m.Mailbox.Changes(ctx, since)
	below := d.Messages
	d.Messages = func(yield func(imap.Message, error) bool) {
		for msg, err := range below {
			if msg.UID < 4 {
				msg.ThreadID = fmt.Sprintf("T%d", (msg.UID+1)/2)
			}
			if !yield(msg, err) {
				return
			}
		}
	}
	return d, err
}

func TestThreadID(t *testing.T) {
	ts := newServer(t, func(s *Server) {
		login := s.Login
		s.Login = func(ctx context.Context, identity string) (imap.Store, error) {
			store, err := login(ctx, identity)
			return threadStore{store}, err
		}
	})
	ts.fill("ann", "INBOX", text("a\n"), text("b\n"), text("c\n"), text("d\n"))
	play(t, ts.session("ann"), `
C: a EXAMINE INBOX
S* \* .*
S~ a OK .*
C: b FETCH 2:4 THREADID
S: * 2 FETCH (THREADID (T1))
S: * 3 FETCH (THREADID (T2))
S: * 4 FETCH (THREADID NIL)
S: b OK fetched
C: c SEARCH THREADID T1
S: * SEARCH 1 2
S: c OK searched
C: d SEARCH NOT THREADID T1
S: * SEARCH 3 4
S: d OK searched
C: e SEARCH THREADID ""
S: * SEARCH
S: e OK searched
`)
}
