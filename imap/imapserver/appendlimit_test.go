package imapserver

import (
	"context"
	"fmt"
	"testing"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/memstore"
)

// smallStore is a store whose mailboxes take small messages alone.
type smallStore struct{ imap.Store }

func (s smallStore) Unwrap() imap.Store { return s.Store }

func (s smallStore) Open(ctx context.Context, name string) (imap.Mailbox, error) {
	mb, err := s.Store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return smallMailbox{mb}, nil
}

type smallMailbox struct{ imap.Mailbox }

func (m smallMailbox) Unwrap() imap.Mailbox                       { return m.Mailbox }
func (m smallMailbox) AppendLimit(context.Context) (int64, error) { return 5, nil }

func (m smallMailbox) Append(ctx context.Context, msgs []imap.NewMessage) (imap.AppendResult, error) {
	for _, msg := range msgs {
		if msg.Size > 5 {
			return imap.AppendResult{}, fmt.Errorf("append: %w", imap.ErrTooBig)
		}
	}
	return m.Mailbox.Append(ctx, msgs)
}

func TestAppendLimitOfMailbox(t *testing.T) { // RFC 7889
	storage := memstore.New()
	ts := newServer(t, func(s *Server) {
		s.MaxMessageBytes = 1000
		s.Login = func(context.Context, string) (imap.Store, error) { return smallStore{storage.Open()}, nil }
	})
	p := ts.session("ann")
	play(t, p, `
C: a STATUS INBOX (APPENDLIMIT MESSAGES APPENDLIMIT)
S: * STATUS INBOX (APPENDLIMIT 5 MESSAGES 0)
S~ a OK .*
C: b APPEND INBOX {6+}
C: 123456
S: b NO [TOOBIG] message too large
C: c APPEND INBOX {5+}
C: 12345
S~ c OK .*
`)
}
