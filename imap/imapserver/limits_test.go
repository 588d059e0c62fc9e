package imapserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/memstore"
)

func TestSTARTTLS(t *testing.T) {
	ts := newServer(t, func(s *Server) { s.AllowInsecureAuth = false })
	play(t, ts.player(), `
S: * OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE STARTTLS LOGINDISABLED] ready
C: a LOGIN ann secret
S: a NO [PRIVACYREQUIRED] not without TLS
C: b AUTHENTICATE PLAIN AGFubgBzZWNyZXQ=
S: b NO [PRIVACYREQUIRED] not without TLS
C: c STARTTLS
S: c OK begin TLS
TLS
C: d CAPABILITY
S: * CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE AUTH=PLAIN AUTH=LOGIN
S: d OK here they are
C: e STARTTLS
S: e BAD TLS is not available
C: f AUTHENTICATE PLAIN AGFubgBzZWNyZXQ=
S~ f OK \[CAPABILITY .*IDLE.*
`)
	// What was put behind STARTTLS in the clear is never run.
	play(t, ts.player(), `
S~ \* OK .*
C: a STARTTLS
C: b LOGIN ann secret
S: a BAD nothing may follow STARTTLS before the handshake
S. closed
`)
}

func TestLimitsBeforeLogin(t *testing.T) {
	ts := newServer(t, func(s *Server) { s.MaxErrors = 8 })
	play(t, ts.player(), `
S~ \* OK .*
C: a LOGIN {2147483648}
S: a BAD [TOOBIG] literal too big
C: b LOGIN {20000}
S: b BAD [TOOBIG] literal too big
C: c LOGIN {2147483648+}
S: c BAD [TOOBIG] literal too big
S: * BYE [TOOBIG] literal too big
S. closed
`)
	play(t, ts.player(), "S~ \\* OK .*\nC: a NOOP "+strings.Repeat("x", 40000)+"\nS: * BAD [TOOBIG] command too long\nC: b NOOP\nS~ b OK .*")
	play(t, ts.player(), "S~ \\* OK .*\nC: a ID "+strings.Repeat("(", 7000)+"\nS~ a BAD .*\nC: b NOOP\nS~ b OK .*")
	play(t, ts.player(), "S~ \\* OK .*\n"+strings.Repeat("C: a LOGIN ann wrong\nS~ a NO .*\n", 1)+"C: b LOGIN ann wrong\nS: * BYE too many failed logins\nS~ b NO .*\nS. closed")
	play(t, ts.player(), "S~ \\* OK .*\n"+strings.Repeat("C: a NONSENSE\nS: a BAD no such command\n", 8)+"S: * BYE too many bad commands\nS. closed")
}

func TestLimitsAfterLogin(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", standardMail()...)
	p := ts.session("ann")
	play(t, p, "C: s SELECT INBOX\nS* \\* .*\nS~ s OK .*")
	play(t, p, `
C: a APPEND INBOX {2147483648}
S: a NO [TOOBIG] message too large
C: b SEARCH SUBJECT {2147483648}
S: b BAD [TOOBIG] literal too big
`)
	play(t, p, "C: c SEARCH "+strings.Repeat("(", 1000)+"ALL"+strings.Repeat(")", 1000)+"\nS: c BAD search program too complex")
	play(t, p, "C: d SEARCH "+strings.Repeat("NOT ", 1000)+"ALL\nS: d BAD search program too complex")
	play(t, p, "C: e UID SEARCH "+strings.Repeat("1:*,", 10000)+"1:*\nS: * SEARCH 1 2 3\nS~ e OK .*")
	play(t, p, "C: f UID FETCH "+strings.Repeat("4294967295:1,", 4000)+"1 FLAGS\nS~ \\* 1 FETCH .*\nS~ \\* 2 FETCH .*\nS~ \\* 3 FETCH .*\nS~ f OK .*")
	play(t, p, "C: g LIST \"\" "+strings.Repeat("*a", 450)+"\nS~ g OK .*")
	play(t, p, "C: h FETCH 1 ("+strings.Repeat("FLAGS ", 300)+"FLAGS)\nS: h BAD too many items")
	play(t, p, "C: i FETCH 1 BODY["+strings.Repeat("1.", 200)+"1]\nS: i BAD malformed section")
	play(t, p, "C: j NOOP "+strings.Repeat("x", 1<<20)+"\nS: * BAD [TOOBIG] command too long\nC: k NOOP\nS~ k OK .*")
}

