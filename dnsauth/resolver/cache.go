package resolver

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Cache keeps the answers of Next for their TTL, positive and negative, within
// fixed bounds; the least recently used go first. While a question is under
// way, others that ask the same wait for its answer. The query itself ends when
// it is answered, after Timeout, or when nobody waits for it any more; one
// impatient caller does not take the answer from the others.
//
// The zero value with Next set is ready to use, by many goroutines at once.
type Cache struct {
	Next Resolver

	// MaxEntries bounds the answers kept. Zero means 20,000.
	MaxEntries int

	// MaxBytes bounds the answers' size, roughly. Zero means 16 MiB.
	MaxBytes int

	// MaxTTL bounds how long an answer is kept. Zero means 1 h.
	MaxTTL time.Duration

	// MaxNegativeTTL does so for answers without records. Zero means 5 min.
	MaxNegativeTTL time.Duration

	// FailureTTL is how long a server failure or time-out is remembered, so
	// that a dead zone is not asked for every message (RFC 2308, 7). Zero
	// means 5 s; negative means not at all.
	FailureTTL time.Duration

	// Timeout bounds one query to Next. Zero means 20 s.
	Timeout time.Duration

	// Now is the clock. Nil means time.Now.
	Now func() time.Time

	mu      sync.Mutex
	entries map[question]*list.Element // of *entry
	recent  list.List                  // most recently used in front
	bytes   int
	flights map[question]*flight
}

type question struct {
	name  string // canonical
	qtype uint16
}

type entry struct {
	q      question
	answer Answer
	err    error
	until  time.Time
	size   int
}

// flight is one query under way and those who wait for it.
type flight struct {
	waiting int // guarded by Cache.mu
	cancel  context.CancelFunc
	done    chan struct{} // closed when answer and err are set
	answer  Answer
	err     error
}

// Resolve answers from the cache, or asks Next.
func (c *Cache) Resolve(ctx context.Context, name string, qtype uint16) (Answer, error) {
	q := question{dns.CanonicalName(name), qtype}
	now := c.now()

	c.mu.Lock()
	if e := c.find(q, now); e != nil {
		answer, err := e.answer, e.err
		answer.TTL = e.until.Sub(now)
		c.mu.Unlock()
		return answer, err
	}
	f := c.flights[q]
	if f == nil {
		f = c.launch(ctx, name, q)
	}
	f.waiting++
	c.mu.Unlock()

	select {
	case <-f.done:
		return f.answer, f.err
	case <-ctx.Done():
		c.mu.Lock()
		if f.waiting--; f.waiting == 0 {
			f.cancel()
			if c.flights[q] == f {
				delete(c.flights, q)
			}
		}
		c.mu.Unlock()
		return Answer{}, contextError(ctx, name, qtype)
	}
}

// Recall returns an answer that is kept.
func (c *Cache) Recall(name string, qtype uint16) (Answer, bool) {
	q := question{dns.CanonicalName(name), qtype}
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.find(q, now)
	if e == nil || e.err != nil {
		return Answer{}, false
	}
	answer := e.answer
	answer.TTL = e.until.Sub(now)
	return answer, true
}

// find returns what is kept for q and not outdated. c.mu is held.
func (c *Cache) find(q question, now time.Time) *entry {
	el := c.entries[q]
	if el == nil {
		return nil
	}
	e := el.Value.(*entry)
	if !now.Before(e.until) {
		c.remove(el)
		return nil
	}
	c.recent.MoveToFront(el)
	return e
}

// launch starts the query for q. c.mu is held.
func (c *Cache) launch(ctx context.Context, name string, q question) *flight {
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = 20 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	f := &flight{cancel: cancel, done: make(chan struct{})}
	if c.flights == nil {
		c.flights = make(map[question]*flight)
	}
	c.flights[q] = f
	go func() {
		defer cancel()
		f.answer, f.err = c.Next.Resolve(ctx, name, q.qtype)
		now := c.now()
		c.mu.Lock()
		if c.flights[q] == f {
			delete(c.flights, q)
			c.add(q, f, now)
		}
		c.mu.Unlock()
		close(f.done)
	}()
	return f
}

// add keeps a flight's result as long as it may be kept. c.mu is held.
func (c *Cache) add(q question, f *flight, now time.Time) {
	ttl := c.ttl(q, f)
	if ttl <= 0 {
		return
	}
	e := &entry{q: q, answer: f.answer, err: f.err, until: now.Add(ttl), size: 128 + len(q.name)}
	for _, rr := range f.answer.RRs {
		e.size += dns.Len(rr) + 96 // the record's own struct and strings
	}
	if c.entries == nil {
		c.entries = make(map[question]*list.Element)
	}
	if old := c.entries[q]; old != nil {
		c.remove(old)
	}
	c.entries[q] = c.recent.PushFront(e)
	c.bytes += e.size
	maxEntries, maxBytes := orDefault(c.MaxEntries, 20000), orDefault(c.MaxBytes, 16<<20)
	for len(c.entries) > maxEntries || c.bytes > maxBytes {
		c.remove(c.recent.Back())
	}
}

func (c *Cache) ttl(q question, f *flight) time.Duration {
	switch {
	case f.err == nil && f.answer.Has(q.qtype):
		return min(f.answer.TTL, orDefault(c.MaxTTL, time.Hour))
	case f.err == nil:
		return min(f.answer.TTL, orDefault(c.MaxNegativeTTL, 5*time.Minute))
	case errors.Is(f.err, ErrServFail), errors.Is(f.err, ErrTimeout):
		return orDefault(c.FailureTTL, 5*time.Second)
	}
	return 0
}

func (c *Cache) remove(el *list.Element) {
	e := c.recent.Remove(el).(*entry)
	delete(c.entries, e.q)
	c.bytes -= e.size
}

// Flush forgets all answers.
func (c *Cache) Flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries, c.bytes = nil, 0
	c.recent.Init()
}

// Len returns how many answers are kept, outdated ones included.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries)
}

func (c *Cache) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func orDefault[T int | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}
