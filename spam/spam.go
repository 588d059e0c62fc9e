package spam

import (
	"fmt"
	"strings"
)

// A Label says what a message is, as its reader judged it. The zero Label says nothing.
type Label uint8

const (
	Unlabelled Label = iota // never learned, or forgotten
	Ham                     // wanted
	Spam                    // unwanted
	Neutral                 // learned on purpose as neither: remembered, and counts for nothing
)

// String returns "ham", "spam", "neutral" or "unlabelled".
func (l Label) String() string {
	switch l {
	case Ham:
		return "ham"
	case Spam:
		return "spam"
	case Neutral:
		return "neutral"
	}
	return "unlabelled"
}

// ParseLabel reads what [Label.String] writes.
func ParseLabel(s string) (Label, error) {
	for _, l := range []Label{Unlabelled, Ham, Spam, Neutral} {
		if strings.EqualFold(s, l.String()) {
			return l, nil
		}
	}
	return Unlabelled, fmt.Errorf("spam: %q is no label", s)
}

// An Action is what a verdict asks for. Actions are ordered by severity.
type Action uint8

const (
	Accept Action = iota // deliver as usual
	Junk                 // deliver to the Junk mailbox
	Defer                // answer 4yz: the peer may come again
	Reject               // answer 5yz
)

// String returns "accept", "junk", "defer" or "reject".
func (a Action) String() string {
	switch a {
	case Junk:
		return "junk"
	case Defer:
		return "defer"
	case Reject:
		return "reject"
	}
	return "accept"
}

// A Reason is one part of a score, to be read by people.
type Reason struct {
	Name  string  // constant and short: "subject-word", "sender-network"
	Text  string  // what it was in this message, valid UTF-8 without control characters; may be empty
	Score float64 // its part of the score: log-odds (natural logarithm), above 0 speaks for spam
}

// String returns the reason as "name(text)=+1.23".
func (r Reason) String() string {
	if r.Text == "" {
		return fmt.Sprintf("%s=%+.2f", r.Name, r.Score)
	}
	return fmt.Sprintf("%s(%s)=%+.2f", r.Name, r.Text, r.Score)
}

// A Verdict is what a check, or a chain of checks, found. It is data: a message that can not
// be judged is an unsure verdict, never an error.
type Verdict struct {
	// Score is the weight of the evidence in log-odds (natural logarithm): the sum of the
	// scores of Reasons up to rounding. 0 says nothing; above 0 speaks for spam. A
	// classifier shifts it so that its threshold is at 0.
	Score float64

	// Probability that the message is spam, 0 to 1, by the evidence alone.
	Probability float64

	Action Action

	// Reasons stand in descending order of their weight, whichever way they speak.
	Reasons []Reason

	// Unsure is set when the evidence allows no decision: too little was learned, or the
	// message resembles nothing that was. Action is never more than Accept then, unless
	// another check of the chain asked for more.
	Unsure bool

	// Reply is what to tell the peer when Action is Defer or Reject, a single line of
	// ASCII without a code. Empty means the server's own words.
	Reply string
}

// String returns "spam", "ham" or "unsure".
func (v Verdict) String() string {
	switch {
	case v.Unsure:
		return "unsure"
	case v.Score > 0:
		return "spam"
	}
	return "ham"
}