// A connection that never ends its line costs no memory.
func TestEndlessLine(t *testing.T) {
	ts := newServer(t, nil)
	conn := ts.dial()
	block := []byte(strings.Repeat("x", 1<<16))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 2000 { // 125 MiB
		if _, err := conn.Write(block); err != nil {
			break // the server had enough
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(8<<20))
}

func TestShutdownEndsIdleSessions(t *testing.T) {
	ts := newServer(t, nil)
	before, waiting, idling := ts.player(), ts.session("ann"), ts.session("ann")
	play(t, before, "S~ \\* OK .*")
	play(t, idling, "C: a SELECT INBOX\nS* \\* .*\nS~ a OK .*\nC: b IDLE\nS: + idling")
	done := make(chan error, 1)
	go func() { done <- ts.Shutdown(context.Background()) }()
	for _, p := range []string{"waiting", "idling", "before"} {
		player := map[string]interface{ Play(string, string) error }{"waiting": waiting, "idling": idling, "before": before}[p]
		require.NoError(t, player.Play(p, "S: * BYE [UNAVAILABLE] server is shutting down\nS. closed"))
	}
	require.NoError(t, <-done)
}

func TestTimeouts(t *testing.T) {
	ts := newServer(t, func(s *Server) {
		s.LoginTimeout = 50 * time.Millisecond
		s.IdleTimeout = 50 * time.Millisecond
		s.IOTimeout = 50 * time.Millisecond
	})
	play(t, ts.player(), "S~ \\* OK .*\nS: * BYE idle for too long\nS. closed")
	play(t, ts.player(), "S~ \\* OK .*\nC! a NOO\nS. closed")
	play(t, ts.session("ann"), "S: * BYE idle for too long\nS. closed")
	play(t, ts.session("ann"), "C: a IDLE\nS: + idling\nS: * BYE idle for too long\nS. closed")
}

func TestTooManyConnections(t *testing.T) {
	ts := newServer(t, func(s *Server) { s.MaxConnsPerAddr = 2 })
	play(t, ts.player(), "S~ \\* OK .*")
	play(t, ts.player(), "S~ \\* OK .*")
	play(t, ts.player(), "S: * BYE [LIMIT] too many connections from this address\nS. closed")
}

// A client that goes away in the middle of an APPEND leaves nothing behind.
func TestBrokenAppend(t *testing.T) {
	ts := newServer(t, func(s *Server) { s.SpoolDir = t.TempDir() })
	for _, sent := range []int{0, 10, 500000} {
		p := ts.session("ann")
		play(t, p, "C: a APPEND INBOX {1000000}\nS: + go ahead")
		_, err := io.WriteString(p.Conn, strings.Repeat("x", sent))
		require.NoError(t, err)
		require.NoError(t, p.Conn.(*net.TCPConn).CloseWrite())
		play(t, p, "S. closed")
	}
	play(t, ts.session("ann"), "C: a STATUS INBOX (MESSAGES)\nS: * STATUS INBOX (MESSAGES 0)\nS~ a OK .*")
}

func TestAppendMakesCRLF(t *testing.T) {
	ts := newServer(t, func(s *Server) { s.SpoolBytes = 100; s.SpoolDir = t.TempDir() })
	p := ts.session("ann")
	body := strings.Repeat("a\nb\r\n\n\r\r\n", 20000)
	want := strings.Repeat("a\r\nb\r\n\r\n\r\r\n", 20000)
	play(t, p, fmt.Sprintf("C: a APPEND INBOX {%d}\nS: + go ahead", len(body)))
	_, err := io.WriteString(p.Conn, body+"\r\n")
	require.NoError(t, err)
	play(t, p, "S~ a OK .*")
	store := ts.accounts.storage("ann").Open()
	mb, err := store.Open(t.Context(), "INBOX")
	require.NoError(t, err)
	got, err := mb.Body(t.Context(), 1)
	require.NoError(t, err)
	b, err := io.ReadAll(io.NewSectionReader(got, 0, got.Size()))
	require.NoError(t, err)
	require.Equal(t, want, string(b))
}

func TestExpungedElsewhere(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", standardMail()...)
	p, other := ts.session("ann"), ts.session("ann")
	play(t, p, "C: a SELECT INBOX\nS* \\* .*\nS~ a OK .*")
	play(t, other, "C: a SELECT INBOX\nS* \\* .*\nS~ a OK .*\nC: b STORE 1 +FLAGS.SILENT (\\Deleted)\nS* \\* .*\nS~ b OK .*\nC: c EXPUNGE\nS* \\* .*\nS~ c OK .*")
	play(t, p, `
C: b FETCH 1 (UID FLAGS RFC822.SIZE INTERNALDATE)
S: * 1 FETCH (UID 1 FLAGS (\Recent) RFC822.SIZE 171 INTERNALDATE " 1-Jul-2024 12:00:00 +0200")
S: b OK fetched
C: c FETCH 1:2 (UID BODY.PEEK[TEXT]<0.8>)
S: * 2 FETCH (UID 2 BODY[TEXT]<0> {8}
S: preamble)
S: c NO [EXPUNGEISSUED] some of the messages no longer exist
C: d STORE 1:2 +FLAGS (\Answered)
S: * 2 FETCH (FLAGS (\Answered \Flagged \Seen \Recent))
S: d NO [EXPUNGEISSUED] some of the messages no longer exist
C: e SEARCH ALL
S: * SEARCH 1 2 3
S: e OK searched
C: f SEARCH BODY "this is plain"
S: * SEARCH
S: f OK searched
C: g COPY 1 INBOX
S: * 1 EXPUNGE
S: * 2 RECENT
S: g OK [EXPUNGEISSUED] some of the messages no longer exist
C: h NOOP
S: h OK nothing done
`)
}

func TestMailboxDeletedElsewhere(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "box", standardMail()...)
	p, idle, other := ts.session("ann"), ts.session("ann"), ts.session("ann")
	for _, s := range []interface{ Play(string, string) error }{p, idle} {
		require.NoError(t, s.Play("select", "C: a SELECT box\nS* \\* .*\nS~ a OK .*"))
	}
	play(t, idle, "C: b IDLE\nS: + idling")
	play(t, other, "C: a DELETE box\nS~ a OK .*")
	play(t, idle, "S: * BYE the selected mailbox is gone\nS. closed")
	play(t, p, "C: b NOOP\nS: * BYE the selected mailbox is gone\nS. closed")
	play(t, other, "C: b CREATE box\nS~ b OK .*\nC: c SELECT box\nS: * 0 EXISTS\nS* \\* .*\nS~ c OK .*")
}

