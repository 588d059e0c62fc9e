package dsn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A Bounce is what a message that came to a reverse-path means for one recipient.
type Bounce struct {
	Kind BounceKind

	// Recipient is the address that mail was sent to, as well as it can be known: from the reverse-path (VERP), else
	// as the report gives it, the original before the final one. "" when nothing says it. Proven: it is from the reverse-path.
	Recipient string
	Proven    bool

	// Status is "5.1.1", "" when there is none; Reason what it means for the recipient.
	Status string
	Reason BounceReason

	// Diagnostic is what was said, for people.
	Diagnostic string
	MessageID  string // of the message that it is about, "" when not known
}

// BounceKind is what happened.
type BounceKind uint8

// The kinds of Bounce. A BounceUnknown came to a reverse-path that names its recipient, but is in no form that is known: often
// a failure, in somebody's own words, sometimes an answer by a machine.
const (
	BounceUnknown BounceKind = iota
	BounceFailed
	BounceDelayed
	BounceDelivered // or relayed, or expanded: nothing is wrong
	BounceComplaint // a Feedback that calls it abuse, or the like
	BounceNotSpam   // a Feedback that takes a complaint back
)

// BounceReason classes a status.
type BounceReason uint8

// The reasons of a Bounce, by RFC 3463 and its registry. Of a BounceFailed, ReasonAddress means that the address does not work and
// will not; the others may pass, or are not the recipient's.
const (
	ReasonOther    BounceReason = iota
	ReasonAddress               // X.1.0 to X.1.6, X.1.10, X.2.1: no such mailbox or domain, or it is disabled
	ReasonFull                  // X.2.2, X.3.1
	ReasonTooLarge              // X.2.3, X.3.4
	ReasonNetwork               // X.4.z: could not be reached, or in time
	ReasonContent               // X.6.z
	ReasonPolicy                // X.7.z: refused for what it is or whom it is from
)

// ReasonOf classes an enhanced status code.
func ReasonOf(status string) BounceReason {
	_, detail, _ := strings.Cut(status, ".")
	subject, _, _ := strings.Cut(detail, ".")
	switch detail {
	case "1.0", "1.1", "1.2", "1.3", "1.4", "1.6", "1.10", "2.1":
		return ReasonAddress
	case "2.2", "3.1":
		return ReasonFull
	case "2.3", "3.4":
		return ReasonTooLarge
	}
	switch subject {
	case "4":
		return ReasonNetwork
	case "6":
		return ReasonContent
	case "7":
		return ReasonPolicy
	}
	return ReasonOther
}

// maxBounce is the size of a message that ReadBounce looks at, in octets.
const maxBounce = 4 << 20

// ReadBounce reads a message that came to the reverse-path to. decode finds the recipient in a reverse-path, as returnpath.VERP.Decode
// does; nil, or false, means that it does not say. ErrNotReport (wrapped): it is in no form that is known, and to does not say either.
//
// Reports are forged easily: act on what is not Proven only when it names a message that was sent.
func ReadBounce(r io.Reader, to string, decode func(address string) (recipient string, ok bool)) ([]Bounce, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxBounce))
	if err != nil {
		return nil, fmt.Errorf("queue/dsn: read bounce: %w", err)
	}
	base := Bounce{}
	if decode != nil {
		base.Recipient, base.Proven = decode(to)
	}
	rep, err := Parse(bytes.NewReader(text))
	if err == nil {
		return base.report(rep), nil
	}
	feedback, err2 := ParseFeedback(bytes.NewReader(text))
	switch {
	case err2 == nil:
		return base.feedback(feedback), nil
	case base.Proven:
		return []Bounce{base}, nil
	}
	return nil, errors.Join(err, err2)
}

// report gives a Bounce for each recipient of a delivery report. One that came to a reverse-path of a recipient's own is about that
// one, whatever name it has got on its way.
func (b Bounce) report(rep *Report) []Bounce {
	var all []Bounce
	for _, s := range rep.Recipients {
		b := b
		switch s.Action {
		case "failed":
			b.Kind = BounceFailed
		case "delayed":
			b.Kind = BounceDelayed
		case "delivered", "relayed", "expanded":
			b.Kind = BounceDelivered
		}
		b.Status, b.Diagnostic, b.MessageID = s.Status, s.Diagnostic, rep.MessageID
		if b.Diagnostic == "" {
			b.Diagnostic = said(rep.Text, s.Final)
		}
		if strings.HasSuffix(b.Status, ".0.0") { // it may be known better
			b.Status = betterStatus(b.Status, b.Diagnostic)
		}
		b.Reason = ReasonOf(b.Status)
		if !b.Proven {
			if b.Recipient = s.Original; b.Recipient == "" {
				b.Recipient = s.Final
			}
		}
		all = append(all, b)
	}
	return all
}

// said finds what the part for people says of an address, as "address: words", where the part for programs says nothing
// (OpenSMTPD).
func said(text, address string) string {
	for line := range strings.Lines(text) {
		if words, ok := strings.CutPrefix(strings.TrimSpace(line), address+": "); ok && address != "" {
			return strings.TrimSpace(words)
		}
	}
	return ""
}

// betterStatus finds an enhanced status code of the same class in the reply "550 5.1.1 words".
func betterStatus(status, diagnostic string) string {
	words := strings.Fields(diagnostic)
	for _, w := range words[:min(len(words), 2)] {
		if w = strings.TrimPrefix(w, "#"); validStatus(w) && w[0] == status[0] {
			return w
		}
	}
	return status
}

func (b Bounce) feedback(f *Feedback) []Bounce {
	b.Kind, b.MessageID, b.Diagnostic = BounceComplaint, f.MessageID, f.Type
	if f.Type == "not-spam" {
		b.Kind = BounceNotSpam
	}
	if b.Proven || len(f.RcptTo) == 0 {
		return []Bounce{b}
	}
	var all []Bounce
	for _, to := range f.RcptTo {
		b.Recipient = to
		all = append(all, b)
	}
	return all
}
