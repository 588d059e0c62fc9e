package imapclient

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// A command is on its way from when it is written until its tagged response comes, also when
// nobody waits for it any more.
type command struct {
	name string
	tag  string

	// alone commands begin when all others have ended, and no other begins before they
	// end: those that change the state of the session, or whose answers carry no number.
	alone bool
	// seq: it names messages by sequence number, which no command on its way may change.
	// keepsSeq: the server must not send EXPUNGE before its end (RFC 9051, 7.5.1).
	seq, keepsSeq bool
	// patient: its answer may take any time. The Client's lock guards it.
	patient bool
	// uncut: a context that ends does not end the writing of it.
	uncut bool
	// take is given each untagged response, and reports whether it belongs to the command.
	// The reading goroutine calls it.
	take func(r any) bool
	// upgrade is called by the reading goroutine before anything behind a tagged OK is read.
	upgrade func() error
	// success is called at the end, once, if the answer is OK, also when nobody waits any more.
	success func()
	// renews: behind an OK without capabilities those known before count no more.
	renews bool
	// fetch is set for a command that yields messages one by one.
	fetch *fetching

	cont    chan string // continuation requests
	done    chan struct{}
	status  *Status // of the tagged response
	err     error
	octets  int // of the responses that it took
	sending <-chan struct{}
	holds   atomic.Int32 // of sending: until it is written, and an alone one until its end, too
}

// end completes cmd.
func (cmd *command) end(s *Status, err error) {
	cmd.status, cmd.err = s, err
	if cmd.success != nil && err == nil && s.Kind == "OK" {
		cmd.success()
	}
	if cmd.fetch != nil {
		cmd.fetch.finish(err)
	}
	close(cmd.done)
	if cmd.alone {
		cmd.release()
	}
}

// release gives up one hold of the lock on sending, and the lock with the last one.
func (cmd *command) release() {
	if cmd.holds.Add(-1) == 0 {
		<-cmd.sending
	}
}

// simple runs a command without arguments, or with those in words.
func (c *Client) simple(ctx context.Context, name string, words ...string) error {
	_, err := c.run(ctx, &command{name: name}, func(w *writer) {
		for _, word := range words {
			w.sp().astring(word)
		}
	})
	return err
}

// run writes a command and waits for its end. The status is that of the tagged response.
func (c *Client) run(ctx context.Context, cmd *command, args func(w *writer)) (*Status, error) {
	if err := c.start(ctx, cmd, args); err != nil {
		return nil, err
	}
	if err := c.wait(ctx, cmd); err != nil {
		return nil, err
	}
	return cmd.status, nil
}

// start writes a command.
func (c *Client) start(ctx context.Context, cmd *command, args func(w *writer)) error {
	cmd.done = make(chan struct{})
	cmd.cont = make(chan string, 1)
	if err := c.acquire(ctx, cmd); err != nil {
		return fmt.Errorf("imapclient: %s: %w", cmd.name, err)
	}
	if cmd.uncut {
		ctx = context.WithoutCancel(ctx)
	}
	w := &writer{c: c, ctx: ctx, cmd: cmd}
	err := c.write(w, args)
	if err != nil && !c.out.begun {
		// Nobody will know of it.
		c.enc = wire.NewEncoder(c.out)
		c.withdraw(cmd, err)
		cmd.release()
		return fmt.Errorf("imapclient: %s: %w", cmd.name, err)
	}
	cmd.release()
	if err != nil {
		// It fails as a whole, also when the server has answered meanwhile: what it made
		// of half a command nobody knows.
		c.fail(fmt.Errorf("imapclient: %s: %w", cmd.name, err))
		return c.broken()
	}
	return nil
}

// write sends the command as args has it.
func (c *Client) write(w *writer, args func(w *writer)) error {
	c.out.ctx, c.out.begun, c.out.last = w.ctx, false, false
	cut := make(chan struct{})
	conn, _ := c.out.conn()
	stop := context.AfterFunc(w.ctx, func() {
		defer close(cut)
		_ = conn.SetWriteDeadline(time.Now().Add(writeGrace))
	})
	w.raw(w.cmd.tag).sp().raw(w.cmd.name)
	if args != nil {
		args(w)
	}
	if !w.over {
		w.raw("\r\n")
		w.flush()
	}
	if !stop() {
		<-cut
		if w.err != nil {
			w.err = context.Cause(w.ctx)
		}
	}
	return w.err
}

