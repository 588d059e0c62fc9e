package dmarc_test

import (
	"context"
	"fmt"

	"github.com/mailblocks/mailblocks/dnsauth/dmarc"
	"github.com/mailblocks/mailblocks/dnsauth/resolver"
	"github.com/mailblocks/mailblocks/dnsauth/spf"
)

func Example() {
	zones := resolver.MustParseZones(`_dmarc.example.org. TXT "v=DMARC1; p=reject"`)
	envelope := &spf.Result{Status: spf.Pass, Identity: spf.MailFrom, Domain: "bounces.example.org"}

	res := dmarc.Evaluate(context.Background(), zones, "Alice <alice@example.org>", envelope, nil, nil)
	fmt.Println(res.Status, res.SPFDomain)

	envelope.Domain = "example.test"
	res = dmarc.Evaluate(context.Background(), zones, "Alice <alice@example.org>", envelope, nil, nil)
	fmt.Println(res.Status, res.Disposition())
	// Output:
	// pass bounces.example.org
	// fail reject
}
