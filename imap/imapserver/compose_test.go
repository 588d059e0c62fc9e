package imapserver

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/mimetree"
)

func TestMessageURL(t *testing.T) {
	for in, want := range map[string]messageURL{
		"/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER": {mailbox: "Drafts", uidValidity: 385759045, uid: 20, item: fetchItem{kind: itemSection, text: mimetree.Header}},
		"/a%2Fb/c/;uid=7":           {mailbox: "a/b/c", uid: 7, item: fetchItem{kind: itemSection}},
		";UID=7/;Section=1.2.MIME":  {uid: 7, item: fetchItem{kind: itemSection, text: mimetree.MIME, number: []uint32{1, 2}}},
		"/;UID=7/;PARTIAL=10.20":    {uid: 7, item: fetchItem{kind: itemSection, partial: true, offset: 10, count: 20}},
		"inbox/;UID=4294967295":     {mailbox: "INBOX", uid: 4294967295, item: fetchItem{kind: itemSection}},
		"/Entw%C3%BCrfe/;UID=1":     {mailbox: "Entwürfe", uid: 1, item: fetchItem{kind: itemSection}},
		"/x/;UID=1/;section=TEXT":   {mailbox: "x", uid: 1, item: fetchItem{kind: itemSection, text: mimetree.Body}},
		"/x/;UID=1/;PARTIAL=3":      {mailbox: "x", uid: 1, item: fetchItem{kind: itemSection, partial: true, offset: 3, count: 1<<63 - 1}},
		"/x;UIDVALIDITY=9/;UID=1/;": {},
	} {
		got, err := parseMessageURL(in)
		if want.uid == 0 {
			assert.Error(t, err, in)
			continue
		}
		require.NoError(t, err, in)
		assert.Equal(t, want, got, in)
	}
	for _, bad := range []string{"", "/", "/x", "/x/;UID=0", "/x/;UID=a", "//host/x/;UID=1", "imap://h/x/;UID=1", "/%zz/;UID=1",
		"/x;UIDVALIDITY=0/;UID=1", "/x/;UID=1/;section=NOPE", "/x/;UID=1/;section=1%0d%0a", "/x/;UID=1/;PARTIAL=-1", "/x/;UID=1/;PARTIAL=0.0", "/x/;UID=1;URLAUTH=anonymous"} {
		_, err := parseMessageURL(bad)
		assert.Error(t, err, bad)
	}
}

func FuzzMessageURL(f *testing.F) {
	f.Add("/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER")
	f.Add("/a/;UID=7/;section=HEADER.FIELDS%20(To)/;PARTIAL=10.20")
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := parseMessageURL(s); err == nil {
			require.NotZero(t, u.uid)
			require.False(t, u.item.partial && u.item.count <= 0)
		}
		require.NotContains(t, shownURL(s), "]")
	})
}

func TestPreview(t *testing.T) {
	ts := newServer(t, nil)
	for _, tc := range []struct{ mail, want string }{
		{"Subject: x\n\n> quoted\n  mine\t and\n\nmore\n", "mine and more"},
		{"Subject: x\n\n> only\n> quoted\n", "> only > quoted"},
		{"Content-Type: text/html\n\n<html><head><title>no</title><style>p{}</style></head><body><p>one</p><p>two &amp; <b>th</b>ree</p><!-- hid<p> --><script>x</script>", "one two & three"},
		{"Content-Type: text/html\n\n1 < 2 and <br/>so<", "1 < 2 and so<"},
		{"Content-Type: image/png\n\nxyz", ""},
		{"Subject: x\n\n" + strings.Repeat("é", 500), strings.Repeat("é", 200)},
		{"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/html\n\n<i>html</i>\n--b\nContent-Type: text/plain\nContent-Disposition: attachment\n\nfile\n--b--\n", "html"},
		{"Content-Transfer-Encoding: x-unknown\n\nabc", ""},
	} {
		ts.fill("ann", "INBOX", text(tc.mail))
		store := ts.accounts.storage("ann").Open()
		mb, err := store.Open(t.Context(), "INBOX")
		require.NoError(t, err)
		st, err := mb.State(t.Context())
		require.NoError(t, err)
		m := &message{mb: mb, uid: st.UIDNext - 1}
		got, err := m.preview(t.Context())
		require.NoError(t, err)
		assert.Equal(t, tc.want, got, tc.mail)
		m.close()
		require.NoError(t, mb.Close())
	}
	_, err := (&message{mb: gone{}}).preview(t.Context())
	require.ErrorIs(t, err, imap.ErrExpunged)
}

func FuzzHTMLText(f *testing.F) {
	f.Add("<p>one<!-- x --><style>y</style> &lt; <")
	f.Fuzz(func(t *testing.T, s string) {
		line := oneLine(htmlText(s))
		require.LessOrEqual(t, utf8.RuneCountInString(line), maxPreview)
		require.NotContains(t, line, "\n")
	})
}

// gone is a mailbox whose messages were all expunged.
type gone struct{ imap.Mailbox }

func (gone) Body(context.Context, imap.UID) (imap.Body, error) { return nil, imap.ErrExpunged }
