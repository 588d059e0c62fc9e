package imapserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mailblocks/mailblocks/imap"
	"github.com/mailblocks/mailblocks/imap/internal/wire"
)

// A reply is the end of a command, which command writes.
type reply struct {
	status string // OK, NO, BAD; empty: nothing is to be written, cause ends the session
	code   string // response code without brackets
	text   string
	cause  error                       // for the log, not for the client
	fatal  bool                        // the session ends with it
	after  func(context.Context) error // runs when the reply was written
}

func ok(format string, args ...any) reply {
	return reply{status: "OK", text: fmt.Sprintf(format, args...)}
}
func bad(format string, args ...any) reply {
	return reply{status: "BAD", text: fmt.Sprintf(format, args...)}
}
func no(code, text string) reply { return reply{status: "NO", code: code, text: text} }

// broken is the reply when the connection failed.
func broken(err error) reply { return reply{cause: err, fatal: true} }

// lost is the reply when the selected mailbox went away.
func lost() reply { return reply{cause: errLost, fatal: true} }

// syncMode says what a session may be told of its mailbox at the end of a command.
type syncMode uint8

const (
	syncNothing   syncMode = iota
	syncNoExpunge          // numbers must not change (RFC 9051, 7.5.1)
	syncAll
	syncFresh // all, after asking the store
)

// verb is a command.
type verb struct {
	run    func(*conn, context.Context) reply
	states state
	sync   syncMode
	// untimed: the command waits for the client, with bounds of its own.
	untimed bool
	// changes: the client asked for messages to go, and hears of it whatever NOTIFY says.
	changes bool
	// numbers: the command is about sequence numbers.
	numbers bool
}

// verbs has every command but those that begin with UID. It is filled in an init function
// as the commands themselves look things up.
var verbs, uidVerbs map[string]verb

