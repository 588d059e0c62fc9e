package imapclient

import (
	"context"
	"crypto/tls"
	"errors"
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

func TestStartTLS(t *testing.T) {
	opt := &ClientOptions{TLS: &tls.Config{RootCAs: testPool}}
	c, err := NewClient(t.Context(), scripted(t, `
		S: * OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hello
		C: T STARTTLS
		S: T OK [CAPABILITY IMAP4rev1 INJECTED] go
		TLS
		C: T CAPABILITY
		S: * CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR
		S: T OK done
		C: T AUTHENTICATE PLAIN AGFubgBzZWNyZXQ=
		S: T OK [CAPABILITY IMAP4rev1 MOVE] in
	`), "peer.test", opt)
	require.NoError(t, err)
	assert.True(t, c.TLS())
	ok, err := c.Has(t.Context(), "INJECTED")
	require.NoError(t, err)
	assert.False(t, ok)
	require.NoError(t, c.Auth(t.Context(), sasl.NewPlainClient("", "ann", "secret")))
	ok, err = c.Has(t.Context(), "MOVE")
	require.NoError(t, err)
	assert.True(t, ok)
}

func TestNoTLS(t *testing.T) {
	for _, tc := range []struct {
		name, script string
		want         error
	}{
		{"not offered", "S: * OK [CAPABILITY IMAP4rev1] hello\nC: T STARTTLS\nS: T BAD what?", ErrNoTLS},
		{"refused", "S: * OK [CAPABILITY IMAP4rev1 STARTTLS] hello\nC: T STARTTLS\nS: T NO not now", ErrNoTLS},
		{"PREAUTH", "S: * PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] hello", ErrNoTLS},
		{"injection", "S: * OK [CAPABILITY IMAP4rev1 STARTTLS] hello\nC: T STARTTLS\nS! m1 OK go\\r\\n* PREAUTH in\\r\\n", ErrProtocol},
		{"BYE", "S: * BYE too many", nil},
		{"no greeting", "S: 220 mx.test ESMTP", ErrProtocol},
		{"closed", "close", io.ErrUnexpectedEOF},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := NewClient(t.Context(), scripted(t, tc.script), "peer.test", nil)
			require.Error(t, err)
			if tc.want != nil {
				assert.ErrorIs(t, err, tc.want)
			} else {
				var bye *Error
				require.ErrorAs(t, err, &bye)
				assert.Equal(t, "BYE", bye.Kind)
			}
		})
	}
	c := greeted(t, "S: * OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hello", nil)
	c.opt.InsecureAuth = false
	assert.ErrorIs(t, c.Login(t.Context(), "a", "b"), ErrNeedTLS)
	assert.ErrorIs(t, c.Auth(t.Context(), sasl.NewPlainClient("", "a", "b")), ErrNeedTLS)
	c.opt.InsecureAuth = true
	assert.ErrorIs(t, c.Login(t.Context(), "a", "b"), ErrNoCapability)
}

var errUnproved = errors.New("no proof")

// unproved is a mechanism that waits for the server's proof in vain.
type unproved struct{ sasl.Client }

func (unproved) Proved() error { return errUnproved }

func TestServerProof(t *testing.T) {
	c := greeted(t, `
		S: * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hello
		C: T AUTHENTICATE PLAIN AGFubgBzZWNyZXQ=
		S: T OK in
		close
	`, nil)
	assert.ErrorIs(t, c.Auth(t.Context(), unproved{sasl.NewPlainClient("", "ann", "secret")}), errUnproved)
}

func TestAuth(t *testing.T) {
	c := greeted(t, `
		S: * OK hello
		C: T CAPABILITY
		S: * CAPABILITY IMAP4rev1 AUTH=PLAIN
		S: T OK done
		C: T AUTHENTICATE PLAIN
		S: + 
		C: AGFubgBzZWNyZXQ=
		S: T NO [AUTHENTICATIONFAILED] no
		C: T AUTHENTICATE LOGIN
		S: + VXNlcm5hbWU6
		C: YW5u
		S: + not base64!
		C: *
		S: T BAD cancelled
		C: T LOGIN "ann" {8}
		S: + go on
		C: gehäim!
		S: T OK in
		C: T CAPABILITY
		S: * CAPABILITY IMAP4rev1
		S: T OK done
		C: T LOGOUT
		S: * BYE bye
		S: T OK done
		close
	`, nil)
	ctx := t.Context()
	var refused *Error
	require.ErrorAs(t, c.Auth(ctx, sasl.NewPlainClient("", "ann", "secret")), &refused)
	assert.Equal(t, "AUTHENTICATIONFAILED", refused.Code)
	assert.Equal(t, "NO [AUTHENTICATIONFAILED] no", refused.Line)
	assert.ErrorIs(t, c.Auth(ctx, sasl.NewLoginClient("ann", "secret")), ErrProtocol)
	require.NoError(t, c.Login(ctx, "ann", "gehäim!"))
	ok, err := c.Has(ctx, "STARTTLS")
	require.NoError(t, err)
	assert.False(t, ok)
	require.NoError(t, c.Logout(ctx))
}