// withdraw takes back a command of which nothing was sent.
func (c *Client) withdraw(cmd *command, err error) {
	c.mu.Lock()
	i := slices.Index(c.pending, cmd)
	if i >= 0 {
		c.pending = slices.Concat(c.pending[:i], c.pending[i+1:])
		c.settle()
	}
	c.mu.Unlock()
	if i >= 0 {
		cmd.end(nil, err)
	}
}

// acquire waits until cmd may be written and enters it among the commands on their way.
func (c *Client) acquire(ctx context.Context, cmd *command) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	c.putAside()
	select {
	case c.sending <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		c.mu.Lock()
		if c.cause != nil {
			c.mu.Unlock()
			<-c.sending
			return c.cause
		}
		if !c.mustWait(cmd) {
			c.tagNum++
			cmd.tag = "m" + strconv.Itoa(c.tagNum)
			cmd.sending = c.sending
			if cmd.holds.Store(1); cmd.alone {
				cmd.holds.Store(2)
			}
			c.putAsideLocked()
			c.pending = append(c.pending, cmd)
			c.setReadDeadline()
			c.mu.Unlock()
			if c.opt.Log != nil {
				c.opt.Log(true, cmd.tag+" "+cmd.name)
			}
			return nil
		}
		c.putAsideLocked()
		settled := c.settled
		c.mu.Unlock()
		select {
		case <-settled:
		case <-ctx.Done():
			<-c.sending
			return context.Cause(ctx)
		}
	}
}

// mustWait reports whether a command on its way must end before cmd is written. The lock is held.
func (c *Client) mustWait(cmd *command) bool {
	if cmd.alone {
		return len(c.pending) > 0
	}
	return cmd.seq && slices.ContainsFunc(c.pending, func(p *command) bool { return !p.keepsSeq })
}

// putAside lets the reading goroutine go past fetches whose messages nobody takes yet: what
// comes behind them may be what their reader waits for.
func (c *Client) putAside() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putAsideLocked()
}

func (c *Client) putAsideLocked() {
	for _, p := range c.pending {
		if p.fetch != nil {
			p.fetch.putAside()
		}
	}
}

// setReadDeadline gives the next octets their time, when somebody waits for some. The lock
// is held.
func (c *Client) setReadDeadline() {
	var t time.Time
	if slices.ContainsFunc(c.pending, func(p *command) bool { return !p.patient }) {
		t = time.Now().Add(c.opt.timeout())
	}
	_ = c.conn.SetReadDeadline(t)
}

// wait waits for the end of a command.
func (c *Client) wait(ctx context.Context, cmd *command) error {
	select {
	case <-cmd.done:
	case <-ctx.Done():
		return fmt.Errorf("imapclient: %s: %w", cmd.name, context.Cause(ctx))
	}
	return cmd.result()
}

// result returns what a command that has ended came to.
func (cmd *command) result() error {
	switch {
	case cmd.err != nil:
		return cmd.err
	case cmd.status.Kind != "OK" && cmd.status.Kind != "PREAUTH":
		return &Error{Command: cmd.name, Status: *cmd.status}
	}
	return nil
}

// A writer writes one command. The first error sticks.
type writer struct {
	c    *Client
	ctx  context.Context
	cmd  *command
	err  error
	over bool // no more is to be written
}

func (w *writer) ok() bool { return w.err == nil && !w.over }

func (w *writer) raw(s string) *writer {
	if w.ok() {
		w.c.enc.Raw(s)
	}
	return w
}

func (w *writer) sp() *writer { return w.raw(" ") }

func (w *writer) num(n uint64) *writer { return w.raw(strconv.FormatUint(n, 10)) }

// flush sends what was written so far.
func (w *writer) flush() {
	if w.ok() {
		w.err = w.c.enc.Flush()
	}
}

// astring writes s as an atom, a quoted string, or a literal.
func (w *writer) astring(s string) *writer {
	if isAtom(s) {
		return w.raw(s)
	}
	return w.str(s)
}

// str writes s as a quoted string or a literal. It is an 8-bit literal where quoted strings
// are ASCII.
func (w *writer) str(s string) *writer {
	if !w.ok() {
		return w
	}
	if quotable(s, w.c.utf8()) {
		return w.raw(quote(s))
	}
	return w.literal(strings.NewReader(s), int64(len(s)), false)
}

// mailbox writes a mailbox name.
func (w *writer) mailbox(name string) *writer { return w.astring(w.c.encodeName(name)) }

func (w *writer) flags(flags imap.Flags) *writer { return w.raw(flags.String()) }

