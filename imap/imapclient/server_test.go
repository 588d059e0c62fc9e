package imapclient

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

func TestSession(t *testing.T) {
	ctx := t.Context()
	addr, opt := server(t, nil)
	c, err := Dial(ctx, addr, &opt)
	require.NoError(t, err)
	defer c.Close()
	assert.True(t, c.TLS())
	assert.Equal(t, NotAuthenticated, c.State())
	ok, err := c.Has(ctx, "auth=plain")
	require.NoError(t, err)
	assert.True(t, ok)

	err = c.Login(ctx, "ann", "wrong")
	var refused *Error
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "AUTHENTICATIONFAILED", refused.Code)
	require.NoError(t, c.Auth(ctx, sasl.NewPlainClient("", "ann", "secret")))
	assert.Equal(t, Authenticated, c.State())
	ok, err = c.Has(ctx, "UIDPLUS")
	require.NoError(t, err)
	assert.True(t, ok)

	id, err := c.ID(ctx, map[string]string{"name": "imapclient"})
	require.NoError(t, err)
	assert.NotNil(t, id)
	ns, err := c.Namespace(ctx)
	require.NoError(t, err)
	require.NotEmpty(t, ns.Personal)
	assert.Equal(t, "/", ns.Personal[0].Delim)
	on, err := c.Enable(ctx, "QRESYNC", "UNKNOWN")
	require.NoError(t, err)
	assert.Contains(t, on, "QRESYNC")
	assert.True(t, c.Enabled("condstore"))
	require.NoError(t, c.Noop(ctx))
	require.NoError(t, c.Unauthenticate(ctx))
	assert.Equal(t, NotAuthenticated, c.State())
	assert.False(t, c.Enabled("QRESYNC"))
	require.NoError(t, c.Login(ctx, "ben", "secret"))
	require.NoError(t, c.Logout(ctx))
	assert.ErrorIs(t, c.Noop(ctx), ErrClosed)
	assert.Equal(t, LoggedOut, c.State())
}

func TestMailboxes(t *testing.T) {
	ctx := t.Context()
	addr, opt := server(t, nil)
	c := connect(t, addr, opt)
	id, err := c.Create(ctx, "Entwürfe & mehr", &imap.CreateOptions{SpecialUse: imap.UseDrafts})
	require.NoError(t, err)
	assert.NotEmpty(t, id)
	_, err = c.Create(ctx, "a/b", nil)
	require.NoError(t, err)
	_, err = c.Create(ctx, "a/b", nil)
	assert.ErrorIs(t, err, imap.ErrMailboxExists)
	require.NoError(t, c.Rename(ctx, "a/b", "a/c"))
	require.NoError(t, c.Subscribe(ctx, "a/c", true))
	var names []string
	for l, err := range c.List(ctx, &ListOptions{ReturnSubscribed: true, ReturnSpecialUse: true, ReturnStatus: []StatusItem{StatusMessages, StatusUIDNext}}) {
		require.NoError(t, err)
		names = append(names, l.Mailbox)
		if l.Mailbox == "Entwürfe & mehr" {
			assert.Equal(t, imap.UseDrafts, l.SpecialUse())
		}
		assert.Equal(t, l.Mailbox == "a/c", l.Has(`\Subscribed`), l.Mailbox)
		if !l.Has(`\Noselect`) {
			// The loop may use the client.
			s, err := c.Status(ctx, l.Mailbox, StatusMailboxID)
			require.NoError(t, err)
			assert.NotEmpty(t, s.MailboxID)
			require.NotNil(t, l.Status)
			assert.EqualValues(t, 1, l.Status.UIDNext)
		}
	}
	assert.ElementsMatch(t, []string{"INBOX", "Entwürfe & mehr", "a", "a/c"}, names)
	subscribed, err := c.Lsub(ctx, "", "*")
	require.NoError(t, err)
	require.Len(t, subscribed, 1)
	assert.Equal(t, "a/c", subscribed[0].Mailbox)
	require.NoError(t, c.Subscribe(ctx, "a/c", false))
	require.NoError(t, c.Delete(ctx, "a/c"))
	_, err = c.Status(ctx, "a/c")
	assert.ErrorIs(t, err, imap.ErrNoMailbox)
	_, err = c.Select(ctx, "none", nil)
	assert.ErrorIs(t, err, imap.ErrNoMailbox)
}

