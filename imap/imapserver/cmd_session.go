package imapserver

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-sasl"

	"github.com/mailblocks/mailblocks/internal/lineio"
)

func (c *conn) greet() {
	c.enc.Raw("* OK [CAPABILITY ").Raw(strings.Join(c.capabilities(), " ")).Raw("] ")
	if c.server.Name != "" {
		c.enc.Raw(c.server.Name).SP()
	}
	c.enc.Raw("ready").CRLF()
}

// capabilities returns what the session can do now.
func (c *conn) capabilities() []string {
	caps := []string{"IMAP4rev1", "LITERAL+", "SASL-IR", "ID", "ENABLE"}
	if c.server.LiteralMinus {
		caps[1] = "LITERAL-"
	}
	if c.state == notAuthenticated {
		if c.canStartTLS() {
			caps = append(caps, "STARTTLS")
		}
		mechs := c.mechanisms()
		for _, m := range mechs {
			caps = append(caps, "AUTH="+m)
		}
		if !slices.Contains(mechs, sasl.Plain) {
			caps = append(caps, "LOGINDISABLED")
		}
	} else {
		caps = append(caps, mailboxCapabilities...)
		if n := c.maxMessage(); n > 0 {
			caps = append(caps, fmt.Sprintf("APPENDLIMIT=%d", n))
		}
		caps = append(caps, c.storeCapabilities()...)
	}
	if n := c.server.MaxMessagesPerCommand; n > 0 && c.state != notAuthenticated {
		caps = append(caps, fmt.Sprintf("MESSAGELIMIT=%d", n))
	}
	advertise := c.server.Advertise
	if advertise == nil {
		advertise = AdvertiseByDefault
	}
	client := &Client{Identity: c.identity, Remote: c.remote, TLS: c.tls, ID: c.clientID}
	return slices.DeleteFunc(caps, func(name string) bool { return !advertise(client, name) })
}

// mailboxCapabilities are those of a session that has logged in, over any store.
var mailboxCapabilities = []string{
	"IDLE", "NAMESPACE", "UIDPLUS", "MOVE", "UNSELECT", "CHILDREN", "SPECIAL-USE", "CREATE-SPECIAL-USE",
	"LIST-EXTENDED", "LIST-STATUS", "STATUS=SIZE", "ESEARCH", "SEARCHRES", "WITHIN", "CONDSTORE", "QRESYNC",
	"OBJECTID", "SAVEDATE", "MULTIAPPEND", "BINARY", "SORT", "SORT=DISPLAY", "ESORT", "THREAD=ORDEREDSUBJECT",
	"THREAD=REFERENCES", "I18NLEVEL=1", "I18NLEVEL=2", "LANGUAGE", "UTF8=ACCEPT", "SEARCH=FUZZY", "MULTISEARCH", "UIDONLY", "UIDBATCHES", "INPROGRESS", "THREAD=REFS", "PARTIAL", "CATENATE", "REPLACE", "PREVIEW", "UNAUTHENTICATE", "COMPRESS=DEFLATE", "NOTIFY", "CONTEXT=SEARCH", "CONTEXT=SORT",
	"IMAP4rev2",
}

func (c *conn) canStartTLS() bool { return c.server.TLSConfig != nil && c.tls == nil }

// mechanisms returns the SASL mechanisms on offer, none on a plain connection unless the
// embedder allows it.
func (c *conn) mechanisms() []string {
	if c.tls == nil && !c.server.AllowInsecureAuth {
		return nil
	}
	return c.server.Authenticator.Mechanisms(c.tls)
}

func (c *conn) cmdCapability(context.Context) reply {
	if !c.end() {
		return c.syntax()
	}
	c.enc.Raw("* CAPABILITY ").Raw(strings.Join(c.capabilities(), " ")).CRLF()
	return ok("here they are")
}

func (c *conn) cmdNoop(context.Context) reply {
	if !c.end() {
		return c.syntax()
	}
	return ok("nothing done")
}

func (c *conn) cmdLogout(context.Context) reply {
	if !c.end() {
		return c.syntax()
	}
	c.enc.Raw("* BYE see you").CRLF()
	c.state = loggedOut
	return ok("logged out")
}

