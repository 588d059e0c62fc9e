package smtp

import (
	"context"
	"time"
)

// Trace holds functions that a Server calls as things happen, for counting and
// timing. Each may be nil. They run on the connection's goroutine and must not block.
type Trace struct {
	// SessionStart is called when a connection was accepted, before Handler.Connect.
	SessionStart func(ctx context.Context, s *Session)

	// SessionDone is called when the connection has been closed; the cause is nil after QUIT.
	SessionDone func(ctx context.Context, s *Session, cause error)

	// CommandDone is called behind each command with its verb in upper case ("" if it
	// is unknown), the code of the reply, and the time it took, waiting for the
	// body of DATA included.
	CommandDone func(ctx context.Context, s *Session, verb string, code int, took time.Duration)

	// MessageDone is called behind DATA or the last BDAT with the code of the (last)
	// reply and the octets of the body.
	MessageDone func(ctx context.Context, tx *Transaction, code int, size int64)

	// AuthDone is called behind AUTH.
	AuthDone func(ctx context.Context, s *Session, mech string, err error)
}
