package imapclient

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/imap"
)

// Each of these ends the session with a clear error, in bounded memory.
func TestHostile(t *testing.T) {
	limits := &ClientOptions{MaxResponse: 100 << 10, MaxResult: 300 << 10}
	for _, tc := range []struct {
		name string
		lead string // sent after the first command
		loop string // then this for ever
		want error
	}{
		{"endless line", "* SEARCH", " 1234567", ErrTooMuch},
		{"endless word", "* ", "x", ErrTooMuch},
		{"endless tag", "", "x", ErrTooMuch},
		{"endless atom", "* FLAGS (", "x", ErrTooMuch},
		{"huge literal", "* STATUS {999999999}\r\n", "x", ErrTooMuch},
		{"huge literal of an envelope", "* 1 FETCH (ENVELOPE (\"\" {999999999}\r\n", "x", ErrTooMuch},
		{"overflowing literal", "* STATUS {99999999999999999999}\r\n", "x", ErrProtocol},
		{"nested parentheses", "* THREAD ", "(", ErrTooMuch},
		{"nested parts", "* 1 FETCH (BODYSTRUCTURE ", "(", ErrTooMuch},
		{"nested nonsense", "* 1 FETCH (X-NEW ", "(", ErrTooMuch},
		{"wrong tag", "m2 OK done\r\n", "", ErrProtocol},
		{"no tag", " OK done\r\n", "", ErrProtocol},
		{"no kind", "m1 HELLO done\r\n", "", ErrProtocol},
		{"continuations", "", "+ go on\r\n", ErrProtocol},
		{"binary", "\x00\xff\x80\r\n", "", ErrProtocol},
		{"endless results", "", "* SEARCH 1 2 3\r\n", ErrTooMuch},
		{"EXPUNGE 0", "* 0 EXPUNGE\r\n", "", ErrProtocol},
		{"a number too large", "* 99999999999 EXISTS\r\n", "", ErrProtocol},
		{"a set with *", "* VANISHED 1:*\r\n", "", ErrProtocol},
		{"HTTP", "HTTP/1.1 400 Bad Request\r\n", "", ErrProtocol},
		{"BYE", "* BYE go away\r\n", "", ErrClosed},
		{"the end", "* SEARCH", "close", io.ErrUnexpectedEOF},
	} {
		t.Run(tc.name, func(t *testing.T) {
			near, far := net.Pipe()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer far.Close()
				r := bufio.NewReader(far)
				_, _ = io.WriteString(far, "* PREAUTH [CAPABILITY IMAP4rev1] hello\r\n")
				_, _ = r.ReadString('\n')
				_, err := io.WriteString(far, tc.lead)
				if tc.loop == "close" {
					return
				}
				block := strings.Repeat(tc.loop, 1+4096/max(len(tc.loop), 1))
				for n := 0; err == nil && tc.loop != "" && n < 64<<20; n += len(block) {
					_, err = io.WriteString(far, block)
				}
				_, _ = io.Copy(io.Discard, r)
			}()
			opt := *limits
			opt.TLSPolicy, opt.InsecureAuth = TLSNever, true
			var why error
			told := make(chan struct{})
			opt.Handler.Closed = func(err error) { why = err; close(told) }
			c, err := NewClient(t.Context(), near, "peer.test", &opt)
			require.NoError(t, err)
			_, err = c.Search(t.Context(), Criteria{}, nil)
			require.ErrorIs(t, err, tc.want)
			assert.ErrorIs(t, err, ErrClosed)
			assert.ErrorIs(t, c.Noop(t.Context()), ErrClosed)
			<-told
			assert.ErrorIs(t, why, ErrClosed)
			<-ended
		})
	}
}

// A server that says nothing, or stops in the middle, holds nobody past the context or
// the time-out.
func TestSilence(t *testing.T) {
	for _, text := range []string{"", "* PREAUTH", "* PREAUTH [CAPABILITY IMAP4rev1] hello\r\n", "* PREAUTH [CAPABILITY IMAP4rev1 IDLE] hello\r\n* 1 FETCH (UID 1 BODY[] {100000}\r\nabc"} {
		synctest.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			go func() {
				_, _ = io.WriteString(far, text)
				_, _ = io.Copy(io.Discard, far)
			}()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			begun := time.Now()
			c, err := NewClient(ctx, near, "peer.test", &ClientOptions{TLSPolicy: TLSNever})
			if err == nil {
				for m, ferr := range c.Fetch(ctx, All(), FetchItems{Sections: []Section{{}}}) {
					if err = ferr; err == nil {
						b, berr := m.Next()
						require.NoError(t, berr)
						_, err = io.Copy(io.Discard, b)
					}
				}
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				// Without a context the time-out ends it.
				begun = time.Now().Add(4 * time.Minute)
				err = c.Noop(t.Context())
				assert.ErrorIs(t, err, ErrClosed)
				c.Close()
			}
			require.Error(t, err)
			assert.LessOrEqual(t, time.Since(begun), time.Minute)
			far.Close()
		})
	}
}