// cmdUnauthenticate makes the session as it was before its login, but for TLS (RFC 8437).
func (c *conn) cmdUnauthenticate(context.Context) reply {
	if !c.end() {
		return c.syntax()
	}
	c.endNotify()
	c.deselect()
	c.server.leave(c.account)
	c.account, c.identity, c.state = nil, "", notAuthenticated
	c.forgetEnabled()
	c.loginBy = time.Now().Add(orDefault(c.server.LoginTimeout, 3*time.Minute))
	c.log = c.anonymous
	c.limits()
	r := ok("who are you?")
	if c.deflated != nil {
		r.after = func(context.Context) error { return c.endCompression() }
	}
	return r
}

// forgetEnabled makes the session one in which nothing was enabled or chosen.
func (c *conn) forgetEnabled() {
	c.condstore, c.qresync, c.rev2, c.utf8, c.uidOnly = false, false, false, false, false
	c.enc.UTF8, c.dec.UTF8 = false, false
	c.comparator = &comparators[0]
}

func (c *conn) cmdNamespace(context.Context) reply {
	if !c.end() {
		return c.syntax()
	}
	others := "NIL"
	if s, ok := c.account.store.(*accessStore); ok && s.server.Owners != nil {
		others = `(("` + usersPrefix + `" "/"))`
	}
	c.enc.Raw(`* NAMESPACE (("" "/")) `).Raw(others).Raw(" NIL").CRLF()
	return ok("here they are")
}

// maxIDFields is the limit of RFC 2971, 3.3.
const maxIDFields = 30

func (c *conn) cmdID(ctx context.Context) reply {
	c.dec.SP()
	client := make(map[string]string)
	if !c.dec.AcceptWord("NIL") {
		c.dec.List(func() {
			key := c.dec.String()
			c.dec.SP()
			value, _ := c.dec.NString()
			if client[key] = value; len(client) > maxIDFields {
				c.dec.Fail("too many fields")
			}
		})
	}
	if !c.end() {
		return c.syntax()
	}
	c.clientID = client
	if len(client) > 0 {
		c.log.LogAttrs(ctx, slog.LevelDebug, "client told its id", slog.Any("id", client))
	}
	id := c.server.ID
	if id == nil {
		id = map[string]string{"name": "mailblocks"}
	}
	c.enc.Raw("* ID (")
	for i, key := range slices.Sorted(maps.Keys(id)) {
		if i > 0 {
			c.enc.SP()
		}
		c.enc.String(key).SP().NString(id[key])
	}
	c.enc.Raw(")").CRLF()
	return ok("pleased to meet you")
}

func (c *conn) cmdEnable(context.Context) reply {
	var enabled []string
	var switches []*bool
	for first := true; first || c.dec.OK() && !c.dec.AtEnd(); first = false {
		c.dec.SP()
		var on *bool
		name := c.dec.Word()
		switch name {
		case "CONDSTORE":
			on = &c.condstore
		case "QRESYNC":
			on = &c.qresync
		case "IMAP4REV2":
			on, name = &c.rev2, "IMAP4rev2"
		case "UTF8=ACCEPT":
			on = &c.utf8
		case "UIDONLY":
			if c.sel != nil { // RFC 9586, 3.1
				c.dec.Fail("not while a mailbox is selected")
			}
			on = &c.uidOnly
		default:
			continue
		}
		if !*on && !slices.Contains(enabled, name) {
			switches = append(switches, on)
			enabled = append(enabled, name)
		}
	}
	if !c.end() {
		return c.syntax()
	}
	condstore := c.condstore
	for _, on := range switches {
		*on = true
	}
	wanted := c.condstore || c.qresync // RFC 7162, 3.2.3
	c.condstore = condstore
	c.enableCondstore(wanted)
	c.enc.UTF8 = c.rev2 || c.utf8
	c.dec.UTF8 = c.enc.UTF8
	c.enc.Raw("* ENABLED")
	for _, name := range enabled {
		c.enc.SP().Raw(name)
	}
	c.enc.CRLF()
	return ok("enabled")
}

func (c *conn) cmdStartTLS(context.Context) reply {
	if !c.end() {
		return c.syntax()
	}
	if !c.canStartTLS() {
		return bad("TLS is not available")
	}
	if c.br.Buffered() > 0 {
		// Whoever sent more could not know that it would be read by us and not by TLS:
		// it may have been put there by another (RFC 9051, 11.1).
		r := bad("nothing may follow STARTTLS before the handshake")
		r.fatal, r.cause = true, errors.New("commands were pipelined behind STARTTLS")
		return r
	}
	return reply{status: "OK", text: "begin TLS", after: func(ctx context.Context) error {
		if err := c.enc.Flush(); err != nil {
			return err
		}
		if err := c.startTLS(ctx); err != nil {
			return fmt.Errorf("TLS handshake: %w", err)
		}
		// Nothing said before counts any more.
		c.forgetEnabled()
		c.br.Reset(&c.in)
		return nil
	}}
}

