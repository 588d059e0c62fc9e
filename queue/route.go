package queue

import (
	"context"
	"strings"
)

// A Router gives the route key of a recipient. It must be cheap and always give the same key
// for the same recipient; "" stands for RouteByDomain.
type Router func(r *Recipient) string

// RouteByDomain is the default: the lower-cased domain of the address, or "local" when it
// has none.
func RouteByDomain(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 || at == len(address)-1 {
		return "local"
	}
	return strings.ToLower(address[at+1:])
}

// Routed returns a view of s in which every message that is enqueued, reports included, has
// its routes given by route. Recipients that have a Route keep it.
func Routed(s Store, route Router) Store { return &routed{Store: s, route: route} }

type routed struct {
	Store
	route Router
}

func (s *routed) Enqueue(ctx context.Context, msgs ...Message) ([]ID, error) {
	return s.Store.Enqueue(ctx, s.fill(msgs)...)
}

func (s *routed) Settle(ctx context.Context, t Token, set Settlement) ([]ID, error) {
	set.Reports = s.fill(set.Reports)
	return s.Store.Settle(ctx, t, set)
}

// fill works on copies: the caller's slices stay its own.
func (s *routed) fill(msgs []Message) []Message {
	filled := make([]Message, len(msgs))
	for i, m := range msgs {
		rcpts := make([]Recipient, len(m.Recipients))
		for j, r := range m.Recipients {
			if r.Route == "" {
				r.Route = s.route(&r)
			}
			rcpts[j] = r
		}
		m.Recipients = rcpts
		filled[i] = m
	}
	return filled
}
