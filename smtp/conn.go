package smtp

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/mailblocks/mailblocks/internal/netserve"
)

// conn is one session. Its goroutine owns all of it.
type conn struct {
	wire
	srv  *Server
	conf *config
	sess Session
	peer netip.Addr // as a PROXY header told, or the connection's own, whatever XCLIENT says

	*envelope         // nil before the first MAIL
	inTx      bool    // tx was given to Mail and not yet to Reset
	slot      *txSlot // of tx
	pending   []byte  // a command read by the body reader, to be done next; nil when there is none

	chunkErr bool // a BDAT failed and was not the last: RSET is due (RFC 3030, 2)
	started  bool // Connect was called
	greeted  bool // something was read and looked like SMTP
	refused  bool // the reply at hand is the handler's will, not the client's error
	errors   int
	rejects  int
	junk     int // commands that lead nowhere, since the last message
	authFail int
	linger   bool // close such that the peer can still read the last reply
}

// envelope is what one transaction after the other uses. A connection that never sends a
// message has none.
type envelope struct {
	tx    Transaction
	slots txSlots
	rcpts []*Recipient // recipients of earlier transactions, to be used again
	used  int          // how many of them tx uses
	body  body
}

// Why a session ended, besides errors of the connection.
var (
	errDraining  = errors.New("smtp: server is shutting down")
	errForeign   = errors.New("smtp: peer does not speak SMTP")
	errSentAway  = errors.New("smtp: connection closed by a reply")
	errTimeout   = errors.New("smtp: timeout")
	errTooSlow   = errors.New("smtp: message comes too slowly")
	errDrainSize = errors.New("smtp: too much to drop behind a refusal")
	errQuit      = errors.New("smtp: QUIT")
	errPanic     = errors.New("smtp: panic in a handler")
	errEarly     = errors.New("smtp: client spoke before the greeting")
	errHandshake = errors.New("smtp: TLS handshake failed")
)

// maxJunk bounds NOOP, RSET, VRFY and the like, and RCPTs over the limit, between two messages.
const maxJunk = 1000

func (s *Server) handle(ctx context.Context, nc *netserve.Conn) {
	c := &conn{srv: s, conf: &s.conf}
	c.wire.init(nc, s.conf.write)
	c.sess = Session{
		ID:       rand.Text()[:10],
		Mode:     s.Mode,
		Hostname: s.conf.hostname,
		Remote:   netserve.RemoteAddr(nc),
		Started:  time.Now(),
		auth:     s.Authenticator,
	}
	c.peer = c.sess.Remote.Addr()
	c.sess.Conn.Remote, c.sess.Conn.Local = nc.RemoteAddr(), nc.LocalAddr()
	if p, ok := below(nc.Conn).(carried); ok {
		c.sess.Conn.Remote, c.sess.Conn.Local = p.Carrier().RemoteAddr(), p.Carrier().LocalAddr()
	}
	if a, ok := nc.LocalAddr().(*net.TCPAddr); ok {
		c.sess.Local = a.AddrPort()
	}
	if f := c.conf.trace.SessionStart; f != nil {
		f(ctx, &c.sess)
	}
	cause := c.serve(ctx)
	if cause == errQuit {
		cause = nil
	}
	c.finish(ctx, cause)
}

// below returns the connection that TLS runs on, or c.
func below(c net.Conn) net.Conn {
	if t, ok := c.(*tls.Conn); ok {
		return t.NetConn()
	}
	return c
}

// serve runs the session, and says why it ended. A panic ends it with 421.
func (c *conn) serve(ctx context.Context) (cause error) {
	defer func() {
		if p := recover(); p != nil {
			cause = c.panicked(ctx, p)
		}
	}()
	if t, ok := c.conn.(*tls.Conn); ok {
		if err := c.handshake(ctx, t); err != nil {
			return err
		}
	}
	if err := c.greet(ctx); err != nil {
		return err
	}
	for {
		if err := c.command(ctx); err != nil {
			return err
		}
	}
}