func (w *writer) list(words []string, one func(string)) *writer {
	w.raw("(")
	for i, word := range words {
		if i > 0 {
			w.sp()
		}
		one(word)
	}
	return w.raw(")")
}

func (w *writer) astrings(words []string) *writer {
	return w.list(words, func(s string) { w.astring(s) })
}

// literal writes size octets of r. Without LITERAL+ (RFC 7888) it asks first, and the server
// may refuse.
func (w *writer) literal(r io.Reader, size int64, binary bool) *writer {
	if !w.ok() {
		return w
	}
	w.c.mu.Lock()
	plus := w.c.caps["LITERAL+"] || w.c.caps["LITERAL-"] && size <= 4096
	w.c.mu.Unlock()
	if binary {
		w.raw("~")
	}
	w.raw("{").num(uint64(size))
	if plus {
		w.raw("+}\r\n")
	} else {
		w.raw("}\r\n")
		if w.goAhead(); !w.ok() {
			return w
		}
	}
	block := make([]byte, min(size, 32<<10))
	for size > 0 && w.err == nil {
		if w.err = context.Cause(w.ctx); w.err != nil {
			break
		}
		n, err := io.ReadFull(r, block[:min(size, int64(len(block)))])
		w.c.enc.Bytes(block[:n])
		if size -= int64(n); err != nil {
			w.err = fmt.Errorf("reading what to send: %w", err)
		}
		if w.c.enc.Buffered() >= 32<<10 {
			w.flush()
		}
	}
	return w
}

// goAhead waits for the continuation request that a literal needs.
func (w *writer) goAhead() {
	if _, ok := w.challenge(); !ok && w.err == nil && w.cmd.status != nil && w.cmd.status.Kind == "OK" {
		w.err = fmt.Errorf("%w: OK to half a command", ErrProtocol)
	}
}

// challenge sends what was written and waits for a continuation request. It is not ok when
// the server has ended the command instead.
func (w *writer) challenge() (text string, ok bool) {
	w.flush()
	if !w.ok() {
		return "", false
	}
	select {
	case text = <-w.cmd.cont:
		return text, true
	case <-w.cmd.done:
		w.over, w.err = true, w.cmd.err
	case <-w.ctx.Done():
		w.err = context.Cause(w.ctx)
	}
	return "", false
}

// writeGrace is what a write has to end in when its context has ended: a command of one line
// goes out in no time, and the connection need not be lost for it.
const writeGrace = time.Second

// outgoing is what the encoder writes to: the connection as it is now.
type outgoing struct {
	c     *Client
	ctx   context.Context // of the command that is written
	begun bool            // something of it was
	last  bool            // it ends compression
}

type deadliner interface {
	io.Writer
	SetWriteDeadline(time.Time) error
}

func (o *outgoing) conn() (deadliner, *deflater) {
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	return o.c.conn, o.c.flate
}

// Write implements io.Writer. Each write has its time.
func (o *outgoing) Write(p []byte) (int, error) {
	if err := context.Cause(o.ctx); err != nil && !o.begun {
		return 0, err
	}
	o.begun = true
	conn, flate := o.conn()
	_ = conn.SetWriteDeadline(time.Now().Add(o.c.opt.timeout()))
	if o.ctx.Err() != nil {
		_ = conn.SetWriteDeadline(time.Now().Add(writeGrace))
	}
	if flate != nil {
		return flate.write(conn, p, o.last)
	}
	return conn.Write(p)
}

var errLineEnd = fmt.Errorf("%w: it has a line end or NUL", ErrArgument)

// clean returns an error for text that can be no atom or part of a line.
func clean(words ...string) error {
	for _, s := range words {
		if strings.ContainsAny(s, "\r\n\x00") {
			return errLineEnd
		}
	}
	return nil
}

// checkAtoms returns an error unless each word is an atom, of which one may begin with a
// backslash.
func checkAtoms(words ...string) error {
	for _, s := range words {
		if !isAtom(strings.TrimPrefix(s, `\`)) {
			return fmt.Errorf("%w: %q", ErrArgument, s)
		}
	}
	return nil
}

// isAtom reports whether s can be written as an atom.
func isAtom(s string) bool {
	if s == "" || len(s) > 1000 || strings.EqualFold(s, "NIL") {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return false
		}
	}
	return true
}

func quotable(s string, utf8OK bool) bool {
	if len(s) > 1000 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c == '\r' || c == '\n' || c == 0 || c >= 0x80 && !utf8OK {
			return false
		}
	}
	return utf8.ValidString(s)
}

func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
