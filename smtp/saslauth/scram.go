package saslauth

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"strings"

	"github.com/xdg-go/scram"
)

// DefaultIterations is what NewScramCredentials uses at the least (RFC 7677, 4).
const DefaultIterations = 4096

// ScramCredentials is what a server keeps of a password for SCRAM (RFC 5802, 5.1). The password
// can not be had from it, but whoever has it can try passwords at leisure.
type ScramCredentials struct {
	Salt                 []byte
	Iterations           int
	StoredKey, ServerKey []byte

	// Identity is the session's identity. Empty means the user name as given.
	Identity string
}

// NewScramCredentials derives credentials from a password with a random salt; the hash is "SHA-1"
// or "SHA-256". The password is prepared, see Prepare. Fewer iterations than DefaultIterations are raised to that.
func NewScramCredentials(hash, password string, iterations int) (ScramCredentials, error) {
	new, ok := scramHash(hash)
	if !ok {
		return ScramCredentials{}, fmt.Errorf("saslauth: no SCRAM hash %q", hash)
	}
	c := ScramCredentials{Salt: make([]byte, 16), Iterations: max(iterations, DefaultIterations)}
	if _, err := rand.Read(c.Salt); err != nil {
		return ScramCredentials{}, err
	}
	password, err := Prepare(password)
	if err != nil {
		return ScramCredentials{}, err
	}
	salted, err := pbkdf2.Key(new, password, c.Salt, c.Iterations, new().Size())
	if err != nil {
		return ScramCredentials{}, fmt.Errorf("saslauth: %w", err)
	}
	clientKey := sum(new, salted, "Client Key")
	h := new()
	h.Write(clientKey)
	c.StoredKey = h.Sum(nil)
	c.ServerKey = sum(new, salted, "Server Key")
	return c, nil
}

func sum(new func() hash.Hash, key []byte, text string) []byte {
	m := hmac.New(new, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func scramHash(name string) (func() hash.Hash, bool) {
	switch name {
	case "SHA-1":
		return sha1.New, true
	case "SHA-256":
		return sha256.New, true
	}
	return nil, false
}

// disguise keys the made-up credentials of users that are not there: the same at each try.
var disguise = func() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return b
}()

// scramServer is SCRAM-* (RFC 5802). The conversation is made with the client's first message, which
// says what channel binding it wants.
type scramServer struct {
	exchange
	hash  string
	plus  bool
	state *tls.ConnectionState

	conv     *scram.ServerConversation
	identity string
	known    bool
	err      error // of the look-up
}

func newScram(x exchange, mech string, state *tls.ConnectionState) *scramServer {
	s := &scramServer{exchange: x, state: state}
	s.hash, s.plus = strings.CutSuffix(strings.TrimPrefix(mech, "SCRAM-"), "-PLUS")
	return s
}

func (s *scramServer) Next(response []byte) ([]byte, bool, error) {
	if response == nil && s.conv == nil {
		return []byte{}, false, nil
	}
	if s.conv == nil {
		if err := s.begin(string(response)); err != nil {
			return nil, false, err
		}
	}
	out, err := s.conv.Step(string(response))
	switch {
	case s.err != nil:
		return nil, false, s.err
	case err != nil:
		return nil, false, fmt.Errorf("%w: %w", ErrCredentials, err)
	case !s.conv.Done():
		return []byte(out), false, nil
	case !s.conv.Valid() || !s.known:
		return nil, false, ErrCredentials
	}
	return []byte(out), true, s.finish(s.conv.Username(), s.identity, s.conv.AuthzID())
}

func (s *scramServer) begin(first string) error {
	flag, _, _ := strings.Cut(first, ",")
	typ, binds := strings.CutPrefix(flag, "p=")
	if binds != s.plus {
		return errSyntax // RFC 5802, 6: "p" with -PLUS, and nowhere else
	}
	gen := scram.SHA256
	if s.hash == "SHA-1" {
		gen = scram.SHA1
	}
	server, err := gen.NewServer(s.lookup)
	if err != nil {
		return &trouble{err}
	}
	if !s.plus {
		if s.a.canBind(s.state) {
			// A client that could bind, but thinks we can't, was lied to.
			s.conv = server.NewConversationWithChannelBinding(scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: []byte{0}})
		} else {
			s.conv = server.NewConversation()
		}
		return nil
	}
	data := s.a.binding(s.state, typ)
	if data == nil {
		return fmt.Errorf("%w: channel binding %q", errSyntax, typ)
	}
	s.conv = server.NewConversationWithChannelBindingRequired(scram.ChannelBinding{Type: scram.ChannelBindingType(typ), Data: data})
	return nil
}

// lookup finds the credentials of user, or makes some up.
func (s *scramServer) lookup(user string) (scram.StoredCredentials, error) {
	c, err := s.a.Scram(s.ctx, s.hash, user)
	switch {
	case err == nil:
		s.known = true
		if s.identity = c.Identity; s.identity == "" {
			s.identity = user
		}
	case errors.Is(err, ErrCredentials):
		new, _ := scramHash(s.hash)
		c = ScramCredentials{
			Salt:       sum(sha256.New, disguise, s.hash+"\x00"+user)[:16],
			Iterations: max(s.a.ScramIterations, DefaultIterations),
			StoredKey:  sum(new, disguise, "stored\x00"+user),
			ServerKey:  sum(new, disguise, "server\x00"+user),
		}
	default:
		s.err = classify(err)
		return scram.StoredCredentials{}, err
	}
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(c.Salt), Iters: c.Iterations},
		StoredKey:  c.StoredKey,
		ServerKey:  c.ServerKey,
	}, nil
}

// OneCertificate makes an Accounts.Certificate for servers that show the same certificate on all connections.
// With several (by name, or one for each kind of key) the embedder must tell them apart: crypto/tls does
// not say which it has shown.
func OneCertificate(cert tls.Certificate) func(*tls.ConnectionState) *x509.Certificate {
	leaf := cert.Leaf
	if leaf == nil && len(cert.Certificate) > 0 {
		leaf, _ = x509.ParseCertificate(cert.Certificate[0])
	}
	return func(*tls.ConnectionState) *x509.Certificate { return leaf }
}

// canBind reports whether any channel binding is to be had.
func (a *Accounts) canBind(state *tls.ConnectionState) bool {
	return state != nil && (a.binding(state, "tls-exporter") != nil || a.binding(state, "tls-server-end-point") != nil)
}

// binding returns the data of a channel binding, or nil.
func (a *Accounts) binding(state *tls.ConnectionState, typ string) []byte {
	if state == nil {
		return nil
	}
	switch typ {
	case "tls-exporter": // RFC 9266
		data, err := state.ExportKeyingMaterial("EXPORTER-Channel-Binding", nil, 32)
		if err != nil {
			return nil
		}
		return data
	case "tls-server-end-point": // RFC 5929, 4.1
		if a.Certificate == nil {
			return nil
		}
		if cert := a.Certificate(state); cert != nil {
			return certHash(cert)
		}
	}
	return nil
}

// certHash hashes a certificate with the hash of its signature, SHA-256 at the least.
func certHash(cert *x509.Certificate) []byte {
	switch cert.SignatureAlgorithm {
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h := sha512.Sum384(cert.Raw)
		return h[:]
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h := sha512.Sum512(cert.Raw)
		return h[:]
	case x509.PureEd25519:
		return nil // RFC 5929 has no answer for it
	}
	h := sha256.Sum256(cert.Raw)
	return h[:]
}
