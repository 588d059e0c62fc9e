package queue

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"
)

// A decision is what the outcomes of an attempt mean, before reports are built.
type decision struct {
	recipients map[int]Recipient // new states
	alarm      time.Time
	now        time.Time

	failed, delayed, succeeded []int       // indexes to report on
	noReports                  bool        // reports can not be stored: who failed stays pending
	dropped                    []Recipient // failed, and nobody is told
}

// decide applies the policy. It is a function of its arguments alone.
func (w *work) decide(l *Lease, outcomes []Outcome, tried bool, now time.Time) *decision {
	d := &decision{recipients: make(map[int]Recipient, len(l.Due)), now: now}
	age := ageOf(l.Envelope, now)
	for n, i := range l.Due {
		r := l.Envelope.Recipients[i]
		o := outcomes[n]
		r.Last = o
		switch o.Result {
		case Delivered:
			r.Status = StatusDelivered
			r.Attempts++
			d.succeeded = append(d.succeeded, i)
		case Permanent:
			r.Status = StatusFailed
			if tried {
				r.Attempts++
			}
			d.failed = append(d.failed, i)
		default:
			if o.Result == Temporary {
				r.Attempts++
			}
			w.postpone(d, l, i, &r, o, tried, age)
		}
		d.recipients[i] = r
	}
	d.alarm = w.alarm(l, d, age)
	return d
}

// ageOf gives the age of a message: since it arrived, or its hold ended.
func ageOf(e *Envelope, now time.Time) time.Duration {
	began := e.Arrived
	if e.HoldUntil.After(began) {
		began = e.HoldUntil
	}
	return max(now.Sub(began), 0)
}

// postpone decides about a recipient that is neither delivered nor refused.
func (w *work) postpone(d *decision, l *Lease, i int, r *Recipient, o Outcome, tried bool, age time.Duration) {
	after, giveUp := w.retry.Next(r, o, age)
	if giveUp {
		r.Status = StatusFailed
		d.failed = append(d.failed, i)
		return
	}
	// An item that was only looked after stays due, and goes out as soon as its route is up.
	warnAt := l.Envelope.warnAt()
	if tried {
		r.Due = d.now.Add(after)
		if x := l.Envelope.expires(); !x.IsZero() && x.Before(r.Due) {
			r.Due = x
		}
		if warnAt.After(d.now) && warnAt.Before(r.Due) { // one more try before it is late
			r.Due = warnAt
		}
	}
	warn := w.retry.Warn(r, age)
	if !warnAt.IsZero() {
		warn = !warnAt.After(d.now)
	}
	if warn && !r.Warned {
		r.Warned = true
		d.delayed = append(d.delayed, i)
	}
}

// alarm gives the time at which the first of the item's pending recipients wants attention
// though nothing is attempted.
func (w *work) alarm(l *Lease, d *decision, age time.Duration) time.Time {
	first := age + 24*time.Hour
	for i := range l.Envelope.Recipients {
		r, changed := d.recipients[i]
		if !changed {
			r = l.Envelope.Recipients[i]
		}
		if r.Route != l.Token.Route || r.Status != StatusPending {
			continue
		}
		if next := w.retry.Attention(&r, age); next > age {
			first = min(first, next)
		}
		if at := l.Envelope.warnAt(); at.After(d.now) {
			first = min(first, age+at.Sub(d.now))
		}
	}
	alarm := d.now.Add(first - age)
	if x := l.Envelope.expires(); !x.IsZero() && x.Before(alarm) {
		alarm = x
	}
	return alarm
}

// settlement builds the reports that a decision asks for, and the settlement with them. Reports'
// bodies to be closed after the commit come back as closers.
func (w *work) settlement(ctx context.Context, l *Lease, d *decision) (Settlement, []ReportKind, []io.Closer) {
	set := Settlement{Recipients: make(map[int]Recipient, len(d.recipients)), Alarm: d.alarm}
	for i, r := range d.recipients {
		set.Recipients[i] = r
	}
	d.dropped = nil
	var kinds []ReportKind
	var closers []io.Closer
	for _, group := range []struct {
		kind  ReportKind
		which []int
	}{{ReportFailure, d.failed}, {ReportDelay, d.delayed}, {ReportSuccess, d.succeeded}} {
		var rs []Recipient
		for _, i := range group.which {
			rs = append(rs, d.recipients[i])
		}
		wanted := reportable(l.Envelope, group.kind, rs)
		if len(wanted) == 0 {
			if group.kind == ReportFailure {
				d.dropped = rs
			}
			continue
		}
		m, err := w.report(ctx, d, &Report{
			Kind: group.kind, ID: l.Token.ID, Envelope: l.Envelope, Size: l.Size, Recipients: wanted,
			Now: d.now, RetryUntil: w.giveUpTime(l, d),
			Open: func() (io.ReadSeekCloser, error) { return w.Store.Open(ctx, l.Token.ID) },
		})
		if err != nil {
			w.log.LogAttrs(ctx, slog.LevelError, "report not built", slog.String("queue_id", string(l.Token.ID)),
				slog.String("kind", group.kind.String()), slog.Any("err", err))
			if group.kind == ReportFailure {
				w.keepPending(l, d, &set, group.which)
			}
			continue
		}
		if m == nil {
			continue
		}
		if c, ok := m.Body.(io.Closer); ok {
			closers = append(closers, c)
		}
		set.Reports = append(set.Reports, *m)
		kinds = append(kinds, group.kind)
	}
	return set, kinds, closers
}

var errNoReports = errors.New("queue: settling with reports failed")

func (w *work) report(ctx context.Context, d *decision, r *Report) (*Message, error) {
	if d.noReports {
		return nil, errNoReports
	}
	return w.Report(ctx, r)
}

// keepPending undoes failures of which the sender could not be told.
func (w *work) keepPending(l *Lease, d *decision, set *Settlement, which []int) {
	for _, i := range which {
		r := d.recipients[i]
		r.Status = StatusPending
		after, giveUp := w.retry.Next(&r, Outcome{}, 0)
		if giveUp || after <= 0 {
			after = time.Hour
		}
		r.Due = d.now.Add(after)
		set.Recipients[i] = r
	}
	set.Alarm = d.now.Add(time.Hour)
}

// giveUpTime asks the policy when the message's life ends: the last age at which it wants
// attention.
func (w *work) giveUpTime(l *Lease, d *decision) time.Time {
	if x := l.Envelope.expires(); !x.IsZero() {
		return x
	}
	age := ageOf(l.Envelope, d.now)
	probe := d.recipients[l.Due[0]]
	probe.Warned = true
	end := age
	for range 16 { // more steps than any policy has
		next := w.retry.Attention(&probe, end)
		if next <= end {
			break
		}
		end = next
	}
	if end == age {
		return time.Time{}
	}
	return d.now.Add(end - age)
}
