package imapclient

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/imapserver"
)

// What our server has beyond the base, from the other side.
func TestExtensions(t *testing.T) {
	ctx := t.Context()
	addr, opt := server(t, nil)
	c := connect(t, addr, opt)
	caps, err := c.Capabilities(ctx)
	require.NoError(t, err)
	t.Log(caps)
	has := func(t *testing.T, name string) {
		t.Helper()
		if ok, _ := c.Has(ctx, name); !ok {
			t.Skipf("the server has no %s", name)
		}
	}
	fillInbox(t, c, 5)
	t.Run("QUOTA", func(t *testing.T) {
		has(t, "QUOTA")
		roots, err := c.QuotaRoots(ctx, "INBOX")
		require.NoError(t, err)
		for _, r := range roots {
			q, err := c.Quota(ctx, r.Root)
			require.NoError(t, err)
			assert.Equal(t, r, q)
		}
	})
	t.Run("METADATA", func(t *testing.T) {
		has(t, "METADATA")
		value := "my \"own\"\r\ncömment"
		for _, mailbox := range []string{"INBOX", ""} {
			require.NoError(t, c.SetMetadata(ctx, mailbox, map[string]*string{"/private/comment": &value, "/private/vendor/x/y": &value}))
			got, err := c.Metadata(ctx, mailbox, nil, "/private/comment", "/private/none")
			require.NoError(t, err)
			assert.Equal(t, map[string]string{"/private/comment": value}, got)
			got, err = c.Metadata(ctx, mailbox, &MetadataOptions{MaxSize: 1 << 20, Depth: -1}, "/private/vendor")
			require.NoError(t, err)
			assert.Equal(t, map[string]string{"/private/vendor/x/y": value}, got)
			require.NoError(t, c.SetMetadata(ctx, mailbox, map[string]*string{"/private/vendor/x/y": nil}))
			got, err = c.Metadata(ctx, mailbox, nil, "/private/vendor/x/y")
			require.NoError(t, err)
			assert.Empty(t, got)
		}
		for l, err := range c.List(ctx, &ListOptions{ReturnMetadata: []string{"/private/comment"}}, "INBOX") {
			require.NoError(t, err)
			assert.Equal(t, map[string]string{"/private/comment": value}, l.Metadata)
		}
	})
	t.Run("ACL", func(t *testing.T) {
		has(t, "ACL")
		mine, err := c.MyRights(ctx, "INBOX")
		require.NoError(t, err)
		assert.Contains(t, mine, "l")
		require.NoError(t, c.SetACL(ctx, "INBOX", "ben", "lrs"))
		require.NoError(t, c.SetACL(ctx, "INBOX", "ben", "+i"))
		list, err := c.ACL(ctx, "INBOX")
		require.NoError(t, err)
		for _, r := range "lrsi" {
			assert.Contains(t, list["ben"], string(r))
		}
		may, err := c.ListRights(ctx, "INBOX", "ben")
		require.NoError(t, err)
		assert.Equal(t, "ben", may.Identifier)
		require.NoError(t, c.DeleteACL(ctx, "INBOX", "ben"))
		for l, err := range c.List(ctx, &ListOptions{ReturnMyRights: true}, "INBOX") {
			require.NoError(t, err)
			assert.Equal(t, mine, l.MyRights)
		}
	})
	t.Run("MULTISEARCH", func(t *testing.T) {
		has(t, "MULTISEARCH")
		_, err := c.Create(ctx, "more", nil)
		require.NoError(t, err)
		_, err = c.Copy(ctx, UIDs(imap.UIDSet{{First: 2, Last: 3}}), "more")
		require.NoError(t, err)
		found, err := c.SearchMailboxes(ctx, []Source{{Kind: SourcePersonal}}, Criteria{}.Subject("message 3"), &SearchOptions{All: true, Count: true})
		require.NoError(t, err)
		got := map[string]string{}
		for _, m := range found {
			got[m.Mailbox] = fmt.Sprint(m.All, m.Count)
		}
		assert.Equal(t, map[string]string{"INBOX": "3 1", "more": "2 1"}, got)
	})
	t.Run("FUZZY", func(t *testing.T) {
		has(t, "SEARCH=FUZZY")
		found, err := c.Search(ctx, Criteria{}.Fuzzy(Criteria{}.Subject("message")), &SearchOptions{All: true, Relevancy: true})
		require.NoError(t, err)
		assert.Len(t, found.Relevancy, 5)
		order, err := c.Sort(ctx, []SortKey{SortRelevancy}, Criteria{}.Fuzzy(Criteria{}.Text("text of message 3")), &SearchOptions{Partial: Partial{1, 3}})
		require.NoError(t, err)
		assert.NotEmpty(t, order.Order)
	})
	t.Run("LANGUAGE", func(t *testing.T) {
		has(t, "LANGUAGE")
		l, err := c.Language(ctx)
		require.NoError(t, err)
		assert.NotEmpty(t, l)
		active, err := c.Comparator(ctx)
		require.NoError(t, err)
		assert.NotEmpty(t, active.Active)
	})
	t.Run("UIDBATCHES", func(t *testing.T) {
		has(t, "UIDBATCHES")
		b, err := c.UIDBatches(ctx, 1000, 0, 0)
		require.NoError(t, err)
		assert.Equal(t, []imap.Range[imap.UID]{{First: 1, Last: 5}}, b)
		_, err = c.UIDBatches(ctx, 1, 1, 2)
		var refused *Error
		require.ErrorAs(t, err, &refused)
		assert.Equal(t, "TOOFEW", refused.Code)
	})
	t.Run("UNAUTHENTICATE", func(t *testing.T) {
		has(t, "UNAUTHENTICATE")
		d := connect(t, addr, opt)
		for _, user := range []string{"ben", "ann"} {
			require.NoError(t, d.Compress(ctx))
			require.NoError(t, d.Noop(ctx))
			require.NoError(t, d.Unauthenticate(ctx))
			assert.False(t, d.Compressed())
			require.NoError(t, d.Login(ctx, user, "secret"))
		}
		s, err := d.Select(ctx, "INBOX", nil)
		require.NoError(t, err)
		assert.EqualValues(t, 5, s.Messages)
	})
	t.Run("THREAD=REFS", func(t *testing.T) {
		has(t, "THREAD=REFS")
		roots, err := c.ThreadSeqs(ctx, ThreadRefs, Criteria{})
		require.NoError(t, err)
		assert.Len(t, roots, 5)
	})
	t.Run("URLAUTH", func(t *testing.T) {
		has(t, "URLAUTH")
		urls, err := c.URLAuth(ctx, "imap://ann@localhost/INBOX/;UID=1/;SECTION=TEXT;URLAUTH=anonymous")
		var refused *Error
		if assert.NotErrorAs(t, err, &refused) {
			got, err := c.URLFetch(ctx, urls...)
			require.NoError(t, err)
			assert.Equal(t, "Text of message 1.\r\n", got[urls[0]])
			require.NoError(t, c.ResetKey(ctx, "INBOX"))
			got, err = c.URLFetch(ctx, urls...)
			require.NoError(t, err)
			assert.Empty(t, got)
		}
	})
	t.Run("CONTEXT", func(t *testing.T) {
		has(t, "CONTEXT=SEARCH")
		updates := make(chan *SearchUpdate, 10)
		opt := opt
		opt.Handler.Results = func(u *SearchUpdate) { updates <- u }
		d := connect(t, addr, opt)
		_, err := d.Select(ctx, "INBOX", nil)
		require.NoError(t, err)
		r, err := d.Search(ctx, Criteria{}.Flag(imap.FlagFlagged), &SearchOptions{All: true, Update: true})
		require.NoError(t, err)
		if !r.Update {
			t.Skip("the server sends no updates")
		}
		_, err = c.Store(ctx, UIDs(imap.NumSetOf[imap.UID](2)), imap.FlagOp{Flags: imap.NewFlags(imap.FlagFlagged)}, nil)
		require.NoError(t, err)
		require.NoError(t, d.Noop(ctx))
		u := <-updates
		assert.Equal(t, r.Tag, u.Tag)
		assert.Equal(t, []uint32{2}, u.Changes[0].Nums)
		require.NoError(t, d.CancelUpdate(ctx, r.Tag))
	})
	t.Run("UTF8", func(t *testing.T) {
		has(t, "UTF8=ACCEPT")
		d := connect(t, addr, opt)
		_, err := d.Enable(ctx, "UTF8=ACCEPT")
		require.NoError(t, err)
		_, err = d.Create(ctx, "Gemüse & Obst", nil)
		require.NoError(t, err)
		_, err = d.Append(ctx, "Gemüse & Obst", AppendMessage{Body: strings.NewReader("Subject: Möhren\r\n\r\nx\r\n"), UTF8: true})
		require.NoError(t, err)
		_, err = d.Select(ctx, "Gemüse & Obst", nil)
		require.NoError(t, err)
		for m, err := range d.Fetch(ctx, All(), FetchItems{Envelope: true}) {
			require.NoError(t, err)
			assert.Equal(t, "Möhren", m.Envelope.Subject)
		}
		found, err := d.Search(ctx, Criteria{}.Subject("MÖHREN"), nil)
		require.NoError(t, err)
		assert.Equal(t, "1", found.All.String())
		s, err := c.Status(ctx, "Gemüse & Obst", StatusMessages) // in modified UTF-7
		require.NoError(t, err)
		assert.EqualValues(t, 1, s.Messages)
	})
}

