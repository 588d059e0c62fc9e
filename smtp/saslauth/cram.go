package saslauth

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"

	"crypto/tls"
)

// cram is CRAM-MD5 (RFC 2195): user SP hex(HMAC-MD5(secret, challenge)).
type cram struct {
	exchange
	challenge string
}

func (c *cram) Next(response []byte) ([]byte, bool, error) {
	if c.challenge == "" {
		if len(response) > 0 {
			return nil, false, errSyntax // there is no initial response
		}
		c.challenge = "<" + rand.Text() + "@localhost>"
		return []byte(c.challenge), false, nil
	}
	i := strings.LastIndexByte(string(response), ' ')
	if i <= 0 || !acceptable(response) {
		return nil, false, errSyntax
	}
	user := string(response[:i])
	digest, hexErr := hex.DecodeString(string(response[i+1:]))
	secret, err := c.a.Secret(c.ctx, user)
	known := err == nil
	if err != nil {
		if !errors.Is(err, ErrCredentials) {
			return nil, false, classify(err)
		}
		secret = rand.Text()
	}
	mac := hmac.New(md5.New, []byte(secret))
	mac.Write([]byte(c.challenge))
	if subtle.ConstantTimeCompare(mac.Sum(nil), digest) != 1 || !known || hexErr != nil {
		return nil, false, ErrCredentials
	}
	return nil, true, c.finish(user, user, "")
}

// external is EXTERNAL (RFC 4422, A): the response is the authorization identity, or empty.
type external struct {
	exchange
	cert *x509.Certificate
}

func (e *external) Next(response []byte) ([]byte, bool, error) {
	if response == nil {
		return []byte{}, false, nil
	}
	if !acceptable(response) {
		return nil, false, errSyntax
	}
	identity, err := e.a.External(e.ctx, e.cert)
	if err != nil {
		return nil, false, classify(err)
	}
	return nil, true, e.finish(identity, identity, string(response))
}

// clientCert returns the verified certificate of the client, or nil.
func clientCert(state *tls.ConnectionState) *x509.Certificate {
	if state == nil || len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return nil
	}
	return state.VerifiedChains[0][0]
}