func init() {
	verbs = map[string]verb{
		"CAPABILITY":     {run: (*conn).cmdCapability, states: anyState, sync: syncNothing},
		"NOOP":           {run: (*conn).cmdNoop, states: anyState, sync: syncFresh},
		"LOGOUT":         {run: (*conn).cmdLogout, states: anyState, sync: syncNothing},
		"ID":             {run: (*conn).cmdID, states: anyState, sync: syncNothing},
		"LANGUAGE":       {run: (*conn).cmdLanguage, states: anyState, sync: syncNothing},
		"COMPARATOR":     {run: (*conn).cmdComparator, states: loggedIn, sync: syncNothing},
		"ESEARCH":        {run: (*conn).cmdESearch, states: loggedIn, sync: syncNoExpunge},
		"STARTTLS":       {run: (*conn).cmdStartTLS, states: notAuthenticated, sync: syncNothing},
		"AUTHENTICATE":   {run: (*conn).cmdAuthenticate, states: notAuthenticated, sync: syncNothing},
		"LOGIN":          {run: (*conn).cmdLogin, states: notAuthenticated, sync: syncNothing},
		"UNAUTHENTICATE": {run: (*conn).cmdUnauthenticate, states: loggedIn, sync: syncNothing},
		"COMPRESS":       {run: (*conn).cmdCompress, states: loggedIn, sync: syncNothing},
		"ENABLE":         {run: (*conn).cmdEnable, states: loggedIn, sync: syncNothing},
		"SELECT":         {run: (*conn).cmdSelect, states: loggedIn, sync: syncNothing},
		"EXAMINE":        {run: (*conn).cmdExamine, states: loggedIn, sync: syncNothing},
		"CREATE":         {run: (*conn).cmdCreate, states: loggedIn, sync: syncAll},
		"DELETE":         {run: (*conn).cmdDelete, states: loggedIn, sync: syncAll},
		"RENAME":         {run: (*conn).cmdRename, states: loggedIn, sync: syncAll},
		"SUBSCRIBE":      {run: (*conn).cmdSubscribe, states: loggedIn, sync: syncAll},
		"UNSUBSCRIBE":    {run: (*conn).cmdUnsubscribe, states: loggedIn, sync: syncAll},
		"LIST":           {run: (*conn).cmdList, states: loggedIn, sync: syncAll},
		"LSUB":           {run: (*conn).cmdLsub, states: loggedIn, sync: syncAll},
		"NOTIFY":         {run: (*conn).cmdNotify, states: loggedIn, sync: syncFresh},
		"NAMESPACE":      {run: (*conn).cmdNamespace, states: loggedIn, sync: syncAll},
		"STATUS":         {run: (*conn).cmdStatus, states: loggedIn, sync: syncAll},
		"GETQUOTA":       {run: (*conn).cmdGetQuota, states: loggedIn, sync: syncAll},
		"GETQUOTAROOT":   {run: (*conn).cmdGetQuotaRoot, states: loggedIn, sync: syncAll},
		"SETQUOTA":       {run: (*conn).cmdSetQuota, states: loggedIn, sync: syncAll},
		"GETMETADATA":    {run: (*conn).cmdGetMetadata, states: loggedIn, sync: syncAll},
		"SETMETADATA":    {run: (*conn).cmdSetMetadata, states: loggedIn, sync: syncAll},
		"GETACL":         {run: (*conn).cmdGetACL, states: loggedIn, sync: syncAll},
		"SETACL":         {run: (*conn).cmdSetACL, states: loggedIn, sync: syncAll},
		"DELETEACL":      {run: (*conn).cmdDeleteACL, states: loggedIn, sync: syncAll},
		"LISTRIGHTS":     {run: (*conn).cmdListRights, states: loggedIn, sync: syncAll},
		"MYRIGHTS":       {run: (*conn).cmdMyRights, states: loggedIn, sync: syncAll},
		"GENURLAUTH":     {run: (*conn).cmdGenURLAuth, states: loggedIn, sync: syncAll},
		"URLFETCH":       {run: (*conn).cmdURLFetch, states: loggedIn, sync: syncAll},
		"RESETKEY":       {run: (*conn).cmdResetKey, states: loggedIn, sync: syncAll},
		"GETJMAPACCESS":  {run: (*conn).cmdGetJMAPAccess, states: loggedIn, sync: syncAll},
		"APPEND":         {run: (*conn).cmdAppend, states: loggedIn, sync: syncFresh},
		"IDLE":           {run: (*conn).cmdIdle, states: loggedIn, sync: syncFresh, untimed: true},
		"CANCELUPDATE":   {run: (*conn).cmdCancelUpdate, states: selectedState, sync: syncAll},
		"CHECK":          {run: (*conn).cmdCheck, states: selectedState, sync: syncFresh},
		"CLOSE":          {run: (*conn).cmdClose, states: selectedState, sync: syncNothing},
		"UNSELECT":       {run: (*conn).cmdUnselect, states: selectedState, sync: syncNothing},
		"EXPUNGE":        {run: (*conn).cmdExpunge, states: selectedState, sync: syncFresh, changes: true},
		"SEARCH":         {run: (*conn).cmdSearch, states: selectedState, sync: syncNoExpunge, numbers: true},
		"SORT":           {run: (*conn).cmdSort, states: selectedState, sync: syncNoExpunge, numbers: true},
		"THREAD":         {run: (*conn).cmdThread, states: selectedState, sync: syncNoExpunge, numbers: true},
		"FETCH":          {run: (*conn).cmdFetch, states: selectedState, sync: syncNoExpunge, numbers: true},
		"STORE":          {run: (*conn).cmdStore, states: selectedState, sync: syncNoExpunge, numbers: true},
		"UIDBATCHES":     {run: (*conn).cmdUIDBatches, states: selectedState, sync: syncNoExpunge},
		"REPLACE":        {run: (*conn).cmdReplace, states: selectedState, sync: syncFresh, changes: true, numbers: true},
		"COPY":           {run: (*conn).cmdCopy, states: selectedState, sync: syncFresh, numbers: true},
		"MOVE":           {run: (*conn).cmdMove, states: selectedState, sync: syncFresh, changes: true, numbers: true},
	}
	uidVerbs = map[string]verb{
		"EXPUNGE": {run: (*conn).cmdUIDExpunge, states: selectedState, sync: syncFresh, changes: true},
		"SEARCH":  {run: (*conn).cmdUIDSearch, states: selectedState, sync: syncAll},
		"ESEARCH": {run: (*conn).cmdESearch, states: loggedIn, sync: syncAll},
		"SORT":    {run: (*conn).cmdUIDSort, states: selectedState, sync: syncAll},
		"THREAD":  {run: (*conn).cmdUIDThread, states: selectedState, sync: syncAll},
		"FETCH":   {run: (*conn).cmdUIDFetch, states: selectedState, sync: syncAll},
		"STORE":   {run: (*conn).cmdUIDStore, states: selectedState, sync: syncAll},
		"REPLACE": {run: (*conn).cmdUIDReplace, states: selectedState, sync: syncFresh, changes: true},
		"COPY":    {run: (*conn).cmdUIDCopy, states: selectedState, sync: syncFresh},
		"MOVE":    {run: (*conn).cmdUIDMove, states: selectedState, sync: syncFresh, changes: true},
	}
}