func (c *conn) panicked(ctx context.Context, p any) error {
	c.srv.logger().LogAttrs(ctx, slog.LevelError, "panic in a handler", c.attrs(
		slog.Any("panic", p), slog.String("stack", string(debug.Stack())))...)
	if c.inTx {
		c.slot.body.b = nil
	}
	c.linger = true
	_ = c.reply(replyInternal421, false)
	return fmt.Errorf("%w: %v", errPanic, p)
}

// finish tells the handler that it is over and closes the connection.
func (c *conn) finish(ctx context.Context, cause error) {
	flushed := c.flush()
	c.guard(ctx, func() { c.endTx(ctx, cause) })
	if c.started {
		c.guard(ctx, func() { c.srv.Handler.Close(ctx, &c.sess, cause) })
	}
	if flushed == nil && c.linger {
		c.lingerClose()
	}
	c.conn.Close()
	c.release()
	level := slog.LevelDebug
	if cause != nil && !isGone(cause) && cause != errDraining {
		level = slog.LevelInfo
	}
	c.log(ctx, level, "session ended", slog.Any("err", cause))
	if f := c.conf.trace.SessionDone; f != nil {
		f(ctx, &c.sess, cause)
	}
}

// guard keeps a panic of a handler's clean-up from taking the process down.
func (c *conn) guard(ctx context.Context, f func()) {
	defer func() {
		if p := recover(); p != nil {
			c.srv.logger().LogAttrs(ctx, slog.LevelError, "panic in a handler", c.attrs(
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))...)
		}
	}()
	f()
}

// lingerClose half-closes the connection and reads what is still on its way for a
// moment: closing with unread input resets the connection, and the peer would never
// read why.
func (c *conn) lingerClose() {
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || !c.lim.Idle(time.Now().Add(2*time.Second)) {
		return
	}
	c.r, c.w = 0, 0
	c.borrow()
	for n := 0; n < 1<<20; {
		k, err := c.lim.Conn.Read(c.inBuf[:])
		if n += k; err != nil {
			return
		}
	}
}

func (c *conn) attrs(more ...slog.Attr) []slog.Attr {
	return append([]slog.Attr{slog.String("session", c.sess.ID), slog.String("remote", c.remote())}, more...)
}

func (c *conn) remote() string {
	if c.sess.Remote.IsValid() {
		return c.sess.Remote.String()
	}
	if a := c.sess.Conn.Remote; a != nil {
		return a.Network() + ":" + a.String()
	}
	return ""
}

func (c *conn) log(ctx context.Context, level slog.Level, msg string, more ...slog.Attr) {
	if l := c.srv.logger(); l.Enabled(ctx, level) {
		l.LogAttrs(ctx, level, msg, c.attrs(more...)...)
	}
}

// greet calls Connect and sends the greeting.
func (c *conn) greet(ctx context.Context) error {
	c.log(ctx, slog.LevelDebug, "session started")
	if err := c.listen(ctx); err != nil {
		return err
	}
	c.started = true
	err := c.srv.Handler.Connect(ctx, &c.sess)
	if err == nil {
		return c.reply(&Reply{Code: 220, Text: c.conf.hostname + " " + c.conf.greeting}, true)
	}
	r := c.judge(ctx, "CONNECT", err)
	if r.OK() {
		g := *r
		g.Text = c.conf.hostname + " " + r.Text
		return c.reply(&g, true)
	}
	c.linger = true
	if err := c.reply(r, false); err != nil {
		return err
	}
	return errSentAway
}