func TestUIDOnly(t *testing.T) {
	ctx := t.Context()
	addr, opt := server(t, func(s *imapserver.Server) { s.Advertise = func(*imapserver.Client, string) bool { return true } })
	other := connect(t, addr, opt)
	if ok, _ := other.Has(ctx, "UIDONLY"); !ok {
		t.Skip("the server has no UIDONLY")
	}
	var gone imap.UIDSet
	opt.Handler.Vanish = func(s imap.UIDSet) { gone = gone.Union(s) }
	c := connect(t, addr, opt)
	_, err := c.Enable(ctx, "UIDONLY")
	require.NoError(t, err)
	fillInbox(t, c, 3)
	n := 0
	for m, err := range c.Fetch(ctx, All(), FetchItems{Size: true}) {
		require.NoError(t, err)
		n++
		assert.Zero(t, m.Seq)
		assert.EqualValues(t, n, m.UID)
		assert.NotZero(t, m.Size)
	}
	assert.Equal(t, 3, n)
	r, err := c.Store(ctx, UIDs(imap.NumSetOf[imap.UID](2)), imap.FlagOp{Flags: imap.NewFlags(imap.FlagDeleted)}, nil)
	require.NoError(t, err)
	require.Len(t, r.Messages, 1)
	require.NoError(t, c.Expunge(ctx))
	require.NoError(t, c.Noop(ctx))
	assert.Equal(t, "2", gone.String())
}