func TestMessages(t *testing.T) {
	ctx := t.Context()
	addr, opt := server(t, nil)
	for _, compressed := range []bool{false, true} {
		c := connect(t, addr, opt)
		if compressed {
			if ok, _ := c.Has(ctx, "COMPRESS=DEFLATE"); !ok {
				continue
			}
			require.NoError(t, c.Compress(ctx))
			assert.True(t, c.Compressed())
			_, err := c.Select(ctx, "INBOX", nil)
			require.NoError(t, err)
			_, err = c.Store(ctx, All(), imap.FlagOp{Flags: imap.NewFlags(imap.FlagDeleted)}, nil)
			require.NoError(t, err)
			require.NoError(t, c.Expunge(ctx))
			require.NoError(t, c.CloseMailbox(ctx))
			require.NoError(t, c.Delete(ctx, "Archive"))
		}
		s := fillInbox(t, c, 10)
		assert.EqualValues(t, 10, s.Messages)
		assert.NotZero(t, s.UIDValidity)
		first := imap.UID(s.UIDNext - 10)

		n := 0
		for m, err := range c.Fetch(ctx, All(), FetchItems{Flags: true, Size: true, InternalDate: true, Envelope: true, Structure: true, ModSeq: true, SaveDate: true, EmailID: true,
			Preview: true, Sections: []Section{{}, {Kind: HeaderFields, Fields: []string{"Subject"}}, {Part: []int{1}, Offset: 0, Length: 4}, {Part: []int{1}, Binary: true}}}) {
			require.NoError(t, err)
			n++
			assert.EqualValues(t, n, m.Seq)
			assert.Equal(t, first+imap.UID(n-1), m.UID)
			assert.EqualValues(t, len(mailText(n)), m.Size)
			assert.Equal(t, fmt.Sprintf("message %d", n), m.Envelope.Subject)
			assert.Equal(t, "bob@example.org", m.Envelope.From[0].String())
			assert.Equal(t, "text", m.Structure.Type)
			assert.NotZero(t, m.ModSeq)
			assert.NotEmpty(t, m.EmailID)
			assert.Contains(t, m.Preview, "Text of message")
			var bodies []string
			for b, err := range m.Bodies() {
				require.NoError(t, err)
				text, err := io.ReadAll(b)
				require.NoError(t, err)
				bodies = append(bodies, string(text))
			}
			text := fmt.Sprintf("Text of message %d.\r\n", n)
			assert.Equal(t, []string{mailText(n), fmt.Sprintf("Subject: message %d\r\n\r\n", n), "Text", text}, bodies)
		}
		assert.Equal(t, 10, n)

		res, err := c.Store(ctx, UIDs(imap.NumSetOf(first, first+1)), imap.FlagOp{Flags: imap.NewFlags(imap.FlagSeen, "$Junk")}, nil)
		require.NoError(t, err)
		require.Len(t, res.Messages, 2)
		assert.True(t, res.Messages[0].Flags.Has("$junk"))
		res, err = c.Store(ctx, UIDs(imap.NumSetOf(first, first+2)), imap.FlagOp{Flags: imap.NewFlags(imap.FlagFlagged)}, &StoreOptions{Silent: true, UnchangedSince: res.Messages[0].ModSeq - 1})
		require.NoError(t, err)
		assert.Equal(t, imap.NumSetOf(first), res.Conflict)

		found, err := c.Search(ctx, Criteria{}.NotFlag(imap.FlagSeen), nil)
		require.NoError(t, err)
		assert.EqualValues(t, 8, found.All.Len())
		found, err = c.Search(ctx, Criteria{}.Or(Criteria{}.Subject("message 3"), Criteria{}.Body("message 7.").NotFlag("$Junk")).Not(Criteria{}.Text("é")), &SearchOptions{Min: true, Max: true, Count: true, Save: true})
		require.NoError(t, err)
		assert.Equal(t, []uint32{uint32(first + 2), uint32(first + 6), 2}, []uint32{uint32(found.Min), uint32(found.Max), found.Count})
		seqs, err := c.SearchSeqs(ctx, Criteria{}.In(Saved()), nil)
		require.NoError(t, err)
		assert.Equal(t, "3,7", seqs.All.String())
		found, err = c.Search(ctx, Criteria{}.Since(time.Now().Add(-48*time.Hour)).Younger(time.Hour).Larger(10), &SearchOptions{Partial: Partial{-1, -3}})
		require.NoError(t, err)
		assert.EqualValues(t, 3, found.Partial.Len())

		order, err := c.Sort(ctx, []SortKey{SortSubject.Reverse()}, Criteria{}.Header("Message-ID", ""), nil)
		require.NoError(t, err)
		require.Len(t, order.Order, 10)
		assert.Equal(t, first+8, order.Order[0])
		roots, err := c.Threads(ctx, ThreadReferences, Criteria{})
		require.NoError(t, err)
		assert.Len(t, roots, 10)

		_, err = c.Copy(ctx, All(), "Archive")
		assert.ErrorIs(t, err, imap.ErrNoMailbox)
		_, err = c.Create(ctx, "Archive", nil)
		require.NoError(t, err)
		copied, err := c.Copy(ctx, UIDs(imap.NumSetOf(first, first+1)), "Archive")
		require.NoError(t, err)
		assert.Equal(t, []imap.UID{1, 2}, copied.To)
		copied, err = c.Move(ctx, Seqs(imap.NumSetOf[imap.SeqNum](10)), "Archive")
		require.NoError(t, err)
		assert.Equal(t, []imap.UID{first + 9}, copied.From)
		_, messages, _ := c.Selected()
		assert.EqualValues(t, 9, messages)

		r, err := c.Replace(ctx, first+8, "INBOX", AppendMessage{Body: strings.NewReader(mailText(100)), Flags: imap.NewFlags(imap.FlagDraft), InternalDate: time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)})
		require.NoError(t, err)
		require.Len(t, r.UIDs, 1)
		r, err = c.Append(ctx, "INBOX", AppendMessage{Catenate: []CatenatePart{{Body: strings.NewReader("Subject: put together\r\n\r\n")}, {URL: fmt.Sprintf("/INBOX/;UID=%d/;SECTION=TEXT", first)}}})
		require.NoError(t, err)
		require.Len(t, r.UIDs, 1)
		_, err = c.Store(ctx, UIDs(imap.NumSetOf(first)), imap.FlagOp{Flags: imap.NewFlags(imap.FlagDeleted)}, nil)
		require.NoError(t, err)
		require.NoError(t, c.ExpungeUIDs(ctx, UIDs(imap.NumSetOf(first))))
		require.NoError(t, c.Unselect(ctx))
		assert.Equal(t, Authenticated, c.State())
	}
}