// listen waits before the greeting, if so configured, for clients that speak first.
func (c *conn) listen(ctx context.Context) error {
	if c.srv.GreetDelay <= 0 {
		return nil
	}
	if !c.lim.Idle(time.Now().Add(c.srv.GreetDelay)) {
		return c.farewell(errDraining)
	}
	err := c.fill(true)
	c.lim.Busy()
	c.readBy = time.Time{}
	switch {
	case err == nil:
		c.linger = true
		_ = c.reply(replyEarly, false)
		return errEarly
	case c.lim.Draining() && isTimeout(err):
		return c.farewell(errDraining)
	case isTimeout(err):
		return nil
	}
	return err
}

// nextLine returns the next command line, valid until the next read.
func (c *conn) nextLine() ([]byte, error) {
	scanned := 0
	for {
		line, err := c.takeLine(c.conf.maxLine, scanned)
		if err != nil || line != nil {
			return line, err
		}
		if scanned = len(c.buffered()); scanned == 0 {
			err = c.await(!c.inTx)
		} else {
			err = c.fill(false)
		}
		if err != nil {
			if isTimeout(err) {
				return nil, errTimeout
			}
			return nil, err
		}
		if !c.greeted {
			c.greeted = true
			if what := foreign(c.buffered()); what != "" {
				return nil, fmt.Errorf("%w but %s", errForeign, what)
			}
		}
	}
}

// await waits for input at the start of a command. Between transactions, Shutdown ends the wait.
func (c *conn) await(idle bool) error {
	if err := c.flush(); err != nil {
		return err
	}
	now := time.Now()
	if !idle {
		if err := c.arm(now, c.conf.command); err != nil {
			return err
		}
		return c.fill(true)
	}
	c.readBy = now.Add(c.conf.command)
	if !c.lim.Idle(c.readBy) {
		return errDraining
	}
	err := c.fill(true)
	c.lim.Busy()
	if c.lim.Draining() {
		c.readBy = time.Time{}
		if isTimeout(err) {
			return errDraining
		}
	}
	return err
}

// foreign recognises clients of other protocols by the first octets they send.
func foreign(in []byte) string {
	for _, p := range [...]struct{ prefix, what string }{
		{"\x16\x03", "TLS on a plain port"},
		{"\r\n\r\n\x00\r\nQUIT\n", "a PROXY header"},
		{"PROXY ", "a PROXY header"},
		{"SSH-", "SSH"},
		{"GET ", "HTTP"}, {"POST ", "HTTP"}, {"HEAD ", "HTTP"}, {"PUT ", "HTTP"}, {"OPTIONS ", "HTTP"},
		{"CONNECT ", "HTTP"}, {"DELETE ", "HTTP"}, {"PATCH ", "HTTP"}, {"TRACE ", "HTTP"}, {"PRI * HTTP", "HTTP"},
	} {
		if len(in) >= len(p.prefix) && string(in[:len(p.prefix)]) == p.prefix {
			return p.what
		}
	}
	return ""
}

// command reads one command and answers it. The error ends the session.
func (c *conn) command(ctx context.Context) error {
	var line []byte
	var err error
	if c.pending != nil {
		line, c.pending = c.pending, nil
	} else if line, err = c.nextLine(); err != nil {
		if err != errBareLF || c.srv.Newlines == NewlinesReject {
			return c.lineError(ctx, err)
		}
	}
	var start time.Time
	if c.conf.trace.CommandDone != nil {
		start = time.Now()
	}
	verb, arg := splitVerb(line)
	reply, err := c.dispatch(ctx, &verb, arg)
	if err != nil {
		if reply != nil {
			c.linger = true
			_ = c.reply(reply, false)
		}
		return c.farewell(err)
	}
	if f := c.conf.trace.CommandDone; f != nil && reply != nil {
		f(ctx, &c.sess, verb, reply.Code, time.Since(start))
	}
	if reply == nil {
		return nil // already sent
	}
	return c.answer(ctx, verb, reply)
}

