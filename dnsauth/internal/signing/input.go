package signing

import (
	"github.com/mailblocks/mailblocks/dnsauth/internal/canon"
	"github.com/mailblocks/mailblocks/dnsauth/internal/msgheader"
)

// Input takes in a message that is to be signed, in any chunks: it keeps the header and
// hashes the body.
type Input struct {
	Header *msgheader.Header // complete after Finish

	collect msgheader.Collector
	body    *canon.Body
	sink    *canon.Sink
	err     error
}

// NewInput returns an Input for a header of at most maxHeader octets.
func NewInput(maxHeader int, relaxedBody bool) *Input {
	in := &Input{collect: msgheader.Collector{Max: maxHeader}, body: canon.NewBody(relaxedBody)}
	in.sink = in.body.Sink(-1)
	return in
}

// Write takes the next part of the message. It never fails; Finish tells.
func (in *Input) Write(p []byte) (int, error) {
	n := len(p)
	if in.err != nil {
		return n, nil
	}
	if in.Header == nil {
		used, done, err := in.collect.Write(p)
		if err != nil {
			in.err = err
			return n, nil
		}
		if !done {
			return n, nil
		}
		in.Header = msgheader.Parse(in.collect.Header())
		p = p[used:]
	}
	in.body.Write(p)
	return n, nil
}

// Finish ends the message and returns the hash of its body. The error is
// msgheader.ErrTooLong.
func (in *Input) Finish() ([]byte, error) {
	if in.err != nil {
		return nil, in.err
	}
	if in.Header == nil {
		in.Header = msgheader.Parse(in.collect.Header())
	}
	in.body.Finish()
	return in.sink.Sum[:], nil
}
