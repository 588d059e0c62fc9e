package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// attempt works on one lease to its end, and tells run.
func (w *work) attempt(ctx context.Context, l *Lease, routeLast Outcome) {
	res := result{route: l.Token.Route, lookedAfter: l.RouteDown}
	defer func() { w.results <- res }()

	began := time.Now()
	lost, release := w.renewals.add(ctx, l.Token)
	defer release()

	var outcomes []Outcome
	tried := false
	switch {
	case l.Expire:
		outcomes = l.all(Outcome{Result: Permanent, Enhanced: "5.4.7", Text: "given up by the operator"})
	case expired(l):
		outcomes = l.all(Outcome{Result: Permanent, Enhanced: "5.4.7", Text: "delivery time expired"})
	case l.RouteDown:
		routeLast.Result = RouteDown
		outcomes = l.all(routeLast)
	default:
		outcomes = w.deliver(lost, l)
		tried = true
		res.verdict, res.last = judge(outcomes)
	}
	// The store's clock, moved on by ours: the two may be on different machines.
	now := l.Now.Add(time.Since(began))
	res.err = w.settle(ctx, lost, l, outcomes, tried, now)
}

func (l *Lease) all(o Outcome) []Outcome {
	all := make([]Outcome, len(l.Due))
	for i := range all {
		all[i] = o
	}
	return all
}

// expired reports whether the message's own deadline is over.
func expired(l *Lease) bool {
	x := l.Envelope.expires()
	return !x.IsZero() && !l.Now.Before(x)
}

// deliver calls the Transport. The context stopped ends when the lease is lost or the Runner shuts down.
func (w *work) deliver(stopped context.Context, l *Lease) (outcomes []Outcome) {
	ctx, cancel := context.WithTimeout(stopped, orDefault(w.AttemptTimeout, time.Hour))
	defer cancel()
	a := &Attempt{
		ID: l.Token.ID, Route: l.Token.Route, Envelope: l.Envelope, Size: l.Size,
		Open: func() (io.ReadSeekCloser, error) { return w.Store.Open(ctx, l.Token.ID) },
	}
	for _, i := range l.Due {
		a.Recipients = append(a.Recipients, l.Envelope.Recipients[i])
	}
	began := time.Now()
	func() {
		defer func() {
			if p := recover(); p != nil {
				w.log.LogAttrs(ctx, slog.LevelError, "transport panicked", slog.String("queue_id", string(a.ID)),
					slog.Any("err", p), slog.String("stack", string(debug.Stack())))
				outcomes = nil
			}
		}()
		outcomes = w.Transport.Deliver(ctx, a)
	}()
	for len(outcomes) < len(l.Due) {
		outcomes = append(outcomes, Outcome{Enhanced: "4.3.0", Text: "internal error of the sending system"})
	}
	outcomes = outcomes[:len(l.Due)]
	if stopped.Err() != nil { // by us: not the destination's fault
		for i := range outcomes {
			if r := outcomes[i].Result; r == Temporary || r == RouteDown {
				outcomes[i].Result = Deferred
			}
		}
	}
	if w.trace.Attempt != nil {
		w.trace.Attempt(ctx, a, outcomes, time.Since(began))
	}
	return outcomes
}

// judge says what the outcomes of an attempt tell about its route: one that was
// answered for any recipient is up.
func judge(outcomes []Outcome) (verdict, Outcome) {
	v, last := neutral, Outcome{}
	for _, o := range outcomes {
		switch o.Result {
		case Delivered, Temporary, Permanent:
			return up, Outcome{}
		case RouteDown:
			v, last = down, o
		}
	}
	return v, last
}

