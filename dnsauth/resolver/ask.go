package resolver

import "context"

// Memory is implemented by resolvers that may know an answer without asking anybody.
type Memory interface {
	// Recall returns an answer at hand. It does not wait. Without one, Resolve is to be asked.
	Recall(name string, qtype uint16) (a Answer, ok bool)
}

// recall asks r's memory, if it has one.
func recall(r Resolver, name string, qtype uint16) (Answer, bool) {
	if m, ok := r.(Memory); ok {
		return m.Recall(name, qtype)
	}
	return Answer{}, false
}

// Pending is a question that was put to a resolver. Many may wait for its answer.
type Pending struct {
	done   chan struct{} // closed when there is an answer; nil: it was at hand
	answer Answer
	err    error
}

// Ask puts a question to r and does not wait for the answer. It costs a goroutine only where r
// has to ask, too, which ends with the answer, at the latest soon after ctx.
func Ask(ctx context.Context, r Resolver, name string, qtype uint16) *Pending {
	if a, ok := recall(r, name, qtype); ok {
		return &Pending{answer: a}
	}
	p := &Pending{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.answer, p.err = r.Resolve(ctx, name, qtype)
	}()
	return p
}

// Answer waits for the answer, at the longest until ctx ends: the error is ctx's then.
func (p *Pending) Answer(ctx context.Context) (Answer, error) {
	if p.done == nil {
		return p.answer, nil
	}
	select {
	case <-p.done:
		return p.answer, p.err
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
}
