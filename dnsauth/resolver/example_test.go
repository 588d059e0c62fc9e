package resolver_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

func Example() {
	// In a server: Next is a &resolver.Client{}, and the cache lives as long
	// as the process.
	cache := &resolver.Cache{Next: resolver.MustParseZones(`
		example.org. MX 20 backup.example.org.
		example.org. MX 10 mx.example.org.
	`)}

	// For each message: a budget.
	r := &resolver.Budget{Next: cache, Max: 60}
	mxs, _, err := resolver.LookupMX(context.Background(), r, "example.org")
	fmt.Println(mxs, err)

	_, _, err = resolver.LookupMX(context.Background(), r, "nowhere.test")
	fmt.Println(errors.Is(err, resolver.ErrNXDomain), resolver.Temporary(err))
	// Output:
	// [{mx.example.org 10} {backup.example.org 20}] <nil>
	// true false
}
