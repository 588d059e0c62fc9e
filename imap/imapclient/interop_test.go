package imapclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/internal/peertest"
)

// dovecot starts Debian's Dovecot and returns how to get sessions with it.
func dovecot(t *testing.T) func(h Handler) *Client {
	addr, pem := peertest.Dovecot(t, "imap", nil)
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(pem))
	return func(h Handler) *Client {
		c := connect(t, addr, ClientOptions{TLS: &tls.Config{RootCAs: pool}, Handler: h})
		require.True(t, c.TLS())
		return c
	}
}

func TestDovecot(t *testing.T) {
	ctx := t.Context()
	session := dovecot(t)
	c := session(Handler{})
	caps, err := c.Capabilities(ctx)
	require.NoError(t, err)
	t.Log(caps)
	id, err := c.ID(ctx, nil)
	require.NoError(t, err)
	assert.Equal(t, "Dovecot", id["name"])
	ns, err := c.Namespace(ctx)
	require.NoError(t, err)
	assert.NotEmpty(t, ns.Personal)

	var msgs []AppendMessage
	for i := range 50 {
		msgs = append(msgs, AppendMessage{Body: strings.NewReader(mailText(i + 1)), Size: int64(len(mailText(i + 1)))})
	}
	appended, err := c.Append(ctx, "INBOX", msgs...)
	require.NoError(t, err)
	require.Len(t, appended.UIDs, 50)
	large := "Subject: large\r\n\r\n" + strings.Repeat("0123456789\r\n", 300000)
	_, err = c.Append(ctx, "INBOX", AppendMessage{Body: strings.NewReader(large), Flags: imap.NewFlags(imap.FlagFlagged)})
	require.NoError(t, err)
	s, err := c.Select(ctx, "INBOX", &SelectOptions{CondStore: true})
	require.NoError(t, err)
	assert.EqualValues(t, 51, s.Messages)
	assert.NotZero(t, s.HighestModSeq)

	n := 0
	for m, err := range c.Fetch(ctx, All(), FetchItems{Flags: true, Size: true, InternalDate: true, Envelope: true, Structure: true, ModSeq: true, Preview: slices.Contains(caps, "PREVIEW"),
		BinarySizes: [][]int{{1}}, Sections: []Section{{}, {Kind: Header}, {Part: []int{1}, Binary: true}}}) {
		require.NoError(t, err)
		require.NoError(t, m.Err)
		n++
		want := large
		if n <= 50 {
			want = mailText(n)
		}
		head := want[:strings.Index(want, "\r\n\r\n")+4]
		assert.EqualValues(t, len(want), m.Size)
		assert.Len(t, m.BinarySizes, 1)
		for _, want := range []string{want, head, want[len(head):]} {
			b, err := m.Next()
			require.NoError(t, err)
			if n%10 == 1 { // what is in the way is put aside
				require.NoError(t, c.Noop(ctx))
			}
			got, err := io.ReadAll(b)
			require.NoError(t, err)
			assert.True(t, want == string(got), "%d: %d octets of %d", n, len(got), len(want))
		}
	}
	assert.Equal(t, 51, n)

	found, err := c.Search(ctx, Criteria{}.Subject("message 1").NotFlag(imap.FlagSeen), &SearchOptions{Count: true, Min: true, All: true})
	require.NoError(t, err)
	assert.EqualValues(t, 11, found.Count)
	assert.EqualValues(t, 1, found.Min)
	assert.Equal(t, "1,10:19", found.All.String())
	order, err := c.Sort(ctx, []SortKey{SortSize.Reverse()}, Criteria{}, &SearchOptions{Partial: Partial{1, 3}})
	require.NoError(t, err)
	assert.EqualValues(t, 51, order.Order[0])
	assert.Len(t, order.Order, 3)
	for _, by := range []ThreadBy{ThreadReferences, ThreadOrderedSubject, ThreadRefs} {
		roots, err := c.Threads(ctx, by, Criteria{})
		if by == ThreadOrderedSubject && errors.Is(err, ErrNoCapability) {
			continue
		}
		require.NoError(t, err)
		assert.Len(t, roots, 51)
	}

	_, err = c.Create(ctx, "Entwürfe", nil)
	require.NoError(t, err)
	copied, err := c.Copy(ctx, UIDs(imap.UIDSet{{First: 1, Last: 10}}), "Entwürfe")
	require.NoError(t, err)
	assert.Len(t, copied.To, 10)
	copied, err = c.Move(ctx, Seqs(imap.NumSetOf[imap.SeqNum](51)), "Entwürfe")
	require.NoError(t, err)
	assert.Equal(t, []imap.UID{51}, copied.From)
	var names []string
	for l, err := range c.List(ctx, &ListOptions{ReturnStatus: []StatusItem{StatusMessages}, ReturnSubscribed: true}) {
		require.NoError(t, err)
		if l.Status != nil {
			names = append(names, fmt.Sprint(l.Mailbox, " ", l.Status.Messages))
		}
	}
	assert.ElementsMatch(t, []string{"INBOX 50", "Entwürfe 11"}, names)
	_, err = c.Status(ctx, "none")
	var refused *Error
	require.ErrorAs(t, err, &refused)
	assert.Contains(t, refused.Text, "doesn't exist")
	if slices.Contains(caps, "COMPRESS=DEFLATE") {
		require.NoError(t, c.Compress(ctx))
		require.NoError(t, c.Noop(ctx))
	}
	require.NoError(t, c.Unselect(ctx))
	require.NoError(t, c.Logout(ctx))
}

