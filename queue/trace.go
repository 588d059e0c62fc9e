package queue

import (
	"context"
	"time"
)

// Trace is what a Runner tells to whoever counts. Its functions are called concurrently, must not
// block, and any may be nil. What they are given is not theirs to change.
type Trace struct {
	// Attempt is called after each call of the Transport with the outcomes it gave.
	Attempt func(ctx context.Context, a *Attempt, outcomes []Outcome, took time.Duration)

	// Settled is called when the outcome of an item is stored, with the new state of the
	// recipients that changed.
	Settled func(ctx context.Context, id ID, route string, recipients []Recipient)

	// Reported is called when a report was enqueued about a message.
	Reported func(ctx context.Context, about ID, kind ReportKind, report ID)

	// Dropped is called for a failure of which nobody is told, because the message had the null
	// sender or asked for no report.
	Dropped func(ctx context.Context, about ID, recipients []Recipient)

	// Route is called when a route's breaker opens or closes.
	Route func(ctx context.Context, c RouteChange)
}
