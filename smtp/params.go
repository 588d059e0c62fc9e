package smtp

import "time"

// BodyType is the BODY parameter of MAIL (RFC 6152, RFC 3030).
type BodyType uint8

const (
	BodyUnset  BodyType = iota // not given: 7BIT
	Body7Bit                   // 7BIT
	Body8Bit                   // 8BITMIME
	BodyBinary                 // BINARYMIME: sent with BDAT only, lines need not end in CRLF
)

// Return is the RET parameter of MAIL (RFC 3461, 4.3): how much of the message a
// failure report returns.
type Return uint8

const (
	ReturnUnset   Return = iota // not given: up to the server
	ReturnFull                  // FULL
	ReturnHeaders               // HDRS
)

// Notify is the NOTIFY parameter of RCPT, a set (RFC 3461, 4.1). The zero value means
// not given, which asks for reports of failure and perhaps delay.
type Notify uint8

const (
	NotifyNever   Notify = 1 << iota // NEVER, which stands alone
	NotifySuccess                    // SUCCESS
	NotifyFailure                    // FAILURE
	NotifyDelay                      // DELAY
)

// MailParams are the parameters of MAIL. The zero value means none.
type MailParams struct {
	// Size is the declared size of the message in octets (RFC 1870); 0 is unknown.
	Size int64

	// Body says what octets the message may hold.
	Body BodyType

	// UTF8 is SMTPUTF8: addresses and header may hold UTF-8 (RFC 6531).
	UTF8 bool

	// Return and EnvelopeID are RET and ENVID, the latter decoded (RFC 3461, 4.3, 4.4).
	Return     Return
	EnvelopeID string

	// Auth is the AUTH parameter, decoded: the mailbox that submitted the message, or "<>"
	// for one that is not known or not trusted (RFC 4954, 5); "" when not given.
	Auth string

	// RequireTLS asks that the message go only over verified TLS (RFC 8689).
	RequireTLS bool

	// HoldFor and HoldUntil ask to keep the message back (RFC 4865); at most one is set.
	HoldFor   time.Duration
	HoldUntil time.Time

	// DeliverBy is the BY parameter (RFC 2852).
	DeliverBy DeliverBy

	// Priority is MT-PRIORITY, -9 to 9, higher first (RFC 6710).
	Priority int

	// Solicit names the kinds of solicitation that the message is, such as "org.example:ADV", between
	// commas (RFC 3865, 2.3).
	Solicit string

	// Other holds parameters the Server's AllowParam let through, in order.
	Other []Param
}

// DeliverBy is a deadline for delivery (RFC 2852). The zero value means none.
type DeliverBy struct {
	Seconds int64 // from now; negative or 0 only with 'N'
	Mode    byte  // 'R' return, 'N' notify; 0 when not given
	Trace   bool  // report on the way, too
}

// RcptParams are the parameters of RCPT. The zero value means none.
type RcptParams struct {
	// Notify says when the sender wants a report.
	Notify Notify

	// OriginalType and Original are ORCPT, decoded: address type ("rfc822", "utf-8") and
	// address (RFC 3461, 4.2; RFC 6533, 3). An address beyond ASCII has the type "utf-8".
	OriginalType, Original string

	// ValidSince is RRVS: the mailbox must have had the same owner since then (RFC 7293).
	ValidSince time.Time

	// Other holds parameters the Server's AllowParam let through, in order.
	Other []Param
}

// Param is a parameter that this package does not know; Key is in upper case.
type Param struct{ Key, Value string }
