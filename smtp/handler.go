package smtp

import (
	"context"
	"io"

	"github.com/emersion/go-sasl"
)

// Handler decides what a Server does with what its peers ask for. Embed Base and
// write only the methods you care about.
//
// All methods of one session run on the goroutine that owns the connection, one
// after the other; a Handler that serves several sessions must be safe for
// concurrent use. Each method's error becomes the reply: a *Reply found by
// errors.As is sent as it stands (a 2xx code is a success with another text), any
// other error is "451 4.3.0", logged with its cause while its text is kept from the
// peer. A panic is logged with its stack and answered by a 421.
//
// The Session, the Transaction, its Recipients and the Body belong to the server,
// which uses their memory again: keep the strings in them if you like, not the
// values themselves, beyond Close (Session), Reset (Transaction, Recipient) and the
// return of Data (Body).
type Handler interface {
	// Connect is called before the greeting. An error is sent in its place and ends
	// the connection; a success reply (220) takes the place of the usual greeting.
	Connect(ctx context.Context, s *Session) error

	// Hello is called for EHLO, HELO and LHLO, with the name the client gives for
	// itself. It may be called several times in a session.
	Hello(ctx context.Context, s *Session, name string) error

	// Auth returns the server side of a SASL exchange for one of the mechanisms
	// announced (upper case), or an error. The exchange succeeds when the
	// sasl.Server says it is done; whoever made it sets s.Identity before that.
	Auth(ctx context.Context, s *Session, mech string) (sasl.Server, error)

	// Verify answers VRFY. A nil reply and a nil error give "252 2.5.0".
	Verify(ctx context.Context, s *Session, arg string) (*Reply, error)

	// Mail begins a transaction: tx.From and tx.Params are set.
	Mail(ctx context.Context, tx *Transaction) error

	// Rcpt is asked about one more recipient. If it returns nil, r is appended to
	// tx.Recipients.
	Rcpt(ctx context.Context, tx *Transaction, r *Recipient) error

	// Data takes the message, which has at least one recipient. A nil error says
	// that the handler is now responsible for it (RFC 5321, 4.2.5); the reply, if
	// not nil, is sent in place of "250 2.0.0". Lines of the body end in CRLF and
	// dots are un-stuffed. A Read error of the body (other than io.EOF) means that
	// the message is not complete and must not be delivered, whatever Data
	// returns. A body that is not read to its end is read and dropped by the server.
	//
	// Each Recipient may be given its own verdict in Data: LMTP sends it.
	Data(ctx context.Context, tx *Transaction, body Body) (*Reply, error)

	// Reset ends a transaction: it is called exactly once for each Transaction that
	// was given to Mail, whatever Mail answered. The cause is nil when the message
	// was accepted, ErrReset after RSET or a new EHLO, otherwise the error that
	// ended it.
	Reset(ctx context.Context, tx *Transaction, cause error)

	// Close ends a session: it is called exactly once for each Session that was given
	// to Connect. The cause is nil after QUIT.
	Close(ctx context.Context, s *Session, cause error)
}

// Body is the message as the client sent it, line ends CRLF, dots un-stuffed. It
// reads from the connection as it is asked to, so only the goroutine that runs Data may use it, and
// only until Data returns: then Read returns ErrBodyClosed. The server's Body is
// an io.WriterTo as well, which saves a copy with io.Copy; middleware may hand on any
// io.Reader in its place.
//
// Besides io.EOF, Read returns errors of the connection, or a *Reply that says what
// is wrong with the message (too big, bare newline). They are final.
type Body interface {
	io.Reader
}

// Middleware wraps a Handler to act around one or more of its methods, as in
// net/http. Embed Pass{next} and write the methods that differ.
type Middleware func(next Handler) Handler

// Chain wraps h in the middleware given; the first is outermost and sees each call
// first.
func Chain(h Handler, m ...Middleware) Handler {
	for i := len(m) - 1; i >= 0; i-- {
		h = m[i](h)
	}
	return h
}

// Pass hands every call to Handler. It is what a Middleware embeds.
type Pass struct{ Handler }

// Base is a Handler that accepts every sender and recipient and refuses every message
// (554 5.3.2). It offers the mechanisms of the Server's Authenticator. Embed it, and
// write Rcpt and Data.
type Base struct{}

var _ Handler = Base{}

// Connect accepts.
func (Base) Connect(context.Context, *Session) error { return nil }

// Hello accepts.
func (Base) Hello(context.Context, *Session, string) error { return nil }

// Auth asks the Server's Authenticator, and sets s.Identity when it says so.
func (Base) Auth(ctx context.Context, s *Session, mech string) (sasl.Server, error) {
	if s.auth == nil {
		return nil, &Reply{Code: 504, Enhanced: EnhancedCode{5, 5, 4}, Text: "mechanism not available"}
	}
	return s.auth.Start(ctx, mech, s.Remote, s.TLS, func(identity string) error {
		s.Identity = identity
		return nil
	})
}

// Verify says nothing about whether the user exists (252).
func (Base) Verify(context.Context, *Session, string) (*Reply, error) { return nil, nil }

// Mail accepts.
func (Base) Mail(context.Context, *Transaction) error { return nil }

// Rcpt accepts.
func (Base) Rcpt(context.Context, *Transaction, *Recipient) error { return nil }

// Data refuses the message.
func (Base) Data(context.Context, *Transaction, Body) (*Reply, error) {
	return nil, &Reply{Code: 554, Enhanced: EnhancedCode{5, 3, 2}, Text: "no messages are accepted here"}
}

// Reset does nothing.
func (Base) Reset(context.Context, *Transaction, error) {}

// Close does nothing.
func (Base) Close(context.Context, *Session, error) {}

// HandlerFunc makes a Handler of its Data method alone: every sender and recipient is
// accepted, and f is given the message. Recipients are therefore f's to judge.
func HandlerFunc(f func(ctx context.Context, tx *Transaction, body Body) error) Handler {
	return handlerFunc{f: f}
}

type handlerFunc struct {
	Base
	f func(ctx context.Context, tx *Transaction, body Body) error
}

func (h handlerFunc) Data(ctx context.Context, tx *Transaction, body Body) (*Reply, error) {
	return nil, h.f(ctx, tx, body)
}
