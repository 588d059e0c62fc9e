package saslauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"

	"github.com/emersion/go-sasl"
)

// ErrCredentials says that the user is unknown or could not prove to be who they claim;
// callbacks return it for both.
var ErrCredentials = errors.New("saslauth: invalid credentials")

var errSyntax = errors.New("saslauth: malformed response")

// Accounts is an authenticator made of callbacks. A mechanism is offered when its callback is
// set. The zero value offers none. The fields must not change once it is in use, and the
// callbacks must be safe for concurrent use.
//
// Callbacks return the identity to use for the session, usually the full address, and
// ErrCredentials for a refusal; any other error is trouble of ours, which the server answers
// as temporary.
type Accounts struct {
	// Password checks a password: PLAIN and LOGIN. Both come prepared, see Prepare: so should
	// be what they are compared with.
	Password func(ctx context.Context, user, password string) (identity string, err error)

	// Scram looks up what SCRAM needs, for the hash "SHA-1" or "SHA-256". For an unknown user
	// it returns ErrCredentials; the exchange then goes on with made-up values, and fails as
	// with a wrong password. ScramIterations are the iterations those pretend
	// to have: set it to what the real ones have. Zero means DefaultIterations.
	Scram           func(ctx context.Context, hash, user string) (ScramCredentials, error)
	ScramIterations int

	// ScramSHA1 offers SCRAM-SHA-1 beside SCRAM-SHA-256.
	ScramSHA1 bool

	// Certificate returns the certificate that this server showed on a connection, for the
	// channel binding tls-server-end-point. Nil means that only tls-exporter is offered.
	Certificate func(state *tls.ConnectionState) *x509.Certificate

	// Token checks a bearer token: OAUTHBEARER and XOAUTH2. The user is who the client claims to
	// be, and may be empty with OAUTHBEARER.
	Token func(ctx context.Context, user, token string) (identity string, err error)

	// Secret looks up a password in the clear: CRAM-MD5, which is best not offered.
	Secret func(ctx context.Context, user string) (secret string, err error)

	// External maps a client certificate, verified by crypto/tls, to an identity: EXTERNAL.
	External func(ctx context.Context, cert *x509.Certificate) (identity string, err error)

	// Authorize decides whether identity may act as another (SASL's authorization identity), and
	// returns the identity to use. Nil allows nobody but oneself.
	Authorize func(ctx context.Context, identity, as string) (string, error)

	// Remote, if not nil, is asked before each exchange whether this peer may try at all.
	Remote func(ctx context.Context, remote netip.AddrPort) error
}

// Mechanisms lists what is offered on a connection, best first.
func (a *Accounts) Mechanisms(state *tls.ConnectionState) []string {
	var m []string
	if a.External != nil && clientCert(state) != nil {
		m = append(m, "EXTERNAL")
	}
	if a.Scram != nil {
		plus := a.canBind(state)
		if plus {
			m = append(m, "SCRAM-SHA-256-PLUS")
		}
		m = append(m, "SCRAM-SHA-256")
		if a.ScramSHA1 {
			if plus {
				m = append(m, "SCRAM-SHA-1-PLUS")
			}
			m = append(m, "SCRAM-SHA-1")
		}
	}
	if a.Token != nil {
		m = append(m, "OAUTHBEARER", "XOAUTH2")
	}
	if a.Password != nil {
		m = append(m, "PLAIN", "LOGIN")
	}
	if a.Secret != nil {
		m = append(m, "CRAM-MD5")
	}
	return m
}

// Start begins an exchange. See the servers' Authenticator.
func (a *Accounts) Start(ctx context.Context, mech string, remote netip.AddrPort, state *tls.ConnectionState,
	done func(identity string) error) (sasl.Server, error) {
	offered := false
	for _, m := range a.Mechanisms(state) {
		offered = offered || m == mech
	}
	if !offered {
		return nil, fmt.Errorf("saslauth: mechanism %q is not offered", mech)
	}
	if a.Remote != nil {
		if err := a.Remote(ctx, remote); err != nil {
			return nil, err
		}
	}
	x := exchange{ctx: ctx, a: a, done: done}
	switch mech {
	case "PLAIN":
		return &plain{exchange: x}, nil
	case "LOGIN":
		return &login{exchange: x}, nil
	case "OAUTHBEARER":
		return &bearer{exchange: x}, nil
	case "XOAUTH2":
		return &bearer{exchange: x, google: true}, nil
	case "CRAM-MD5":
		return &cram{exchange: x}, nil
	case "EXTERNAL":
		return &external{exchange: x, cert: clientCert(state)}, nil
	}
	return newScram(x, mech, state), nil
}

// exchange is what every mechanism has. It lives as long as one AUTH, so it may hold
// the context of that.
type exchange struct {
	ctx  context.Context
	a    *Accounts
	done func(identity string) error
}

// finish ends a successful proof: as is the authorization identity asked for, if any, by user.
func (x *exchange) finish(user, identity, as string) error {
	if as != "" && as != user && as != identity {
		if x.a.Authorize == nil {
			return ErrCredentials
		}
		var err error
		if identity, err = x.a.Authorize(x.ctx, identity, as); err != nil {
			return classify(err)
		}
	}
	return x.done(identity)
}

// trouble is an error that is not the client's fault.
type trouble struct{ err error }

func (t *trouble) Error() string   { return t.err.Error() }
func (t *trouble) Unwrap() error   { return t.err }
func (t *trouble) Temporary() bool { return true }

// classify tells a callback's refusal from its trouble. Errors that say themselves
// whether they are temporary, as replies do, are left as they are.
func classify(err error) error {
	var t interface{ Temporary() bool }
	if err == nil || errors.Is(err, ErrCredentials) || errors.As(err, &t) {
		return err
	}
	return &trouble{err}
}