// answer sends the reply to a command and keeps count of errors.
func (c *conn) answer(ctx context.Context, verb string, reply *Reply) error {
	plain := reply.OK() && (verb == "EHLO" || verb == "HELO" || verb == "LHLO")
	if err := c.reply(reply, plain); err != nil {
		return err
	}
	over := false
	if reply.Permanent() {
		if c.refused {
			c.rejects++
			over = c.rejects >= c.conf.maxRejects
		} else {
			c.errors++
			over = c.errors >= c.conf.maxErrors
			c.log(ctx, slog.LevelDebug, "bad command", slog.String("verb", verb), slog.String("reply", reply.Error()))
		}
	}
	c.refused = false
	switch {
	case verb == "QUIT" && reply.OK():
		return errQuit
	case reply.Close || reply.Code == 421:
		c.linger = true
		c.log(ctx, slog.LevelInfo, "connection closed by a reply", slog.String("verb", verb), slog.String("reply", reply.Error()))
		return errSentAway
	case over || c.junk > maxJunk:
		c.linger = true
		c.log(ctx, slog.LevelInfo, "too many errors", slog.String("verb", verb), slog.String("reply", reply.Error()))
		_ = c.reply(replyTooManyErrors, false)
		return errSentAway
	}
	return nil
}

// lineError answers what was wrong with reading a command.
func (c *conn) lineError(ctx context.Context, err error) error {
	switch err {
	case errLineTooLong:
		if skip := c.skipLine(64 << 10); skip == nil {
			return c.answer(ctx, "", replyLineTooLong)
		}
		c.linger = true
		_ = c.reply(replyLineTooLong, false)
	case errBareLF, errBareCR:
		c.linger = true
		_ = c.reply(replyBareCommand, false)
	default:
		return c.farewell(err)
	}
	return err
}

// farewell says goodbye where that is due, and returns why the session ends.
func (c *conn) farewell(err error) error {
	switch {
	case errors.Is(err, errDraining):
		_ = c.reply(replyShutdown, false)
	case errors.Is(err, errTimeout), errors.Is(err, errTooSlow):
		_ = c.reply(replyTimeout, false)
	}
	return err
}

// splitVerb divides a command line. The verb is one of a few constants where it is known.
func splitVerb(line []byte) (verb string, arg []byte) {
	line = bytes.TrimRight(line, " \t")
	v := line
	if sp := bytes.IndexByte(line, ' '); sp >= 0 {
		v, arg = line[:sp], bytes.TrimLeft(line[sp+1:], " ")
	}
	for _, known := range [...]string{"MAIL", "RCPT", "DATA", "BDAT", "EHLO", "QUIT", "RSET", "NOOP", "HELO", "LHLO",
		"STARTTLS", "AUTH", "VRFY", "EXPN", "HELP", "XCLIENT"} {
		if eqFold(v, known) {
			return known, arg
		}
	}
	return string(bytes.ToUpper(v[:min(len(v), 64)])), arg
}

// notVerb recognises text where a command should be: a message whose DATA was refused, or a protocol's
// header. Among its lines might be some that read like commands.
func notVerb(verb string) bool {
	return verb != "" && (verb[0] < 'A' || verb[0] > 'Z' || verb[len(verb)-1] == ':')
}

// pipelinedPast reports whether something came behind a command that must be the last of its group (RFC 2920,
// 3.1; RFC 4954, 4), where the server minds. STARTTLS sees to that itself, and behind QUIT it does no harm.
func (c *conn) pipelinedPast(verb string) bool {
	if !c.srv.StrictPipelining || len(c.buffered()) == 0 {
		return false
	}
	switch verb {
	case "DATA", "EHLO", "HELO", "LHLO", "VRFY", "EXPN", "NOOP", "AUTH":
		return true
	}
	return false
}