// each is a table of calls with the dialogue they make. All of them share one connection.
func TestCommands(t *testing.T) {
	ctx := t.Context()
	nilText := (*string)(nil)
	text := func(s string) *string { return &s }
	day := time.Date(1994, 2, 1, 0, 0, 0, 0, time.UTC)
	uid := func(n ...imap.UID) Set { return UIDs(imap.NumSetOf(n...)) }
	for _, tc := range []struct {
		name, caps, script string
		call               func(c *Client) (any, error)
		want               any
	}{
		{"ID", "ID", "C: T ID (\"name\" \"sodr\")\nS: * ID (\"name\" \"Cyrus\" \"os\" NIL)\nS: T OK done",
			func(c *Client) (any, error) { return c.ID(ctx, map[string]string{"name": "sodr"}) }, map[string]string{"name": "Cyrus", "os": ""}},
		{"NAMESPACE", "NAMESPACE", `C: T NAMESPACE
			S: * NAMESPACE (("" "/")("#mh/" "/" "X-PARAM" ("FLAG1" "FLAG2"))) (("~" "/")) NIL
			S: T OK done`,
			func(c *Client) (any, error) { return c.Namespace(ctx) },
			&Namespaces{Personal: []Namespace{{"", "/"}, {"#mh/", "/"}}, Others: []Namespace{{"~", "/"}}}},
		{"LANGUAGE", "LANGUAGE", "C: T LANGUAGE FR-CA\nS: * LANGUAGE (FR)\nS: T OK c'est fait",
			func(c *Client) (any, error) { return c.Language(ctx, "FR-CA") }, []string{"FR"}},
		{"COMPARATOR", "I18NLEVEL=2", "C: T COMPARATOR \"cz;*\" \"i;basic\"\nS: * COMPARATOR i;basic\nS: T OK done",
			func(c *Client) (any, error) { return c.Comparator(ctx, "cz;*", "i;basic") }, &Comparator{Active: "i;basic"}},
		{"LSUB", "", "C: T LSUB \"\" \"#news.*\"\nS: * LSUB () \".\" #news.comp\nS: * LSUB (\\Noselect) \".\" &AOk-\nS: T OK done",
			func(c *Client) (any, error) { return c.Lsub(ctx, "", "#news.*") },
			[]*Listing{{Mailbox: "#news.comp", Delim: "."}, {Mailbox: "é", Delim: ".", Attrs: []string{`\Noselect`}}}},
		{"LIST", "LIST-EXTENDED SPECIAL-USE LIST-STATUS LIST-METADATA LIST-MYRIGHTS", `C: T LIST (SUBSCRIBED RECURSIVEMATCH) "" ("%" "a b") RETURN (CHILDREN MYRIGHTS STATUS (MESSAGES) METADATA (/shared/comment))
			S: * LIST (\Subscribed \HasNoChildren) "/" Foo ("CHILDINFO" ("SUBSCRIBED") "OLDNAME" ("Bar") "X-NEW" (a (b)))
			S: * STATUS Foo (MESSAGES 7 APPENDLIMIT NIL X-NEW (1))
			S: * MYRIGHTS Foo lrs
			S: * METADATA Foo (/shared/comment {2}
			S: hi)
			S: T OK done`,
			func(c *Client) (any, error) {
				return c.list(ctx, &ListOptions{Subscribed: true, Recursive: true, ReturnChildren: true, ReturnMyRights: true, ReturnStatus: []StatusItem{StatusMessages}, ReturnMetadata: []string{"/shared/comment"}}, []string{"%", "a b"})
			},
			[]*Listing{{Mailbox: "Foo", Delim: "/", Attrs: []string{`\Subscribed`, `\HasNoChildren`}, ChildInfo: []string{"SUBSCRIBED"}, OldName: "Bar", MyRights: "lrs",
				Status: &MailboxStatus{Mailbox: "Foo", Messages: 7, AppendLimit: -1}, Metadata: map[string]string{"/shared/comment": "hi"}}}},
		{"STATUS", "", "C: T STATUS blurdybloop (UIDNEXT MAILBOXID)\nS: * STATUS blurdybloop (UIDNEXT 44292 MAILBOXID (F2212ea87))\nS: T OK done",
			func(c *Client) (any, error) { return c.Status(ctx, "blurdybloop", StatusUIDNext, StatusMailboxID) },
			&MailboxStatus{Mailbox: "blurdybloop", UIDNext: 44292, MailboxID: "F2212ea87"}},
		{"SELECT", "CONDSTORE", `C: T SELECT INBOX (CONDSTORE)
			S: * 172 EXISTS
			S: * 1 RECENT
			S: * OK [UNSEEN 12] Message 12 is first unseen
			S: * OK [UIDVALIDITY 3857529045] UIDs valid
			S: * OK [UIDNEXT 4392] Predicted next UID
			S: * FLAGS (\Answered \Flagged $odd])
			S: * OK [PERMANENTFLAGS (\Deleted \*)] Limited
			S: * OK [HIGHESTMODSEQ 715194045007]
			S: * OK [MAILBOXID (abc)] Ok
			S: T OK [READ-ONLY] done`,
			func(c *Client) (any, error) { return c.Select(ctx, "INBOX", &SelectOptions{CondStore: true}) },
			&Selected{Mailbox: "INBOX", ReadOnly: true, Messages: 172, Recent: 1, FirstUnseen: 12, UIDValidity: 3857529045, UIDNext: 4392, HighestModSeq: 715194045007,
				Flags: []imap.Flag{`\Answered`, `\Flagged`, "$odd]"}, PermanentFlags: []imap.Flag{`\Deleted`, `\*`}, MailboxID: "abc"}},
		{"QRESYNC", "ENABLE QRESYNC", `C: T ENABLE QRESYNC
			S: * ENABLED QRESYNC
			S: T OK done
			C: T SELECT INBOX (QRESYNC (67890007 20050715194045000 41,43:211 (1,7 41,43)))
			S: * OK [CLOSED] Previous
			S: * 100 EXISTS
			S: * OK [UIDVALIDITY 67890007] UIDVALIDITY
			S: * OK [HIGHESTMODSEQ 20060115205545359] Highest
			S: * VANISHED (EARLIER) 41,43:116,118
			S: * 49 FETCH (UID 117 FLAGS (\Seen) MODSEQ (20060115194045001))
			S: T OK [READ-WRITE] done`,
			func(c *Client) (any, error) {
				if _, err := c.Enable(ctx, "QRESYNC"); err != nil {
					return nil, err
				}
				s, err := c.Select(ctx, "INBOX", &SelectOptions{QResync: &QResync{UIDValidity: 67890007, ModSeq: 20050715194045000, Known: imap.UIDSet{{First: 41, Last: 41}, {First: 43, Last: 211}}, SeqMatch: []SeqUID{{1, 41}, {7, 43}}}})
				if err != nil {
					return nil, err
				}
				m := s.Changed[0]
				return fmt.Sprint(s.Vanished, s.Messages, m.UID, m.Flags, m.ModSeq), nil
			}, "41,43:116,118 100 117 (\\Seen) 20060115194045001"},
		{"COPYUID", "UIDPLUS", "C: T UID COPY 304,319:320 meeting\nS: T OK [COPYUID 38505 304,319:320 3956:3958] Done",
			func(c *Client) (any, error) { return c.Copy(ctx, uid(304, 319, 320), "meeting") },
			imap.Copied{UIDValidity: 38505, From: []imap.UID{304, 319, 320}, To: []imap.UID{3956, 3957, 3958}}},
		{"MOVE", "MOVE", "C: T MOVE 42:69 foo\nS: * OK [COPYUID 432432 42 1202]\nS: * 22 EXPUNGE\nS: T OK Done",
			func(c *Client) (any, error) { return c.Move(ctx, Seqs(imap.SeqSet{{First: 42, Last: 69}}), "foo") },
			imap.Copied{UIDValidity: 432432, From: []imap.UID{42}, To: []imap.UID{1202}}},
		{"MOVE without MOVE", "UIDPLUS", `C: T UID COPY 7 foo
			S: T OK done
			C: T UID STORE 7 +FLAGS.SILENT (\Deleted)
			S: T OK done
			C: T UID EXPUNGE 7
			S: T OK done`,
			func(c *Client) (any, error) { return c.Move(ctx, uid(7), "foo") }, imap.Copied{}},
		{"STORE", "CONDSTORE", `C: T STORE 7,5,9 (UNCHANGEDSINCE 320162338) +FLAGS.SILENT (\Deleted)
			S: * 5 FETCH (MODSEQ (320162350))
			S: T OK [MODIFIED 7,9] Conditional STORE failed`,
			func(c *Client) (any, error) {
				r, err := c.Store(ctx, SeqSpec(imap.SetSpec{{First: 7, Last: 7}, {First: 5, Last: 5}, {First: 9, Last: 9}}), imap.FlagOp{Flags: imap.NewFlags(imap.FlagDeleted)}, &StoreOptions{Silent: true, UnchangedSince: 320162338})
				if err != nil {
					return nil, err
				}
				return fmt.Sprint(r.ConflictSeq, " ", r.Messages[0].Seq, r.Messages[0].ModSeq), nil
			}, "7,9 5 320162350"},
		{"APPEND", "MULTIAPPEND LITERAL+ BINARY", "C: T APPEND saved-messages (\\Seen) \" 7-Feb-1994 21:52:25 -0800\" {6+}\nC: abcd\nC:  ~{2+}\nC! 4\nS: T OK [APPENDUID 38505 3955:3956] done",
			func(c *Client) (any, error) {
				return c.Append(ctx, "saved-messages", AppendMessage{Flags: imap.NewFlags(imap.FlagSeen), InternalDate: time.Date(1994, 2, 7, 21, 52, 25, 0, time.FixedZone("", -8*3600)), Body: strings.NewReader("abcd\r\n")},
					AppendMessage{Body: strings.NewReader("\x00\x01"), Size: 2, Binary: true})
			}, imap.AppendResult{UIDValidity: 38505, UIDs: []imap.UID{3955, 3956}}},
		{"APPEND refused", "LITERAL-", "C: T APPEND x {5000}\nS: T NO [OVERQUOTA] too much",
			func(c *Client) (any, error) {
				_, err := c.Append(ctx, "x", AppendMessage{Body: strings.NewReader(strings.Repeat("x", 5000))})
				return errors.Is(err, imap.ErrOverQuota), nil
			}, true},
		{"CATENATE", "CATENATE LITERAL-", "C: T APPEND Drafts CATENATE (URL \"/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER\" TEXT {4+}\nC: ab\nC: )\nS: T NO [BADURL \"/Drafts/;UID=20\"] gone",
			func(c *Client) (any, error) {
				_, err := c.Append(ctx, "Drafts", AppendMessage{Catenate: []CatenatePart{{URL: "/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER"}, {Body: strings.NewReader("ab\r\n")}}})
				var e *Error
				if !errors.As(err, &e) {
					return nil, err
				}
				url, _ := e.URLError()
				return url, nil
			}, "/Drafts/;UID=20"},
		{"REPLACE", "REPLACE LITERAL+", "C: T UID REPLACE 2000 Drafts (\\Draft) {4+}\nC: ab\nC: \nS: * OK [APPENDUID 1 2001] Replacement\nS: * 5 EXPUNGE\nS: T OK done",
			func(c *Client) (any, error) {
				return c.Replace(ctx, 2000, "Drafts", AppendMessage{Flags: imap.NewFlags(imap.FlagDraft), Body: strings.NewReader("ab\r\n")})
			}, imap.AppendResult{UIDValidity: 1, UIDs: []imap.UID{2001}}},
		{"SEARCH", "", "C: T UID SEARCH CHARSET UTF-8 FLAGGED UNKEYWORD $Junk SINCE 1-Feb-1994 NOT (FROM Smith) SUBJECT {3}\nS: + go\nC: é!\nS: * SEARCH 2 84 882 (MODSEQ 917162500)\nS: T OK done",
			func(c *Client) (any, error) {
				r, err := c.Search(ctx, Criteria{}.Flag(imap.FlagFlagged).NotFlag("$Junk").Since(day).Not(Criteria{}.From("Smith")).Subject("é!"), nil)
				if err != nil {
					return nil, err
				}
				return fmt.Sprint(r.All, r.Min, r.Max, r.Count, r.ModSeq), nil
			}, "2,84,882 2 882 3 917162500"},
		{"ESEARCH", "ESEARCH", "C: T UID SEARCH RETURN (MIN MAX COUNT ALL PARTIAL -1:-10 RELEVANCY SAVE) FUZZY (TEXT helo) OR (SMALLER 5) (ALL) UID 1:9\nS: * ESEARCH (TAG \"m1\") UID MIN 7 MAX 3800 COUNT 3 ALL 7:8,3800 PARTIAL (-1:-10 NIL) RELEVANCY (4 99 42) X-NEW (1 (2)) MODSEQ 5\nS: T OK done",
			func(c *Client) (any, error) {
				r, err := c.Search(ctx, Criteria{}.Fuzzy(Criteria{}.Text("helo")).Or(Criteria{}.Smaller(5), Criteria{}).In(UIDs(imap.UIDSet{{First: 1, Last: 9}})),
					&SearchOptions{Min: true, Max: true, Count: true, All: true, Partial: Partial{-1, -10}, Relevancy: true, Save: true})
				if err != nil {
					return nil, err
				}
				return *r, nil
			}, SearchResult[imap.UID]{Min: 7, Max: 3800, Count: 3, All: imap.UIDSet{{First: 7, Last: 8}, {First: 3800, Last: 3800}}, Relevancy: []int{4, 99, 42}, ModSeq: 5, Tag: "m1"}},
		{"SORT", "SORT", "C: T UID SORT (REVERSE DATE SUBJECT) UTF-8 ALL\nS: * SORT 5 3 4 1\nS: T OK done",
			func(c *Client) (any, error) {
				r, err := c.Sort(ctx, []SortKey{SortDate.Reverse(), SortSubject}, Criteria{}, nil)
				if err != nil {
					return nil, err
				}
				return r.Order, nil
			}, []imap.UID{5, 3, 4, 1}},
		{"ESORT", "SORT ESORT", "C: T UID SORT RETURN (PARTIAL 1:6) (ARRIVAL) UTF-8 ALL\nS: * ESEARCH (TAG \"m1\") UID PARTIAL (1:6 23765,9:7,1)\nS: T OK done",
			func(c *Client) (any, error) {
				r, err := c.Sort(ctx, []SortKey{SortArrival}, Criteria{}, &SearchOptions{Partial: Partial{1, 6}})
				if err != nil {
					return nil, err
				}
				return r.Order, nil
			}, []imap.UID{23765, 9, 8, 7, 1}},
		{"THREAD", "THREAD=REFERENCES", "C: T UID THREAD REFERENCES UTF-8 ALL\nS: * THREAD (166)(167)(168)(169 (170)(171 172 (173)(174 (175)(176 (178))(180))(179 (177 (181)(182))(183))))((3)(5))\nS: T OK done",
			func(c *Client) (any, error) {
				r, err := c.Threads(ctx, ThreadReferences, Criteria{})
				s := ""
				for _, x := range r {
					s += x.String()
				}
				return s, err
			}, "(166)(167)(168)(169 (170)(171 172 (173)(174 (175)(176 178)(180))(179 (177 (181)(182))(183))))((3)(5))"},
		{"MULTISEARCH", "MULTISEARCH", "C: T ESEARCH IN (mailboxes (folder1) subtree (folder2)) RETURN (ALL) UNSEEN\nS: * ESEARCH (TAG \"m1\" MAILBOX \"folder1\" UIDVALIDITY 1) UID ALL 4001,4003\nS: * ESEARCH (TAG \"m1\" MAILBOX \"folder2/a\" UIDVALIDITY 2) UID ALL 3\nS: T OK done",
			func(c *Client) (any, error) {
				r, err := c.SearchMailboxes(ctx, []Source{{SourceNamed, []string{"folder1"}}, {SourceSubtree, []string{"folder2"}}}, Criteria{}.NotFlag(imap.FlagSeen), nil)
				s := ""
				for _, m := range r {
					s += fmt.Sprintln(m.Mailbox, m.UIDValidity, m.All)
				}
				return s, err
			}, "folder1 1 4001,4003\nfolder2/a 2 3\n"},
		{"ACL", "ACL", "C: T GETACL INBOX\nS: * ACL INBOX Fred rwipsldexta \"-ben\" r\nS: T OK done",
			func(c *Client) (any, error) { return c.ACL(ctx, "INBOX") }, map[string]string{"Fred": "rwipsldexta", "-ben": "r"}},
		{"SETACL", "ACL", "C: T SETACL INBOX John +r\nS: T OK done\nC: T DELETEACL INBOX John\nS: T OK done\nC: T MYRIGHTS INBOX\nS: * MYRIGHTS INBOX rwi\nS: T OK done",
			func(c *Client) (any, error) {
				if err := errors.Join(c.SetACL(ctx, "INBOX", "John", "+r"), c.DeleteACL(ctx, "INBOX", "John")); err != nil {
					return nil, err
				}
				return c.MyRights(ctx, "INBOX")
			}, "rwi"},
		{"LISTRIGHTS", "ACL", "C: T LISTRIGHTS ~/Mail/saved smith\nS: * LISTRIGHTS ~/Mail/saved smith la r swicdkxte\nS: T OK done",
			func(c *Client) (any, error) { return c.ListRights(ctx, "~/Mail/saved", "smith") },
			&ListRights{"~/Mail/saved", "smith", "la", []string{"r", "swicdkxte"}}},
		{"QUOTAROOT", "QUOTA", "C: T GETQUOTAROOT INBOX\nS: * QUOTAROOT INBOX \"\"\nS: * QUOTA \"\" (STORAGE 10 512 MESSAGE 1 2)\nS: T OK done",
			func(c *Client) (any, error) { return c.QuotaRoots(ctx, "INBOX") },
			[]*Quota{{"", map[QuotaResource]QuotaUse{QuotaStorage: {10, 512}, QuotaMessage: {1, 2}}}}},
		{"SETQUOTA", "QUOTASET QUOTA", "C: T SETQUOTA \"\" (STORAGE 512)\nS: * QUOTA \"\" (STORAGE 10 512)\nS: T OK done\nC: T GETQUOTA #root\nS: * QUOTA #root ()\nS: T OK done",
			func(c *Client) (any, error) {
				if err := c.SetQuota(ctx, "", map[QuotaResource]uint64{QuotaStorage: 512}); err != nil {
					return nil, err
				}
				return c.Quota(ctx, "#root")
			}, &Quota{"#root", map[QuotaResource]QuotaUse{}}},
		{"GETMETADATA", "METADATA", "C: T GETMETADATA (MAXSIZE 1024 DEPTH infinity) INBOX (/shared/comment /private/comment)\nS: * METADATA INBOX (/shared/comment \"Shared\" /private/comment NIL /private/x ~{3}\nS! a\\x00b)\\r\\n\nS: T OK [METADATA LONGENTRIES 2199] done",
			func(c *Client) (any, error) {
				return c.Metadata(ctx, "INBOX", &MetadataOptions{MaxSize: 1024, Depth: -1}, "/shared/comment", "/private/comment")
			}, map[string]string{"/shared/comment": "Shared", "/private/x": "a\x00b"}},
		{"SETMETADATA", "METADATA LITERAL+", "C: T SETMETADATA INBOX (/private/a NIL /private/b \"my \\\"new\\\" comment\" /private/c {5+}\nC: a\nC: bc)\nS: T OK done",
			func(c *Client) (any, error) {
				return nil, c.SetMetadata(ctx, "INBOX", map[string]*string{"/private/a": nilText, "/private/b": text(`my "new" comment`), "/private/c": text("a\r\nbc")})
			}, nil},
		{"URLAUTH", "URLAUTH", "C: T GENURLAUTH \"imap://joe@example.com/INBOX/;uid=20/;urlauth=submit+fred\" INTERNAL\nS: * GENURLAUTH \"imap://joe@example.com/INBOX/;uid=20/;urlauth=submit+fred:internal:91354a\"\nS: T OK done\nC: T URLFETCH \"imap://a\" \"imap://b\"\nS: * URLFETCH \"imap://a\" {2}\nS: Si \"imap://b\" NIL\nS: T OK done\nC: T RESETKEY\nS: T OK done\nC: T RESETKEY INBOX\nS: T OK done",
			func(c *Client) (any, error) {
				u, err := c.URLAuth(ctx, "imap://joe@example.com/INBOX/;uid=20/;urlauth=submit+fred")
				if err != nil {
					return nil, err
				}
				got, err := c.URLFetch(ctx, "imap://a", "imap://b")
				return fmt.Sprint(u, got), errors.Join(err, c.ResetKey(ctx, ""), c.ResetKey(ctx, "INBOX"))
			}, "[imap://joe@example.com/INBOX/;uid=20/;urlauth=submit+fred:internal:91354a] map[imap://a:Si]"},
		{"NOTIFY", "NOTIFY", "C: T NOTIFY SET STATUS (selected (MessageNew (UID FLAGS) MessageExpunge)) (mailboxes (Lists/Lemonade) (FlagChange)) (inboxes NONE)\nS: * STATUS Lists/Lemonade (UIDVALIDITY 4)\nS: T OK done\nC: T NOTIFY NONE\nS: T OK done",
			func(c *Client) (any, error) {
				err := c.Notify(ctx, &NotifyOptions{Status: true},
					NotifyGroup{Of: Source{Kind: SourceSelected}, Events: []Event{EventMessageNew, EventMessageExpunge}, New: &FetchItems{Flags: true}},
					NotifyGroup{Of: Source{SourceNamed, []string{"Lists/Lemonade"}}, Events: []Event{EventFlagChange}},
					NotifyGroup{Of: Source{Kind: SourceInboxes}})
				return nil, errors.Join(err, c.Notify(ctx, nil))
			}, nil},
		{"UTF8", "ENABLE", "C: T ENABLE UTF8=ACCEPT\nS: * ENABLED UTF8=ACCEPT\nS: T OK done\nC: T CREATE \"Entwürfe\"\nS: T OK [MAILBOXID (F1)] done\nC: T APPEND INBOX UTF8 (~{2}\nS: + go\nC! 2\nC: )\nS: T OK done",
			func(c *Client) (any, error) {
				if _, err := c.Enable(ctx, "UTF8=ACCEPT"); err != nil {
					return nil, err
				}
				id, err := c.Create(ctx, "Entwürfe", nil)
				if err != nil {
					return nil, err
				}
				_, err = c.Append(ctx, "INBOX", AppendMessage{Body: strings.NewReader("é"), UTF8: true})
				return id, err
			}, "F1"},
		{"CANCELUPDATE", "CONTEXT=SEARCH ESEARCH", "C: T UID SEARCH RETURN (ALL UPDATE) ALL\nS: * ESEARCH (TAG \"m1\") UID ALL 1\nS: * NO [NOUPDATE \"m1\"] too much\nS: T OK done\nC: T CANCELUPDATE \"m1\"\nS: T OK done",
			func(c *Client) (any, error) {
				r, err := c.Search(ctx, Criteria{}, &SearchOptions{All: true, Update: true})
				if err != nil {
					return nil, err
				}
				return r.Update, c.CancelUpdate(ctx, r.Tag)
			}, false},
		{"UNSELECT without UNSELECT", "", "C: T SELECT a\nS: T OK done\nC: T EXAMINE a\nS: T OK done\nC: T CLOSE\nS: T OK done",
			func(c *Client) (any, error) {
				_, err := c.Select(ctx, "a", nil)
				return nil, errors.Join(err, c.Unselect(ctx))
			}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := play(t, tc.caps, nil, tc.script)
			got, err := tc.call(c)
			require.NoError(t, err)
			if m, ok := got.(acl); ok {
				got = map[string]string(m)
			}
			if m, ok := got.([]string); ok && tc.want != nil {
				assert.EqualValues(t, tc.want, m)
				return
			}
			assert.EqualValues(t, tc.want, got)
		})
	}
}