func (c *conn) cmdLogin(ctx context.Context) reply {
	c.dec.SP()
	user := c.dec.AString()
	c.dec.SP()
	password := c.dec.AString()
	if !c.end() {
		return c.syntax()
	}
	mechs := c.mechanisms()
	if !slices.Contains(mechs, sasl.Plain) {
		if c.tls == nil && !c.server.AllowInsecureAuth {
			return no("PRIVACYREQUIRED", "not without TLS")
		}
		return no("", "LOGIN is disabled")
	}
	if strings.ContainsRune(user+password, 0) {
		return no("AUTHENTICATIONFAILED", "authentication failed")
	}
	return c.authenticate(ctx, "LOGIN", sasl.Plain, []byte("\x00"+user+"\x00"+password))
}

func (c *conn) cmdAuthenticate(ctx context.Context) reply {
	c.dec.SP()
	mech := c.dec.Word()
	var initial []byte
	if c.dec.OK() && !c.dec.AtEnd() {
		c.dec.SP()
		if text := c.dec.AString(); text == "=" {
			initial = []byte{}
		} else {
			var err error
			if initial, err = base64.StdEncoding.DecodeString(text); err != nil {
				c.dec.Fail("malformed base64")
			}
		}
	}
	if !c.end() {
		return c.syntax()
	}
	if !slices.Contains(c.mechanisms(), mech) {
		if c.tls == nil && !c.server.AllowInsecureAuth {
			return no("PRIVACYREQUIRED", "not without TLS")
		}
		return no("", "no such mechanism")
	}
	return c.authenticate(ctx, "AUTHENTICATE", mech, initial)
}

// errCancelled is what a client does by sending "*" (RFC 9051, 6.2.2).
var (
	errCancelled = errors.New("cancelled by the client")
	errNotBase64 = errors.New("malformed base64 in a response")
)

// authenticate runs a SASL exchange. With LOGIN there is nothing to exchange: what the
// mechanism asks further is a failure.
func (c *conn) authenticate(ctx context.Context, command, mech string, initial []byte) reply {
	limit := orDefault(c.server.MaxAuthFailuresPerAddress, 30)
	if c.server.failures.Blocked(c.remote.Addr(), limit, time.Now()) {
		c.log.LogAttrs(ctx, slog.LevelWarn, "login refused", slog.String("err", "too many failed logins from this address"))
		return no("UNAVAILABLE", "too many failed logins, try later")
	}
	identity, err := c.exchange(ctx, command == "LOGIN", mech, initial)
	if t := c.server.Trace; t != nil && t.Login != nil {
		t.Login(ctx, c.remote, mech, identity, err)
	}
	var lost *lostConn
	switch {
	case errors.As(err, &lost):
		return broken(lost.err)
	case errors.Is(err, errCancelled), errors.Is(err, errNotBase64):
		return bad("%v", err)
	case isTemporary(err):
		return reply{status: "NO", code: "UNAVAILABLE", text: "credentials cannot be checked now", cause: err}
	case err != nil:
		c.server.failures.Add(c.remote.Addr(), time.Now())
		c.log.LogAttrs(ctx, slog.LevelInfo, "login failed", slog.String("mech", mech), slog.Any("err", err))
		r := no("AUTHENTICATIONFAILED", "authentication failed")
		if c.failedLogins++; c.failedLogins >= max(orDefault(c.server.MaxErrors, 20)/4, 1) {
			r.fatal, r.cause = true, errors.New("too many failed logins")
			c.enc.Raw("* BYE too many failed logins").CRLF()
		}
		return r
	}
	a, err := c.server.account(ctx, identity)
	if err != nil {
		return reply{status: "NO", code: "UNAVAILABLE", text: "mail is not available", cause: fmt.Errorf("login of %s: %w", identity, err)}
	}
	c.account, c.identity, c.state = a, identity, authenticated
	c.limits()
	c.log = c.anonymous.With(slog.String("identity", identity))
	c.log.LogAttrs(ctx, slog.LevelInfo, "logged in", slog.String("mech", mech))
	return reply{status: "OK", code: "CAPABILITY " + strings.Join(c.capabilities(), " "), text: "logged in"}
}