// command reads and runs one command. An error ends the session.
func (c *conn) command(ctx context.Context) error {
	start := time.Now()
	tag := c.dec.Tag()
	c.tag = tag
	c.dec.SP()
	name := c.dec.Word()
	table := verbs
	uid := name == "UID"
	if uid {
		c.dec.SP()
		name = c.dec.Word()
		table = uidVerbs
	}
	v, known := table[name]
	var r reply
	switch {
	case !c.dec.OK():
		r = c.syntax()
	case !known:
		r = bad("no such command")
	case v.states&c.state == 0 && c.state == notAuthenticated:
		r = bad("log in first")
	case v.states&c.state == 0 && v.states&selectedState != 0 && c.state == authenticated:
		r = bad("no mailbox is selected")
	case v.states&c.state == 0:
		r = bad("not now")
	case c.uidOnly && v.numbers:
		r = uidRequired()
	default:
		r = c.runVerb(ctx, v)
	}
	if tag == "" || tag == "+" {
		tag = "*"
	}
	if !known {
		name = "?"
	} else if uid {
		name = "UID " + name
	}
	err := c.finish(ctx, tag, name, r)
	if t := c.server.Trace; t != nil && t.CommandDone != nil {
		t.CommandDone(ctx, name, r.status, time.Since(start))
	}
	return err
}

// runVerb runs a command and tells what happened in the mailbox meanwhile.
func (c *conn) runVerb(ctx context.Context, v verb) reply {
	if !v.untimed {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, orDefault(c.server.CommandTimeout, 30*time.Minute))
		defer cancel()
	}
	r := v.run(c, ctx)
	if c.sel != nil && v.sync != syncNothing && r.status != "BAD" && !r.fatal {
		c.tellAll = v.changes
		defer func() { c.tellAll = false }()
		if err := c.sync(ctx, v.sync); err != nil && r.status == "OK" {
			if errors.Is(err, errLost) {
				return lost()
			}
			// The command itself was done: the client hears the rest later.
			c.log.LogAttrs(ctx, slog.LevelWarn, "looking for changes failed", slog.Any("err", err))
		}
	}
	if v.sync != syncNothing && !r.fatal {
		if err := c.announce(ctx, false); err != nil {
			return c.failed(err)
		}
	}
	return r
}