// A large message is streamed, also when it is put aside for another command in the loop.
func TestStreams(t *testing.T) {
	ctx := t.Context()
	addr, opt := server(t, nil)
	c := connect(t, addr, opt)
	line := strings.Repeat("0123456789", 7) + "\r\n"
	var want []string
	for i := range 6 {
		want = append(want, fmt.Sprintf("Subject: %d\r\n\r\n", i)+strings.Repeat(line, []int{1, 20000, 3, 10000, 30000, 100}[i]))
		_, err := c.Append(ctx, "INBOX", AppendMessage{Body: strings.NewReader(want[i])}) // of unknown size
		require.NoError(t, err)
	}
	_, err := c.Select(ctx, "INBOX", nil)
	require.NoError(t, err)
	for _, nested := range []int{0, 1, 2} {
		n := 0
		for m, err := range c.Fetch(ctx, All(), FetchItems{Flags: true, Sections: []Section{{}, {Kind: Text}}}) {
			require.NoError(t, err)
			if nested == 1 && n == 1 {
				require.NoError(t, c.Noop(ctx))
			}
			for range 2 {
				b, err := m.Next()
				require.NoError(t, err)
				var got bytes.Buffer
				_, err = io.CopyN(&got, b, min(b.Size, 40000))
				require.NoError(t, err)
				if nested == 2 {
					require.NoError(t, c.Noop(ctx))
				}
				_, err = got.ReadFrom(b)
				require.NoError(t, err)
				assert.True(t, strings.HasSuffix(want[n], got.String()), "%d: %d octets", n, got.Len())
				assert.EqualValues(t, b.Size, got.Len())
			}
			_, err = m.Next()
			assert.Equal(t, io.EOF, err)
			n++
		}
		assert.Equal(t, 6, n)
	}
	// A loop that skips, and one that ends early.
	n := 0
	for m, err := range c.Fetch(ctx, All(), FetchItems{Sections: []Section{{}}}) {
		require.NoError(t, err)
		if n++; n == 5 {
			b, err := m.Next()
			require.NoError(t, err)
			_, err = io.ReadFull(b, make([]byte, 50000))
			require.NoError(t, err)
			break
		}
	}
	require.NoError(t, c.Noop(ctx))
	// A context that ends in the middle of a body leaves the session as it is.
	sub, cancel := context.WithCancel(ctx)
	for m, err := range c.Fetch(sub, All(), FetchItems{Sections: []Section{{}}}) {
		if err != nil {
			assert.ErrorIs(t, err, context.Canceled)
			break
		}
		if m.Seq == 5 {
			b, err := m.Next()
			require.NoError(t, err)
			cancel()
			_, err = io.Copy(io.Discard, b)
			assert.ErrorIs(t, err, context.Canceled)
		}
	}
	cancel()
	require.NoError(t, c.Noop(ctx))
}

func TestIdle(t *testing.T) {
	ctx := t.Context()
	addr, opt := server(t, nil)
	other := connect(t, addr, opt)
	seen := make(chan uint32, 10)
	opt.Handler.Exists = func(n uint32) { seen <- n }
	c := connect(t, addr, opt)
	_, err := c.Select(ctx, "INBOX", nil)
	require.NoError(t, err)
	idle, leave := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Idle(idle) }()
	_, err = other.Append(ctx, "INBOX", AppendMessage{Body: strings.NewReader(mailText(1))})
	require.NoError(t, err)
	assert.EqualValues(t, 1, <-seen)
	leave()
	require.NoError(t, <-done)
	require.NoError(t, c.Noop(ctx))
}
