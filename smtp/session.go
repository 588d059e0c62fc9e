package smtp

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// Mode says which of its three dialects a Server speaks.
type Mode uint8

const (
	// ModeSMTP is mail transfer, usually port 25 (RFC 5321).
	ModeSMTP Mode = iota
	// ModeSubmission is message submission, usually port 587 or 465 (RFC 6409):
	// clients must authenticate before MAIL.
	ModeSubmission
	// ModeLMTP is local delivery with a reply for each recipient (RFC 2033).
	ModeLMTP
)

// String returns "smtp", "submission" or "lmtp".
func (m Mode) String() string {
	switch m {
	case ModeSubmission:
		return "submission"
	case ModeLMTP:
		return "lmtp"
	}
	return "smtp"
}

// Session is what is known about a connection. It holds facts, not control: changing
// a field changes what later handlers see (which is how a Handler with its own
// mechanisms sets Identity), not what the connection does. It is owned by the connection's
// goroutine and valid until Handler.Close returns.
type Session struct {
	// ID names the session in logs. It is unique in the process and likely unique beyond.
	ID string

	// Mode is the Server's.
	Mode Mode

	// Hostname is the Server's own name, as greeted with.
	Hostname string

	// Remote and Local are the ends of the connection; after XCLIENT or a PROXY
	// header, those of the client in front. They are zero on a Unix socket.
	Remote, Local netip.AddrPort

	// Conn holds the addresses of the connection itself, whatever a proxy said.
	Conn struct{ Remote, Local net.Addr }

	// Hello is the name the client gave with EHLO, HELO or LHLO, unverified; "" before.
	Hello string

	// Extended says that the client used EHLO or LHLO.
	Extended bool

	// TLS is the state of the TLS connection; nil on a plain one.
	TLS *tls.ConnectionState

	// Identity is who the client proved to be with AUTH; "" before. Mechanism is how.
	Identity, Mechanism string

	// Started is when the connection was accepted.
	Started time.Time

	auth   Authenticator
	authed bool // AUTH succeeded
	values values
}

// Authenticated reports whether AUTH succeeded in this session.
func (s *Session) Authenticated() bool { return s.authed }

// Set keeps a value with the session under a key, for handlers and middleware that need
// state of their own. Use a key of a private type, as with context values.
func (s *Session) Set(key, value any) { s.values.set(key, value) }

// Value returns what Set kept under key, or nil.
func (s *Session) Value(key any) any { return s.values.get(key) }

// values is a small map: sessions have a handful of values at most.
type values []struct{ key, value any }

func (v *values) set(key, value any) {
	for i := range *v {
		if (*v)[i].key == key {
			(*v)[i].value = value
			return
		}
	}
	*v = append(*v, struct{ key, value any }{key, value})
}

func (v values) get(key any) any {
	for i := range v {
		if v[i].key == key {
			return v[i].value
		}
	}
	return nil
}

// reset empties v and lets go of what it held, but keeps its memory.
func (v *values) reset() {
	clear(*v)
	*v = (*v)[:0]
}

// Transaction is one message's envelope (RFC 5321, 3.3). It is valid until
// Handler.Reset returns; its strings may be kept.
type Transaction struct {
	// Session is the connection the transaction runs on.
	Session *Session

	// From is the reverse path without angle brackets and source route; "" is the null
	// sender. Its domain is as the client wrote it.
	From string

	// Params are the parameters of MAIL.
	Params MailParams

	// Recipients are those accepted so far, in the order given, duplicates kept.
	Recipients []*Recipient

	number int
	id     string
	values values
}

// ID names the transaction in logs: the session's ID, a dot, and the number of the
// transaction in it.
func (tx *Transaction) ID() string {
	if tx.id == "" {
		tx.id = transactionID(tx.Session.ID, tx.number)
	}
	return tx.id
}

// Set keeps a value with the transaction, as Session.Set does with the session.
func (tx *Transaction) Set(key, value any) { tx.values.set(key, value) }

// Value returns what Set kept under key, or nil.
func (tx *Transaction) Value(key any) any { return tx.values.get(key) }

// Recipient is one forward path of a transaction.
type Recipient struct {
	// Address is the forward path without angle brackets and source route. It has no
	// domain if the client wrote <postmaster> (RFC 5321, 4.1.1.3).
	Address string

	// Params are the parameters of RCPT.
	Params RcptParams

	// Verdict is set by Handler.Data for a recipient whose fate differs from the
	// message's: a *Reply or another error. LMTP sends it to the client. SMTP has one
	// reply for all: if all recipients have a failing verdict, one of them is it
	// (a temporary one if there is any); otherwise the handler owes the sender a
	// report for those that failed.
	Verdict error
}

func transactionID(session string, n int) string {
	return string(strconv.AppendInt(append([]byte(session), '.'), int64(n), 10))
}