// The answers of RFC 9051 and others to FETCH, with strings in all their forms.
func TestFetch(t *testing.T) {
	c := play(t, "BINARY PREVIEW OBJECTID SAVEDATE CONDSTORE PARTIAL QRESYNC ENABLE", nil, `
		C: T ENABLE QRESYNC
		S: * ENABLED QRESYNC
		S: T OK done
		C: T UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ ENVELOPE BODYSTRUCTURE SAVEDATE EMAILID THREADID PREVIEW (LAZY) BINARY.SIZE[1.2] BODY.PEEK[] BODY[1.HEADER.FIELDS (DATE "x y")]<0.5> BINARY.PEEK[2.1]) (CHANGEDSINCE 7 VANISHED PARTIAL 1:2)
		S: * VANISHED (EARLIER) 3:5
		S: * 9 FETCH (FLAGS (\Seen))
		S! * 12 FETCH (FLAGS (\\Seen \\Recent) INTERNALDATE "17-Jul-1996 02:44:25 -0700" RFC822.SIZE 4286 ENVELOPE ("Wed, 17 Jul 1996 02:23:25 -0700 (PDT)" {19}\r\nIMAP4rev2 WG mtg an (("Terry Gray" NIL "gray" "cac.washington.edu")) NIL NIL ((NIL NIL "imap" "cac.washington.edu")(NIL NIL "group" NIL)) NIL NIL NIL "<B27397-0100000@cac.washington.edu>") BODYSTRUCTURE ((("TEXT" "PLAIN" ("CHARSET" "US-ASCII") NIL NIL "7BIT" 1152 23 NIL ("attachment" ("filename" "=?utf-8?q?=C3=A9?=")) ("en" "de") "loc" "ext")("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 5 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) ("TEXT" "HTML" NIL NIL NIL "8BIT" 1 1) 9) "ALTERNATIVE")("IMAGE" "GIF" NIL "<id>" "desc" "BASE64" 9 "md5") "MIXED" ("BOUNDARY" "b") NIL NIL) MODSEQ (624140003) SAVEDATE NIL X-ODD[1] (a (b "c)") {2}\r\n)(d) EMAILID (M6d99) THREADID NIL PREVIEW {3}\r\nhi! BINARY.SIZE[1.2] 77 UID 9 BODY[] {3}\r\nabc BODY[1.HEADER.FIELDS (DATE "x y")]<0> "Date:" BINARY[2.1] ~{3}\r\na\x00b)\r\n
		S! * 13 FETCH (UID 10 BODY[] NIL BODYSTRUCTURE ("TEXT" oops {3}\r\n)\r\n ...)\r\n
		S: T OK done
	`)
	ctx := t.Context()
	_, err := c.Enable(ctx, "QRESYNC")
	require.NoError(t, err)
	var gone imap.UIDSet
	n := 0
	for m, err := range c.Fetch(ctx, All(), FetchItems{Flags: true, InternalDate: true, Size: true, ModSeq: true, Envelope: true, Structure: true, SaveDate: true, EmailID: true, ThreadID: true, Preview: true, PreviewLazy: true,
		BinarySizes: [][]int{{1, 2}}, Sections: []Section{{}, {Part: []int{1}, Kind: HeaderFields, Fields: []string{"DATE", "x y"}, Length: 5, MarkSeen: true}, {Part: []int{2, 1}, Binary: true}},
		ChangedSince: 7, Vanished: func(s imap.UIDSet) { gone = s }, Partial: Partial{1, 2}}) {
		require.NoError(t, err)
		if n++; n == 2 {
			assert.EqualValues(t, 10, m.UID)
			assert.ErrorIs(t, m.Err, ErrProtocol)
			continue
		}
		require.NoError(t, m.Err)
		assert.EqualValues(t, 12, m.Seq)
		assert.EqualValues(t, 9, m.UID)
		assert.True(t, m.Recent)
		assert.Equal(t, `(\Seen)`, m.Flags.String())
		assert.Equal(t, "1996-07-17T02:44:25-07:00", m.InternalDate.Format(time.RFC3339))
		assert.EqualValues(t, 4286, m.Size)
		assert.Equal(t, "IMAP4rev2 WG mtg an", m.Envelope.Subject)
		assert.Equal(t, []Address{{"Terry Gray", "gray", "cac.washington.edu"}}, m.Envelope.From)
		assert.Equal(t, []Address{{"", "imap", "cac.washington.edu"}, {"", "group", ""}}, m.Envelope.To)
		assert.Equal(t, "1996-07-17T02:23:25-07:00", m.Envelope.Date().Format(time.RFC3339))
		var parts []string
		for path, p := range m.Structure.All() {
			parts = append(parts, fmt.Sprint(path, p.Type, "/", p.Subtype, p.Lines))
		}
		assert.Equal(t, []string{"[]multipart/mixed0", "[1]multipart/alternative0", "[1 1]text/plain23", "[1 2]message/rfc8229", "[1 2 1]text/html1", "[2]image/gif0"}, parts)
		assert.Equal(t, "é", m.Structure.Parts[0].Parts[0].Filename())
		assert.Equal(t, []string{"en", "de"}, m.Structure.Parts[0].Parts[0].Language)
		assert.EqualValues(t, 624140003, m.ModSeq)
		assert.Equal(t, "M6d99", m.EmailID)
		assert.Equal(t, "hi!", m.Preview)
		assert.Equal(t, map[string]uint64{"1.2": 77}, m.BinarySizes)
		var bodies []string
		for b, err := range m.Bodies() {
			require.NoError(t, err)
			text, err := io.ReadAll(b)
			require.NoError(t, err)
			bodies = append(bodies, fmt.Sprintf("%v %s %q", b.Part, b.Kind, text))
		}
		assert.Equal(t, []string{`[]  "abc"`, `[1] HEADER.FIELDS "Date:"`, `[2 1]  "a\x00b"`}, bodies)
	}
	assert.Equal(t, 2, n)
	assert.Equal(t, "3:5", gone.String())
}

