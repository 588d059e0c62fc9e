package spam

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

// OnFailure says what becomes of a message when a check fails.
type OnFailure uint8

const (
	FailOpen   OnFailure = iota // go on as if the check had found nothing
	FailDefer                   // ask the peer to come again
	FailClosed                  // refuse
)

// A Policy turns what checks found into an action.
type Policy struct {
	// OnFailure is what to do when the check of this name fails or is too late. Checks
	// that are not named fail open.
	OnFailure map[string]OnFailure

	// JunkAt and RejectAt are the sums of scores from which a message is junk, or refused.
	// Zero JunkAt means above 0; zero RejectAt means never by score alone. A check that
	// asks for more by itself gets it.
	JunkAt, RejectAt float64
}

// A Chain runs checks. It has no state of its own and is safe for concurrent use while its
// fields stay as they are.
type Chain struct {
	Checks []Check
	Policy Policy

	// Timeout bounds one stage. Zero means 10 s.
	Timeout time.Duration
}

// A CheckError says that a check failed: the error is its own, or the context's when the
// check was too late.
type CheckError struct {
	Check string
	Err   error
}

// Error implements error.
func (e *CheckError) Error() string { return "spam: check " + e.Check + ": " + e.Err.Error() }

// Unwrap returns the check's own error.
func (e *CheckError) Unwrap() error { return e.Err }

// Run runs the checks of a stage in parallel, and returns what they found together: scores
// are added, and the severest action counts. It returns as soon as a check asks to defer or to
// refuse, and at the deadline at the latest; checks that are still running then have their
// context cancelled and are not waited for. Failures report every check that failed and are
// in the verdict already. M is nil before [Data]. A cancelled ctx is a failure of each check.
func (c *Chain) Run(ctx context.Context, stage Stage, e *Envelope, m *Message) (v Verdict, failures []*CheckError) {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	type result struct {
		check int
		v     Verdict
		err   error
	}
	waiting := map[int]bool{}
	results := make(chan result, len(c.Checks)) // so that a late check ends, too
	for i, check := range c.Checks {
		if check.Stage() != stage {
			continue
		}
		waiting[i] = true
		go func() {
			v, err := runCheck(ctx, check, e, m)
			results <- result{i, v, err}
		}()
	}
	found := make(map[int]Verdict, len(waiting))
	errs := map[int]error{}
	decided := false
	for len(waiting) > 0 && !decided {
		select {
		case r := <-results:
			delete(waiting, r.check)
			if r.err != nil {
				errs[r.check] = r.err
			} else {
				found[r.check] = r.v
				decided = r.v.Action >= Defer
			}
		case <-ctx.Done():
			for i := range waiting {
				errs[i] = ctx.Err()
			}
			clear(waiting)
		}
	}
	return c.combine(found, errs)
}

// runCheck turns a panic into the check's failure: one check never ends a server.
func runCheck(ctx context.Context, check Check, e *Envelope, m *Message) (v Verdict, err error) {
	defer func() {
		if p := recover(); p != nil {
			v, err = Verdict{}, fmt.Errorf("panic: %v", p)
		}
	}()
	return check.Check(ctx, e, m)
}

// combine adds up verdicts in the order of the checks, whichever was first.
func (c *Chain) combine(found map[int]Verdict, errs map[int]error) (v Verdict, failures []*CheckError) {
	sure := false
	for i, check := range c.Checks {
		if err := errs[i]; err != nil {
			failures = append(failures, &CheckError{check.Name(), err})
			reason := Reason{Name: check.Name() + "-failed"}
			switch c.Policy.OnFailure[check.Name()] {
			case FailDefer:
				v.Action = max(v.Action, Defer)
				v.Reasons = append(v.Reasons, reason)
			case FailClosed:
				v.Action = max(v.Action, Reject)
				v.Reasons = append(v.Reasons, reason)
			}
			continue
		}
		f, ok := found[i]
		if !ok {
			continue
		}
		v.Score += f.Score
		v.Reasons = append(v.Reasons, f.Reasons...)
		sure = sure || !f.Unsure
		if f.Action > v.Action || f.Action == v.Action && v.Reply == "" {
			v.Action, v.Reply = f.Action, f.Reply
		}
	}
	slices.SortStableFunc(v.Reasons, func(a, b Reason) int { return cmp.Compare(math.Abs(b.Score), math.Abs(a.Score)) })
	v.Probability = sigmoid(v.Score)
	v.Unsure = !sure && v.Action == Accept
	switch {
	case v.Unsure:
	case c.Policy.RejectAt > 0 && v.Score >= c.Policy.RejectAt:
		v.Action = max(v.Action, Reject)
	case v.Score > 0 && v.Score >= c.Policy.JunkAt:
		v.Action = max(v.Action, Junk)
	}
	return v, failures
}

// Statistics returns the check of a classifier: it judges at [Data] for the user that user
// names, or for all when user is nil.
func (c *Classifier) Statistics(user func(e *Envelope) string) Check {
	return &statistics{c, user}
}

type statistics struct {
	c    *Classifier
	user func(*Envelope) string
}

func (s *statistics) Name() string { return "statistics" }

func (s *statistics) Stage() Stage { return Data }

func (s *statistics) Check(ctx context.Context, e *Envelope, m *Message) (Verdict, error) {
	if m == nil {
		return Verdict{Unsure: true, Probability: 0.5}, nil
	}
	name := ""
	if s.user != nil {
		name = s.user(e)
	}
	return s.c.Score(ctx, name, m)
}
