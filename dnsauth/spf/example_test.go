package spf_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
)

func Example() {
	checker := &spf.Checker{Resolver: resolver.MustParseZones(`
		example.org. TXT "v=spf1 mx -all"
		example.org. MX  10 mail.example.org.
		mail.example.org. A 192.0.2.1
	`)}
	for _, ip := range []string{"192.0.2.1", "198.51.100.7"} {
		res := checker.MailFrom(context.Background(), netip.MustParseAddr(ip), "mail.example.org", "alice@example.org")
		fmt.Println(res.Status, res.Mechanism, res.Lookups)
	}
	// Output:
	// pass mx 1
	// fail -all 1
}