// QRESYNC, IDLE and NOTIFY of Dovecot.
func TestDovecotChanges(t *testing.T) {
	ctx := t.Context()
	session := dovecot(t)
	other := session(Handler{})
	fillInbox(t, other, 30)
	events := make(chan string, 100)
	c := session(Handler{
		Exists:  func(n uint32) { events <- fmt.Sprint("exists ", n) },
		Vanish:  func(s imap.UIDSet) { events <- fmt.Sprint("vanish ", s) },
		Mailbox: func(s *MailboxStatus) { events <- fmt.Sprint("mailbox ", s.Mailbox, " ", s.Messages) },
		Fetch: func(m *Message) {
			if m.Flags.Has(imap.FlagFlagged) {
				events <- fmt.Sprint("flagged ", m.UID)
			}
		},
	})
	next := func() string {
		select {
		case e := <-events:
			return e
		case <-time.After(20 * time.Second):
			return "nothing happens"
		}
	}
	r, err := c.Resync(ctx, "INBOX", LocalState{}, nil, func(*Message) error { return nil })
	require.NoError(t, err)
	assert.EqualValues(t, 30, r.State.UIDs.Len())

	idle, leave := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Idle(idle) }()
	_, err = other.Store(ctx, UIDs(imap.NumSetOf[imap.UID](7)), imap.FlagOp{Flags: imap.NewFlags(imap.FlagFlagged)}, nil)
	require.NoError(t, err)
	assert.Equal(t, "flagged 7", next())
	leave()
	require.NoError(t, <-done)
	require.NoError(t, c.Unselect(ctx))

	_, err = other.Store(ctx, UIDs(imap.UIDSet{{First: 3, Last: 5}}), imap.FlagOp{Flags: imap.NewFlags(imap.FlagDeleted)}, nil)
	require.NoError(t, err)
	require.NoError(t, other.Expunge(ctx))
	told := imap.UIDSet{}
	r, err = c.Resync(ctx, "INBOX", r.State, nil, func(m *Message) error { told.Add(m.UID); return nil })
	require.NoError(t, err)
	assert.False(t, r.Reset)
	assert.Equal(t, "3:5", r.Vanished.String())
	assert.Equal(t, "7", told.String())
	s, err := c.Select(ctx, "INBOX", &SelectOptions{QResync: &QResync{UIDValidity: r.State.UIDValidity, ModSeq: 1, Known: imap.UIDSet{{First: 1, Last: 30}}}})
	require.NoError(t, err)
	assert.Equal(t, "3:5", s.Vanished.String())

	_, err = c.Create(ctx, "Other", nil)
	require.NoError(t, err)
	require.NoError(t, c.Notify(ctx, nil,
		NotifyGroup{Of: Source{Kind: SourceSelected}, Events: []Event{EventMessageNew, EventMessageExpunge}, New: &FetchItems{Flags: true}},
		NotifyGroup{Of: Source{Kind: SourcePersonal}, Events: []Event{EventMessageNew, EventMessageExpunge}}))
	_, err = other.Append(ctx, "Other", AppendMessage{Body: strings.NewReader(mailText(1))})
	require.NoError(t, err)
	assert.Equal(t, "mailbox Other 1", next())
	// Of the mailbox selected Dovecot tells with the answer to a command.
	_, err = other.Append(ctx, "INBOX", AppendMessage{Body: strings.NewReader(mailText(1)), Flags: imap.NewFlags(imap.FlagFlagged)})
	require.NoError(t, err)
	require.NoError(t, c.Noop(ctx))
	assert.Equal(t, "exists 28", next())
	assert.Equal(t, "flagged 31", next())
	require.NoError(t, c.Notify(ctx, nil))
}