func TestNotify(t *testing.T) {
	ctx := t.Context()
	addr, opt := server(t, nil)
	other := connect(t, addr, opt)
	events := make(chan string, 100)
	opt.Handler = Handler{
		Exists:  func(n uint32) { events <- fmt.Sprint("exists ", n) },
		Fetch:   func(m *Message) { events <- fmt.Sprint("fetch ", m.UID, " ", m.Envelope != nil) },
		Mailbox: func(s *MailboxStatus) { events <- fmt.Sprint("mailbox ", s.Mailbox, " ", s.Messages) },
		List:    func(l *Listing) { events <- "list " + l.Mailbox },
	}
	c := connect(t, addr, opt)
	if ok, _ := c.Has(ctx, "NOTIFY"); !ok {
		t.Skip("the server has no NOTIFY")
	}
	_, err := c.Create(ctx, "a", nil)
	require.NoError(t, err)
	_, err = c.Select(ctx, "INBOX", nil)
	require.NoError(t, err)
	require.NoError(t, c.Notify(ctx, nil,
		NotifyGroup{Of: Source{Kind: SourceSelected}, Events: []Event{EventMessageNew, EventMessageExpunge}, New: &FetchItems{Envelope: true}},
		NotifyGroup{Of: Source{Kind: SourcePersonal}, Events: []Event{EventMessageNew, EventMessageExpunge, EventMailboxName}}))
	_, err = other.Append(ctx, "INBOX", AppendMessage{Body: strings.NewReader(mailText(1))})
	require.NoError(t, err)
	assert.Equal(t, "exists 1", <-events)
	assert.Equal(t, "fetch 1 true", <-events)
	_, err = other.Append(ctx, "a", AppendMessage{Body: strings.NewReader(mailText(1))})
	require.NoError(t, err)
	assert.Equal(t, "mailbox a 1", <-events)
	_, err = other.Create(ctx, "b", nil)
	require.NoError(t, err)
	assert.Equal(t, "list b", <-events)
	require.NoError(t, c.Notify(ctx, nil))
}
