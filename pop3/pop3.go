package pop3

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"

	"github.com/emersion/go-sasl"
)

// A Maildrop is one user's mail for one session, which has it for itself. One goroutine
// calls it.
type Maildrop interface {
	// Messages returns the messages, in the order of their numbers: number n is
	// Messages()[n-1]. The list stays the same for the life of the Maildrop, and nobody
	// changes it.
	Messages() []Message

	// Open opens the i'th message (from 0): its octets, with lines that end in CRLF. A bare
	// LF or CR is sent as CRLF. It may be asked for any number of times.
	Open(ctx context.Context, i int) (io.ReadCloser, error)

	// Delete removes the messages at these indexes (ascending, each once, never empty) for
	// good. It is called at most once, at the end of a session that said QUIT. On an error
	// some may be gone and the rest is not.
	Delete(ctx context.Context, indexes []int) error

	// Close ends the session's hold on the mail. What was not deleted stays.
	Close() error
}

// Message is a line of LIST and UIDL.
type Message struct {
	Size int64 // octets with CRLF line ends
	// UID is the message's name for ever: 1 to 70 characters from ! to ~, never used for
	// another message of this user (RFC 1939, 7, UIDL).
	UID string
}

// Errors of Server.Open that a client is told apart (RFC 2449, 8; RFC 3206). Any other is
// [SYS/TEMP], its text withheld.
var (
	ErrInUse     = errors.New("pop3: maildrop is in use")  // [IN-USE]
	ErrPermanent = errors.New("pop3: permanent condition") // [SYS/PERM]
)

// ErrNoUser is what Server.Secret returns for a user that does not exist, or has no secret.
var ErrNoUser = errors.New("pop3: no such user")

// Authenticator offers SASL mechanisms. It is written in standard library and go-sasl types
// only, so that one type of the embedder serves SMTP, IMAP and POP3 without importing any of
// them. It must be safe for concurrent use.
type Authenticator interface {
	// Mechanisms lists the names to announce, upper case, best first. The state is nil on
	// a plain connection.
	Mechanisms(tls *tls.ConnectionState) []string

	// Start begins an exchange with the mechanism named, one of Mechanisms. The
	// sasl.Server calls done once, when the client has proved who it is; an error of done
	// fails the exchange. An error with a method Temporary() bool that says true is our
	// own trouble ([SYS/TEMP]); any other is a wrong credential ([AUTH]).
	Start(ctx context.Context, mech string, remote netip.AddrPort, tls *tls.ConnectionState,
		done func(identity string) error) (sasl.Server, error)
}