// A server may tell the UID behind a large body: the loop has it all the same.
func TestFetchOutOfOrder(t *testing.T) {
	big := strings.Repeat("0123456789", 20000)
	c := play(t, "", nil, `
		C: T UID FETCH 7 (UID FLAGS BODY.PEEK[])
		S: * 1 FETCH (BODY[] {200000}
		S: `+big+` UID 7 FLAGS (\Seen))
		S: T OK done
	`)
	for m, err := range c.Fetch(t.Context(), UIDs(imap.NumSetOf[imap.UID](7)), FetchItems{Flags: true, Sections: []Section{{}}}) {
		require.NoError(t, err)
		assert.EqualValues(t, 7, m.UID)
		b, err := m.Next()
		require.NoError(t, err)
		text, err := io.ReadAll(b)
		require.NoError(t, err)
		assert.Equal(t, big, string(text))
	}
}

// What comes unasked goes to the handler, also between the responses to a command.
func TestHandler(t *testing.T) {
	var events []string
	add := func(format string, args ...any) { events = append(events, fmt.Sprintf(format, args...)) }
	opt := &ClientOptions{Handler: Handler{
		Exists:  func(n uint32) { add("exists %d", n) },
		Recent:  func(n uint32) { add("recent %d", n) },
		Expunge: func(n imap.SeqNum) { add("expunge %d", n) },
		Vanish:  func(s imap.UIDSet) { add("vanish %v", s) },
		Fetch:   func(m *Message) { add("fetch %d %d %v", m.Seq, m.UID, m.Flags) },
		Flags:   func(f []imap.Flag) { add("flags %v", f) },
		Status:  func(s *Status) { add("status %s %s", s.Code, s.Text) },
		Mailbox: func(s *MailboxStatus) { add("mailbox %s %d", s.Mailbox, s.Messages) },
		List:    func(l *Listing) { add("list %s from %s", l.Mailbox, l.OldName) },
		Entries: func(m string, k []string) { add("entries %s %v", m, k) },
		Results: func(u *SearchUpdate) { add("results %s %v", u.Tag, u.Changes) },
	}}
	c := play(t, "", opt, `
		C: T SELECT INBOX
		S: * 23 EXISTS
		S: T OK done
		C: T UID SEARCH ALL
		S: * 24 EXISTS
		S: * 2 RECENT
		S: * 44 EXPUNGE
		S: * VANISHED 1:2,9
		S: * 5 FETCH (FLAGS (\Seen) UID 7)
		S: * 9 UIDFETCH (FLAGS ())
		S: * 9 FETCH (BODY[] {3}
		S: abc FLAGS ())
		S: * SEARCH 3
		S: * FLAGS (\Seen)
		S: * OK [ALERT] the house burns
		S: * NO [X "a]b"] x
		S: * STATUS other (MESSAGES 9)
		S: * LIST () "/" new ("OLDNAME" ("old"))
		S: * METADATA "INBOX" /shared/comment /private/comment
		S: * ESEARCH (TAG "B01") UID ADDTO (0 32768:32769) REMOVEFROM (1 5)
		S: * XUNKNOWN (foo {5}
		S: ab)"c) bar
		S: * 7 XUNKNOWN
		S: T OK done
	`)
	_, err := c.Select(t.Context(), "INBOX", nil)
	require.NoError(t, err)
	r, err := c.Search(t.Context(), Criteria{}, nil)
	require.NoError(t, err)
	assert.Equal(t, "3", r.All.String())
	assert.Equal(t, []string{"exists 24", "recent 2", "expunge 44", "vanish 1:2,9", `fetch 5 7 (\Seen)`, "fetch 0 9 ()", "fetch 9 0 ()", `flags [\Seen]`, "status ALERT the house burns", "status X x",
		"mailbox other 9", "list new from old", "entries INBOX [/shared/comment /private/comment]", "results B01 [{false 0 [32768 32769]} {true 1 [5]}]"}, events)
	_, messages, _ := c.Selected()
	assert.EqualValues(t, 20, messages)
}

