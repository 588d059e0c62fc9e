package resolver

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/dns"
)

// Conditions to test for with errors.Is.
var (
	ErrNXDomain = errors.New("no such domain name")      // from the Lookup functions only
	ErrNoData   = errors.New("no record of this type")   // from the Lookup functions only
	ErrServFail = errors.New("server failure")           // SERVFAIL, REFUSED and other codes, or no server could be reached
	ErrBogus    = errors.New("DNSSEC validation failed") // a SERVFAIL whose extended error blames DNSSEC; it is an ErrServFail too
	ErrTimeout  = errors.New("time limit reached")       // no answer within the tries or before the context's end
	ErrBudget   = errors.New("query budget used up")     // from Budget
	ErrName     = errors.New("not a domain name")        // the name can not be asked for: label over 63 octets, and so on
)

// Error says what was asked and why there is no answer. It wraps one of the
// Err conditions, and the cause below it where there is one.
type Error struct {
	Name   string // as asked
	Type   uint16
	Server string // the last server tried; empty when none was
	RCode  int    // of the last response; 0 when there was none
	Err    error  // what errors.Is looks at
}

// Error implements error.
func (e *Error) Error() string {
	s := fmt.Sprintf("resolver: %s %s: %v", e.Name, dns.Type(e.Type), e.Err)
	if e.Server != "" {
		s += " (" + e.Server + ")"
	}
	return s
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether the same question may well be answered later. It
// is false for nil, for names that can not be asked for, and for answers that
// the Lookup functions turned into errors (no such domain, no data).
func Temporary(err error) bool {
	switch {
	case err == nil, errors.Is(err, ErrNXDomain), errors.Is(err, ErrNoData), errors.Is(err, ErrName):
		return false
	}
	return true
}

// contextError turns the end of ctx into an error for the question: a deadline
// is ErrTimeout, a cancellation stays context.Canceled.
func contextError(ctx context.Context, name string, qtype uint16) error {
	err := ctx.Err()
	if errors.Is(err, context.DeadlineExceeded) {
		err = ErrTimeout
	}
	return &Error{Name: name, Type: qtype, Err: err}
}
