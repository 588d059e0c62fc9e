package pop3_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mailblocks/mailblocks/internal/testcert"
	"github.com/mailblocks/mailblocks/pop3"
	"github.com/mailblocks/mailblocks/smtp/saslauth"
)

// The mechanisms of saslauth, each through a whole session.
func TestMechanisms(t *testing.T) {
	auth, err := saslauth.Static(map[string]string{"alice": "secret"})
	require.NoError(t, err)
	auth.ScramSHA1 = true
	auth.Token = func(_ context.Context, user, token string) (string, error) {
		if user == "alice" && token == "token" {
			return user, nil
		}
		return "", saslauth.ErrCredentials
	}
	auth.External = func(_ context.Context, cert *x509.Certificate) (string, error) { return cert.Subject.CommonName, nil }
	clientCert, clients, err := testcert.New("alice")
	require.NoError(t, err)
	h := start(t, func(s *pop3.Server) {
		s.Authenticator, s.AllowInsecureAuth = auth, false
		s.TLSConfig.ClientAuth, s.TLSConfig.ClientCAs = tls.VerifyClientCertIfGiven, clients
	}, "a\r\n")
	h.client.Certificates = []tls.Certificate{clientCert}

	newScram := func(mech, password string) sasl.Client {
		c, err := saslauth.NewScramClient(mech, "alice", password, nil)
		require.NoError(t, err)
		return c
	}
	for name, mech := range map[string]struct{ good, bad sasl.Client }{
		"PLAIN":         {sasl.NewPlainClient("", "alice", "secret"), sasl.NewPlainClient("", "alice", "x")},
		"LOGIN":         {sasl.NewLoginClient("alice", "secret"), sasl.NewLoginClient("alice", "x")},
		"SCRAM-SHA-1":   {newScram("SCRAM-SHA-1", "secret"), newScram("SCRAM-SHA-1", "x")},
		"SCRAM-SHA-256": {newScram("SCRAM-SHA-256", "secret"), newScram("SCRAM-SHA-256", "x")},
		"OAUTHBEARER": {sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: "alice", Token: "token"}),
			sasl.NewOAuthBearerClient(&sasl.OAuthBearerOptions{Username: "alice", Token: "x"})},
		"EXTERNAL": {sasl.NewExternalClient(""), sasl.NewExternalClient("mallory")},
	} {
		t.Run(name, func(t *testing.T) {
			c := h.connect(pop3.ClientOptions{})
			caps, err := c.Capabilities(t.Context())
			require.NoError(t, err)
			assert.Contains(t, caps["SASL"], name)
			require.NoError(t, c.Auth(t.Context(), mech.good))
			require.NoError(t, c.Noop(t.Context()))
			require.NoError(t, c.Quit(t.Context()))
			for h.again() {
			}
			assert.Error(t, h.connect(pop3.ClientOptions{}).Auth(t.Context(), mech.bad))
		})
	}
}
