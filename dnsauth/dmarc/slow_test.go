package dmarc_test

import (
	"context"
	"time"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

// slowly delays each answer of r, each on its own.
func slowly(r resolver.Resolver, delay time.Duration) resolver.Resolver {
	return resolver.Func(func(ctx context.Context, name string, qtype uint16) (resolver.Answer, error) {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
			return r.Resolve(ctx, name, qtype)
		case <-ctx.Done():
			return resolver.Answer{}, &resolver.Error{Name: name, Type: qtype, Err: resolver.ErrTimeout}
		}
	})
}
