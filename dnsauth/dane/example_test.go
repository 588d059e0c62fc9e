package dane_test

import (
	"context"
	"fmt"

	"github.com/mailblocks/mailblocks/dnsauth/dane"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
)

func ExampleLookup() {
	zones := resolver.MustParseZones(`
		mail.example.org.          A    192.0.2.1
		_25._tcp.mail.example.org. TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
	`)
	zones.SetSecure("mail.example.org", "_25._tcp.mail.example.org")
	set, err := dane.Lookup(context.Background(), zones, "mail.example.org", 25, "example.org")
	if err != nil {
		fmt.Println(err)
		return
	}
	cfg := set.Config(nil) // for the TLS handshake
	fmt.Println(set.Status == dane.Usable, cfg.ServerName)
	// Output: true mail.example.org
}
