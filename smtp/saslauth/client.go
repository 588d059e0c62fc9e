package saslauth

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/emersion/go-sasl"
	"github.com/xdg-go/scram"
)

// ErrServerProof says that a server let a client in without the proof that it knows the password, too.
var ErrServerProof = errors.New("saslauth: the server did not prove itself")

// NewScramClient returns the client's side of "SCRAM-SHA-1", "SCRAM-SHA-256" (RFC 5802, 7677) or one of them
// with "-PLUS", for one connection at a time. The latter binds to the TLS connection, whose state is needed then: by tls-exporter
// (RFC 9266) over TLS 1.3, by tls-server-end-point (RFC 5929) over older ones. The clients of this module
// see to it that the server has proved itself: their error is ErrServerProof if not.
func NewScramClient(mech, user, password string, state *tls.ConnectionState) (sasl.Client, error) {
	hash, plus := strings.CutSuffix(strings.TrimPrefix(mech, "SCRAM-"), "-PLUS")
	var gen scram.HashGeneratorFcn
	switch hash {
	case "SHA-1":
		gen = scram.SHA1
	case "SHA-256":
		gen = scram.SHA256
	default:
		return nil, fmt.Errorf("saslauth: no mechanism %q", mech)
	}
	client, err := gen.NewClient(user, password, "")
	if err != nil {
		return nil, fmt.Errorf("saslauth: %w", err)
	}
	if !plus {
		return &scramClient{mech: mech, begin: client.NewConversation}, nil
	}
	if state == nil {
		return nil, fmt.Errorf("saslauth: %s needs TLS", mech)
	}
	bind := scram.NewTLSExporterBinding
	if state.Version < tls.VersionTLS13 {
		bind = scram.NewTLSServerEndpointBinding
	}
	binding, err := bind(state)
	if err != nil {
		return nil, fmt.Errorf("saslauth: %w", err)
	}
	return &scramClient{mech: mech, begin: func() *scram.ClientConversation {
		return client.NewConversationWithChannelBinding(binding)
	}}, nil
}

type scramClient struct {
	mech  string
	begin func() *scram.ClientConversation
	conv  *scram.ClientConversation
}

// Start begins an exchange, whatever became of the one before.
func (c *scramClient) Start() (mech string, initial []byte, err error) {
	c.conv = c.begin()
	first, err := c.conv.Step("")
	return c.mech, []byte(first), err
}

// Next answers a challenge. The server's last message is its proof, and wants no words.
func (c *scramClient) Next(challenge []byte) ([]byte, error) {
	if c.conv == nil || c.conv.Done() {
		return nil, sasl.ErrUnexpectedServerChallenge
	}
	response, err := c.conv.Step(string(challenge))
	return []byte(response), err
}

// Proved is asked by a client whose server has said that the exchange went well.
func (c *scramClient) Proved() error {
	if c.conv == nil || !c.conv.Valid() {
		return ErrServerProof
	}
	return nil
}