// finish writes the reply and skips what is left of the command.
func (c *conn) finish(ctx context.Context, tag, name string, r reply) error {
	if r.cause != nil || r.status == "BAD" {
		level := slog.LevelDebug
		if r.cause != nil && r.status != "BAD" {
			level = slog.LevelWarn
		}
		c.log.LogAttrs(ctx, level, "command failed", slog.String("command", name),
			slog.String("result", r.status), slog.String("text", r.text), slog.Any("err", r.cause))
	}
	if errors.Is(r.cause, errLost) {
		return c.bye("", "the selected mailbox is gone", r.cause)
	}
	if r.status == "" {
		return r.cause
	}
	skip := int64(maxSkipped)
	if c.state == notAuthenticated {
		skip = maxSkippedBefore
	}
	skipErr := c.dec.Finish(skip)
	c.enc.Raw(tag).SP().Raw(r.status).SP()
	if r.code != "" {
		c.enc.Raw("[").Raw(r.code).Raw("] ")
	}
	c.enc.Raw(r.text).CRLF()
	switch {
	case skipErr != nil && errors.Is(skipErr, wire.ErrLiteralTooBig):
		return c.bye("TOOBIG", "literal too big", skipErr)
	case skipErr != nil:
		_ = c.enc.Flush()
		return skipErr
	case r.fatal:
		_ = c.enc.Flush()
		return r.cause
	}
	if r.after != nil {
		return r.after(ctx)
	}
	if r.status == "BAD" {
		if c.badCommands++; c.badCommands >= orDefault(c.server.MaxErrors, 20) {
			return c.bye("", "too many bad commands", errors.New("too many bad commands"))
		}
	}
	return c.enc.Err()
}

// syntax is the reply to a command that could not be parsed.
func (c *conn) syntax() reply {
	err := c.dec.Err()
	var syn *wire.SyntaxError
	switch {
	case errors.As(err, &syn):
		return bad("%s", syn.Text)
	case errors.Is(err, wire.ErrTooLong):
		return reply{status: "BAD", code: "TOOBIG", text: "command too long", cause: err}
	case errors.Is(err, wire.ErrLiteralTooBig):
		return reply{status: "BAD", code: "TOOBIG", text: "literal too big", cause: err}
	default:
		return broken(err)
	}
}

// end takes the end of the command, and reports whether it was well-formed.
func (c *conn) end() bool {
	c.dec.End()
	return c.dec.OK()
}

// failed is the reply when the store reports an error.
func (c *conn) failed(err error) reply {
	var undefined *undefinedFilter
	switch {
	case errors.Is(err, errLost):
		return lost()
	case errors.Is(err, imap.ErrNoMailbox):
		return no("NONEXISTENT", "no such mailbox")
	case errors.Is(err, imap.ErrNoQuotaRoot):
		return no("NONEXISTENT", "no such quota root")
	case errors.As(err, &undefined):
		return no("UNDEFINED-FILTER "+undefined.name, "no such filter")
	case errors.Is(err, errFilterCharset):
		return reply{status: "BAD", code: "BADCHARSET (US-ASCII UTF-8)", text: err.Error()}
	case errors.Is(err, imap.ErrMailboxExists):
		return no("ALREADYEXISTS", "mailbox already exists")
	case errors.Is(err, imap.ErrBadName):
		return no("CANNOT", "mailbox name not possible here")
	case errors.Is(err, imap.ErrHasChildren):
		return no("HASCHILDREN", "mailbox has children")
	case errors.Is(err, imap.ErrNotSelectable):
		return no("", "mailbox holds no messages")
	case errors.Is(err, imap.ErrExpunged):
		return no("EXPUNGEISSUED", "some of the messages no longer exist")
	case errors.Is(err, imap.ErrOverQuota):
		return no("OVERQUOTA", "over quota")
	case errors.Is(err, imap.ErrTooBig):
		return no("TOOBIG", "message too large")
	case errors.Is(err, imap.ErrLimit):
		return no("LIMIT", "limit reached")
	case errors.Is(err, imap.ErrReadOnly):
		return no("NOPERM", "mailbox is read-only")
	case errors.Is(err, imap.ErrNoPermission):
		return no("NOPERM", "permission denied")
	case errors.Is(err, imap.ErrInUse):
		return no("INUSE", "mailbox is in use")
	case errors.Is(err, context.DeadlineExceeded):
		return reply{status: "NO", code: "LIMIT", text: "command took too long", cause: err}
	case errors.Is(err, context.Canceled):
		return broken(err)
	default:
		return reply{status: "NO", code: "UNAVAILABLE", text: "internal error", cause: err}
	}
}

// notAllowed reports whether the user may not do what was tried. What a command does on the
// side is then left out, and the command goes on.
func notAllowed(err error) bool {
	return errors.Is(err, imap.ErrReadOnly) || errors.Is(err, imap.ErrNoPermission)
}
