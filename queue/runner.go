package queue

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// A Runner works on a Store's due items until its context ends: it leases them, has the
// Transport attempt them within each route's limits, and settles. Set the required fields and
// call Run, once; nothing may be changed afterwards.
type Runner struct {
	Store     Store     // required
	Transport Transport // required

	// Report builds the reports that senders get; required. NoReports builds none, and then
	// senders never learn of failures.
	Report ReportFunc

	// Retry is the policy; nil means Backoff{}.
	Retry RetryPolicy

	// Concurrency is the greatest number of attempts at a time. 0 means 100.
	Concurrency int

	// PerRoute is the greatest number of attempts at a time on one route, which is reached by
	// success: a route begins with FirstPerRoute (0 means 1), a success adds one and
	// RouteDown halves. 0 means 20.
	PerRoute      int
	FirstPerRoute int

	// Rate bounds the attempts of all routes together, RouteRate those of each route. The zero Rate is no
	// limit. They count this Runner's attempts; those of others on the same Store come on top.
	Rate, RouteRate Rate

	// Limits, if not nil, gives what one route is allowed in place of the fields around it. It must be quick; it is
	// asked when the route is first used, and again once it has rested for an hour.
	Limits func(route string) Limits

	// BreakFor is how long a route is left alone after it was found down, BreakMax where the
	// doubling of that ends. 0 means 30 seconds and 30 minutes. Then one attempt probes it.
	BreakFor, BreakMax time.Duration

	// LeaseFor is the length of leases, which are renewed while an attempt runs. It is how long an
	// item rests after the process that attempted it died, when the store outlives it. 0 means 5 minutes.
	LeaseFor time.Duration

	// AttemptTimeout ends the context of an attempt. 0 means 1 hour.
	AttemptTimeout time.Duration

	// Grace is how long attempts in flight may go on when Run's context ends, before theirs
	// is cancelled. 0 means 30 seconds; negative cancels them at once.
	Grace time.Duration

	// Owner is the name shown with leases.
	Owner string

	Logger *slog.Logger // nil means slog.Default()
	Trace  *Trace       // nil means none
}

// Run works until ctx ends; then it takes no new work, waits for the attempts in flight, settles
// them, and returns nil. It returns an error when the store has failed or was closed, or when a
// required field is missing. A store that is unreachable for a while is asked again.
func (r *Runner) Run(ctx context.Context) error {
	switch {
	case r.Store == nil:
		return errors.New("queue: Runner has no Store")
	case r.Transport == nil:
		return errors.New("queue: Runner has no Transport")
	case r.Report == nil:
		return errors.New("queue: Runner has no Report; NoReports is the way to have none")
	}
	w := newWork(r)
	return w.run(ctx)
}

func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// work is a Runner that runs. The goroutine of run owns the routes; each attempt has a
// goroutine of its own, which ends by sending its result.
type work struct {
	*Runner
	retry    RetryPolicy
	log      *slog.Logger
	trace    Trace
	routes   *routes
	rate     limiter
	slots    int // attempts in flight
	max      int
	leaseFor time.Duration
	results  chan result
	renewals *renewals
}

// A result tells run that an attempt is over.
type result struct {
	route   string
	verdict verdict
	last    Outcome // for verdict down: why
	err     error   // the store has failed

	lookedAfter bool // the route was down, nothing was tried
}

func newWork(r *Runner) *work {
	w := &work{
		Runner:   r,
		retry:    r.Retry,
		log:      r.Logger,
		max:      max(orDefault(r.Concurrency, 100), 1),
		leaseFor: orDefault(r.LeaseFor, 5*time.Minute),
	}
	if w.retry == nil {
		w.retry = Backoff{}
	}
	if w.log == nil {
		w.log = slog.Default()
	}
	if r.Trace != nil {
		w.trace = *r.Trace
	}
	w.routes = newRoutes(r)
	w.rate = newLimiter(r.Rate)
	w.results = make(chan result, w.max)
	w.renewals = &renewals{store: r.Store, every: w.leaseFor / 3, lasts: w.leaseFor}
	return w
}

// storePause is how long the Runner waits before it asks a store again that failed to answer.
const storePause = 5 * time.Second

