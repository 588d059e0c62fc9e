package relay

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/tlsrpt"
	"github.com/mailblocks/mailblocks/smtp"
)

// observe has the certificate verified without consequences: what is wrong with it goes to found.
func observe(c *tls.Config, found *error) {
	name, roots, verify := c.ServerName, c.RootCAs, c.VerifyConnection
	c.VerifyConnection = func(cs tls.ConnectionState) error {
		opt := x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: x509.NewCertPool()}
		for _, cert := range cs.PeerCertificates[1:] {
			opt.Intermediates.AddCert(cert)
		}
		_, *found = cs.PeerCertificates[0].Verify(opt)
		if verify != nil && *found == nil {
			*found = verify(cs)
		}
		return nil
	}
}

// noteTLS tells TLSResult how a session with a mail exchanger came up: c is nil when it did not. observed is what is
// wrong with the certificate though it was taken. Connections that fail for other reasons say nothing about TLS.
func (t *Transport) noteTLS(g target, c *smtp.Client, observed, err error) {
	if t.TLSResult == nil || g.domain == "" {
		return
	}
	s := tlsrpt.Session{Policy: g.security.Policy}
	s.Policy.Domain = g.domain
	if s.Policy.Type == "" {
		s.Policy.Type = tlsrpt.NoPolicy
	}
	f := &tlsrpt.Failure{MXHost: g.host}
	if to, parseErr := netip.ParseAddrPort(g.addr); parseErr == nil {
		f.ReceivingIP = to.Addr().Unmap().String()
	}
	if c != nil {
		if from, parseErr := netip.ParseAddrPort(c.LocalAddr().String()); parseErr == nil {
			f.SendingIP = from.Addr().Unmap().String()
		}
	}
	var conn *smtp.ConnError
	inTLS := errors.As(err, &conn) && conn.Phase == smtp.PhaseTLS
	switch {
	case err != nil && !inTLS:
		return
	case g.security.Failure != "":
		f.Type = g.security.Failure
	case inTLS:
		f.Type, f.Reason = handshakeResult(err), cause(err).Error()
	case observed != nil:
		f.Type, f.Reason = tlsrpt.Classify(observed), observed.Error()
	case c.TLS() == nil:
		f.Type = tlsrpt.StartTLSNotSupported
	default:
		t.TLSResult(time.Now(), s)
		return
	}
	s.Failure = f
	t.TLSResult(time.Now(), s)
}

// handshakeResult tells a host that does not offer STARTTLS, or refuses it, from one with which it goes wrong.
func handshakeResult(err error) tlsrpt.ResultType {
	var reply *smtp.Reply
	if errors.Is(err, smtp.ErrNoTLS) || errors.As(err, &reply) {
		return tlsrpt.StartTLSNotSupported
	}
	return tlsrpt.Classify(err)
}