// dispatch does one command. A nil reply without an error was sent already. An error ends
// the session, behind the reply if there is one. An unknown verb becomes "".
func (c *conn) dispatch(ctx context.Context, verb *string, arg []byte) (*Reply, error) {
	if c.pipelinedPast(*verb) {
		return replyPipelined, nil
	}
	switch *verb {
	case "MAIL":
		return c.mail(ctx, arg), nil
	case "RCPT":
		return c.rcpt(ctx, arg), nil
	case "DATA":
		return c.data(ctx, arg)
	case "BDAT":
		return c.bdat(ctx, arg)
	case "EHLO", "HELO", "LHLO":
		return c.hello(ctx, *verb, arg), nil
	case "QUIT":
		if len(arg) > 0 {
			return replyNoArg, nil
		}
		return replyBye, nil
	case "RSET":
		if len(arg) > 0 {
			return replyNoArg, nil
		}
		c.junk++
		c.chunkErr = false
		c.endTx(ctx, ErrReset)
		return replyFlushed, nil
	case "NOOP":
		c.junk++
		return replyOK, nil
	case "STARTTLS":
		return c.startTLS(ctx, arg)
	case "AUTH":
		return c.authenticate(ctx, arg)
	case "XCLIENT":
		return c.xclient(ctx, arg)
	case "VRFY", "EXPN":
		c.junk++
		return c.verify(ctx, *verb, arg), nil
	case "HELP":
		c.junk++
		return &Reply{Code: 214, Enhanced: EnhancedCode{2, 0, 0}, Text: c.conf.help}, nil
	}
	if f := c.srv.Verbs[*verb]; f != nil {
		r, err := f(ctx, &c.sess, string(arg))
		if err != nil {
			return c.judge(ctx, *verb, err), nil
		}
		if r == nil {
			r = replyOK
		}
		return r, nil
	}
	if what := foreign(append([]byte(*verb), ' ')); what != "" {
		return nil, fmt.Errorf("%w but %s", errForeign, what)
	}
	if notVerb(*verb) {
		return replyNotVerb, nil
	}
	*verb = ""
	return replyUnknown, nil
}

// judge makes the reply of an error that a handler returned. Only a *Reply with a code that ends
// a command speaks to the peer.
func (c *conn) judge(ctx context.Context, verb string, err error) *Reply {
	var r *Reply
	if !errors.As(err, &r) || r == nil || r.Code < 200 || r.Code > 599 || r.Code/100 == 3 {
		c.log(ctx, slog.LevelWarn, "handler failed", slog.String("verb", verb), slog.Any("err", err))
		return replyInternal
	}
	if r.OK() {
		return r
	}
	c.refused = true
	if l := c.srv.logger(); l.Enabled(ctx, slog.LevelInfo) {
		attrs := []slog.Attr{slog.String("verb", verb), slog.String("reply", r.Error())}
		if c.inTx {
			attrs = append(attrs, slog.String("from", c.tx.From))
		}
		if r.Cause != nil {
			attrs = append(attrs, slog.Any("err", r.Cause))
		}
		c.log(ctx, slog.LevelInfo, "refused", attrs...)
	}
	return r
}

// endTx tells the handler that the transaction is over, and forgets it.
func (c *conn) endTx(ctx context.Context, cause error) {
	if !c.inTx {
		return
	}
	c.inTx = false
	defer func() {
		c.slot.ctx.End()
		c.slot = nil
		c.forgetTx()
	}()
	c.srv.Handler.Reset(&c.slot.ctx, &c.tx, cause)
}

// forgetTx makes tx fit for use by the next transaction. The first few recipients are kept
// with their addresses, which the next one may have again.
func (c *conn) forgetTx() {
	clear(c.tx.Recipients)
	c.tx.Recipients = c.tx.Recipients[:0]
	if cap(c.tx.Recipients) > 64 {
		c.tx.Recipients = nil
	}
	c.used = 0
	c.tx.Params = MailParams{}
	c.tx.id = ""
	c.tx.values.reset()
}

// errUnexpected turns the end of the connection inside a message into its own error.
func errUnexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