func TestQRESYNCSelect(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", standardMail()...)
	store := ts.accounts.storage("ann").Open()
	mb, err := store.Open(t.Context(), "INBOX")
	require.NoError(t, err)
	st, err := mb.State(t.Context())
	require.NoError(t, err)
	require.NoError(t, mb.Expunge(t.Context(), imap.UIDSet{{First: 2, Last: 2}}, false))
	_, err = mb.SetFlags(t.Context(), imap.UIDSet{{First: 3, Last: 3}}, imap.FlagOp{Flags: imap.NewFlags(imap.FlagSeen)}, 0)
	require.NoError(t, err)
	p := ts.session("ann")
	p.Vars = map[string]string{"V": fmt.Sprint(st.UIDValidity), "M": fmt.Sprint(st.HighestModSeq)}
	for _, known := range []string{"", " 1:3", " 1:3 (1,3 1,3)", " (1 1)"} {
		play(t, p, "C: a ENABLE QRESYNC\nS~ \\* ENABLED.*\nS~ a OK .*\nC: b SELECT INBOX (QRESYNC (${V} ${M}"+known+`))
S* \* (OK|FLAGS|\d+ (EXISTS|RECENT)).*
S: * VANISHED (EARLIER) 2
S~ \* 2 FETCH \(UID 3 FLAGS \(\\Answered \\Seen \$Junk.*\) MODSEQ \(4\)\)
S~ b OK .*
C: c UNSELECT
S~ c OK .*`)
	}
	play(t, p, "C: d SELECT INBOX (QRESYNC (7 1))\nS* \\* (OK|FLAGS|\\d+ (EXISTS|RECENT)).*\nS~ d OK .*")
	play(t, p, "C: e SELECT INBOX (QRESYNC (0 1))\nS~ e BAD .*")
}