// Commands are pipelined, and those whose numbers others could change wait (RFC 9051, 5.5).
func TestPipelining(t *testing.T) {
	c := play(t, "", nil, `
		C: m1 UID FETCH 1 (UID FLAGS)
		C: m2 UID FETCH 2 (UID FLAGS)
		S: * 2 FETCH (UID 2 FLAGS (\Seen))
		S: m2 OK done
		S: * 1 FETCH (UID 1 FLAGS (\Deleted))
		S: m1 OK done
		C: m3 FETCH 2 (UID FLAGS)
		S: * 2 FETCH (UID 2 FLAGS (\Seen))
		S: m3 OK done
	`)
	fetch := func(set Set) string {
		s := ""
		for m, err := range c.Fetch(t.Context(), set, FetchItems{Flags: true}) {
			if err != nil {
				return err.Error()
			}
			s += m.Flags.String()
		}
		return s
	}
	got := make(chan string, 3)
	go func() { got <- "a" + fetch(UIDs(imap.NumSetOf[imap.UID](1))) }()
	waitFor(c, 1)
	go func() { got <- "b" + fetch(UIDs(imap.NumSetOf[imap.UID](2))) }()
	waitFor(c, 2)
	go func() { got <- "c" + fetch(Seqs(imap.NumSetOf[imap.SeqNum](2))) }()
	assert.ElementsMatch(t, []string{`a(\Deleted)`, `b(\Seen)`, `c(\Seen)`}, []string{<-got, <-got, <-got})
}