// Idle begins anew before servers lose patience, and never says DONE before its time.
func TestIdleRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		done := make(chan error, 1)
		var times []time.Duration
		begun := time.Now()
		go func() {
			r := bufio.NewReader(far)
			expect := func(want string) {
				line, err := r.ReadString('\n')
				if err == nil && !strings.HasSuffix(strings.TrimSuffix(line, "\r\n"), want) {
					err = fmt.Errorf("want %q, got %q", want, line)
				}
				if err != nil {
					done <- err
					far.Close()
				}
			}
			_, _ = io.WriteString(far, "* PREAUTH [CAPABILITY IMAP4rev1 IDLE] hello\r\n")
			for i := range 3 {
				expect("IDLE")
				time.Sleep(time.Second) // of the bubble
				_, _ = fmt.Fprintf(far, "+ idling\r\n* %d EXISTS\r\n", i)
				expect("DONE")
				times = append(times, time.Since(begun))
				_, _ = fmt.Fprintf(far, "m%d OK done\r\n", i+1)
			}
			expect("NOOP")
			_, _ = io.WriteString(far, "m4 OK done\r\n")
			done <- nil
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		seen := 0
		c, err := NewClient(ctx, near, "peer.test", &ClientOptions{TLSPolicy: TLSNever, Handler: Handler{Exists: func(uint32) { seen++ }}})
		require.NoError(t, err)
		require.NoError(t, c.Idle(ctx))
		require.NoError(t, c.Noop(t.Context()))
		require.NoError(t, <-done)
		assert.Equal(t, []time.Duration{28 * time.Minute, 56 * time.Minute, time.Hour}, times)
		assert.Equal(t, 3, seen)
		c.Close()
		far.Close()
		<-c.ended
	})
}

func TestIdleFails(t *testing.T) {
	c := play(t, "IDLE", nil, `
		C: T IDLE
		S: T BAD no
		C: T IDLE
		S: + idling
		S: * BYE overloaded
	`)
	var refused *Error
	require.ErrorAs(t, c.Idle(t.Context()), &refused)
	assert.Equal(t, "BAD", refused.Kind)
	err := c.Idle(t.Context())
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "BYE", refused.Kind)
	assert.ErrorIs(t, err, ErrClosed)
}

// A loop may use the Client, however much is in the way: what is put aside goes to a file.
func TestFetchPutAsideInMemory(t *testing.T) {
	dir := t.TempDir()
	var script strings.Builder
	script.WriteString("C: T UID FETCH 1:* (UID BODY.PEEK[])\n")
	body := strings.Repeat("0123456789abcdef", 1<<10)
	for i := range 200 {
		fmt.Fprintf(&script, "S: * %d FETCH (UID %d BODY[] {16384}\nS: %s)\n", i+1, i+1, body)
	}
	script.WriteString("S: m1 OK done\nC: m2 NOOP\nS: m2 OK done\n")
	c := play(t, "", &ClientOptions{SpoolDir: dir, MaxResult: 400 << 10}, script.String())
	n := 0
	for m, err := range c.Fetch(t.Context(), All(), FetchItems{Sections: []Section{{}}}) {
		require.NoError(t, err)
		if n++; n == 2 {
			require.NoError(t, c.Noop(t.Context()))
			assert.Less(t, m.f.waiting(), 400<<10)
		}
		b, err := m.Next()
		require.NoError(t, err)
		var got bytes.Buffer
		_, err = got.ReadFrom(b)
		require.NoError(t, err)
		assert.Equal(t, body, got.String())
	}
	assert.Equal(t, 200, n)
}

// A connection that ends in the middle of a body says so to who reads it.
func TestFetchCutOff(t *testing.T) {
	c := play(t, "", nil, "C: T UID FETCH 1:* (UID BODY.PEEK[])\nS! * 1 FETCH (UID 1 BODY[] {99999}\\r\\nabc\nclose")
	n := 0
	for m, err := range c.Fetch(t.Context(), All(), FetchItems{Sections: []Section{{}}}) {
		if n++; n == 2 {
			assert.ErrorIs(t, err, ErrClosed)
			break
		}
		require.NoError(t, err)
		b, err := m.Next()
		require.NoError(t, err)
		text, err := io.ReadAll(b)
		assert.Equal(t, "abc", string(text))
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
	assert.Equal(t, 2, n)
}

// A message of which a part was sent closes the connection: the server waits for the rest.
func TestAppendFails(t *testing.T) {
	broken := errors.New("disk on fire")
	c := play(t, "LITERAL+", nil, "C: T APPEND x {50000+}\nC! 32768")
	_, err := c.Append(t.Context(), "x", AppendMessage{Body: io.MultiReader(strings.NewReader(strings.Repeat("x", 40000)), failing{broken}), Size: 50000})
	assert.ErrorIs(t, err, broken)
	assert.ErrorIs(t, err, ErrClosed)
	// One of which nothing was sent was never there.
	c = play(t, "LITERAL+", nil, "C: m2 NOOP\nS: m2 OK done")
	_, err = c.Append(t.Context(), "x", AppendMessage{Body: io.MultiReader(strings.NewReader("abc"), failing{broken}), Size: 10})
	assert.ErrorIs(t, err, broken)
	assert.NotErrorIs(t, err, ErrClosed)
	_, err = c.Append(t.Context(), "x", AppendMessage{Body: failing{broken}}) // to be measured first
	assert.ErrorIs(t, err, broken)
	require.NoError(t, c.Noop(t.Context()))
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestErrorMeanings(t *testing.T) {
	for code, want := range codeErrors {
		err := fmt.Errorf("x: %w", &Error{Command: "X", Status: Status{Kind: "NO", Code: code, Line: "NO [" + code + "]"}})
		assert.ErrorIs(t, err, want)
		assert.NotErrorIs(t, err, imap.ErrClosed)
	}
	assert.True(t, (&Error{Status: Status{Code: "UNAVAILABLE"}}).Temporary())
	assert.False(t, (&Error{Status: Status{Code: "NOPERM"}}).Temporary())
}
