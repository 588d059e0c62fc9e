package smtp

import (
	"context"
	"crypto/tls"
	"net/netip"

	"github.com/emersion/go-sasl"
)

// Authenticator offers SASL mechanisms. It is written in standard library and
// go-sasl types only, so that one type of the embedder serves SMTP, IMAP and POP3
// without importing any of them. It must be safe for concurrent use.
type Authenticator interface {
	// Mechanisms lists the names to announce, upper case, best first. The state is
	// nil on a plain connection.
	Mechanisms(tls *tls.ConnectionState) []string

	// Start begins an exchange with the mechanism named (one of Mechanisms). The
	// sasl.Server calls done once, when the client has proved who it is and before it
	// says that it is finished; an error of done fails the exchange. Errors of Start
	// and Next are answered with "535 5.7.8" unless they carry a *Reply, or have a
	// method Temporary() bool that says true: then it is "454 4.7.0".
	Start(ctx context.Context, mech string, remote netip.AddrPort, tls *tls.ConnectionState,
		done func(identity string) error) (sasl.Server, error)
}
