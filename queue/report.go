package queue

import (
	"context"
	"io"
	"time"
)

// ReportKind is the reason for a report.
type ReportKind uint8

// The kinds of report (RFC 3464, 2.3.3). A ReportSuccess says of each recipient whether it was
// delivered or relayed, by its Last.Handover.
const (
	ReportFailure ReportKind = iota
	ReportDelay
	ReportSuccess
)

// String returns the name, as logs and lists show it.
func (k ReportKind) String() string {
	switch k {
	case ReportFailure:
		return "failure"
	case ReportDelay:
		return "delay"
	case ReportSuccess:
		return "success"
	}
	return "unknown"
}

// A Report is what the sender of a message is to be told.
type Report struct {
	Kind     ReportKind
	ID       ID
	Envelope *Envelope
	Size     int64

	// Recipients to report on, all of them wanting to be, with the outcome in Last.
	Recipients []Recipient

	// RetryUntil is, for a delay, when the message will be given up; zero when not known.
	RetryUntil time.Time
	Now        time.Time

	// Open opens the message's body, to be returned in the report.
	Open func() (io.ReadSeekCloser, error)
}

// A ReportFunc builds the message that tells a report, with the null sender, or returns nil when
// there is nothing to send. Its Body is read once while it is enqueued; when it is an
// io.Closer it is closed afterwards. An error postpones the settlement of a failure
// (the recipients stay pending), because nobody was told of it. Package dsn provides one.
type ReportFunc func(ctx context.Context, r *Report) (*Message, error)

// NoReports builds no reports.
func NoReports(context.Context, *Report) (*Message, error) { return nil, nil }

// reportable are the recipients among rs about which kind is wanted. A message from the
// null sender wants no report (RFC 5321, 4.5.5).
func reportable(e *Envelope, kind ReportKind, rs []Recipient) []Recipient {
	if e.ReversePath == "" {
		return nil
	}
	var wanted []Recipient
	for _, r := range rs {
		switch kind {
		case ReportFailure:
			if !r.Notify.Failure() {
				continue
			}
		case ReportDelay:
			if !r.Notify.Delay() {
				continue
			}
		case ReportSuccess:
			told := r.Last.Handover == HandoverTold && r.Notify&NotifyNever == 0
			if !told && (!r.Notify.Success() || r.Last.Handover == HandoverDSN) {
				continue
			}
		}
		wanted = append(wanted, r)
	}
	return wanted
}