// waitFor waits until so many commands are on their way or done.
func waitFor(c *Client, n int) {
	for {
		c.mu.Lock()
		enough, settled := c.tagNum >= n, c.settled
		c.mu.Unlock()
		if enough {
			return
		}
		select {
		case <-settled:
		case <-time.After(time.Millisecond):
		}
	}
}

// A context that ends leaves the session in step.
func TestContext(t *testing.T) {
	c := play(t, "", nil, `
		C: m1 NOOP
		mark
		C: m2 UID FETCH 1 (UID BODY.PEEK[])
		mark
		C: m3 NOOP
		S: m1 OK late
		S: * 1 FETCH (UID 1 BODY[] {5}
		S: 12345)
		S: m2 OK late
		S: m3 OK done
		C: m4 APPEND x {10}
		mark
	`)
	for i := range 2 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			if i == 0 {
				done <- c.Noop(ctx)
				return
			}
			for _, err := range c.Fetch(ctx, UIDs(imap.NumSetOf[imap.UID](1)), FetchItems{Sections: []Section{{}}}) {
				done <- err
			}
		}()
		<-marks
		cancel()
		assert.ErrorIs(t, <-done, context.Canceled)
	}
	require.NoError(t, c.Noop(t.Context()))
	assert.ErrorIs(t, c.Noop(canceled()), context.Canceled)
	// In the midst of a literal the connection is lost, and says so.
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.Append(ctx, "x", AppendMessage{Body: strings.NewReader("0123456789")})
		done <- err
	}()
	<-marks
	cancel()
	err := <-done
	assert.ErrorIs(t, err, context.Canceled)
	assert.ErrorIs(t, err, ErrClosed)
	assert.ErrorIs(t, c.Noop(t.Context()), ErrClosed)
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func TestArguments(t *testing.T) {
	c := play(t, "SORT THREAD=REFERENCES METADATA", nil, "")
	ctx := t.Context()
	var errs []error
	add := func(err error) { errs = append(errs, err) }
	_, err := c.Store(ctx, UIDs(nil), imap.FlagOp{}, nil)
	add(err)
	_, err = c.Store(ctx, All(), imap.FlagOp{Flags: imap.NewFlags("a b\r\nx LOGOUT")}, nil)
	add(err)
	_, err = c.Search(ctx, Criteria{}.Flag("a)\r\n"), nil)
	add(err)
	_, err = c.Search(ctx, Criteria{}.Or(Criteria{}.Text("a\x00"), Criteria{}), nil)
	add(err)
	_, err = c.Search(ctx, Criteria{}.EmailID("a b"), nil)
	add(err)
	_, err = c.Sort(ctx, []SortKey{"DATE) x"}, Criteria{}, nil)
	add(err)
	_, err = c.Append(ctx, "x")
	add(err)
	_, err = c.Append(ctx, "x", AppendMessage{})
	add(err)
	_, err = c.Status(ctx, "x", "MESSAGES) x")
	add(err)
	for _, s := range []Section{{Kind: "X]"}, {Part: []int{0}}, {Kind: MIME}, {Kind: HeaderFields}, {Offset: 3}, {Kind: HeaderFields, Fields: []string{"a\r\nb"}}, {Binary: true, Kind: Header}} {
		for _, err := range c.Fetch(ctx, All(), FetchItems{Sections: []Section{s}}) {
			add(err)
		}
	}
	for _, err := range c.Fetch(ctx, All(), FetchItems{Partial: Partial{1, -1}}) {
		add(err)
	}
	add(c.Login(ctx, "a\x00", ""))
	for i, err := range errs {
		assert.ErrorIs(t, err, ErrArgument, "%d", i)
	}
	_, err = c.Threads(ctx, ThreadRefs, Criteria{})
	assert.ErrorIs(t, err, ErrNoCapability)
}
