package imapclient

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// deaf is a connection that nothing comes from.
type deaf struct{ net.Conn }

func (deaf) Close() error { return nil }

// Whatever a server says to commands on their way, it is taken or is an error, and no more is
// held than the limits allow.
func FuzzResponses(f *testing.F) {
	for _, s := range []string{
		"* 1 FETCH (UID 7 FLAGS (\\Seen $x) BODY[1.HEADER.FIELDS (A \"b\")]<0> {3}\r\nabc BODY[] NIL ENVELOPE (NIL \"s\" ((NIL NIL \"a\" \"b\")) NIL NIL NIL NIL NIL NIL NIL) BODYSTRUCTURE ((\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 1 2) \"MIXED\") MODSEQ (7))\r\nm1 OK done\r\n",
		"* ESEARCH (TAG \"m2\") UID MIN 1 ALL 1:9 PARTIAL (1:2 NIL) ADDTO (0 1:3)\r\n* SEARCH 1 2 (MODSEQ 9)\r\nm1 OK x\r\nm2 OK [MODIFIED 1] x\r\n",
		"* LIST (\\A) \"/\" \"a&AOk-\" (\"OLDNAME\" (\"x\"))\r\n* STATUS a (MESSAGES 1 MAILBOXID (x) APPENDLIMIT NIL)\r\n* VANISHED (EARLIER) 1:3\r\n* THREAD (1 2 (3)(4))((5)(6))\r\nm1 NO [NONEXISTENT] x\r\n",
		"* NAMESPACE ((\"\" \"/\" \"X\" (\"a\"))) NIL NIL\r\n* ID (\"a\" NIL)\r\n* QUOTA \"\" (STORAGE 1 2)\r\n* ACL a b c\r\n* METADATA a (/x ~{1}\r\nx /y NIL)\r\n* METADATA a /x /y\r\n* URLFETCH \"u\" NIL\r\n* BYE x\r\n",
		"+ go\r\n* OK [CLOSED] x\r\n* 7 EXPUNGE\r\n* X (\"a{3}\" {3}\r\n)))\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c := &Client{enabled: map[string]bool{}, conn: deaf{}, settled: make(chan struct{})}
		c.opt = ClientOptions{MaxResult: 256 << 10}
		c.opt.Handler = Handler{Fetch: func(m *Message) { _ = m.Flags.String() }, Results: func(*SearchUpdate) {}, List: func(*Listing) {}}
		c.dec = &wire.Decoder{MaxLine: 64 << 10, MaxCommand: 64 << 10, MaxLiteral: 64 << 10, Responses: true}
		c.reads(bytes.NewReader(in))
		// Commands that wait for all this, and a loop that has put it aside.
		loop := &fetching{set: All(), asked: hasUID | hasFlags | hasBody, ctx: t.Context(), aside: true}
		loop.change = sync.NewCond(&loop.mu)
		var sel Selected
		var res SearchResult[imap.UID]
		var trees []*Thread[imap.UID]
		for i, take := range []func(any) bool{loop.take, sel.take, func(r any) bool {
			switch r := r.(type) {
			case *esearch:
				_ = fill(&res, r, true)
			case *searchNums:
				fillPlain(&res, r)
			case *threadList:
				trees = append(trees, grow[imap.UID](r.roots)...)
			default:
				return false
			}
			return true
		}} {
			cmd := &command{name: "X", tag: fmt.Sprint("m", i+1), take: take, done: make(chan struct{}), cont: make(chan string, 1)}
			if i == 0 {
				cmd.fetch = loop
			}
			c.pending = append(c.pending, cmd)
		}
		for c.response() == nil && c.broken() == nil {
		}
		c.fail(io.EOF)
		assert.Less(t, loop.waiting(), 512<<10)
		for {
			r, err := loop.next()
			if err != nil {
				require.Equal(t, io.EOF, err)
				break
			}
			if m, ok := r.(*Message); ok {
				for b, err := range m.Bodies() {
					if err == nil {
						n, err := io.Copy(io.Discard, b)
						assert.True(t, err != nil || n == max(b.Size, 0), "%d of %d: %v", n, b.Size, err)
					}
				}
				if m.Structure != nil {
					for range m.Structure.All() {
					}
				}
			}
		}
		loop.leave()
		for _, tree := range trees {
			_ = tree.String()
		}
	})
}