func TestBinaryWithNUL(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", standardMail()...)
	conn := ts.dial()
	r := bufio.NewReader(conn)
	_, err := io.WriteString(conn, "a LOGIN ann secret\r\nb EXAMINE INBOX\r\nc FETCH 2 (BINARY.PEEK[3] BINARY.PEEK[1.1])\r\nd LOGOUT\r\n")
	require.NoError(t, err)
	all, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Contains(t, string(all), "* 2 FETCH (BINARY[3] ~{5}\r\n\x00\x01\x02\x03\x04 BINARY[1.1] {27}\r\nGr\xfc\xdfe aus K\xf6ln, a softline.)\r\n")
}

// failing is a Store whose mailboxes fail in ways that a disk would.
type failing struct {
	imap.Store
	body func() (imap.Body, error)
}

func (f failing) Open(ctx context.Context, name string) (imap.Mailbox, error) {
	mb, err := f.Store.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return failingMailbox{mb, f}, nil
}

type failingMailbox struct {
	imap.Mailbox
	f failing
}

func (m failingMailbox) SetFlags(ctx context.Context, set imap.UIDSet, op imap.FlagOp, since imap.ModSeq) (imap.UIDSet, error) {
	return nil, imap.ErrNoPermission
}

func (m failingMailbox) Expunge(context.Context, imap.UIDSet, bool) error {
	return imap.ErrNoPermission
}

func (m failingMailbox) Unwrap() imap.Mailbox                              { return m.Mailbox }
func (m failingMailbox) Body(context.Context, imap.UID) (imap.Body, error) { return m.f.body() }

type plainBody struct{ *strings.Reader }

func (plainBody) Close() error { return nil }

type tornBody struct{ size int64 }

func (b tornBody) Size() int64  { return b.size }
func (b tornBody) Close() error { return nil }
func (b tornBody) ReadAt(p []byte, off int64) (int, error) {
	return 0, errors.New("input/output error")
}

func TestFailingStore(t *testing.T) {
	storage := memstore.New()
	var body atomic.Value // of func() (imap.Body, error)
	set := func(f func() (imap.Body, error)) { body.Store(f) }
	ts := newServer(t, func(s *Server) {
		s.Login = func(context.Context, string) (imap.Store, error) {
			return failing{storage.Open(), func() (imap.Body, error) { return body.Load().(func() (imap.Body, error))() }}, nil
		}
	})
	mb, err := storage.Open().Open(t.Context(), "INBOX")
	require.NoError(t, err)
	_, err = mb.Append(t.Context(), standardMail())
	require.NoError(t, err)

	p := ts.session("ann")
	set(func() (imap.Body, error) { return nil, errors.New("/var/mail/ann: input/output error") })
	play(t, p, `
C: a EXAMINE INBOX
S: * 3 EXISTS
S: * 3 RECENT
S* \* .*
S~ a OK .*
C: b FETCH 1 BODY[]
S: b NO [UNAVAILABLE] internal error
C: c SEARCH BODY x
S: c NO [UNAVAILABLE] internal error
`)
	set(func() (imap.Body, error) { return tornBody{1000}, nil })
	play(t, p, "C: d FETCH 1 ENVELOPE\nS: d NO [UNAVAILABLE] internal error")
	// Who may not set \Seen or expunge may read and close all the same.
	set(func() (imap.Body, error) { return plainBody{strings.NewReader("Subject: x\r\n\r\nbody\r\n")}, nil })
	play(t, p, `
C: f1 SELECT INBOX
S* \* .*
S~ f1 OK .*
C: f2 FETCH 1 BODY[TEXT]
S: * 1 FETCH (BODY[TEXT] {6}
S: body
S: )
S: f2 OK fetched
C: f3 STORE 1 +FLAGS (\Seen)
S: f3 NO [NOPERM] permission denied
C: f4 CLOSE
S: f4 OK closed
C: f5 EXAMINE INBOX
S* \* .*
S~ f5 OK .*
`)
	set(func() (imap.Body, error) { return tornBody{1000}, nil })
	// Octets that were announced but cannot be read end the connection: nothing is made up.
	play(t, p, "C: e FETCH 1 BODY[]\nS. closed")
	set(func() (imap.Body, error) { panic("a bug in the store") })
	play(t, ts.session("ann"), "C: a EXAMINE INBOX\nS* \\* .*\nS~ a OK .*\nC: b FETCH 1 BODY[]\nS: * BYE [SERVERBUG] internal error\nS. closed")
	play(t, ts.player(), "S~ \\* OK .*") // the others live on
}