func (w *work) run(ctx context.Context) error {
	watch, stopWatch := context.WithCancel(ctx)
	defer stopWatch()
	pokes := make(chan error, 1)
	watchDone := make(chan struct{})
	go func() {
		defer close(watchDone)
		w.watch(watch, pokes)
	}()
	defer func() { <-watchDone }()
	defer stopWatch()

	attempts, cancelAttempts := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelAttempts()
	renewDone := make(chan struct{})
	renew, stopRenew := context.WithCancel(attempts)
	go func() {
		defer close(renewDone)
		w.renewals.run(renew, w.log)
	}()
	defer func() { <-renewDone }()
	defer stopRenew()

	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait, err := w.lease(ctx, attempts)
		if err != nil {
			w.drain(cancelAttempts)
			return err
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return w.drain(cancelAttempts)
		case res := <-w.results:
			err = w.finish(ctx, res)
		case err = <-pokes:
		case <-timer.C:
		}
		if err != nil {
			w.drain(cancelAttempts)
			return err
		}
	}
}

// watch pokes run whenever the store may have new work.
func (w *work) watch(ctx context.Context, pokes chan<- error) {
	var mark Mark
	for {
		next, err := w.Store.Wake(ctx, mark, time.Now().Add(time.Minute))
		if ctx.Err() != nil {
			return
		}
		if fatal(err) {
			select {
			case pokes <- err:
			case <-ctx.Done():
			}
			return
		}
		mark = next
		if err != nil {
			w.log.LogAttrs(ctx, slog.LevelError, "queue store does not answer", slog.Any("err", err))
			if !pause(ctx, storePause) {
				return
			}
		}
		select {
		case pokes <- nil:
		default:
		}
	}
}

func fatal(err error) bool { return errors.Is(err, ErrFailed) || errors.Is(err, ErrClosed) }

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// lease starts attempts while there is room and due work, and returns how long to wait for
// something that is not an event: a breaker's time, or a store that did not answer.
func (w *work) lease(ctx, attempts context.Context) (time.Duration, error) {
	for ctx.Err() == nil && w.slots < w.max {
		now := time.Now()
		want := Want{
			Max: w.rate.room(now, min(w.max-w.slots, 64)), For: w.leaseFor, Owner: w.Owner,
			PerRoute: w.routes.fresh, Room: w.routes.room(now),
		}
		if want.Max == 0 {
			return w.routes.next(now, w.rate.ready().Sub(now)), nil
		}
		leases, err := w.Store.Lease(ctx, want)
		if err != nil {
			if fatal(err) {
				return 0, err
			}
			if ctx.Err() == nil {
				w.log.LogAttrs(ctx, slog.LevelError, "queue store does not answer", slog.Any("err", err))
			}
			return storePause, nil
		}
		again := len(leases) == want.Max
		for i := range leases {
			l := &leases[i]
			if !l.RouteDown {
				w.rate.take(now)
			}
			last, fresh := w.routes.start(l.Token.Route, l.RouteDown, now)
			again = again || fresh && w.routes.free[l.Token.Route] > 0
			w.slots++
			go w.attempt(attempts, l, last)
		}
		if !again {
			break
		}
	}
	if w.slots >= w.max { // a place that becomes free is the next event
		return time.Minute, nil
	}
	return w.routes.next(time.Now(), time.Minute), nil
}

// finish takes an attempt's result into account.
func (w *work) finish(ctx context.Context, res result) error {
	w.slots--
	change := w.routes.finish(res, time.Now())
	if change != nil {
		w.log.LogAttrs(ctx, slog.LevelInfo, "route changed", slog.String("route", res.route),
			slog.Bool("down", change.Down), slog.Time("until", change.Until), slog.String("reason", change.Reason))
		if w.trace.Route != nil {
			w.trace.Route(ctx, *change)
		}
	}
	return res.err
}

// drain waits for the attempts in flight, for Grace at most undisturbed.
func (w *work) drain(cancel context.CancelFunc) error {
	grace := time.NewTimer(max(orDefault(w.Grace, 30*time.Second), 0))
	defer grace.Stop()
	var err error
	for w.slots > 0 {
		select {
		case res := <-w.results:
			err = errors.Join(err, w.finish(context.Background(), res))
		case <-grace.C:
			cancel()
		}
	}
	return err
}
