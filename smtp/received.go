package smtp

import (
	"crypto/tls"
	"strings"
	"time"
)

// Received returns the trace field for this transaction (RFC 5321, 4.4), folded and ending in
// CRLF, to be put before the message:
//
//	Received: from client.example.org ([192.0.2.1])
//		(using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256)
//		by mx.example.org with ESMTPS id 5RGW3ZKJ2M.1
//		for <user@example.org>; Thu, 01 Jan 2026 12:00:00 +0000
//
// The id is the transaction's own when empty. "for" is there only when there is one
// recipient: others are not to learn of each other.
func (tx *Transaction) Received(now time.Time, id string) string {
	s := tx.Session
	var b strings.Builder
	b.WriteString("Received: from ")
	b.WriteString(traceWord(s.Hello))
	if a := s.Remote.Addr(); a.IsValid() {
		b.WriteString(" ([")
		if a.Is6() {
			b.WriteString("IPv6:")
		}
		b.WriteString(a.WithZone("").String())
		b.WriteString("])")
	}
	if s.TLS != nil {
		b.WriteString("\r\n\t(using ")
		b.WriteString(strings.ReplaceAll(tls.VersionName(s.TLS.Version), " ", "v"))
		b.WriteString(" with cipher ")
		b.WriteString(tls.CipherSuiteName(s.TLS.CipherSuite))
		b.WriteString(")")
	}
	b.WriteString("\r\n\tby ")
	b.WriteString(traceWord(s.Hostname))
	b.WriteString(" with ")
	b.WriteString(tx.Protocol())
	b.WriteString(" id ")
	if id == "" {
		id = tx.ID()
	}
	b.WriteString(traceWord(id))
	if len(tx.Recipients) == 1 {
		b.WriteString("\r\n\tfor <")
		b.WriteString(tx.Recipients[0].Address)
		b.WriteString(">")
	}
	b.WriteString("; ")
	b.WriteString(now.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	b.WriteString("\r\n")
	return b.String()
}

// Protocol names how the message came, as a Received field does (RFC 3848, RFC 6531, 4.3):
// SMTP, ESMTP, ESMTPSA, LMTPS, UTF8SMTPSA and so on.
func (tx *Transaction) Protocol() string {
	s := tx.Session
	name := "SMTP"
	switch {
	case s.Mode == ModeLMTP:
		name = "LMTP"
	case s.Extended && !tx.Params.UTF8:
		name = "ESMTP"
	}
	if tx.Params.UTF8 {
		name = "UTF8" + name
	}
	if !s.Extended {
		return name
	}
	if s.TLS != nil {
		name += "S"
	}
	if s.authed {
		name += "A"
	}
	return name
}

// traceWord makes s fit for a header: what peers say of themselves may be anything.
func traceWord(s string) string {
	if s == "" {
		return "unknown"
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || strings.ContainsRune("();<>\\\"", r) {
			return '?'
		}
		return r
	}, s)
}