// What our encoder writes is read as what it was.
func FuzzRoundTrip(f *testing.F) {
	f.Add("hello", "INBOX/Entwürfe", "$Junk", uint32(7), uint64(9), true)
	f.Add("a\r\n\"b\\", "&", "x]", uint32(0), uint64(1)<<62, false)
	f.Fuzz(func(t *testing.T, text, name, flag string, n uint32, mod uint64, utf8 bool) {
		text = strings.ReplaceAll(text, "\x00", "")
		if !imap.Flag(flag).Valid() {
			flag = "$x"
		}
		if imap.CheckName(name) != nil || strings.EqualFold(name, imap.Inbox) {
			name = "Entwürfe"
		}
		mod &= 1<<63 - 1
		var out bytes.Buffer
		e := wire.NewEncoder(&out)
		e.UTF8 = utf8
		e.Raw("* 1 FETCH (UID ").Num(uint64(n)).Raw(" FLAGS ").Flags(imap.NewFlags(imap.FlagSeen, imap.Flag(flag)), imap.FlagRecent)
		e.Raw(" MODSEQ (").Num(mod).Raw(") ENVELOPE (NIL ").String(text).Raw(" NIL NIL NIL NIL NIL NIL ").NString(text).SP().String(text)
		e.Raw(") BODY[] ").Literal(strings.NewReader(text), int64(len(text)), false).Raw(" PREVIEW ").String(text).Raw(")").CRLF()
		e.Raw("* LIST () \"/\" ").Mailbox(name).CRLF()
		require.NoError(t, e.Flush())
		c := &Client{enabled: map[string]bool{"IMAP4REV2": utf8}}
		c.dec = &wire.Decoder{MaxLine: 1 << 20, MaxCommand: 1 << 20, MaxLiteral: 1 << 20, Responses: true}
		c.reads(&out)
		var got *Message
		c.opt.Handler.Fetch = func(m *Message) { got = m }
		var listed string
		c.opt.Handler.List = func(l *Listing) { listed = l.Mailbox }
		require.NoError(t, c.response())
		require.NoError(t, c.response())
		require.NotNil(t, got)
		require.NoError(t, got.Err)
		assert.Equal(t, imap.UID(n), got.UID)
		assert.True(t, got.Flags.Has(imap.Flag(flag)) && got.Flags.Has(imap.FlagSeen) && got.Recent)
		assert.Equal(t, imap.ModSeq(mod), got.ModSeq)
		assert.Equal(t, []string{text, text, text, text}, []string{got.Envelope.Subject, got.Envelope.InReplyTo, got.Envelope.MsgID, got.Preview})
		assert.Equal(t, name, listed)
	})
}

// What the client writes is read by the server's decoder as what was meant.
func FuzzCommands(f *testing.F) {
	f.Add("a b", "c\r\nd LOGOUT", true)
	f.Add("", "NIL", false)
	f.Fuzz(func(t *testing.T, a, b string, utf8 bool) {
		a, b = strings.ReplaceAll(a, "\x00", ""), strings.ReplaceAll(b, "\x00", "")
		var out bytes.Buffer
		c := &Client{enabled: map[string]bool{"UTF8=ACCEPT": utf8}, caps: map[string]bool{"LITERAL+": true}}
		c.enc = wire.NewEncoder(&out)
		w := &writer{c: c, ctx: t.Context()}
		w.astring(a).sp().str(b).sp().astrings([]string{b, a})
		w.raw("\r\n").flush()
		require.NoError(t, w.err)
		d := &wire.Decoder{MaxLine: 1 << 20, MaxCommand: 1 << 20, MaxLiteral: 1 << 20}
		c.dec = d
		c.reads(&out)
		require.NoError(t, d.Next())
		got := []string{d.AString()}
		d.SP()
		got = append(got, d.String())
		d.SP()
		d.List(func() { got = append(got, d.AString()) })
		d.End()
		require.NoError(t, d.Err())
		assert.Equal(t, []string{a, b, b, a}, got)
	})
}

// Each response that begins with a word is taken, or is an error.
func FuzzParsers(f *testing.F) {
	kinds := slices.Sorted(maps.Keys(parsers))
	for i := range kinds {
		f.Add(uint8(i), " (a \"b\" {1}\r\nc NIL) 1:2,7 (x)")
	}
	f.Fuzz(func(t *testing.T, i uint8, text string) {
		kind := kinds[int(i)%len(kinds)]
		c := &Client{enabled: map[string]bool{}}
		c.dec = &wire.Decoder{MaxLine: 1 << 16, MaxCommand: 1 << 16, MaxLiteral: 1 << 16, Responses: true}
		c.reads(strings.NewReader(fmt.Sprintf("* %s%s\r\n* OK end\r\n", kind, text)))
		_ = c.response() // an error, or a response
	})
}