// isTemporary reports whether an Authenticator's error is its own trouble.
func isTemporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// lostConn is the connection's error in an exchange.
type lostConn struct{ err error }

func (e *lostConn) Error() string { return e.err.Error() }

func (c *conn) exchange(ctx context.Context, oneStep bool, mech string, response []byte) (identity string, err error) {
	proved := false
	mechanism, err := c.server.Authenticator.Start(ctx, mech, c.remote, c.tls, func(id string) error {
		identity, proved = id, true
		return nil
	})
	if err != nil {
		return "", err
	}
	for {
		challenge, done, err := mechanism.Next(response)
		switch {
		case err != nil:
			return "", err
		case done && !proved:
			return "", errors.New("the mechanism succeeded without an identity")
		case done && len(challenge) == 0:
			return identity, nil
		case oneStep:
			return "", errors.New("the mechanism asked for more")
		}
		// The last words of a server go in a challenge too, answered by an empty line.
		if response, err = c.challenge(challenge); err != nil {
			return "", err
		}
		if done {
			if len(response) > 0 {
				return "", errors.New("an answer to the last challenge")
			}
			return identity, nil
		}
	}
}

// challenge sends a challenge and reads the response, with the limits of a command.
func (c *conn) challenge(challenge []byte) ([]byte, error) {
	c.enc.Raw("+ ").Raw(base64.StdEncoding.EncodeToString(challenge)).Raw("\r\n")
	if err := c.enc.Flush(); err != nil {
		return nil, &lostConn{err}
	}
	line, err := lineio.Read(c.br, nil, c.dec.MaxLine)
	if err != nil && !errors.Is(err, lineio.ErrBareLF) {
		return nil, &lostConn{err}
	}
	if string(line) == "*" {
		return nil, errCancelled
	}
	response, err := base64.StdEncoding.DecodeString(string(line))
	if err != nil {
		return nil, errNotBase64
	}
	return response, nil
}

// idlePoll is how often an idle session looks for what the store did not tell, and shows
// its client that it is alive.
const idlePoll = 2 * time.Minute

func (c *conn) cmdIdle(ctx context.Context) reply {
	if !c.end() {
		return c.syntax()
	}
	c.enc.Raw("+ idling").CRLF()
	ends := time.Now().Add(orDefault(c.server.IdleTimeout, 30*time.Minute))
	if c.sel != nil {
		c.sel.box.listen(c, true)
		defer c.listenSelected()
		if err := c.sync(ctx, syncFresh); err != nil {
			return c.failed(err)
		}
	}
	for {
		until := ends
		if poll := time.Now().Add(idlePoll); poll.Before(ends) {
			until = poll
		}
		why, err := c.wait(until, true)
		switch {
		case err != nil:
			return broken(err)
		case why == gotShutdown:
			return broken(c.bye("UNAVAILABLE", "server is shutting down", nil))
		case why == gotTimeout && !time.Now().Before(ends):
			return broken(c.bye("", "idle for too long", errors.New("idle for too long")))
		case why == gotInput:
			return c.idleDone()
		case why == gotTimeout:
			c.enc.Raw("* OK still here").CRLF()
		}
		if c.sel != nil {
			mode := syncAll
			if why == gotTimeout {
				mode = syncFresh
			}
			if err := c.sync(ctx, mode); err != nil {
				return c.failed(err)
			}
		}
		if err := c.announce(ctx, false); err != nil {
			return c.failed(err)
		}
	}
}

// idleDone reads the line that ends IDLE.
func (c *conn) idleDone() reply {
	line, err := lineio.Read(c.br, nil, 64)
	switch {
	case err != nil && !errors.Is(err, lineio.ErrBareLF) && !errors.Is(err, lineio.ErrTooLong):
		return broken(err)
	case errors.Is(err, lineio.ErrTooLong) || !strings.EqualFold(string(line), "DONE"):
		if errors.Is(err, lineio.ErrTooLong) {
			if err := lineio.Skip(c.br, err, maxLine); err != nil {
				return broken(err)
			}
		}
		return bad("expected DONE")
	}
	return ok("done")
}