func TestLoginFails(t *testing.T) {
	ts := newServer(t, nil)
	play(t, ts.player(), "S~ \\* OK .*\nC: a LOGIN nobody secret\nS: a NO [UNAVAILABLE] mail is not available\nC: b LOGIN ann secret\nS~ b OK .*")
}

// The sessions of a user share one Store, and one index of each mailbox.
func TestSessionsShare(t *testing.T) {
	ts := newServer(t, nil)
	ts.fill("ann", "INBOX", standardMail()...)
	for range 5 {
		play(t, ts.session("ann"), "C: a SELECT INBOX\nS* \\* .*\nS~ a OK .*")
	}
	play(t, ts.session("bob"), "C: a SELECT INBOX\nS: * 0 EXISTS\nS* \\* .*\nS~ a OK .*")
	assert.Equal(t, 2, ts.accounts.opens)
	ts.mu.Lock()
	a := ts.Server.accounts["ann"]
	ts.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	assert.Len(t, a.boxes, 1)
}

func TestCapabilitiesAndTrace(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf(format, args...))
	}
	ended := make(chan struct{})
	ts := newServer(t, func(s *Server) {
		s.Advertise = func(c *Client, name string) bool { return c.Identity != "ann" || name != "IDLE" }
		s.Trace = &Trace{
			CommandDone:  func(_ context.Context, command, result string, _ time.Duration) { note("%s %s", command, result) },
			SessionStart: func(context.Context, netip.AddrPort) { note("start") },
			SessionEnd:   func(_ context.Context, _ netip.AddrPort, cause error) { note("end %v", cause); close(ended) },
			Login: func(_ context.Context, _ netip.AddrPort, mech, identity string, err error) {
				note("login %s %q %v", mech, identity, err)
			},
		}
	})
	play(t, ts.player(), "S~ \\* OK .*\nC: a LOGIN ann wrong\nS~ a NO .*\nC: b LOGIN ann secret\nS~ b OK .*ENABLE NAMESPACE.*\nC: c UID NOOP\nS~ c BAD .*\nC: d LOGOUT\nS* \\* .*\nS~ d OK .*\nS. closed")
	<-ended
	assert.Equal(t, []string{"start", `login PLAIN "" wrong password`, "LOGIN NO", `login PLAIN "ann" <nil>`, "LOGIN OK", "? BAD", "LOGOUT OK", "end <nil>"}, seen)
}

// A store may hold keywords and ids that IMAP cannot show.
func TestOddKeywordsAreNotShown(t *testing.T) {
	k := newKeywordSets()
	e, err := k.entry(imap.Message{UID: 1, Flags: imap.MakeFlags(imap.Seen, []string{"good", "b)d", "a b"})})
	require.NoError(t, err)
	assert.Equal(t, `(\Seen good)`, (&index{sets: k.sets}).flags(&e).String())
	assert.False(t, isObjectID("a b") || isObjectID("") || isObjectID("a)"))
	assert.True(t, isObjectID("F1-x_Y"))
}