// settle stores the outcomes. While the store does not answer it tries again, as long as the
// lease is ours; the error is the store's last word.
func (w *work) settle(ctx, lost context.Context, l *Lease, outcomes []Outcome, tried bool, now time.Time) error {
	d := w.decide(l, outcomes, tried, now)
	for try := 1; ; try++ {
		err := w.commit(ctx, l, d)
		switch {
		case err == nil:
			return nil
		case fatal(err):
			return err
		}
		// It may be the message itself, which a report returns, that can not be read.
		d.noReports = try >= 3
		w.log.LogAttrs(ctx, slog.LevelError, "settling failed", slog.String("queue_id", string(l.Token.ID)),
			slog.String("route", l.Token.Route), slog.Any("err", err))
		// The lease ends by itself if we stop here: the attempt is then made again.
		if errors.Is(err, ErrStale) || !pause(lost, storePause) {
			return nil
		}
	}
}

// commit makes one call of Settle, reports included, and tells the log and the trace.
func (w *work) commit(ctx context.Context, l *Lease, d *decision) error {
	set, kinds, closers := w.settlement(ctx, l, d)
	defer func() {
		for _, c := range closers {
			c.Close()
		}
	}()
	ids, err := w.Store.Settle(context.WithoutCancel(ctx), l.Token, set)
	if err != nil {
		return err
	}
	w.tell(ctx, l, set, d, kinds, ids)
	return nil
}

func (w *work) tell(ctx context.Context, l *Lease, set Settlement, d *decision, kinds []ReportKind, ids []ID) {
	id := l.Token.ID
	var changed []Recipient
	for _, i := range l.Due {
		r, ok := set.Recipients[i]
		if !ok {
			continue
		}
		changed = append(changed, r)
		level := slog.LevelInfo
		if r.Status == StatusFailed {
			level = slog.LevelWarn
		}
		w.log.LogAttrs(ctx, level, "recipient attempted", slog.String("queue_id", string(id)), slog.String("status", r.Status.String()),
			slog.String("from", l.Envelope.ReversePath), slog.String("rcpt", r.Address),
			slog.String("result", r.Last.Result.String()), slog.Int("code", r.Last.Code),
			slog.String("text", r.Last.Text), slog.String("remote", r.Last.RemoteMTA),
			slog.Int("attempts", r.Attempts), slog.Time("due", r.Due))
	}
	if w.trace.Settled != nil {
		w.trace.Settled(ctx, id, l.Token.Route, changed)
	}
	for i, kind := range kinds {
		if w.trace.Reported != nil && i < len(ids) {
			w.trace.Reported(ctx, id, kind, ids[i])
		}
	}
	if len(d.dropped) > 0 && w.trace.Dropped != nil {
		w.trace.Dropped(ctx, id, d.dropped)
	}
}

// renewals keeps the leases of attempts in flight alive: one goroutine for all of them.
type renewals struct {
	store        Store
	every, lasts time.Duration

	mu   sync.Mutex
	held map[Token]context.CancelCauseFunc
}

// add has t renewed until release is called. The context ends when the lease is lost.
func (rn *renewals) add(ctx context.Context, t Token) (lost context.Context, release func()) {
	lost, cancel := context.WithCancelCause(ctx)
	rn.mu.Lock()
	defer rn.mu.Unlock()
	if rn.held == nil {
		rn.held = make(map[Token]context.CancelCauseFunc)
	}
	rn.held[t] = cancel
	return lost, func() {
		rn.mu.Lock()
		defer rn.mu.Unlock()
		delete(rn.held, t)
		cancel(nil)
	}
}

func (rn *renewals) run(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(max(rn.every, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		rn.mu.Lock()
		tokens := make([]Token, 0, len(rn.held))
		for t := range rn.held {
			tokens = append(tokens, t)
		}
		rn.mu.Unlock()
		for _, t := range tokens {
			err := rn.store.Renew(ctx, t, rn.lasts)
			if err == nil || ctx.Err() != nil {
				continue
			}
			rn.mu.Lock()
			cancel := rn.held[t]
			rn.mu.Unlock()
			if cancel == nil { // settled meanwhile
				continue
			}
			log.LogAttrs(ctx, slog.LevelWarn, "lease not renewed", slog.String("queue_id", string(t.ID)), slog.Any("err", err))
			if errors.Is(err, ErrStale) {
				cancel(fmt.Errorf("queue: attempt stopped: %w", err))
			}
		}
	}
}
